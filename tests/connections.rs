//! Connections of clients that are slow, greedy or ambiguous: bytes on sockets against a whole replica. A note at each test
//! tells how bare poem behaves.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::harness::{Answer, Cluster, Wire};

const HEAD: &str = "POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
const GET: &str = "GET /dashboard HTTP/1.1\r\nHost: a\r\n\r\n";

fn codes(answers: &[Answer]) -> Vec<(u16, String)> {
    answers
        .iter()
        .map(|answer| (answer.status, answer.code()))
        .collect()
}

/// Treatment of a slow client by the server.
struct Ending {
    case: &'static str,
    answers: Vec<Answer>,
    after: Duration,
}

/// Sends `start`, then `drip` every half second, until the server closes.
async fn linger(addr: SocketAddr, case: &'static str, start: String, drip: &'static str) -> Ending {
    let mut wire = Wire::to(addr).await;
    wire.send(start).await;
    let begun = Instant::now();
    let mut drops = 0;
    while !wire.is_closed_within(Duration::from_millis(500)).await {
        wire.send(drip).await;
        drops += 1;
        assert!(
            begun.elapsed() < Duration::from_secs(85),
            "{case}: still open after {drops} drops"
        );
    }
    let after = begun.elapsed();
    let answers = wire.answers().await;
    Ending {
        case,
        answers,
        after,
    }
}

/// Requests the dashboard every 100 ms, for as long as the slow clients are connected.
async fn ordinary_requests(cluster: &Cluster, token: &str) -> usize {
    let (at, begun) = (cluster.anonymous(), Instant::now());
    let mut answered = 0;
    while begun.elapsed() < Duration::from_secs(15) {
        assert_eq!(at.dashboard(token).await.status, 200);
        answered += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    answered
}

/// Requests the largest page again and again and reads nothing; reports if the server still holds the connection after 50
/// seconds, and after 66.
async fn never_reads(addr: SocketAddr) -> (bool, bool) {
    let mut wire = Wire::to(addr).await;
    wire.send("GET /docs HTTP/1.1\r\nHost: a\r\n\r\n".repeat(400))
        .await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    let is_held = wire.send("G").await;
    tokio::time::sleep(Duration::from_secs(16)).await;
    (is_held, wire.send("E").await)
}

/// Bare poem keeps each of these open for longer than 75 s: its server sets no timer for heads or bodies, and its idle
/// timeout counts from the last byte, so that a byte now and then is enough.
#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "what takes a minute is done at one time"
)]
async fn b16_b17_slow_clients_are_sent_away_and_nobody_waits_for_them() {
    let cluster = Cluster::alone().await;
    let addr = cluster.replicas[0].addr;
    let token = cluster.user("alice").await.token;
    let head = |fields: &str| format!("{HEAD}{fields}\r\n");
    let crowd: Vec<_> = (0..150)
        .map(|_| {
            linger(
                addr,
                "one of a crowd",
                "GET / HTTP/1.1\r\nX".to_owned(),
                "x",
            )
        })
        .collect();
    let heads = vec![
        linger(
            addr,
            "half a head",
            "GET /dashboard HTTP/1.1\r\nHo".to_owned(),
            "",
        ),
        linger(
            addr,
            "a head by the byte",
            "GET /dashboard HTTP/1.1\r\nHost: a\r\nX".to_owned(),
            "x",
        ),
        linger(
            addr,
            "a head by the field",
            "GET /dashboard HTTP/1.1\r\n".to_owned(),
            "X: y\r\n",
        ),
        linger(addr, "a target by the byte", "GET /".to_owned(), "x"),
        linger(addr, "blank lines", "\r\n".to_owned(), "\r\n"),
    ];
    let bodies = vec![
        linger(addr, "no body", head("Content-Length: 100\r\n"), ""),
        linger(
            addr,
            "a body by the byte",
            head("Content-Length: 100\r\n"),
            " ",
        ),
        linger(addr, "no chunk", head("Transfer-Encoding: chunked\r\n"), ""),
        linger(
            addr,
            "a body by the chunk",
            head("Transfer-Encoding: chunked\r\n"),
            "1\r\n \r\n",
        ),
        linger(
            addr,
            "a chunk size by the byte",
            head("Transfer-Encoding: chunked\r\n"),
            "0",
        ),
    ];
    let second = linger(addr, "half a second head", format!("{GET}GET /dash"), "");
    let silent = linger(addr, "silence", String::new(), "");
    let idle = linger(addr, "nothing after an answer", GET.to_owned(), "");
    let (crowd, heads, bodies, (second, silent, idle), (ordinary, unread)) = tokio::join!(
        join_all(crowd),
        join_all(heads),
        join_all(bodies),
        async { tokio::join!(second, silent, idle) },
        async { tokio::join!(ordinary_requests(&cluster, &token), never_reads(addr)) },
    );

    let took = |ending: &Ending, from: f64, to: f64| {
        let after = ending.after.as_secs_f64();
        assert!(
            (from..to).contains(&after),
            "{}: after {after} s",
            ending.case
        );
        println!(
            "{}: {:?} after {after:.1} s",
            ending.case,
            codes(&ending.answers)
        );
    };
    let timeout = (408, "request_timeout".to_owned());
    let missing = (401, "missing_token".to_owned());
    for ending in &heads {
        took(ending, 4.5, 9.0);
        assert_eq!(
            codes(&ending.answers),
            std::slice::from_ref(&timeout),
            "{}",
            ending.case
        );
    }
    for ending in &crowd {
        assert!(ending.after < Duration::from_secs(9), "{:?}", ending.after);
        assert_eq!(codes(&ending.answers), std::slice::from_ref(&timeout));
    }
    for ending in &bodies {
        took(ending, 9.5, 14.0);
        assert_eq!(
            codes(&ending.answers),
            std::slice::from_ref(&timeout),
            "{}",
            ending.case
        );
    }
    took(&second, 4.5, 9.0);
    assert_eq!(codes(&second.answers), [missing.clone(), timeout]);
    took(&silent, 4.5, 9.0);
    assert!(silent.answers.is_empty());
    took(&idle, 59.0, 70.0);
    assert_eq!(codes(&idle.answers), [missing]);
    assert_eq!(
        unread,
        (true, false),
        "who does not read is given up after a minute"
    );
    println!("{ordinary} ordinary requests meanwhile, all answered");
}

