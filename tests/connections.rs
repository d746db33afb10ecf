//! Connections of clients that are slow, greedy or ambiguous: bytes on sockets against a whole replica. What bare poem does
//! with each is noted beside it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Answer, Cluster, PASSWORD, Wire};

const HEAD: &str = "POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
const GET: &str = "GET /dashboard HTTP/1.1\r\nHost: a\r\n\r\n";

fn codes(answers: &[Answer]) -> Vec<(u16, String)> {
    answers
        .iter()
        .map(|answer| (answer.status, answer.code()))
        .collect()
}

/// How a slow client was treated.
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

/// Says hello to the dashboard every 100 ms, for as long as the slow ones are there.
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

/// Sends requests for the largest page and does not read; tells how many of them were answered in the end.
async fn never_reads(addr: SocketAddr) -> usize {
    const REQUESTS: usize = 400;
    let mut wire = Wire::to(addr).await;
    for _ in 0..REQUESTS {
        wire.send("GET /docs HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }
    tokio::time::sleep(Duration::from_secs(66)).await;
    let page = Wire::say(
        addr,
        "GET /docs HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    let answered = wire.drain().await / page[0].body.len();
    assert!(
        answered < REQUESTS,
        "all of it was kept for whoever does not read"
    );
    answered
}

/// Bare poem keeps each of these open for longer than 75 s: its server sets no timer for heads or bodies, and its idle
/// timeout counts from the last byte, so that a byte now and then is enough.
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_sent_away_and_nobody_waits_for_them() {
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
    let (crowd, heads, bodies, (second, silent, idle), (ordinary, read)) = tokio::join!(
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
    println!(
        "{ordinary} ordinary requests meanwhile, all answered; {read} pages for whoever does not read"
    );
}

/// Bare poem keeps up to what hyper does: 100 fields, 400 KiB of them; 64 KiB of `Authorization` reach the handler.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_beyond_the_bounds_is_refused_and_is_the_last() {
    let cluster = Cluster::alone().await;
    let addr = cluster.replicas[0].addr;
    // Two of the fields are ours; the next request follows at once, and must not be answered after a refusal.
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

/// Bare poem serves HTTP/1.1 without `Host`.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_exactly_one_host() {
    let cluster = Cluster::alone().await;
    let addr = cluster.replicas[0].addr;
    for (version, hosts, status) in [
        ("1.1", "Host: a\r\n", 401),
        ("1.1", "host: [::1]:8080\r\n", 401),
        ("1.0", "", 401),
        ("1.0", "Host: a\r\n", 401),
        ("1.1", "", 400),
        ("1.1", "Host:\r\n", 400),
        ("1.1", "Host: a\r\nHost: a\r\n", 400),
        ("1.1", "Host: a\r\nHost: b\r\n", 400),
        ("1.0", "Host: a\r\nHost: b\r\n", 400),
        ("1.1", "Host: a, b\r\n", 400),
        ("1.1", "Host: a b\r\n", 400),
        ("1.1", "Host: a/b\r\n", 400),
        ("1.1", "Host: user@a\r\n", 400),
        ("1.1", "Host: \u{e4}\r\n", 400),
    ] {
        let request = format!("GET /dashboard HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
        let answers = Wire::say(addr, &request).await;
        let code = if status == 400 {
            "malformed_request"
        } else {
            "missing_token"
        };
        assert_eq!(codes(&answers), [(status, code.to_owned())], "{hosts:?}");
    }
}

/// A request that registers `name`, to be hidden in another.
fn hidden(name: &str) -> String {
    let body = json!({"username": name, "password": PASSWORD}).to_string();
    format!(
        "POST /register HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Heads that two parsers could end at different places: what stands between head and hidden request, and the fields that
/// say where the body ends. `{n}` is the length of what follows.
const AMBIGUOUS: [(&str, &str); 31] = [
    (
        "Content-Length: {n}\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: {n}",
        "0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "0\r\n\r\n",
    ),
    (
        "CONTENT-LENGTH: {n}\r\nTRANSFER-ENCODING: CHUNKED",
        "0\r\n\r\n",
    ),
    ("Content-Length: 0\r\nContent-Length: {n}", ""),
    ("Content-Length: {n}\r\nContent-Length: 0", ""),
    ("Content-Length: 0, {n}", ""),
    ("Content-Length: +0", ""),
    ("Content-Length: -0", ""),
    ("Content-Length: 0x0", ""),
    ("Content-Length: 0 0", ""),
    ("Content-Length:", ""),
    ("Content-Length : 0", ""),
    ("Transfer-Encoding: xchunked", "0\r\n\r\n"),
    ("Transfer-Encoding: xchunked\r\nContent-Length: 0", ""),
    ("Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
    ("Transfer-Encoding: identity, chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
    ),
    ("Transfer-Encoding : chunked\r\nContent-Length: 0", ""),
    ("Transfer-Encoding:\x0bchunked\r\nContent-Length: 0", ""),
    ("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"),
    (
        "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 0",
        "",
    ),
    ("X: y\r\n\tz\r\nContent-Length: 0", ""),
    ("X: y\nTransfer-Encoding: chunked\r\nContent-Length: 0", ""),
    ("X: y\rTransfer-Encoding: chunked\r\nContent-Length: 0", ""),
    ("X: y\0\r\nContent-Length: 0", ""),
    ("X y: z\r\nContent-Length: 0", ""),
    (": y\r\nContent-Length: 0", ""),
    ("Content-Length: 0\n", ""),
];

/// Bare poem takes `Content-Length` beside `Transfer-Encoding` (and leaves the hidden request unanswered), and lines that
/// end in a bare LF.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_hidden_in_another_is_never_executed() {
    let cluster = Cluster::alone().await;
    let addr = cluster.replicas[0].addr;
    let mut names = Vec::new();
    let mut hide = async |head: &str, before: &str, expected: &[u16]| {
        let name = format!("hidden{}", names.len());
        let behind = format!("{before}{}", hidden(&name));
        let head = head.replace("{n}", &behind.len().to_string());
        let answers = Wire::say(addr, format!("{head}\r\n\r\n{behind}")).await;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, expected, "{head:?}");
        names.push(name);
    };
    for (fields, before) in AMBIGUOUS {
        hide(&format!("{HEAD}{fields}"), before, &[400]).await;
        hide(
            &format!("GET /dashboard HTTP/1.1\r\nHost: a\r\n{fields}"),
            before,
            &[400],
        )
        .await;
    }
    // Bodies whose end is in doubt.
    let chunked = "POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
    for before in [
        "0\n\r\n",
        "0;a\n\r\n\r\n",
        "0x0\r\n\r\n",
        "-0\r\n\r\n",
        "\r\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "fffffffffffffffff\r\n",
    ] {
        hide(chunked, before, &[400]).await;
    }
    // HTTP/1.0 knows no chunks (RFC 9112 §6.1).
    let old = "POST /login HTTP/1.0\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
    hide(old, "0\r\n\r\n", &[400]).await;
    // A body is a body, also of a GET; and nothing is read behind a chunked one.
    hide(
        "GET /dashboard HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {n}",
        "",
        &[401],
    )
    .await;
    hide(
        "GET /dashboard HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
        &[401],
    )
    .await;

    let at = cluster.anonymous();
    for name in &names {
        assert_eq!(
            at.register(name, PASSWORD).await.status,
            201,
            "{name} was registered by a hidden request"
        );
    }
    println!("{} hidden requests: none executed", names.len());

    // The control: what follows a request whose end is clear is the next one.
    let both = format!("{GET}{}", hidden("open"));
    let statuses: Vec<_> = Wire::say(addr, both)
        .await
        .iter()
        .map(|a| a.status)
        .collect();
    assert_eq!(statuses, [401, 201]);
}

/// Bare poem speaks HTTP/2 to whoever begins with its preface, and sets no limit to its streams.
#[tokio::test(flavor = "multi_thread")]
async fn only_http_1_is_spoken() {
    let cluster = Cluster::alone().await;
    let addr = cluster.replicas[0].addr;
    let settings = "\0\0\0\u{4}\0\0\0\0\0";
    for request in [
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{settings}"),
        "GET /dashboard HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(),
        "GET /dashboard HTTP/3\r\nHost: a\r\n\r\n".to_owned(),
        "GET /dashboard\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n\r\n".to_owned(),
        "EHLO example.org\r\n\r\n".to_owned(),
    ] {
        let answers = Wire::say(addr, &request).await;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [400], "{request:?}");
    }
    // An offer to change is declined by not taking it up.
    for protocol in ["h2c", "websocket"] {
        let request = format!(
            "GET /dashboard HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        assert_eq!(
            codes(&Wire::say(addr, request).await),
            [(401, "missing_token".to_owned())]
        );
    }
}

/// Bare poem reads all of it into memory.
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
        // What the two sockets hold, and what is read to let the client read the answer.
        assert!(taken < MOST / 2, "{what}: {taken} bytes");
    }
    assert_eq!(cluster.anonymous().get("/dashboard").await.status, 401);
}

/// Whether a connection that has answered before answers once more.
async fn answers(wire: &mut Wire) -> bool {
    wire.send(GET).await
        && wire
            .answer()
            .await
            .is_some_and(|answer| answer.status == 401)
}

/// Bare poem takes whatever comes, until there are no descriptors left.
#[tokio::test(flavor = "multi_thread")]
async fn at_the_cap_the_longest_idle_connection_makes_room() {
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
    // Seven have come to four places: the first three have gone, in order.
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
    // Who is at work is not idle, however long ago he came.
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

    // With nobody idle a newcomer waits, and is served once somebody has gone.
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
    assert!(!waiting.is_closed_within(Duration::from_millis(700)).await);
    for wire in &mut busy {
        wire.send("}").await;
        assert_eq!(wire.answer().await.map(|answer| answer.status), Some(400));
    }
    assert_eq!(
        waiting.answer().await.map(|answer| answer.status),
        Some(401)
    );
}
