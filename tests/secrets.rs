//! No password, token, key or credential of Redis appears in any output: the tests plant recognisable values in every place
//! where a client or an operator might put secrets, and then search all output for them, in plain and encoded forms.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harness::process::{PATIENCE, Process, children, folder, parsed, program};
use crate::harness::receiver::Receiver;
use crate::harness::{Anonymous, Answer, Redis};

const SIGNING_KEY: &str = "Sign1ngK3yPlanted.vLr8TnB5yWc1ZeH6uMd0Js";
const PEPPER: &str = "P3pp3rPlanted.3fA9kQ2pX7vLr8TnB5yWc1ZeH6";
const REFRESH_KEY: &str = "R3freshK3yPlanted.vLr8TnB5yWc1ZeH6uMd0Js";
const OF_CLIENT: &str = "Cl1entPlanted.vLr8TnB5yWc1ZeH6uMd0Js";
const WRONG_OF_CLIENT: &str = "Wr0ngCl1entPlanted.vLr8TnB5yWc1ZeH6uMd0Js";
const OF_REDIS: &str = "R3disPlanted.kQ2pX7vLr8";
const WRONG_OF_REDIS: &str = "Wr0ngRedisPlanted.kQ2pX7vLr8";
const OF_RECEIVER: &str = "0telPlanted.kQ2pX7vLr8TnB5yWc1";
const GOOD: &str = "G00dPlanted! quokka lantern 71";
const NEW: &str = "N3wPlanted! walrus compass 38";
const WRONG: &str = "Wr0ngPlanted! quokka lantern 71";
const WEAK: &str = "W3akPlanW3akPlanW3akPlan";
const TOO_LONG: &str = "L0ngPlanted! quokka lantern 71";
const AS_NAME: &str = "N4mePlanted! quokka lantern 71";
const AS_NUMBER: &str = "715517155171551";
const IN_BAD_BODY: &str = "B4dBodyPlanted! quokka lantern 71";
const IN_PATH: &str = "P4thPlanted.quokka.lantern.71";
const FORGED: &str = "F0rgedPlanted.quokka.lantern.71";