/// Bare poem has hyper's limits: 100 fields, 400 KiB of them; 64 KiB of `Authorization` reach the handler.
#[tokio::test(flavor = "multi_thread")]
async fn b13_b15_a_head_beyond_the_bounds_is_refused_and_is_the_last() {
    let cluster = Cluster::alone().await;
    let addr = cluster.replicas[0].addr;
    // Two of the fields are the test's own. The next request follows at once, and must not be answered after a refusal.
    let with_fields = |count: usize| {
        let fields = "X: y\r\n".repeat(count - 2);
        format!("GET /dashboard HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n{GET}")
    };
    let with_bytes = |bytes: usize| {
        let ours = "Host: a\r\nConnection: close\r\nX: \r\n\r\n".len();
        let value = "y".repeat(bytes - ours);
        format!(
            "GET /dashboard HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: {value}\r\n\r\n{GET}"
        )
    };
    let with_target = |bytes: usize| {
        let target = "x".repeat(bytes - 1);
        format!("GET /{target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{GET}")
    };
    let kib = 1024;
    for (request, status, code) in [
        (with_fields(64), 401, "missing_token"),
        (with_fields(65), 431, "headers_too_large"),
        (with_fields(200), 431, "headers_too_large"),
        (with_fields(10_000), 431, "headers_too_large"),
        (with_bytes(16 * kib), 401, "missing_token"),
        (with_bytes(16 * kib + 1), 431, "headers_too_large"),
        (with_bytes(17 * kib), 431, "headers_too_large"),
        (with_bytes(600 * kib), 431, "headers_too_large"),
        (with_target(8 * kib), 404, "not_found"),
        (with_target(8 * kib + 1), 414, "uri_too_long"),
        (with_target(9 * kib), 414, "uri_too_long"),
        (with_target(80 * kib), 414, "uri_too_long"),
    ] {
        let answers = Wire::say(addr, &request).await;
        assert_eq!(
            codes(&answers),
            [(status, code.to_owned())],
            "{request:.40}"
        );
        assert_eq!(answers[0].header("connection"), "close");
    }
}

