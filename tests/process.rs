//! The program as a process: the processes that it starts, the signals that stop it, and the messages with which it fails to
//! start.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::process::{PATIENCE, Process, children, folder, gone};
use crate::harness::{Anonymous, PASSWORD, Redis, User};

const SECRET: (&str, &str) = ("JWT_SECRET", "3fA9kQ2pX7vLr8TnB5yWc1ZeH6uMd0Js-for-tests");

#[tokio::test(flavor = "multi_thread")]
async fn without_a_redis_url_a_private_redis_is_started_and_what_it_holds_survives_a_restart() {
    let folder = folder();
    // The path is relative to the working folder, as the default is.
    let settings = [("DATA_DIR", "our data")];
    let mut replica = Process::serve(folder.path(), &settings).await;
    let servers = children(replica.pid(), "redis-server");
    assert_eq!(servers.len(), 1);
    let mode = std::fs::metadata(folder.path().join("our data/redis")).unwrap();
    assert_eq!(
        mode.permissions().mode() & 0o777,
        0o700,
        "for its owner alone"
    );
    let anyone = replica.anonymous();
    assert_eq!(anyone.register("alice", PASSWORD).await.status, 201);
    let (stays, leaves) = (
        User::log_in(&anyone, "alice").await,
        User::log_in(&anyone, "alice").await,
    );
    assert_eq!(anyone.logout(&leaves.token).await.status, 204);

    assert!(replica.stop().await.success());
    gone(servers[0]).await;

    let replica = Process::serve(folder.path(), &settings).await;
    let anyone = replica.anonymous();
    assert_eq!(anyone.register("alice", PASSWORD).await.status, 409);
    assert_eq!(anyone.login("alice", PASSWORD).await.status, 200);
    assert_eq!(anyone.dashboard(&stays.token).await.status, 200);
    assert_eq!(anyone.dashboard(&leaves.token).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_leaves_no_redis_server_and_can_be_started_again_at_once() {
    let folder = folder();
    let mut servers = Vec::new();
    for round in 0..3 {
        let mut replica = Process::serve(folder.path(), &[]).await;
        let anyone = replica.anonymous();
        // Changes that an earlier replica acknowledged before it was killed are still there.
        for earlier in 0..round {
            let name = format!("name{earlier}");
            assert_eq!(anyone.login(&name, PASSWORD).await.status, 200, "{name}");
        }
        let name = format!("name{round}");
        assert_eq!(anyone.register(&name, PASSWORD).await.status, 201);
        servers.extend(children(replica.pid(), "redis-server"));
        replica.signal(Signal::KILL);
        assert_eq!(replica.ended().await.signal(), Some(9));
    }
    assert_eq!(servers.len(), 3);
    for server in servers {
        gone(server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_replica_on_one_data_folder_says_so_and_leaves_the_first_alone() {
    let folder = folder();
    let first = Process::serve(folder.path(), &[]).await;
    let anyone = first.anonymous();
    assert_eq!(anyone.register("alice", PASSWORD).await.status, 201);

    let free = [
        ("LISTEN", "127.0.0.1:0"),
        ("MANAGEMENT_LISTEN", "127.0.0.1:0"),
    ];
    let mut second = Process::spawn(folder.path(), &free, &["serve"]);
    assert_eq!(second.ended().await.code(), Some(69));
    let said = one_line(&second);
    assert!(said.contains("in use by another replica"), "{said}");
    assert!(said.contains("DATA_DIR"), "{said}");

    assert_eq!(anyone.login("alice", PASSWORD).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_server_one_sentence_names_the_package() {
    let folder = folder();
    let bare = [
        ("LISTEN", "127.0.0.1:0"),
        ("MANAGEMENT_LISTEN", "127.0.0.1:0"),
        ("PATH", "/nowhere"),
    ];
    let mut replica = Process::spawn(folder.path(), &bare, &["serve"]);
    assert_eq!(replica.ended().await.code(), Some(69));
    let said = one_line(&replica);
    assert!(
        said.contains("redis-server") && said.contains("install"),
        "{said}"
    );
    assert!(said.contains("REDIS_URL"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_one_line_and_a_failure() {
    let (folder, redis) = (folder(), Redis::start().await);
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    for (at, free) in [
        ("LISTEN", "MANAGEMENT_LISTEN"),
        ("MANAGEMENT_LISTEN", "LISTEN"),
    ] {
        let url = redis.url();
        let variables = [
            (at, taken.as_str()),
            (free, "127.0.0.1:0"),
            ("REDIS_URL", &url),
            SECRET,
        ];
        let mut replica = Process::spawn(folder.path(), &variables, &["serve"]);
        assert_eq!(replica.ended().await.code(), Some(69));
        let said = one_line(&replica);
        assert!(
            said.starts_with(&format!("portcullis: {at}: ")) && said.contains(&taken),
            "{said}"
        );
        assert!(replica.log().is_empty(), "{:?}", replica.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_before_redis_is_alive_and_becomes_ready_when_redis_comes() {
    let (folder, mut redis) = (folder(), Redis::start().await);
    redis.kill();
    let url = redis.url();
    let replica = Process::listen(folder.path(), &[("REDIS_URL", &url), SECRET]).await;
    let probes = replica.probes();
    for _ in 0..3 {
        assert_eq!(probes.get("/livez").await.status, 200);
        assert_eq!(probes.get("/readyz").await.status, 503);
    }
    let refused = replica.anonymous().register("alice", PASSWORD).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "unavailable")
    );

    redis.start_again().await;
    replica.ready().await;
    let anyone = replica.anonymous();
    assert_eq!(anyone.register("alice", PASSWORD).await.status, 201);
    assert_eq!(anyone.login("alice", PASSWORD).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_fails_readiness_refuses_newcomers_and_finishes_the_login_in_flight() {
    let (folder, redis) = (folder(), Redis::start().await);
    let url = redis.url();
    let settings = [
        ("REDIS_URL", url.as_str()),
        SECRET,
        ("BCRYPT_COST", "13"),
        ("HASH_DEADLINE", "1m"),
        // Hashing yields when other processes keep the cores busy, which may take longer than the default timeout of half a
        // minute.
        ("DRAIN_TIMEOUT", "2m"),
    ];
    let mut replica = Process::serve(folder.path(), &settings).await;
    let anyone = replica.anonymous();
    assert_eq!(anyone.register("alice", PASSWORD).await.status, 201);
    let idle = TcpStream::connect(replica.addr).await.unwrap();
    let login = Upload::begin(
        replica.addr,
        "/login",
        &json!({"username": "alice", "password": PASSWORD}).to_string(),
    )
    .await;

    replica.signal(Signal::TERM);
    replica.event("draining").await;
    let probes = replica.probes();
    assert_eq!(probes.get("/readyz").await.status, 503);
    assert_eq!(probes.get("/livez").await.status, 200);
    refused(replica.addr).await;
    closed(idle).await;

    // The login continues only now: the replica finishes it although it accepts no new connections.
    let answer = login.finish().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\"token\":"), "{answer}");
    assert!(replica.ended().await.success());
    assert_eq!(replica.errors(), Vec::<String>::new());
    assert_eq!(replica.events("stopped").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn until_the_drain_delay_is_over_newcomers_are_served_although_readiness_fails() {
    let (folder, redis) = (folder(), Redis::start().await);
    let url = redis.url();
    // The delay is longer than the test would wait: the replica accepts connections for as long as the setting says.
    let settings = [("REDIS_URL", url.as_str()), SECRET, ("DRAIN_DELAY", "5m")];
    let mut replica = Process::serve(folder.path(), &settings).await;
    replica.signal(Signal::TERM);
    replica.event("draining").await;
    assert_eq!(replica.probes().get("/readyz").await.status, 503);
    let newcomer = Anonymous::at(replica.addr);
    assert_eq!(newcomer.register("alice", PASSWORD).await.status, 201);
    assert!(replica.events("stopped").is_empty());
    replica.signal(Signal::KILL);
    replica.ended().await;

    let settings = [
        ("REDIS_URL", url.as_str()),
        SECRET,
        ("DRAIN_DELAY", "200ms"),
    ];
    let mut replica = Process::serve(folder.path(), &settings).await;
    assert!(replica.stop().await.success());
    assert_eq!(replica.events("stopped").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_exits_at_once_and_takes_the_private_redis_with_it() {
    for (second, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let folder = folder();
        let mut replica = Process::serve(folder.path(), &[("DRAIN_DELAY", "5m")]).await;
        let servers = children(replica.pid(), "redis-server");
        assert_eq!(servers.len(), 1);
        replica.signal(Signal::TERM);
        replica.event("draining").await;
        replica.signal(second);
        assert_eq!(replica.ended().await.code(), Some(code));
        gone(servers[0]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_right_after_it_listens_drains_as_well() {
    let (folder, redis) = (folder(), Redis::start().await);
    let url = redis.url();
    for _ in 0..10 {
        let settings = [("REDIS_URL", url.as_str()), SECRET];
        let mut replica = Process::listen(folder.path(), &settings).await;
        assert!(replica.stop().await.success());
        assert_eq!(replica.events("stopped").len(), 1);
    }
}

/// The only line on standard error.
fn one_line(replica: &Process) -> String {
    let said = replica.errors();
    assert_eq!(said.len(), 1, "{said:#?}");
    said.into_iter().next().unwrap()
}

/// Waits until the address refuses connections.
async fn refused(addr: SocketAddr) {
    let wait = async {
        loop {
            match TcpStream::connect(addr).await {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("newcomers are refused at last");
}

/// Waits until the server has closed a connection on which the client sent nothing.
async fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert_eq!(read.expect("idle connections are closed").unwrap(), 0);
}

/// Request that the server has begun to answer, and whose body has not been sent yet.
struct Upload {
    stream: TcpStream,
    body: String,
}

impl Upload {
    async fn begin(addr: SocketAddr, path: &str, body: &str) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        Self {
            stream,
            body: body.to_owned(),
        }
    }

    /// Sends the body and reads until the server closes the connection.
    async fn finish(mut self) -> String {
        self.stream.write_all(self.body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}