/// All planted secrets, each with a label and its encodings. Tokens are added when the service issues them.
struct Planted(Vec<(&'static str, Vec<String>)>);

impl Planted {
    fn new() -> Self {
        let mut planted = Self(Vec::new());
        for (what, value) in [
            ("the signing key", SIGNING_KEY),
            ("the pepper", PEPPER),
            ("the key of refresh tokens", REFRESH_KEY),
            ("the secret of a client", OF_CLIENT),
            ("a wrong secret of a client", WRONG_OF_CLIENT),
            ("a new password", NEW),
            ("the password of Redis", OF_REDIS),
            ("a wrong password of Redis", WRONG_OF_REDIS),
            ("the key of the receiver of traces", OF_RECEIVER),
            ("a good password", GOOD),
            ("a wrong password", WRONG),
            ("a weak password", WEAK),
            ("a password that is too long", TOO_LONG),
            ("a password in place of the name", AS_NAME),
            ("a password that is a number", AS_NUMBER),
            ("a password in a bad body", IN_BAD_BODY),
            ("a secret in a path", IN_PATH),
            ("a forged token", FORGED),
        ] {
            planted.add(what, value);
        }
        planted
    }

    fn add(&mut self, what: &'static str, value: &str) {
        self.0.push((what, writings(value)));
    }

    /// Labels of the planted secrets that occur in a text.
    fn found_in(&self, bytes: &[u8]) -> Vec<&'static str> {
        let text = String::from_utf8_lossy(bytes);
        let written = |writings: &[String]| writings.iter().any(|it| text.contains(it));
        let found = self.0.iter().filter(|(_, writings)| written(writings));
        found.map(|(what, _)| *what).collect()
    }
}

/// A value as it is, and in the encodings in which it might appear.
fn writings(value: &str) -> Vec<String> {
    let bytes = value.as_bytes();
    let mut all = vec![
        value.to_owned(),
        joined(bytes, "", |it| format!("{it:02x}")),
        joined(bytes, "", |it| format!("{it:02X}")),
        value.replace('!', "%21").replace(' ', "%20"),
        value.replace('!', "%21").replace(' ', "+"),
        // `Debug` writes bytes like this.
        joined(bytes, ", ", u8::to_string),
    ];
    // Base64 encodes the same bytes in three ways, depending on their offset; their first and last characters also depend on
    // the adjacent bytes.
    for before in 0..3 {
        let padded = [&b"xx"[..before], bytes].concat();
        for encoded in [
            BASE64_STANDARD.encode(&padded),
            BASE64_URL_SAFE_NO_PAD.encode(&padded),
        ] {
            all.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    // A shorter value would occur by chance in some megabytes of numbers.
    let shortest = all.iter().map(String::len).min();
    assert!(shortest >= Some(12), "too short to be planted: {value}");
    all
}

fn joined(bytes: &[u8], between: &str, write: impl Fn(&u8) -> String) -> String {
    bytes.iter().map(write).collect::<Vec<_>>().join(between)
}

/// All output, each text once, with its source.
#[derive(Default)]
struct Output(HashMap<Vec<u8>, String>);

impl Output {
    fn add(&mut self, from: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.entry(bytes.into()).or_insert(from.into());
    }

    fn answer(&mut self, to: &str, answer: &Answer) {
        let from = format!("the answer to {to}");
        self.add(&from, format!("{} {:?}", answer.status, answer.headers));
        self.add(&from, answer.body.as_str());
    }

    fn process(&mut self, process: &Process) {
        for line in process.log() {
            self.add("the log", line);
        }
        for line in process.errors() {
            self.add("standard error", line);
        }
    }

    fn holds_nothing_of(&self, planted: &Planted) {
        let mut hits = Vec::new();
        for (bytes, from) in &self.0 {
            for what in planted.found_in(bytes) {
                let text = String::from_utf8_lossy(bytes);
                let text: String = text.chars().take(2000).collect();
                hits.push(format!("{what} in {from}: {text}"));
            }
        }
        assert!(hits.is_empty(), "{hits:#?}");
        let bytes: usize = self.0.keys().map(Vec::len).sum();
        println!(
            "{} values planted, 0 found in {} texts of {bytes} bytes",
            planted.0.len(),
            self.0.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_comes_out_of_a_replica_however_much_it_is_told_to_log() {
    let (folder, mut redis, receiver) = (folder(), Redis::start().await, Receiver::start().await);
    lock(&redis).await;
    let (mut planted, mut output) = (Planted::new(), Output::default());
    let (url, traces) = (locked(&redis, OF_REDIS), receiver.url());
    let (pepper, key) = (format!("k1:{PEPPER}"), format!("x-api-key={OF_RECEIVER}"));
    let keys = private_keys(folder.path(), &mut planted);
    let clients = format!("gate:{OF_CLIENT}");
    let settings = [
        ("REDIS_URL", url.as_str()),
        ("JWT_SECRET", SIGNING_KEY),
        ("JWT_KEYS_DIR", &keys),
        ("REFRESH_SECRET", REFRESH_KEY),
        ("CLIENTS", &clients),
        ("COOKIES", "on"),
        ("PASSWORD_PEPPER", &pepper),
        ("LOG_FILTER", "trace"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &traces),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
        ("OTEL_EXPORTER_OTLP_HEADERS", &key),
    ];
    let mut replica = Process::serve(folder.path(), &settings).await;
    let anyone = replica.anonymous();

    assert_eq!(anyone.register("alice", GOOD).await.status, 201);
    let token = use_everything(&replica, &mut planted, &mut output).await;
    redis.kill();
    use_everything(&replica, &mut planted, &mut output).await;
    output.answer("a logout", &anyone.logout(&token).await);
    // Redis comes back without a password: it refuses ours, with an error that the Redis client may log.
    redis.start_again().await;
    refused(&replica).await;
    use_everything(&replica, &mut planted, &mut output).await;
    lock(&redis).await;
    back(&anyone).await;
    use_everything(&replica, &mut planted, &mut output).await;
    assert!(replica.stop().await.success());
    output.process(&replica);
    output.add("what was sent by OTLP", receiver.bytes());

    // This proves that the replica had its most verbose settings, that it sent telemetry and logs, and that secrets in them
    // would be found.
    assert!(!receiver.spans().is_empty() && !receiver.logs().is_empty());
    assert!(!receiver.metrics().is_empty());
    let levels = |level: &str| {
        replica
            .log()
            .iter()
            .filter(|it| parsed(it)["level"] == level)
            .count()
    };
    let levels = ["TRACE", "DEBUG", "INFO", "WARN"].map(|level| (level, levels(level)));
    println!("lines of the log: {levels:?}");
    assert!(levels.iter().all(|(_, lines)| *lines > 0));
    assert!(replica.log().iter().any(|line| line.contains("alice")));
    output.holds_nothing_of(&planted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_redis_is_not_told_the_secrets_of_its_replica() {
    let folder = folder();
    let planted = Planted::new();
    let pepper = format!("k1:{PEPPER}");
    let settings = [
        ("JWT_SECRET", SIGNING_KEY),
        ("PASSWORD_PEPPER", pepper.as_str()),
        ("LOG_FILTER", "trace"),
    ];
    let mut replica = Process::serve(folder.path(), &settings).await;
    let anyone = replica.anonymous();
    assert_eq!(anyone.register("alice", GOOD).await.status, 201);
    assert_eq!(anyone.login("alice", GOOD).await.status, 200);
    let mut output = Output::default();
    let servers = children(replica.pid(), "redis-server");
    assert_eq!(servers.len(), 1);
    for server in servers {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{server}/{file}")).unwrap();
            output.add(format!("{file} of redis-server"), bytes);
        }
    }
    let own = std::fs::read(format!("/proc/{}/cmdline", replica.pid())).unwrap();
    output.add("the arguments of the replica", own);
    assert!(replica.stop().await.success());
    output.process(&replica);
    // The replica does not store the secrets either: the files in its folder are only derived from them.
    for file in files(folder.path()) {
        output.add(format!("{}", file.display()), std::fs::read(&file).unwrap());
    }
    assert!(output.0.values().any(|from| from.contains("appendonly")));
    output.holds_nothing_of(&planted);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_and_help_are_told_without_their_values() {
    let (folder, redis) = (folder(), Redis::start().await);
    lock(&redis).await;
    let (planted, mut output) = (Planted::new(), Output::default());
    let good = locked(&redis, OF_REDIS);
    let wrong = locked(&redis, WRONG_OF_REDIS);
    let bad = format!("redis//:{OF_REDIS}@127.0.0.1");
    let pepper = format!("k1:{PEPPER}");
    let weak = &SIGNING_KEY[..20];
    let twice = weak.repeat(3);
    let file = folder.path().join("secret");
    std::fs::write(&file, PEPPER).unwrap();
    let file = file.to_str().unwrap();
    let client = format!("gate:{OF_CLIENT}");
    let folder_of_bad_keys = folder.path().join("keys");
    std::fs::create_dir(&folder_of_bad_keys).unwrap();
    for (name, text) in [("a.active.pem", PEPPER), ("b.next.pem", SIGNING_KEY)] {
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        std::fs::write(folder_of_bad_keys.join(name), pem).unwrap();
    }
    let folder_of_bad_keys = folder_of_bad_keys.to_str().unwrap();
    let all = |url| {
        vec![
            ("REDIS_URL", url),
            ("JWT_SECRET", SIGNING_KEY),
            ("PASSWORD_PEPPER", pepper.as_str()),
        ]
    };
    let with = |name, value| [all(&good), vec![(name, value)]].concat();
    let cases = [
        (all(&good), "check", true),
        (all(&good), "--help", true),
        (all(&good), "openapi", true),
        (all(&wrong), "check", false),
        (all(&bad), "check", false),
        (all(&bad), "serve", false),
        (with("JWT_SECRET", weak), "check", false),
        (with("JWT_SECRET", &twice), "serve", false),
        (with("JWT_SECRET_FILE", file), "check", false),
        (with("PASSWORD_PEPPER", PEPPER), "check", false),
        (with("LISTEN", OF_REDIS), "check", false),
        (with("LOG_FILTER", OF_REDIS), "check", true),
        (
            with("LOG_FILTER", "portcullis=R3disPlanted.kQ2pX7vLr8"),
            "check",
            false,
        ),
        (with("ISSUER", OF_REDIS), "check", false),
        (with("REFRESH_SECRET", weak), "check", false),
        (with("CLIENTS", OF_CLIENT), "check", false),
        (with("CLIENTS", &client[..20]), "check", false),
        (with("CLIENTS", &client), "check", true),
        (with("CLIENTS_FILE", file), "check", false),
        (with("JWT_KEYS_DIR", folder_of_bad_keys), "check", false),
        (with("JWT_KEYS_DIR", OF_REDIS), "check", false),
        (with("CORS_ORIGINS", OF_REDIS), "check", false),
    ];
    for (settings, command, good) in cases {
        let said = program(folder.path(), &settings)
            .arg(command)
            .output()
            .await
            .unwrap();
        assert_eq!(
            said.status.success(),
            good,
            "{command} {settings:?} {said:?}"
        );
        assert!(!said.stdout.is_empty() || !said.stderr.is_empty());
        output.add(
            format!("{command} with {settings:?}"),
            [said.stdout, said.stderr].concat(),
        );
    }
    std::fs::write(
        folder.path().join(".env"),
        format!("JWT_SECRET='{SIGNING_KEY}\n"),
    )
    .unwrap();
    let said = program(folder.path(), &[])
        .arg("check")
        .output()
        .await
        .unwrap();
    assert!(!said.status.success());
    output.add("check with a bad .env", [said.stdout, said.stderr].concat());
    output.holds_nothing_of(&planted);
}

#[test]
fn a_planted_value_is_found_in_any_writing() {
    let planted = Planted::new();
    for text in [
        format!("a {GOOD} b"),
        format!("Basic {}", BASE64_STANDARD.encode(format!("alice:{GOOD}"))),
        format!("Basic {}", BASE64_STANDARD.encode(format!("alic:{GOOD}."))),
        format!("{:?}", format!("x{GOOD}").as_bytes()),
        "/?p=G00dPlanted%21%20quokka%20lantern%2071".to_owned(),
    ] {
        assert_eq!(
            planted.found_in(text.as_bytes()),
            ["a good password"],
            "{text}"
        );
    }
    assert!(planted.found_in(b"nothing of that kind").is_empty());
}

/// Sends the requests of people and programs, right and wrong, to every route. Returns a token if the service issues one.
async fn use_everything(replica: &Process, planted: &mut Planted, output: &mut Output) -> String {
    let anyone = &replica.anonymous();
    let token = register_and_log_in(anyone, planted, output).await;
    send_bad_bodies(anyone, output).await;
    send_tokens_and_paths(anyone, &token, output).await;
    use_sessions(anyone, planted, output).await;
    ask_as_services(anyone, &token, output).await;
    send_to_every_route(anyone, &token, output).await;
    for path in ["/docs", "/openapi.json"] {
        output.answer(path, &anyone.get(path).await);
    }
    for path in ["/metrics", "/readyz", "/livez"] {
        output.answer(path, &replica.probes().get(path).await);
    }
    if !token.is_empty() {
        // One token stays valid, and another is logged out twice.
        let mut second = anyone.login("alice", GOOD).await;
        let (held, _) = taken_out(&mut second, planted).unwrap();
        output.answer("login", &second);
        for _ in 0..2 {
            output.answer("logout", &anyone.logout(&held).await);
            output.answer("dashboard", &anyone.dashboard(&held).await);
        }
    }
    token
}

/// Returns the last token that the service issued; empty if it issued none.
async fn register_and_log_in(
    anyone: &Anonymous,
    planted: &mut Planted,
    output: &mut Output,
) -> String {
    let too_long = TOO_LONG.repeat(20);
    let pairs = [
        ("alice", GOOD),
        ("bob", GOOD),
        ("alice", WRONG),
        ("nobody", WRONG),
        ("carol", WEAK),
        ("carol", &too_long),
        (AS_NAME, AS_NAME),
        (AS_NAME, GOOD),
    ];
    let mut token = String::new();
    for (name, password) in pairs {
        output.answer("register", &anyone.register(name, password).await);
        let mut answer = anyone.login(name, password).await;
        if let Some((access, _)) = taken_out(&mut answer, planted) {
            token = access;
        }
        output.answer("login", &answer);
    }
    token
}

/// Removes the tokens from a response that may contain them, and plants them.
fn taken_out(answer: &mut Answer, planted: &mut Planted) -> Option<(String, String)> {
    if answer.status != 200 {
        return None;
    }
    let text = |member: &str| answer.json()[member].as_str().unwrap().to_owned();
    let (access, refresh) = (text("token"), text("refresh_token"));
    planted.add("a token", &access);
    let signature = access.rsplit('.').next().unwrap();
    planted.add("the signature of a token", signature);
    planted.add("a refresh token", &refresh);
    answer.body = answer.body.replace(&access, "").replace(&refresh, "");
    Some((access, refresh))
}

/// Generates signing keys in a folder, and plants their secret parts.
fn private_keys(folder: &Path, planted: &mut Planted) -> String {
    let keys = folder.join("keys");
    for arguments in [&["generate"][..], &["stage", "--algorithm", "p256"]] {
        let program = env!("CARGO_BIN_EXE_portcullis");
        let mut command = std::process::Command::new(program);
        command.arg("keys").args(arguments).env_clear();
        let done = command.env("JWT_KEYS_DIR", &keys).status().unwrap();
        assert!(done.success());
    }
    for file in files(&keys) {
        let pem = std::fs::read_to_string(&file).unwrap();
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        planted.add("a private key", &body);
        // Offset of the secret number in PKCS#8, for Ed25519 and for P-256.
        let der = BASE64_STANDARD.decode(&body).unwrap();
        let start = if der.len() < 100 { 16 } else { 36 };
        let number = BASE64_URL_SAFE_NO_PAD.encode(&der[start..start + 32]);
        planted.add("the secret number of a key", &number);
    }
    keys.to_str().unwrap().to_owned()
}

/// Refreshes, lists sessions, changes the password and back, with right and wrong values; with cookies too.
async fn use_sessions(anyone: &Anonymous, planted: &mut Planted, output: &mut Output) {
    for token in [FORGED, &FORGED.repeat(20), ""] {
        output.answer("a bad refresh", &anyone.refresh(token).await);
    }
    let mut login = anyone.login("alice", GOOD).await;
    let Some((_, refresh)) = taken_out(&mut login, planted) else {
        return;
    };
    let mut refreshed = anyone.refresh(&refresh).await;
    let (mut token, _) = taken_out(&mut refreshed, planted).unwrap();
    output.answer("refresh", &refreshed);
    output.answer("sessions", &anyone.sessions(&token).await);
    for (current, new) in [(WRONG, NEW), (GOOD, WEAK), (GOOD, NEW), (NEW, GOOD)] {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = json!({"current_password": current, "new_password": new}).to_string();
        let mut changed = anyone
            .send("PUT", "/me/password", &headers, Some(&body))
            .await;
        if let Some((next, _)) = taken_out(&mut changed, planted) {
            token = next;
        }
        output.answer("a change of the password", &changed);
    }
    let browser = [
        ("sec-fetch-site", "same-origin"),
        ("content-type", "application/json"),
    ];
    let body = json!({"username": "alice", "password": GOOD}).to_string();
    let mut login = anyone.send("POST", "/login", &browser, Some(&body)).await;
    let cookie = login.headers.remove("set-cookie").unwrap();
    let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
    planted.add("a cookie", cookie.split_once('=').unwrap().1);
    output.answer("a login of a browser", &login);
    for site in ["same-origin", "cross-site"] {
        let headers = [("sec-fetch-site", site), ("cookie", cookie)];
        for (method, path) in [("GET", "/dashboard"), ("POST", "/logout")] {
            let answer = anyone.send(method, path, &headers, None).await;
            output.answer(path, &answer);
        }
    }
}

/// Sends the requests of services, with valid and invalid credentials.
async fn ask_as_services(anyone: &Anonymous, token: &str, output: &mut Output) {
    for secret in [OF_CLIENT, WRONG_OF_CLIENT] {
        let basic = BASE64_STANDARD.encode(format!("gate:{secret}"));
        let basic = format!("Basic {basic}");
        let headers = [
            ("authorization", basic.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        for form in [
            format!("token={token}"),
            format!("token={FORGED}"),
            format!("token=a&client_secret={WRONG_OF_CLIENT}&{FORGED}=1"),
            FORGED.to_owned(),
        ] {
            let answer = anyone
                .send("POST", "/introspect", &headers, Some(&form))
                .await;
            output.answer("/introspect", &answer);
        }
        let form = format!("token={FORGED}");
        let answer = anyone.send("POST", "/revoke", &headers, Some(&form)).await;
        output.answer("/revoke", &answer);
    }
}

/// Sends secrets to every route, in places where they do not belong.
async fn send_to_every_route(anyone: &Anonymous, token: &str, output: &mut Output) {
    let document: Value = serde_json::from_str(include_str!("../src/http/openapi.json")).unwrap();
    let bearer = format!("Bearer {token}");
    let body =
        json!({"username": [IN_BAD_BODY], "password": IN_BAD_BODY, IN_BAD_BODY: 1}).to_string();
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("x-forwarded-method", IN_PATH),
        ("origin", IN_PATH),
    ];
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path
            .replace("{username}", IN_PATH)
            .replace("{sid}", IN_PATH);
        for method in operations.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            // These would end sessions that the rest of the test needs, and take no input.
            if (path == "/logout" || path == "/sessions") && method != "GET" {
                continue;
            }
            let path = format!("{path}?{IN_PATH}={IN_PATH}");
            let answer = anyone.send(&method, &path, &headers, Some(&body)).await;
            output.answer(&path, &answer);
        }
    }
}

async fn send_bad_bodies(anyone: &Anonymous, output: &mut Output) {
    for body in [
        json!({"username": "alice", "password": [IN_BAD_BODY]}).to_string(),
        json!({"username": "alice", "password": {"value": IN_BAD_BODY}}).to_string(),
        json!({"username": "alice", "password": AS_NUMBER.parse::<u64>().unwrap()}).to_string(),
        json!({"username": [IN_BAD_BODY], "password": GOOD}).to_string(),
        json!({"username": "alice", "password": GOOD, "extra": IN_BAD_BODY}).to_string(),
        json!({"username": "alice", IN_BAD_BODY: GOOD}).to_string(),
        json!([GOOD, IN_BAD_BODY]).to_string(),
        json!(IN_BAD_BODY).to_string(),
        format!(
            "{{\"username\": \"alice\", \"password\": \"{IN_BAD_BODY}\", \"password\": \"x\"}}"
        ),
        format!("{{\"username\": \"alice\", \"password\": \"{IN_BAD_BODY}"),
        format!("username=alice&password={IN_BAD_BODY}"),
        IN_BAD_BODY.repeat(1000),
        "\u{0}".to_owned() + IN_BAD_BODY,
    ] {
        for path in ["/register", "/login"] {
            output.answer("a bad body", &anyone.post_text(path, &body).await);
        }
        let plain = [("content-type", "text/plain")];
        let answer = anyone.send("POST", "/login", &plain, Some(&body)).await;
        output.answer("a body that is no JSON", &answer);
    }
}

async fn send_tokens_and_paths(anyone: &Anonymous, token: &str, output: &mut Output) {
    let basic = BASE64_STANDARD.encode(format!("alice:{GOOD}"));
    let (forged, tampered) = (format!("{FORGED}.x.y"), format!("{token}x"));
    let schemes = [
        format!("Bearer {token}"),
        format!("Bearer {tampered}"),
        format!("Bearer {forged}"),
        format!("bearer  {FORGED}"),
        format!("Basic {basic}"),
        format!("Token {FORGED}"),
        FORGED.to_owned(),
    ];
    for authorization in &schemes {
        let once = [("authorization", authorization.as_str())];
        let twice = [once[0], ("authorization", "Bearer x")];
        for headers in [&once[..], &twice] {
            for (method, path) in [
                ("GET", "/dashboard"),
                ("GET", "/me"),
                ("POST", "/dashboard"),
                ("GET", "/"),
                ("GET", "/nowhere"),
                ("BREW", "/me"),
            ] {
                let answer = anyone.send(method, path, headers, None).await;
                output.answer(path, &answer);
            }
        }
    }
    for path in [
        format!("/dashboard?access_token={token}"),
        format!("/me?token={IN_PATH}"),
        format!("/{IN_PATH}"),
        format!("/dashboard/{IN_PATH}"),
        format!("/%00{IN_PATH}"),
        format!("/docs?{IN_PATH}"),
        format!("/{}", IN_PATH.repeat(400)),
    ] {
        let trace = format!("00-{IN_PATH}-00f067aa0ba902b7-01");
        let headers = [
            ("traceparent", trace.as_str()),
            ("user-agent", IN_PATH),
            ("cookie", IN_PATH),
            ("referer", IN_PATH),
            ("x-request-id", GOOD),
            ("x-forwarded-for", IN_PATH),
        ];
        output.answer(
            "a strange path",
            &anyone.send("GET", &path, &headers, None).await,
        );
    }
}

/// Waits until a request has failed because Redis rejects the password.
async fn refused(replica: &Process) {
    let wait = async {
        loop {
            let answer = replica.anonymous().register("dave", GOOD).await;
            assert_eq!(answer.status, 503);
            let failures = replica.events("request");
            let why = failures.iter().filter_map(|line| line["why"].as_str());
            if why.into_iter().any(|why| why.contains("assword")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait)
        .await
        .unwrap_or_else(|_| panic!("{:#?}", replica.events("request")));
}

/// Waits until users can log in and see the dashboard again.
async fn back(anyone: &Anonymous) {
    let wait = async {
        loop {
            let login = anyone.login("alice", GOOD).await;
            if login.status == 200 {
                let token = login.json()["token"].as_str().unwrap().to_owned();
                if anyone.dashboard(&token).await.status == 200 {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("Redis is back");
}

/// Sets a password in Redis, for as long as Redis runs.
async fn lock(redis: &Redis) {
    let password = format!(">{OF_REDIS}");
    let set = ["ACL", "SETUSER", "portcullis", "resetpass", &password];
    redis.command::<()>(&set).await;
}

fn locked(redis: &Redis, password: &str) -> String {
    format!("redis://portcullis:{password}@{}", redis.addr())
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(self::files(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}
