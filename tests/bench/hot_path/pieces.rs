//! Measured pieces of a request, each as a function that can run again and again in one thread.

use std::hint::black_box;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args as _, FromArgMatches as _};
use poem::http::StatusCode;
use portcullis::app::App;
use portcullis::auth::keyring::rotation::generate;
use portcullis::auth::keyring::{KeyKind, KeyStore};
use portcullis::auth::passwords::Checked;
use portcullis::auth::rate_limit::RateLimiter;
use portcullis::auth::revocation::denylist::Denylist;
use portcullis::auth::tokens::{AccessTokenParams, Tokens};
use portcullis::config::{Config, RedisServer, Secret, Settings};
use portcullis::domain::{AttemptedName, Clock, Guess, SessionId, Timestamp, UserId, Username};
use portcullis::http::reject;
use portcullis::store::{Entry, Keyspace, Redis, SessionEntry};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// One piece, ready to run.
pub(super) type Work = Box<dyn FnMut()>;

/// Name of a piece, and the function that prepares it.
type Piece = (&'static str, fn() -> Work);

/// All pieces.
pub(super) const PIECES: [Piece; 11] = [
    ("dashboard", || {
        over_http("GET /dashboard", Bearer::Good, 200)
    }),
    ("refusal", || over_http("GET /dashboard", Bearer::None, 401)),
    ("problem", problem),
    ("known token", known_token),
    ("HS256 token", || new_token(None)),
    ("EdDSA token", || new_token(Some(KeyKind::Ed25519))),
    ("ES256 token", || new_token(Some(KeyKind::P256))),
    ("RS256 token", || new_token(Some(KeyKind::Rsa))),
    ("100 checks, denylist of 100,000", || denylist(100_000)),
    ("100 checks, denylist of 1,000,000", || denylist(1_000_000)),
    ("throttle", throttle),
];

/// Pieces that depend on this program alone, so that their instructions can be counted.
pub(super) const COUNTED: [&str; 7] = [
    "dashboard",
    "refusal",
    "problem",
    "known token",
    "HS256 token",
    "EdDSA token",
    "100 checks, denylist of 100,000",
];

const SECRET: &str = "bench-4f2c9a7be1d84a60b3c5f7d9e8a1b2c3";
const PASSWORD: &str = "teal-otter-harbour-42";

#[derive(Clone, Copy)]
enum Bearer {
    Good,
    None,
}

/// One request on a kept-alive connection, from its first byte to the last byte of the answer. The client, the server and
/// everything between them run in this thread.
fn over_http(line: &str, bearer: Bearer, status: u16) -> Work {
    let site = Site::start();
    let mut client = site.connect();
    let token = match bearer {
        Bearer::Good => site.run(token(&mut client)),
        Bearer::None => String::new(),
    };
    let header = match bearer {
        Bearer::Good => format!("authorization: Bearer {token}\r\n"),
        Bearer::None => String::new(),
    };
    let request = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{header}\r\n").into_bytes();
    let begins = format!("HTTP/1.1 {status} ");
    let mut answer = vec![0; 16 * 1024];
    let length = site.run(ask(&mut client, &request, &mut answer));
    assert!(answer.starts_with(begins.as_bytes()), "another status");
    Box::new(move || {
        let read = site.run(async {
            client.write_all(&request).await.expect("written");
            client
                .read_exact(&mut answer[..length])
                .await
                .expect("read")
        });
        assert!(
            answer[..read].starts_with(begins.as_bytes()),
            "another status"
        );
    })
}

/// Answer to a request that reaches no route.
fn problem() -> Work {
    Box::new(|| drop(black_box(reject(StatusCode::REQUEST_TIMEOUT))))
}

/// Token that was verified before.
fn known_token() -> Work {
    let (tokens, token) = desk(None, Duration::from_hours(1), Clock::machine().now());
    Box::new(move || assert!(black_box(tokens.verify(&token)).is_ok(), "it is good"))
}

/// Token that was never verified before: an expired one. The expiry check comes last, and its result is never cached.
fn new_token(kind: Option<KeyKind>) -> Work {
    let (tokens, token) = desk(
        kind,
        Duration::from_mins(1),
        Timestamp::from_secs(1_767_225_600),
    );
    Box::new(move || assert!(black_box(tokens.verify(&token)).is_err(), "it is old"))
}

/// A hundred sessions that are not on a denylist of this size.
fn denylist(held: usize) -> Work {
    let denylist = Denylist::default();
    let now = Clock::machine().now();
    let (user, tag) = (UserId::new(), name().tag());
    for number in 0..held {
        let entry = SessionEntry {
            tag,
            sid: session(number),
            until: now.plus(Duration::from_hours(1)),
        };
        denylist.insert(&Entry::Session(entry), now);
    }
    let others: Vec<_> = (held..held + 100).map(session).collect();
    Box::new(move || {
        let refused = others
            .iter()
            .any(|sid| denylist.refuses(black_box(*sid), user, 1));
        assert!(!refused, "it was not revoked");
    })
}

/// Session ID of this number: the same in each run, and distributed like a random one (a step of SplitMix64).
fn session(number: usize) -> SessionId {
    let half = |number: usize| {
        let mut bits = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(bits ^ (bits >> 31))
    };
    SessionId::from_bits(half(2 * number + 1) << 64 | half(2 * number + 2))
}

/// Cost of a password attempt before and after its hash: the rate limits ask Redis.
fn throttle() -> Work {
    let server = Server::start();
    let runtime = runtime();
    let config = settings(&server, &["--rate-limit", "on"]);
    let RedisServer::At(address) = &config.redis.server else {
        unreachable!("a Redis that was named");
    };
    let throttle = runtime.block_on(async {
        let redis =
            Redis::new(address, Keyspace::new("portcullis:".to_owned())).expect("an address");
        RateLimiter::new(redis, config.rate_limits)
    });
    let guess = Guess {
        name: AttemptedName::of("alice"),
        from: Some(std::net::IpAddr::from([192, 0, 2, 7]).into()),
    };
    Box::new(move || {
        let _ = &server;
        let checked = throttle.password(guess, async { Ok(Checked::Valid) });
        assert!(matches!(runtime.block_on(checked), Ok(Checked::Valid)));
    })
}

/// Replica in this thread, with a Redis of its own. Its views stay fresh for as long as the settings allow, so that it reads
/// seldom.
struct Site {
    runtime: Runtime,
    address: SocketAddr,
    _redis: Server,
}

impl Site {
    fn start() -> Self {
        let redis = Server::start();
        let config = settings(
            &redis,
            &["--revocation-window", "1s", "--rate-limit", "off"],
        );
        let runtime = runtime();
        let address = runtime.block_on(async {
            let app = App::build(config).await.expect("a replica");
            let address = app.local_addr().expect("an address");
            tokio::spawn(app.run(std::future::pending()));
            address
        });
        Self {
            runtime,
            address,
            _redis: redis,
        }
    }

    fn connect(&self) -> TcpStream {
        self.run(TcpStream::connect(self.address))
            .expect("a connection")
    }

    /// Runs work on the site's runtime. The caller keeps the whole site alive, its Redis too.
    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// Access token of a user who has just registered, once the replica can issue one.
async fn token(client: &mut TcpStream) -> String {
    let body = format!(r#"{{"username":"alice","password":"{PASSWORD}"}}"#);
    let mut answer = vec![0; 16 * 1024];
    for _ in 0..1000 {
        for path in ["register", "login"] {
            let head = "host: localhost\r\ncontent-type: application/json";
            let length = body.len();
            let request = format!(
                "POST /{path} HTTP/1.1\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let read = ask(client, request.as_bytes(), &mut answer).await;
            let text = String::from_utf8_lossy(&answer[..read]);
            if let Some((_, rest)) = text.split_once(r#""token":""#) {
                return rest.split('"').next().unwrap_or_default().to_owned();
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody logs in");
}

/// Sends a request and reads its answer; returns the length of the answer.
async fn ask(client: &mut TcpStream, request: &[u8], answer: &mut [u8]) -> usize {
    client.write_all(request).await.expect("written");
    let mut read = 0;
    loop {
        read += client.read(&mut answer[read..]).await.expect("read");
        let text = String::from_utf8_lossy(&answer[..read]);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
            if body.len() == length {
                return read;
            }
        }
    }
}

/// Token, and the verifier for it.
fn desk(kind: Option<KeyKind>, ttl: Duration, issued: Timestamp) -> (Tokens, String) {
    let folder = TempDir::new().expect("a folder");
    let keys = match kind {
        None => KeyStore::open(Some(Secret::new(SECRET.to_owned())), None),
        Some(kind) => {
            generate(folder.path(), kind, issued).expect("a key");
            KeyStore::open(None, Some(folder.path().to_owned()))
        }
    };
    let tokens = Tokens::new(
        Arc::new(keys.expect("keys")),
        "http://localhost:8080".to_owned(),
        "portcullis".to_owned(),
        ttl,
        Clock::machine(),
    );
    let grant = AccessTokenParams {
        user: UserId::new(),
        username: name(),
        roles: Vec::new(),
        version: 1,
        sid: SessionId::random(),
        issued,
        ends: issued.plus(Duration::from_hours(24)),
    };
    let token = tokens.issue(grant).expect("a token");
    (tokens, token)
}

fn name() -> Username {
    "alice".parse().expect("a name")
}

fn settings(redis: &Server, more: &[&str]) -> Config {
    let folder = redis.folder.path();
    let (url, secret) = (folder.join("url"), folder.join("secret"));
    std::fs::write(&url, format!("redis://127.0.0.1:{}", redis.port)).expect("a file");
    std::fs::write(&secret, SECRET).expect("a file");
    let own = [
        "--listen=127.0.0.1:0",
        "--management-listen=127.0.0.1:0",
        "--bcrypt-cost=4",
        "--hash-threads=1",
    ];
    let files = [
        format!("--redis-url-file={}", url.display()),
        format!("--jwt-secret-file={}", secret.display()),
    ];
    let files = files.iter().map(String::as_str);
    let words = own.into_iter().chain(files).chain(more.iter().copied());
    let words = std::iter::once("hot_path").chain(words);
    let line = Settings::augment_args(clap::Command::new("hot_path")).get_matches_from(words);
    let settings = Settings::from_arg_matches(&line).expect("settings");
    settings.check().expect("good settings")
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A `redis-server` that ends when this value is dropped.
struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a port").port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server (package redis-server) starts");
        let server = Self {
            child,
            port,
            folder,
        };
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended: io::Result<()> = self.child.kill();
        if ended.is_ok() {
            self.child.wait().ok();
        }
    }
}
