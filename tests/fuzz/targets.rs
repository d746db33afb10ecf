//! Fuzz targets: each must take any bytes without a panic, and its result must hold.
//!
//! The suite feeds them with the committed corpus and mutations of it; `make fuzz` lets libFuzzer look for more, guided by
//! coverage.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::{Args as _, FromArgMatches as _};
use portcullis::app::App;
use portcullis::auth::keyring::KeyStore;
use portcullis::auth::passwords::{Checked, Passwords};
use portcullis::auth::refresh_tokens::RefreshTokens;
use portcullis::auth::tokens::Tokens;
use portcullis::config::{Config, PasswordConfig, Secret, Settings};
use portcullis::domain::{
    AttemptedName, Clock, Guess, Network, Password, PasswordHash, Role, Scheme, SessionId,
    Timestamp, UserId, UserTag, Username,
};
use portcullis::store::Entry;
use tokio::runtime::Runtime;

/// Function that takes any bytes.
type Target = fn(&[u8]);

/// All targets by their names.
pub const TARGETS: [(&str, Target); 5] = [
    ("hashes", hashes),
    ("records", records),
    ("requests", requests),
    ("settings", settings),
    ("tokens", tokens),
];

/// Maximum cost that is computed here; a greater one takes long and shows nothing else.
const GREATEST_COST: u32 = 5;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
});

/// A password, a zero byte, a stored hash: the service and the crate `bcrypt` agree on them.
pub fn hashes(data: &[u8]) {
    static PASSWORDS: LazyLock<Passwords> = LazyLock::new(|| {
        let config = PasswordConfig {
            min_length: 8,
            pepper: None,
            cost: 4,
            threads: Some(1),
            lanes: None,
            deadline: Duration::from_mins(1),
        };
        Passwords::new(&config).unwrap()
    });
    let text = String::from_utf8_lossy(data);
    let Some((password, stored)) = text.split_once('\0') else {
        return;
    };
    let (Ok(password), Ok(stored)) = (
        Password::parse(password.to_owned()),
        stored.parse::<PasswordHash>(),
    ) else {
        return;
    };
    assert_eq!(stored.to_string().parse(), Ok(stored.clone()));
    let cost = stored
        .bcrypt()
        .get(4..6)
        .and_then(|cost| cost.parse::<u32>().ok());
    if cost.is_some_and(|cost| cost > GREATEST_COST) {
        return;
    }
    let attempt = Guess {
        name: AttemptedName::of("fuzz"),
        from: None,
    };
    let checked = RUNTIME.block_on(PASSWORDS.check(attempt, &password, Some(&stored)));
    let valid = !matches!(checked.unwrap(), Checked::Invalid);
    assert_eq!(valid, is_valid_by_the_crate(&password, &stored));
}

fn is_valid_by_the_crate(password: &Password, stored: &PasswordHash) -> bool {
    let password = password.expose().as_bytes();
    let input = match stored.scheme() {
        Scheme::Plain => password.to_vec(),
        Scheme::Prehashed { pepper: None } => {
            let key = b"portcullis password pre-hash, version 1";
            let key = hmac::Key::new(hmac::HMAC_SHA384, key);
            BASE64_STANDARD
                .encode(hmac::sign(&key, password))
                .into_bytes()
        }
        // No pepper is configured here.
        Scheme::Prehashed { pepper: Some(_) } => return false,
    };
    bcrypt::verify(input, stored.bcrypt()).unwrap_or(false)
}

/// No bytes are a valid token: no fuzzer has the key.
pub fn tokens(data: &[u8]) {
    static VERIFIERS: LazyLock<(Tokens, RefreshTokens)> = LazyLock::new(|| {
        let secret = Secret::generate();
        let tokens = Tokens::new(
            Arc::new(KeyStore::open(Some(secret.clone()), None).unwrap()),
            "http://localhost:8080".to_owned(),
            "portcullis".to_owned(),
            Duration::from_hours(1),
            Clock::machine(),
        );
        (tokens, RefreshTokens::new(&[], Some(&secret)).unwrap())
    });
    let text = String::from_utf8_lossy(data);
    assert!(
        VERIFIERS.0.verify(&text).is_err(),
        "accepted without the key"
    );
    assert!(
        VERIFIERS.1.verify_signature(&text).is_none(),
        "accepted without the key"
    );
}

