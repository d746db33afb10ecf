//! The program's commands: their output and their exit codes.

use crate::harness::program::{Desk, PLANTED, serve};
use crate::harness::{Anonymous, REDIS_PASSWORD, Redis, Replica, SECRET, config, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn help_names_every_variable_and_shows_no_secret() {
    let desk = Desk::new();
    let secrets = [
        ("JWT_SECRET", PLANTED),
        ("REDIS_URL", PLANTED),
        ("PASSWORD_PEPPER", PLANTED),
    ];
    let ran = desk.run(&["--help"], &secrets).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(!ran.out.contains(PLANTED));
    // Long lines are wrapped, also between a word and its description.
    let words = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
    let settings = portcullis::cli::definition();
    let mut named = 0;
    for argument in settings.get_arguments() {
        let Some(variable) = argument.get_env().and_then(|name| name.to_str()) else {
            continue;
        };
        assert!(
            words.contains(&format!("[env: {variable}=")),
            "{variable} is not in the help"
        );
        assert!(
            argument
                .get_help()
                .is_some_and(|help| help.to_string().len() > 10),
            "{variable} is not explained"
        );
        assert!(
            words.contains(&format!("--{}", variable.to_lowercase().replace('_', "-"))),
            "{variable} has no option of its name"
        );
        named += 1;
    }
    assert!(named >= 20, "{named}");
    for (secret, _) in secrets {
        assert!(words.contains(&format!("{secret}:")), "{secret}");
    }
    for command in ["serve", "check", "healthcheck", "openapi"] {
        assert!(words.contains(&format!(" {command} ")), "{command}");
    }
    assert!(!words.contains("private-redis"), "nobody is to run that");
    let version = desk.run(&["--version"], &[]).await;
    assert_eq!(
        (version.code, version.out.trim()),
        (0, concat!("portcullis ", env!("CARGO_PKG_VERSION")))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_stands_before_or_after_its_command() {
    let desk = Desk::new();
    for arguments in [
        ["--bcrypt-cost", "99", "openapi"],
        ["openapi", "--bcrypt-cost", "99"],
    ] {
        let ran = desk.run(&arguments, &[]).await;
        assert_eq!(ran.code, 64);
        assert!(ran.err.contains("BCRYPT_COST"), "{}", ran.err);
    }
    let after = ["openapi", "--bcrypt-cost", "11"];
    assert_eq!(desk.run(&after, &[]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_what_would_run_and_whether_redis_is_fit_for_it() {
    let desk = Desk::new();
    let good = Redis::start().await;
    let evicting =
        Redis::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let forgetful = Redis::with(&["--appendonly", "no"]).await;
    let locked = Redis::start().await;
    let master = good.addr().port().to_string();
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &master]).await;
    let nowhere = format!("redis://user:{PLANTED}@127.0.0.1:1");
    let port = locked.addr().port();
    let wrong = format!("redis://:{PLANTED}@127.0.0.1:{port}");
    let without = format!("redis://127.0.0.1:{port}");
    for (url, code, told) in [
        (good.url(), 0, "keeps every acknowledged write"),
        (forgetful.url(), 0, "WARNING"),
        (evicting.url(), 69, "allkeys-lru"),
        (replica.url(), 69, "FAILED"),
        (wrong, 69, "FAILED"),
        (without, 69, "FAILED"),
        (nowhere, 69, "FAILED"),
        (format!("unix:///nonexistent/{PLANTED}"), 69, "FAILED"),
    ] {
        let ran = desk
            .check(&[("REDIS_URL", &url), ("JWT_SECRET", SECRET)])
            .await;
        assert_eq!(ran.code, code, "{url} {ran:?}");
        let line = ran
            .out
            .lines()
            .find(|line| line.starts_with("redis "))
            .unwrap();
        assert!(line.contains(told), "{url}: {line}");
        let all = format!("{}{}", ran.out, ran.err);
        assert!(!all.contains(PLANTED) && !all.contains(SECRET), "{all}");
    }
    assert_eq!(
        std::fs::read_dir(desk.path()).unwrap().count(),
        0,
        "a check leaves nothing behind"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_the_acknowledgements_promise() {
    let desk = Desk::new();
    let redis = Redis::start().await;
    let port = redis.addr().port().to_string();
    let follows = ["--replicaof", "127.0.0.1", &port, "--masteruser", "replica"];
    let follows = [&follows[..], &["--masterauth", REDIS_PASSWORD]].concat();
    let _replicas = [
        Redis::on(free_port(), &follows).await,
        Redis::on(free_port(), &follows).await,
    ];
    let url = redis.url();
    let linked = async || {
        let info: String = redis.command(&["INFO", "replication"]).await;
        info.contains("connected_slaves:2")
    };
    while !linked().await {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for (acknowledgements, code, told) in [
        (
            "0",
            0,
            "WARNING: replicas follow this Redis and REDIS_ACK_REPLICAS is 0",
        ),
        ("1", 0, "a failover may lose changes"),
        ("2", 0, "no failover loses anything"),
        ("3", 69, "FAILED: fewer replicas follow this Redis"),
    ] {
        let settings = [
            ("REDIS_URL", url.as_str()),
            ("JWT_SECRET", SECRET),
            ("REDIS_ACK_REPLICAS", acknowledgements),
        ];
        let ran = desk.check(&settings).await;
        assert_eq!(ran.code, code, "{ran:?}");
        let line = ran.out.lines().find(|line| line.starts_with("primary "));
        assert!(line.unwrap().contains(told), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_tells_whether_a_replica_is_ready() {
    let desk = Desk::new();
    let redis = Redis::start().await;
    let mut settings = config(&redis.url());
    settings.revocation.alone = true;
    let replica = Replica::start(settings).await;
    replica.ready().await;
    let at = replica.management.to_string();
    let any = format!("0.0.0.0:{}", replica.management.port());
    for address in [&at, &any] {
        let ran = desk
            .run(&["healthcheck"], &[("MANAGEMENT_LISTEN", address)])
            .await;
        assert_eq!((ran.code, ran.out.as_str()), (0, "ready\n"), "{ran:?}");
    }
    // The replica runs but is not ready: it cannot reach its Redis.
    let lost = Replica::start(config("redis://127.0.0.1:1")).await;
    for address in [lost.management.to_string(), "127.0.0.1:1".to_owned()] {
        let ran = desk
            .run(&["healthcheck"], &[("MANAGEMENT_LISTEN", &address)])
            .await;
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
        assert!(!ran.err.is_empty());
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn port_replaces_the_port_of_listen() {
    let desk = Desk::new();
    let redis = Redis::start().await;
    let url = redis.url();
    let common = [
        ("REDIS_URL", url.as_str()),
        ("JWT_SECRET", SECRET),
        ("MANAGEMENT_LISTEN", "127.0.0.1:0"),
        ("BCRYPT_COST", "4"),
    ];
    for listen in [
        None,
        Some(("LISTEN", "127.0.0.1:1")),
        Some(("LISTEN", "[::1]:1")),
    ] {
        let port = free_port();
        let port_text = port.to_string();
        let mut variables = common.to_vec();
        variables.push(("PORT", &port_text));
        variables.extend(listen);
        let (mut child, line) = serve(&desk, &variables).await;
        let address = line["listen"].as_str().unwrap();
        assert!(address.ends_with(&format!(":{port}")), "{line}");
        let answer = Anonymous::at(address.parse().unwrap())
            .get("/openapi.json")
            .await;
        assert_eq!(answer.status, 200);
        child.kill().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_address_is_said_by_the_name_of_its_setting() {
    let desk = Desk::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (setting, other) in [
        ("LISTEN", "MANAGEMENT_LISTEN"),
        ("MANAGEMENT_LISTEN", "LISTEN"),
    ] {
        let variables = [
            (setting, &*address),
            (other, "127.0.0.1:0"),
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("JWT_SECRET", SECRET),
        ];
        let ran = desk.run(&["serve"], &variables).await;
        assert_eq!(ran.code, 69, "{ran:?}");
        assert!(
            ran.err.starts_with(&format!("portcullis: {setting}: ")),
            "{}",
            ran.err
        );
    }
}