/// Bare poem reads the whole head into memory.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_without_end_is_stopped_after_little() {
    const MOST: usize = 64 * 1024 * 1024;
    let cluster = Cluster::alone().await;
    let addr = cluster.replicas[0].addr;
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    for (what, head, piece) in [
        (
            "declared",
            format!("{HEAD}Content-Length: 314572800\r\n\r\n"),
            "x".repeat(0x8000),
        ),
        (
            "chunked",
            format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n"),
            chunk,
        ),
        (
            "one header",
            "GET / HTTP/1.1\r\nX: ".to_owned(),
            "x".repeat(0x8000),
        ),
        ("one target", "GET /".to_owned(), "x".repeat(0x8000)),
        ("blank lines", String::new(), "\r\n".repeat(0x4000)),
    ] {
        let mut wire = Wire::to(addr).await;
        wire.send(head).await;
        let taken = wire.pour(&piece, MOST).await;
        println!("{what}: {taken} bytes taken until the end");
        // The limit covers the buffers of the two sockets and the bytes that the server reads so that the client can read the
        // answer.
        assert!(taken < MOST / 2, "{what}: {taken} bytes");
    }
    assert_eq!(cluster.anonymous().get("/dashboard").await.status, 401);
}

/// Returns true if a connection answers. The server marks a connection idle a moment after the answer. The next connection
/// must come after that moment, or the order of the two is undefined.
pub async fn answers(wire: &mut Wire) -> bool {
    wire.send(GET).await;
    let answer = wire.answer().await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    answer.is_some_and(|answer| answer.status == 401)
}

/// Bare poem accepts every connection, until no descriptors are left.
#[tokio::test(flavor = "multi_thread")]
async fn b18_at_the_cap_the_longest_idle_connection_makes_room() {
    let cluster = Cluster::with(1, |_, config| {
        config.http.max_connections = 4;
        config.revocation.alone = true;
    })
    .await;
    let addr = cluster.replicas[0].addr;
    let mut wires = Vec::new();
    for number in 0..7 {
        let mut wire = Wire::to(addr).await;
        assert!(answers(&mut wire).await, "newcomer {number} is served");
        wires.push(wire);
    }
    // Seven connections have come to four places: the first three are closed, in order.
    for (number, wire) in wires.iter_mut().enumerate() {
        if number < 3 {
            assert!(
                wire.is_closed_within(Duration::from_secs(5)).await,
                "{number}"
            );
        } else {
            assert!(answers(wire).await, "{number} has been idle for less long");
        }
    }
    // A connection with a request in progress is not idle, however long ago it came.
    let mut at_work = wires.split_off(3);
    at_work[0]
        .send(format!("{HEAD}Content-Length: 2\r\n\r\n{{"))
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut newcomer = Wire::to(addr).await;
    assert!(answers(&mut newcomer).await);
    assert!(at_work[1].is_closed_within(Duration::from_secs(5)).await);
    at_work[0].send("}").await;
    assert_eq!(
        at_work[0].answer().await.map(|answer| answer.code()),
        Some("malformed_request".to_owned())
    );

    // If no connection is idle, a new one waits until another connection closes, and is then served.
    let mut busy = vec![
        at_work.remove(0),
        at_work.remove(1),
        at_work.remove(1),
        newcomer,
    ];
    for wire in &mut busy {
        wire.send(format!(
            "{HEAD}Connection: close\r\nContent-Length: 2\r\n\r\n{{"
        ))
        .await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut waiting = Wire::to(addr).await;
    waiting.send(GET).await;
    assert!(waiting.hears_nothing_for(Duration::from_millis(700)).await);
    for wire in &mut busy {
        wire.send("}").await;
        assert_eq!(wire.answer().await.map(|answer| answer.status), Some(400));
    }
    assert_eq!(
        waiting.answer().await.map(|answer| answer.status),
        Some(401)
    );
}