/// Any record in Redis is either accepted or rejected, and an accepted record is written back unchanged.
pub fn records(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(entry) = text.parse::<Entry>() {
        let written = entry.to_string();
        assert_eq!(written.parse::<Entry>().unwrap(), entry);
    }
    text.parse::<UserId>().ok();
    text.parse::<SessionId>().ok();
    text.parse::<UserTag>().ok();
    text.parse::<Role>().ok();
    text.parse::<PasswordHash>().ok();
    if let Ok(name) = text.parse::<Username>() {
        assert_eq!(name.as_str().parse::<Username>().unwrap(), name);
    }
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        let _ = Network::from(address).to_string();
    }
    if let Some(millis) = data.first_chunk::<8>() {
        let _ = Timestamp::from_millis(u64::from_le_bytes(*millis)).to_string();
    }
}

/// Number of a setting, and a value for it. Settings that name files are left out: the program would read those files.
pub fn settings(data: &[u8]) {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let command = Settings::augment_args(clap::Command::new("fuzz"));
        let arguments = command.get_arguments().filter(|argument| {
            let value = argument.get_value_names().and_then(|names| names.first());
            value.is_some_and(|name| !["FILE", "FOLDER"].contains(&name.as_str()))
        });
        arguments
            .filter_map(|argument| argument.get_long().map(str::to_owned))
            .collect()
    });
    let mut arguments = vec![OsString::from("fuzz")];
    for given in data.split(|&byte| byte == b'\n') {
        let Some((&number, value)) = given.split_first() else {
            continue;
        };
        let name = &NAMES[usize::from(number) % NAMES.len()];
        let value = String::from_utf8_lossy(value);
        arguments.push(OsString::from(format!("--{name}={value}")));
    }
    let command = Settings::augment_args(clap::Command::new("fuzz"));
    let Ok(matches) = command.try_get_matches_from(arguments) else {
        return;
    };
    if let Ok(settings) = Settings::from_arg_matches(&matches) {
        settings.check().ok();
    }
}

/// Bytes that a client sends: the server answers them with a proper response, or not at all.
pub fn requests(data: &[u8]) {
    static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
        let config = config();
        let app = RUNTIME.block_on(App::build(config)).unwrap();
        let address = app.local_addr().unwrap();
        RUNTIME.spawn(app.run(std::future::pending()));
        address
    });
    let Ok(mut stream) = TcpStream::connect(*SERVER) else {
        panic!("the server is gone");
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // The server may have answered and closed before it has read all.
    stream.write_all(data).ok();
    stream.shutdown(Shutdown::Write).ok();
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    if let Err(error) = ended {
        assert_ne!(
            error.kind(),
            std::io::ErrorKind::WouldBlock,
            "no answer and no end"
        );
    }
    let text = String::from_utf8_lossy(&answer);
    assert!(text.is_empty() || text.starts_with("HTTP/1."), "{text}");
    assert!(!text.starts_with("HTTP/1.1 500"), "{text}");
}

/// Settings of a replica without a Redis: every request that needs Redis is answered 503.
fn config() -> Config {
    let command = Settings::augment_args(clap::Command::new("fuzz"));
    let arguments = [
        "fuzz",
        "--listen=127.0.0.1:0",
        "--management-listen=127.0.0.1:0",
        "--bcrypt-cost=4",
        "--rate-limit=off",
    ];
    let matches = command.try_get_matches_from(arguments).unwrap();
    let mut config = Settings::from_arg_matches(&matches)
        .unwrap()
        .check()
        .unwrap();
    config.tokens.signing = Some(portcullis::config::SigningKey::Secret(Secret::generate()));
    let nowhere = Secret::new("redis://127.0.0.1:1".to_owned());
    config.redis.server =
        portcullis::config::RedisServer::At(portcullis::config::RedisAddress::plain(nowhere));
    config
}
