//! The program as an operator meets it: its settings, its mistakes and its commands, with nothing in its environment but
//! what a test says.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use reqwest::StatusCode;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::harness::{Anonymous, Redis, Replica, SECRET, config, free_port};

/// What must never be printed.
const PLANTED: &str = "S3cret-Planted-Value";

/// A working folder with nothing in it.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command
            .args(arguments)
            .env_clear()
            .envs(variables.iter().copied())
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs the program to its end.
    async fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let running = self.command(arguments, variables).output();
        let output = tokio::time::timeout(Duration::from_secs(30), running).await;
        Ran::from(output.expect("it does not end").unwrap())
    }

    /// Runs `check`, which ends whatever the settings are.
    async fn check(&self, variables: &[(&str, &str)]) -> Ran {
        self.run(&["check"], variables).await
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

/// What became of a run.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by a signal"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// The settings that are reported as mistakes, sorted; checks that this is how mistakes are reported.
    fn mistakes(&self) -> Vec<&str> {
        assert_eq!(self.code, 64, "{self:?}");
        assert_eq!(self.out, "", "mistakes go to standard error");
        assert!(!self.err.contains(PLANTED), "{}", self.err);
        let setting = |line| {
            let line: &str = line;
            let line = line
                .strip_prefix("portcullis: ")
                .unwrap_or_else(|| panic!("{line}"));
            line.split_once(": ").unwrap().0
        };
        let mut settings: Vec<_> = self.err.lines().map(setting).collect();
        settings.sort_unstable();
        settings
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_are_reported_together_and_no_value_is_printed() {
    let desk = Desk::new();
    let bad = [
        ("ACCESS_TTL", "25h"),
        ("AUDIENCE", ""),
        ("BCRYPT_COST", "16"),
        ("DOCS", PLANTED),
        ("DRAIN_DELAY", PLANTED),
        ("DRAIN_TIMEOUT", "11m"),
        ("HASH_DEADLINE", "0s"),
        ("HASH_THREADS", "0"),
        ("ISSUER", PLANTED),
        ("JWT_SECRET", PLANTED),
        ("LISTEN", PLANTED),
        ("LOG", "=S3cret-Planted-Value="),
        ("LOG_FORMAT", PLANTED),
        ("MANAGEMENT_LISTEN", PLANTED),
        ("MAX_CONNECTIONS", "0"),
        ("PASSWORD_MIN_LENGTH", "7"),
        ("PASSWORD_PEPPER", PLANTED),
        ("PORT", "65536"),
        ("READINESS_GRACE", "-1s"),
        ("REDIS_PREFIX", "{S3cret-Planted-Value}"),
        ("REDIS_URL", "http://user:S3cret-Planted-Value@host"),
        ("REVOCATION_STALE_IF_ERROR", PLANTED),
        ("REVOCATION_WINDOW", "1001ms"),
        ("TRUSTED_PROXIES", PLANTED),
    ];
    let names: Vec<_> = bad.iter().map(|(name, _)| *name).collect();
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
    // Every setting is checked, but the folder and the files, which are what they are.
    let settings = portcullis::cli::definition();
    let variables = settings
        .get_arguments()
        .filter_map(|argument| argument.get_env()?.to_str());
    for variable in variables.filter(|name| *name != "DATA_DIR") {
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
        // The tutorial's own, and what one makes of it.
        "supersecretkey",
        "SuperSecretKeySuperSecretKeySuperSecretKey",
        "your-256-bit-secret",
        "change-me-change-me-change-me-change-me",
        // 31 bytes.
        "3fA9kQ2pX7vLr8TnB5yWc1ZeH6uMd0J",
        "x",
        // Long, and still nothing to guess.
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
    // 32 bytes and nothing wrong with them.
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
        // A file ends in a line end or two; that is not part of the secret.
        let file = desk.file(variable, format!("{value}\r\n"));
        assert_eq!(desk.check(&[(&twin, &file)]).await.code, 0, "{twin}");
        let both = desk.check(&[(&twin, &file), (variable, value)]).await;
        assert_eq!(both.mistakes(), [variable]);
        assert!(
            both.err.contains(&twin) && !both.err.contains(value),
            "{}",
            both.err
        );
        // What compose hands on as nothing is nothing.
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

/// Such a secret counted as not set, and the replica made a key of its own.
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
    // On loopback a replica sees to both itself.
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
    // Long lines are wrapped, also between a word and what belongs to it.
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
async fn check_tells_what_would_run_and_whether_redis_is_fit_for_it() {
    let desk = Desk::new();
    let good = Redis::start().await;
    let evicting =
        Redis::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let forgetful = Redis::with(&["--appendonly", "no"]).await;
    let locked = Redis::start().await;
    let lock = ["CONFIG", "SET", "requirepass", "another-password"];
    locked.command::<()>(&lock).await;
    let master = good.addr().port().to_string();
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &master]).await;
    let nowhere = format!("redis://user:{PLANTED}@127.0.0.1:1");
    let wrong = format!("redis://:{PLANTED}@127.0.0.1:{}", locked.addr().port());
    for (url, code, told) in [
        (good.url(), 0, "keeps every acknowledged write"),
        (forgetful.url(), 0, "WARNING"),
        (evicting.url(), 69, "allkeys-lru"),
        (replica.url(), 69, "FAILED"),
        (wrong, 69, "FAILED"),
        (locked.url(), 69, "FAILED"),
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
    // There, but not ready: its Redis is not there.
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

/// A program that serves, and what it has logged when it began to.
async fn serve(
    desk: &Desk,
    variables: &[(&str, &str)],
) -> (tokio::process::Child, serde_json::Value) {
    let mut child = desk
        .command(&[], variables)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["event"] == "listening" {
                return line;
            }
        }
        panic!("it does not listen");
    };
    let line = tokio::time::timeout(Duration::from_secs(30), started)
        .await
        .unwrap();
    // Whoever does not read the log must not hold the program up.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, line)
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
        assert_eq!(answer.status, StatusCode::OK.as_u16());
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
