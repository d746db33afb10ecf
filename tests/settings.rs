//! The settings as an operator sees them: the values that are mistakes, the reports of mistakes, and the sources of secrets.

use crate::harness::program::{Desk, PLANTED, Ran};
use crate::harness::{Redis, SECRET};

#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_are_reported_together_and_no_value_is_printed() {
    let desk = Desk::new();
    let bad = [
        ("ACCESS_TTL", "25h"),
        ("AUDIENCE", ""),
        ("BCRYPT_COST", "16"),
        ("CLIENTS", PLANTED),
        ("COOKIES", PLANTED),
        ("CORS_ORIGINS", PLANTED),
        ("DOCS", PLANTED),
        ("DRAIN_DELAY", PLANTED),
        ("DRAIN_TIMEOUT", "11m"),
        ("HASH_DEADLINE", "0s"),
        ("HASH_LANES", "9"),
        ("HASH_THREADS", "0"),
        ("ISSUER", PLANTED),
        ("JWT_SECRET", PLANTED),
        ("LISTEN", PLANTED),
        ("LOG_FILTER", "=S3cret-Planted-Value="),
        ("LOG_FORMAT", PLANTED),
        ("MANAGEMENT_LISTEN", PLANTED),
        ("MAX_CONNECTIONS", "0"),
        ("MAX_CONNECTIONS_PER_NETWORK", "0"),
        ("PASSWORD_MIN_LENGTH", "7"),
        ("PASSWORD_PEPPER", PLANTED),
        ("PORT", "65536"),
        ("RATE_LIMIT", PLANTED),
        ("RATE_LIMIT_ACCOUNT", "10"),
        ("RATE_LIMIT_NETWORK", "0@1m"),
        ("RATE_LIMIT_REGISTRATION", "20@25h"),
        ("READINESS_GRACE", "-1s"),
        ("REDIS_PREFIX", "{S3cret-Planted-Value}"),
        ("REDIS_URL", "http://user:S3cret-Planted-Value@host"),
        ("REFRESH_REUSE_INTERVAL", "6m"),
        ("REFRESH_SECRET", PLANTED),
        ("REVOCATION_STALE_IF_ERROR", PLANTED),
        ("REVOCATION_WINDOW", "1001ms"),
        ("SESSION_IDLE_TIMEOUT", PLANTED),
        ("SESSION_MAX_AGE", "401d"),
        ("TLS_KEY", "/nowhere"),
        ("TRUSTED_PROXIES", PLANTED),
    ];
    // If only the key is set, the mistake names the missing certificate.
    let told = |name| if name == "TLS_KEY" { "TLS_CERT" } else { name };
    let names: Vec<_> = bad.iter().map(|(name, _)| told(*name)).collect();
    for command in [
        &[][..],
        &["serve"],
        &["check"],
        &["healthcheck"],
        &["openapi"],
    ] {
        let ran = desk.run(command, &bad).await;
        assert_eq!(ran.mistakes(), names, "{command:?}");
    }
    // Every setting is checked, except the folders and files, for which any value is valid.
    let settings = portcullis::cli::definition();
    let variables = settings
        .get_arguments()
        .filter_map(|argument| argument.get_env()?.to_str());
    // The valid values of Redis' certificates and acknowledgements depend on its URL; another test covers them.
    let others = [
        "AUDIT_LOG",
        "DATA_DIR",
        "JWT_KEYS_DIR",
        "REDIS_ACK_REPLICAS",
        "REDIS_CA",
        "REDIS_CERT",
        "REDIS_KEY",
        "SENTINEL_PASSWORD_FILE",
        "TLS_KEY",
    ];
    for variable in variables.filter(|name| !others.contains(name)) {
        let secret = variable.strip_suffix("_FILE").unwrap_or(variable);
        assert!(names.contains(&secret), "{variable} is not in this test");
    }
    assert_eq!(
        std::fs::read_dir(desk.path()).unwrap().count(),
        0,
        "a mistake leaves nothing behind"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn options_are_checked_like_variables_and_win_over_them() {
    let desk = Desk::new();
    let ran = desk
        .run(
            &[
                "--issuer=S3cret-Planted-Value",
                "--access-ttl",
                "60",
                "check",
            ],
            &[],
        )
        .await;
    assert_eq!(ran.mistakes(), ["ACCESS_TTL", "ISSUER"]);
    let ran = desk
        .run(&["--audience", "first", "check"], &[("AUDIENCE", "second")])
        .await;
    assert!(ran.out.contains("audience first"), "{ran:?}");
    for arguments in [
        &["frobnicate"][..],
        &["--frobnicate"],
        &["--listen"],
        &["check", "now"],
    ] {
        let ran = desk.run(arguments, &[]).await;
        assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn durations_without_a_unit_are_refused() {
    let desk = Desk::new();
    let spans = [
        "ACCESS_TTL",
        "DRAIN_DELAY",
        "DRAIN_TIMEOUT",
        "HASH_DEADLINE",
        "READINESS_GRACE",
        "REVOCATION_STALE_IF_ERROR",
        "REVOCATION_WINDOW",
    ];
    for value in ["1", "60", "1.5", "1x", "s", "-1s", ""] {
        let variables = spans.map(|name| (name, value));
        assert_eq!(desk.check(&variables).await.mistakes(), spans, "{value:?}");
    }
    let variables = spans.map(|name| (name, "1s"));
    assert_eq!(desk.check(&variables).await.code, 0);
    assert_eq!(
        desk.check(&[("REVOCATION_WINDOW", "0"), ("ACCESS_TTL", "1h 30m")])
            .await
            .code,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn weak_secrets_are_refused_by_the_name_of_their_variable() {
    let desk = Desk::new();
    for weak in [
        // The tutorial's own secret, and typical variations.
        "supersecretkey",
        "SuperSecretKeySuperSecretKeySuperSecretKey",
        "your-256-bit-secret",
        "change-me-change-me-change-me-change-me",
        // 31 bytes.
        "3fA9kQ2pX7vLr8TnB5yWc1ZeH6uMd0J",
        "x",
        // Long, but easy to guess.
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "0123456789abcdef0123456789abcdef0123456789abcdef",
        "abababababababababababababababababababab",
    ] {
        let file = desk.file("weak", format!("{weak}\n"));
        for variables in [[("JWT_SECRET", weak)], [("JWT_SECRET_FILE", &*file)]] {
            let ran = desk.check(&variables).await;
            assert_eq!(ran.mistakes(), ["JWT_SECRET"], "{weak}");
            assert!(weak == "x" || !ran.err.contains(weak), "{}", ran.err);
        }
        let pepper = format!("p1:{weak}");
        let ran = desk.check(&[("PASSWORD_PEPPER", &pepper)]).await;
        assert_eq!(ran.mistakes(), ["PASSWORD_PEPPER"], "{weak}");
        assert!(weak == "x" || !ran.err.contains(weak), "{}", ran.err);
    }
    // 32 bytes, and strong.
    let good = "3fA9kQ2pX7vLr8TnB5yWc1ZeH6uMd0Js";
    let ran = desk
        .check(&[
            ("JWT_SECRET", good),
            ("PASSWORD_PEPPER", &format!("p1:{good}")),
        ])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.out.contains(good), "{}", ran.out);
    for pepper in [
        good,
        ":3fA9kQ2pX7vLr8TnB5yWc1ZeH6uMd0Js",
        "a-b:3fA9kQ2pX7vLr8TnB5yWc1ZeH6uMd0Js",
        "p1:",
    ] {
        let ran = desk.check(&[("PASSWORD_PEPPER", pepper)]).await;
        assert_eq!(ran.mistakes(), ["PASSWORD_PEPPER"]);
        assert!(!ran.err.contains(good));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_a_variable_or_a_file_and_never_both() {
    let desk = Desk::new();
    let redis = Redis::start().await;
    let pepper = format!("p1:{SECRET}");
    for (variable, value) in [
        ("JWT_SECRET", SECRET),
        ("REDIS_URL", &redis.url()),
        ("PASSWORD_PEPPER", &pepper),
    ] {
        let twin = format!("{variable}_FILE");
        // A file ends in a line end or two, which are not part of the secret.
        let file = desk.file(variable, format!("{value}\r\n"));
        assert_eq!(desk.check(&[(&twin, &file)]).await.code, 0, "{twin}");
        let both = desk.check(&[(&twin, &file), (variable, value)]).await;
        assert_eq!(both.mistakes(), [variable]);
        assert!(
            both.err.contains(&twin) && !both.err.contains(value),
            "{}",
            both.err
        );
        // Compose passes an unset variable as an empty value, which counts as unset.
        assert_eq!(desk.check(&[(&twin, ""), (variable, value)]).await.code, 0);
        assert_eq!(desk.check(&[(&twin, &file), (variable, "")]).await.code, 0);
        for unreadable in [
            "/nonexistent/S3cret-Planted-Value",
            desk.path().to_str().unwrap(),
        ] {
            assert_eq!(
                desk.check(&[(&twin, unreadable)]).await.mistakes(),
                [twin.as_str()]
            );
        }
        let binary = desk.file("binary", b"\xff\xfe\x80S3cret-Planted-Value");
        assert_eq!(
            desk.check(&[(&twin, &binary)]).await.mistakes(),
            [twin.as_str()]
        );
    }
    let empty = desk.file("empty", "");
    let ran = desk
        .check(&[
            ("JWT_SECRET_FILE", &empty),
            ("REDIS_URL_FILE", &empty),
            ("PASSWORD_PEPPER_FILE", &empty),
        ])
        .await;
    assert_eq!(
        ran.mistakes(),
        ["JWT_SECRET", "PASSWORD_PEPPER", "REDIS_URL"]
    );
}

/// Regression: such a secret counted as unset, and the replica generated its own key.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_text_is_a_mistake() {
    use std::os::unix::ffi::OsStrExt;
    let desk = Desk::new();
    let mut command = desk.command(&["check"], &[]);
    let bytes = std::ffi::OsStr::from_bytes(b"\xff\xfeS3cret-Planted-Value-S3cret-Planted-Value");
    let output = command.env("JWT_SECRET", bytes).output().await.unwrap();
    assert_eq!(Ran::from(output).mistakes(), ["JWT_SECRET"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_no_options() {
    let desk = Desk::new();
    for option in ["--jwt-secret", "--redis-url", "--password-pepper"] {
        for arguments in [
            vec![option.to_owned(), PLANTED.to_owned()],
            vec![format!("{option}={PLANTED}")],
        ] {
            let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            arguments.push("check");
            let ran = desk.run(&arguments, &[]).await;
            assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{option}");
            assert!(!ran.err.contains(PLANTED), "{}", ran.err);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn off_loopback_redis_and_the_key_must_be_named_and_hashes_must_cost() {
    let desk = Desk::new();
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        for command in ["serve", "check"] {
            let ran = desk.run(&[command], &[("LISTEN", listen)]).await;
            assert_eq!(ran.mistakes(), ["JWT_SECRET", "REDIS_URL"], "{listen}");
        }
        let ran = desk
            .check(&[("LISTEN", listen), ("JWT_SECRET", SECRET)])
            .await;
        assert_eq!(ran.mistakes(), ["REDIS_URL"]);
        let cheap = [
            ("LISTEN", listen),
            ("JWT_SECRET", SECRET),
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("BCRYPT_COST", "9"),
        ];
        assert_eq!(desk.check(&cheap).await.mistakes(), ["BCRYPT_COST"]);
    }
    // On loopback a replica starts its own Redis and generates its own key.
    for listen in ["127.0.0.1:0", "127.9.9.9:0", "[::1]:0"] {
        let ran = desk
            .check(&[("LISTEN", listen), ("BCRYPT_COST", "4")])
            .await;
        assert_eq!(ran.code, 0, "{listen} {ran:?}");
    }
    assert_eq!(
        std::fs::read_dir(desk.path()).unwrap().count(),
        0,
        "a check leaves nothing behind"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dotenv_file_is_read_and_the_environment_wins() {
    let desk = Desk::new();
    desk.file(".env", format!("# the tutorial's file\nAUDIENCE=from-the-file\nISSUER=\"http://file.example\"\nJWT_SECRET={SECRET}\nPORT=4321\n"));
    let ran = desk.check(&[]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    for part in [
        "audience from-the-file",
        "issuer http://file.example",
        "http://127.0.0.1:4321",
    ] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }
    let ran = desk.check(&[("AUDIENCE", "from-outside")]).await;
    assert!(
        ran.out.contains("audience from-outside") && ran.out.contains("http://file.example"),
        "{}",
        ran.out
    );
    let ran = desk
        .run(&["--audience", "from-the-option", "check"], &[])
        .await;
    assert!(ran.out.contains("audience from-the-option"), "{}", ran.out);

    desk.file(".env", format!("ACCESS_TTL=60\nJWT_SECRET={PLANTED}\n"));
    assert_eq!(
        desk.check(&[]).await.mistakes(),
        ["ACCESS_TTL", "JWT_SECRET"]
    );
    for broken in [
        format!("{PLANTED} {PLANTED}\n"),
        format!("JWT_SECRET='{PLANTED}\n"),
    ] {
        desk.file(".env", broken);
        assert_eq!(desk.check(&[]).await.mistakes(), [".env"]);
    }
}
