//! Telemetry for operators: log lines, metrics, traces.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use portcullis::telemetry::NAMES;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::process::{PATIENCE, Process, folder, parsed};
use crate::harness::receiver::Receiver;
use crate::harness::{Anonymous, Answer, PASSWORD, Redis, User, free_port, installed, rounds};

const SECRET: (&str, &str) = ("JWT_SECRET", "3fA9kQ2pX7vLr8TnB5yWc1ZeH6uMd0Js-for-tests");
/// Exports spans at once, for tests that wait for them.
const AT_ONCE: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_a_login_and_a_logout_leave_one_line_each_and_a_fast_dashboard_none() {
    let (folder, redis) = (folder(), Redis::start().await);
    let mut replica = serve(&folder, &redis, &[]).await;
    let anyone = replica.anonymous();
    let registered = anyone.register("alice", PASSWORD).await;
    let conflict = anyone.register("alice", PASSWORD).await;
    let wrong = anyone.login("alice", "not her password").await;
    let nobody = anyone.login("bob", PASSWORD).await;
    let login = anyone.login("alice", PASSWORD).await;
    let bearer = login.json()["token"].as_str().unwrap().to_owned();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(anyone.dashboard(&bearer).await);
    }
    silent.push(anyone.dashboard("not a token").await);
    silent.push(anyone.get("/nowhere").await);
    let logout = anyone.logout(&bearer).await;
    assert!(replica.stop().await.success());

    for (answer, status, act, outcome, username) in [
        (&registered, 201, "register", "registered", "alice"),
        (&conflict, 409, "register", "name_taken", "alice"),
        (&wrong, 401, "login", "refused", "alice"),
        (&nobody, 401, "login", "refused", "bob"),
        (&login, 200, "login", "succeeded", "alice"),
        (&logout, 204, "logout", "logged_out", "alice"),
    ] {
        assert_eq!(answer.status, status);
        let lines = lines_of(&replica, answer);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        let line = &lines[0];
        assert_eq!(line["event"], "audit");
        assert_eq!(line["act"], act);
        assert_eq!(line["outcome"], outcome);
        assert_eq!(line["username"], username);
        assert_eq!(line["client"], "127.0.0.1");
        let user = &line["user"];
        match status {
            409 | 401 => assert!(user.is_null(), "{line}"),
            _ => assert_eq!(*user, registered.json()["user"]["id"]),
        }
    }
    for answer in &silent {
        // On a slow machine a request may be slow, which produces its own log line.
        let mut lines = lines_of(&replica, answer);
        lines.retain(|line| line["message"] != "a request was slow");
        assert_eq!(lines, Vec::<Value>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_leaves_one_line_with_its_cause() {
    let (folder, mut redis) = (folder(), Redis::start().await);
    let mut replica = serve(&folder, &redis, &[]).await;
    let anyone = replica.anonymous();
    anyone.register("alice", PASSWORD).await;
    let user = User::log_in(&anyone, "alice").await;
    redis.kill();
    let failed = [
        (anyone.register("bob", PASSWORD).await, "/register"),
        (anyone.login("alice", PASSWORD).await, "/login"),
        (anyone.logout(&user.token).await, "/logout"),
    ];
    // The log reports the state of Redis once, not for every attempt, and reports a second outage again.
    told(&replica, "waiting", 1).await;
    redis.start_again().await;
    told(&replica, "fresh", 2).await;
    redis.kill();
    told(&replica, "waiting", 2).await;
    assert!(replica.stop().await.success());

    for (answer, route) in &failed {
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "unavailable")
        );
        let lines = lines_of(&replica, answer);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert_eq!(lines[0]["event"], "request");
        assert_eq!(lines[0]["level"], "WARN");
        assert_eq!(lines[0]["status"], 503);
        assert_eq!(lines[0]["route"], *route);
        assert!(!lines[0]["why"].as_str().unwrap().is_empty());
    }
    assert_eq!(phases(&replica, "waiting"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a18_an_outage_does_not_flood_the_log() {
    let (folder, mut redis) = (folder(), Redis::start().await);
    let mut replica = serve(&folder, &redis, &[]).await;
    let anyone = replica.anonymous();
    anyone.register("alice", PASSWORD).await;
    let user = User::log_in(&anyone, "alice").await;
    // The replica refuses this user's token even though the logout fails.
    let leaving = User::log_in(&anyone, "alice").await;
    redis.kill();
    told(&replica, "waiting", 1).await;
    // The view may answer for one window more.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    let mut failed = 0;
    for _ in 0..rounds(4, 20) {
        let asked = (0..500).map(async |number| match number % 4 {
            0 => anyone.login("alice", PASSWORD).await.status,
            1 => anyone.logout(&leaving.token).await.status,
            _ => anyone.dashboard(&user.token).await.status,
        });
        let answers = join_all(asked).await;
        let others: Vec<_> = answers.iter().filter(|status| **status != 503).collect();
        assert!(others.is_empty(), "{others:?}");
        failed += answers.len() as u64;
    }
    let seconds = begun.elapsed().as_secs() + 2;
    // A line after all of them includes the number of lines that were left out last.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    anyone.login("alice", PASSWORD).await;
    assert!(replica.stop().await.success());
    let lines = replica.log().len() as u64;
    let requests = replica.events("request");
    let left_out: u64 = requests
        .iter()
        .filter_map(|line| line["left_out"].as_u64())
        .sum();
    println!("{failed} requests failed in {seconds} s: {lines} lines");
    assert!(lines < 100 * seconds / 2, "{lines} lines in {seconds} s");
    assert_eq!(
        left_out + requests.len() as u64,
        failed + 1,
        "none is forgotten"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_comes_back_and_stands_in_the_line_and_a_strange_one_is_replaced() {
    let (folder, redis) = (folder(), Redis::start().await);
    let mut replica = serve(&folder, &redis, &[]).await;
    let anyone = replica.anonymous();
    let register = async |name: &str, id: &str| {
        let body = json!({"username": name, "password": PASSWORD}).to_string();
        let headers = [("content-type", "application/json"), ("x-request-id", id)];
        anyone
            .send("POST", "/register", &headers, Some(&body))
            .await
    };
    let kept = register("alice", "from-the-edge_1.2").await;
    assert_eq!(kept.header("x-request-id"), "from-the-edge_1.2");
    let mut answers = vec![kept];
    let long = "a".repeat(65);
    for (number, strange) in ["a b", "{\"event\":1}", "", &long].iter().enumerate() {
        let answer = register(&format!("name{number}"), strange).await;
        assert_eq!(answer.status, 201);
        let id = answer.header("x-request-id");
        assert!(id != *strange && id.len() == 32, "{id}");
        answers.push(answer);
    }
    assert!(replica.stop().await.success());
    for answer in &answers {
        assert_eq!(lines_of(&replica, answer).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b23_what_clients_write_cannot_forge_a_line() {
    let (folder, redis) = (folder(), Redis::start().await);
    for format in ["json", "text"] {
        // The test reads the addresses from JSON lines; a text log needs fixed addresses.
        let (listen, management) = (local(free_port()), local(free_port()));
        let url = redis.url();
        let settings = [
            ("LOG_FORMAT", format),
            ("LOG_FILTER", "debug"),
            ("REDIS_URL", &url),
            ("LISTEN", &listen),
            ("MANAGEMENT_LISTEN", &management),
            ("BCRYPT_COST", "4"),
            ("DRAIN_DELAY", "0s"),
            SECRET,
        ];
        let mut replica = Process::spawn(folder.path(), &settings, &["serve"]);
        replica.addr = listen.parse().unwrap();
        replica.management = management.parse().unwrap();
        replica.ready().await;
        let anyone = replica.anonymous();
        for forged in [
            "alice\n{\"event\":\"audit\",\"forged\":true}",
            "alice\r\nforged: yes",
            "\u{1b}[2K\u{1b}[1Aforged",
            "alice\u{2028}forged",
            "forged\u{0}",
        ] {
            let body = json!({"username": forged, "password": PASSWORD});
            assert_eq!(anyone.post("/register", &body).await.status, 422);
            assert_eq!(anyone.post("/login", &body).await.status, 401);
            let path = format!(
                "/{}",
                forged.replace(|c: char| !c.is_ascii_alphabetic(), "%0a")
            );
            assert_eq!(anyone.get(&path).await.status, 404);
        }
        assert!(replica.stop().await.success());
        let log = replica.log();
        assert!(log.len() > 5, "{log:#?}");
        for line in &log {
            assert!(!line.contains("forged"), "{line}");
            assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
        }
        assert_eq!(replica.errors(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_named_is_there_and_no_other_of_ours() {
    let (folder, redis) = (folder(), Redis::start().await);
    let replica = serve(
        &folder,
        &redis,
        &[("RATE_LIMIT", "on"), ("RATE_LIMIT_ACCOUNT", "1@1m")],
    )
    .await;
    let anyone = replica.anonymous();
    anyone.register("alice", PASSWORD).await;
    let user = User::log_in(&anyone, "alice").await;
    for _ in 0..2 {
        anyone.login("bob", "a wrong password").await;
    }
    anyone.refresh(&user.refresh_token).await;
    let bearer = format!("Bearer {}", user.token);
    let body = json!({"current_password": PASSWORD, "new_password": "short"}).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
    ];
    anyone
        .send("PUT", "/me/password", &headers, Some(&body))
        .await;
    anyone.logout(&user.token).await;

    // The propagation time has a series once the replica has read the revocation of the logout.
    let scraped = async {
        loop {
            let metrics = replica.probes().get("/metrics").await.body;
            if metrics.contains("\nportcullis_feed_propagation_seconds{") {
                return metrics;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let metrics = tokio::time::timeout(PATIENCE, scraped).await.unwrap();
    let families: BTreeSet<_> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    // Metrics without a value have no series: this deployment has one Redis without replicas, and signs with a secret.
    let absent = [
        "portcullis_lease_held",
        "portcullis_signing_key_created_timestamp_seconds",
    ];
    for (name, help) in NAMES {
        let expected = !absent.contains(&name);
        assert_eq!(families.contains(name), expected, "{name} in {families:?}");
        let line = format!("# HELP {name} {help}");
        let is_there = metrics.lines().any(|it| it == line);
        assert_eq!(is_there, expected, "{line} in {metrics}");
    }
    for family in &families {
        let known = NAMES.iter().any(|(name, _)| name == family);
        // The exporter adds a family that names the program.
        assert!(known || *family == "target_info", "{family} has no name");
    }
    for counted in [
        "portcullis_registrations_total{outcome=\"registered\"",
        "portcullis_logins_total{outcome=\"succeeded\"",
        "portcullis_logouts_total{outcome=\"logged_out\"",
        "portcullis_rate_limited_total{limit=\"account\"",
        "portcullis_denylist_entries{",
        "portcullis_password_hashes_total{",
    ] {
        let line = metrics.lines().find(|line| line.starts_with(counted));
        let line = line.unwrap_or_else(|| panic!("{counted} in {metrics}"));
        let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(value >= 1.0, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signing_key_exports_the_time_of_its_creation() {
    let (folder, redis) = (folder(), Redis::start().await);
    let keys = folder.path().join("keys");
    let generated = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["keys", "generate"])
        .env_clear()
        .env("JWT_KEYS_DIR", &keys)
        .status();
    assert!(generated.unwrap().success());
    let name = std::fs::read_dir(&keys).unwrap().next().unwrap().unwrap();
    let name = name.file_name().into_string().unwrap();
    // The key gets another date, so that the test cannot confuse it with the present time.
    std::fs::rename(keys.join(name), keys.join("2026-01-31T120000Z.pem")).unwrap();
    let keys = keys.display().to_string();
    let replica = serve(&folder, &redis, &[("JWT_KEYS_DIR", &keys)]).await;
    let metrics = replica.probes().get("/metrics").await.body;
    let prefix = "portcullis_signing_key_created_timestamp_seconds{";
    let line = metrics.lines().find(|line| line.starts_with(prefix));
    let value = line.unwrap().rsplit_once(' ').unwrap().1;
    assert_eq!(value, "1769860800");
}

#[tokio::test(flavor = "multi_thread")]
async fn a19_a_thousand_invented_paths_and_methods_add_no_series() {
    let (folder, redis) = (folder(), Redis::start().await);
    let replica = serve(&folder, &redis, &[]).await;
    let anyone = replica.anonymous();
    let known = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
    ];
    let real = ["/", "/dashboard", "/login", "/me", "/docs", "/openapi.json"];
    let invent = async |from: usize| {
        for number in from..from + 1000 {
            let invented = format!("M{number}");
            let method = if number % 2 == 0 {
                known[(number / 2) % known.len()]
            } else {
                &invented
            };
            let path = match number % 3 {
                0 => format!("/{number}/{}", number * 7919),
                1 => format!("{}?n={number}", real[(number / 3) % real.len()]),
                _ => format!("/dashboard/{number}"),
            };
            let answer = anyone.send(method, &path, &[], None).await;
            assert!(answer.status < 500, "{method} {path}: {}", answer.status);
        }
        let metrics = replica.probes().get("/metrics").await.body;
        let series = metrics.lines().filter(|line| !line.starts_with('#'));
        series
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .collect::<BTreeSet<_>>()
    };
    // The first thousand requests meet every combination, the second thousand show that there are no more.
    let before = invent(0).await;
    let after = invent(1000).await;
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:#?}");
    let routes: BTreeSet<_> = after
        .iter()
        .filter_map(|it| label(it, "http_route"))
        .collect();
    let mut expected = BTreeSet::from(real);
    expected.insert("unmatched");
    assert_eq!(routes, expected);
    let methods: BTreeSet<_> = after
        .iter()
        .filter_map(|it| label(it, "http_request_method"))
        .collect();
    let mut expected = BTreeSet::from(known);
    expected.insert("_OTHER");
    assert_eq!(methods, expected);
    println!("2000 invented requests: {} series", after.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_trace_is_sent_unless_a_receiver_is_named() {
    let (folder, redis) = (folder(), Redis::start().await);
    let receiver = Receiver::start().await;
    let url = receiver.url();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str());
    for settings in [
        &[][..],
        &[AT_ONCE, endpoint, ("OTEL_SDK_DISABLED", "true")],
        &[
            AT_ONCE,
            endpoint,
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_METRICS_EXPORTER", "none"),
        ],
    ] {
        let mut replica = serve(&folder, &redis, settings).await;
        let answer = call(&replica, "/dashboard").await;
        assert_eq!(answer.header("traceparent"), "");
        assert!(replica.stop().await.success());
        assert_eq!(receiver.bytes(), [0; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_is_a_child_of_the_callers_and_the_answer_names_it() {
    let (folder, redis) = (folder(), Redis::start().await);
    let receiver = Receiver::start().await;
    let url = receiver.url();
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), AT_ONCE];
    let mut replica = serve(&folder, &redis, &settings).await;

    let answer = call(&replica, "/dashboard").await;
    let parts: Vec<_> = answer.header("traceparent").split('-').collect();
    let [version, trace, id, flags] = parts[..] else {
        panic!("{answer:?}");
    };
    assert_eq!((version, trace, flags), ("00", TRACE, "01"));
    let span = receiver.span(|span| hex(&span.span_id) == id).await;
    assert_eq!(hex(&span.trace_id), TRACE);
    assert_eq!(hex(&span.parent_span_id), CALLER);
    assert_eq!(span.name, "GET /dashboard");
    let attribute = |name: &str| {
        let found = span.attributes.iter().find(|it| it.key == name);
        format!(
            "{:?}",
            found.unwrap_or_else(|| panic!("{name} in {span:#?}")).value
        )
    };
    assert!(attribute("http.route").contains("/dashboard"));
    assert!(attribute("http.request.method").contains("GET"));
    assert!(attribute("http.response.status_code").contains("401"));

    // A request without a parent begins a trace, and so does a request with an invalid parent.
    for headers in [&[][..], &[("traceparent", "00-nonsense-01")]] {
        let answer = replica.anonymous().send("GET", "/me", headers, None).await;
        let (trace, id) = answer.header("traceparent")[3..].split_at(32);
        assert_ne!(trace, TRACE);
        let span = receiver.span(|span| hex(&span.span_id) == id[1..17]).await;
        assert_eq!(hex(&span.trace_id), trace);
        assert_eq!(span.parent_span_id, [0; 0]);
    }

    // The replica exports the remaining spans when it stops.
    let last = call(&replica, "/nowhere").await;
    assert!(replica.stop().await.success());
    let id = last.header("traceparent")[36..52].to_owned();
    assert!(receiver.spans().iter().any(|span| hex(&span.span_id) == id));
    assert_eq!(replica.events("panic"), Vec::<Value>::new());
    assert_eq!(replica.errors(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_requests_is_traced_and_every_one_whose_caller_is() {
    let (folder, redis) = (folder(), Redis::start().await);
    let receiver = Receiver::start().await;
    let url = receiver.url();
    let endpoint = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url.as_str());
    let sampler = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
    for (share, least, most) in [("0", 0, 0), ("0.5", 60, 140), ("1", 200, 200)] {
        let share = ("OTEL_TRACES_SAMPLER_ARG", share);
        let settings = [endpoint, AT_ONCE, sampler, share];
        let mut replica = serve(&folder, &redis, &settings).await;
        let mut named = 0;
        for number in 0..200 {
            // For an invalid parent, our sampler decides.
            let headers: &[_] = if number % 2 == 0 {
                &[]
            } else {
                &[("traceparent", "00-nonsense-01")]
            };
            let answer = replica.anonymous().send("GET", "/me", headers, None).await;
            named += usize::from(!answer.header("traceparent").is_empty());
        }
        println!("{named} of 200 requests have a trace by {share:?}");
        assert!((least..=most).contains(&named), "{named} by {share:?}");

        let answer = call(&replica, "/dashboard").await;
        assert!(
            answer
                .header("traceparent")
                .starts_with(&format!("00-{TRACE}-"))
        );
        assert!(replica.stop().await.success());
        let sent = receiver.spans();
        let id = &answer.header("traceparent")[36..52];
        assert!(sent.iter().any(|span| hex(&span.span_id) == id));
        let requests = sent.iter().filter(|span| span.name == "GET /me").count();
        println!("{requests} spans of them were sent so far");
        assert!(requests >= named);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_login_shows_the_wait_for_a_hash_the_hash_and_redis() {
    let (folder, redis, receiver) = (folder(), Redis::start().await, Receiver::start().await);
    let url = receiver.url();
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), AT_ONCE];
    let mut replica = serve(&folder, &redis, &settings).await;
    let anyone = replica.anonymous();
    anyone.register("alice", PASSWORD).await;
    let login = anyone.login("alice", PASSWORD).await;
    assert_eq!(login.status, 200);
    let (trace, id) = login.header("traceparent")[3..].split_at(32);
    let request = receiver.span(|span| hex(&span.span_id) == id[1..17]).await;
    assert!(replica.stop().await.success());

    let spans = receiver.spans();
    let of_login = spans.iter().filter(|span| hex(&span.trace_id) == trace);
    let inside: Vec<_> = of_login.filter(|span| span.name != request.name).collect();
    for span in &inside {
        assert_eq!(span.parent_span_id, request.span_id, "{span:#?}");
        assert!(span.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= request.end_time_unix_nano);
    }
    let named = |name: &str| {
        let found = inside.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("{name} in {inside:#?}"))
    };
    let (wait, hash) = (named("password wait"), named("password hash"));
    assert!(wait.end_time_unix_nano <= hash.start_time_unix_nano + 1_000_000);
    let (look, open) = (named("HMGET"), named("EVALSHA"));
    for span in [look, open] {
        assert_eq!(span.kind, 3, "of a client");
        let system = span.attributes.iter().find(|it| it.key == "db.system.name");
        assert!(format!("{system:?}").contains("redis"), "{span:#?}");
        assert!(!format!("{span:?}").contains("alice"), "{span:#?}");
    }
    // Log lines name the trace to which they belong.
    let lines = lines_of(&replica, &login);
    assert!(!lines.is_empty());
    assert!(
        lines.iter().all(|line| line["trace_id"] == trace),
        "{lines:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_sent_too_and_logs_where_that_is_chosen() {
    let (folder, redis) = (folder(), Redis::start().await);
    for (chosen, exporter) in [(false, ""), (true, "otlp")] {
        let receiver = Receiver::start().await;
        let url = receiver.url();
        let settings = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
            ("OTEL_LOGS_EXPORTER", exporter),
            AT_ONCE,
        ];
        let mut replica = serve(&folder, &redis, &settings).await;
        let anyone = replica.anonymous();
        anyone.register("alice", PASSWORD).await;
        anyone.login("alice", PASSWORD).await;
        assert!(replica.stop().await.success());
        let sent = receiver.metrics();
        for name in [
            "http.server.request.duration",
            "portcullis.logins",
            "portcullis.feed.view.age.seconds",
            "portcullis.redis.connections",
            "portcullis.build.info",
        ] {
            assert!(sent.contains(name), "{name} in {sent:?}");
        }
        let logs = receiver.logs();
        assert_eq!(!logs.is_empty(), chosen, "{logs:#?}");
        let audit = |line: &LogRecord| format!("{line:?}").contains("\"alice\"");
        assert_eq!(logs.iter().any(audit), chosen);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_a_replica() {
    let (place, redis) = (folder(), Redis::start().await);
    let replica = serve(&place, &redis, &[]).await;
    replica.anonymous().register("alice", PASSWORD).await;
    let port = free_port();
    let config = place.path().join("prometheus.yml");
    let target = replica.management;
    std::fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: portcullis, static_configs: [{{targets: ['{target}']}}]}}]\n"
        ),
    )
    .unwrap();
    let mut prometheus = installed("prometheus", "prometheus");
    let mut prometheus = prometheus
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            place.path().join("tsdb").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let at = Anonymous::at(([127, 0, 0, 1], port).into());
    let value = async |query: &str| {
        let path = format!("/api/v1/query?query={query}");
        // While Prometheus starts it says so, and not in JSON.
        let answer = at.try_get(&path).await.ok()?;
        if answer.status != 200 {
            return None;
        }
        let first = answer.json()["data"]["result"].get(0)?["value"][1].clone();
        Some(first.as_str()?.to_owned())
    };
    let scraped = async {
        while value("portcullis_registrations_total").await.as_deref() != Some("1") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let scraped = tokio::time::timeout(PATIENCE, scraped).await;
    let (up, build) = (value("up").await, value("portcullis_build_info").await);
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
    assert!(scraped.is_ok(), "nothing was scraped");
    assert_eq!((up.as_deref(), build.as_deref()), (Some("1"), Some("1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn i23_a_receiver_that_is_absent_or_deaf_changes_nothing_for_requests() {
    let (folder, redis) = (folder(), Redis::start().await);
    // The second receiver accepts connections and never answers.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [free_port(), deaf.local_addr().unwrap().port()];
    for (round, port) in ports.into_iter().enumerate() {
        let url = format!("http://127.0.0.1:{port}");
        let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), AT_ONCE];
        let mut replica = serve(&folder, &redis, &settings).await;
        let anyone = replica.anonymous();
        let name = format!("name{round}");
        assert_eq!(anyone.register(&name, PASSWORD).await.status, 201);
        let user = User::log_in(&anyone, &name).await;
        for _ in 0..50 {
            assert_eq!(anyone.dashboard(&user.token).await.status, 200);
        }
        assert_eq!(anyone.logout(&user.token).await.status, 204);
        assert_eq!(anyone.dashboard(&user.token).await.status, 401);
        replica.signal(Signal::TERM);
        assert!(replica.ended().await.success());
        assert_eq!(replica.events("panic"), Vec::<Value>::new());
        assert_eq!(replica.errors(), Vec::<String>::new());
    }
}

async fn serve(folder: &tempfile::TempDir, redis: &Redis, more: &[(&str, &str)]) -> Process {
    let url = redis.url();
    let mut settings = vec![("REDIS_URL", url.as_str()), SECRET];
    settings.extend(more);
    Process::serve(folder.path(), &settings).await
}

/// Sends a request with the `traceparent` of its caller.
async fn call(replica: &Process, path: &str) -> Answer {
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let headers = [("traceparent", parent.as_str())];
    replica.anonymous().send("GET", path, &headers, None).await
}

/// Log lines with the request ID of this response; they are complete once the replica has ended.
fn lines_of(replica: &Process, answer: &Answer) -> Vec<Value> {
    let id = answer.header("x-request-id");
    assert!(!id.is_empty());
    let lines = replica.log().into_iter().map(|line| parsed(&line));
    lines.filter(|line| line["request_id"] == id).collect()
}

/// Number of times that the log reports this phase of the revocation view.
fn phases(replica: &Process, phase: &str) -> usize {
    let lines = replica.events("feed");
    lines.iter().filter(|line| line["phase"] == phase).count()
}

/// Waits until the log has reported the phase `times` times.
async fn told(replica: &Process, phase: &str, times: usize) {
    let wait = async {
        while phases(replica, phase) < times {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{phase} is not told: {:#?}", replica.events("feed")));
}

/// Value of a label of a series.
fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = series.split_once(&format!("{name}=\""))?;
    Some(rest.split_once('"')?.0)
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn hex(bytes: &[u8]) -> String {
    let write = |text: String, byte| text + &format!("{byte:02x}");
    bytes.iter().fold(String::new(), write)
}
