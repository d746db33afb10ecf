//! Requests that two parsers could read differently, as a proxy in front and the replica behind it are: each is answered once
//! and is the last on its connection, and no request that is hidden in it is executed.

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

/// Poem alone serves HTTP/1.1 without `Host`.
#[tokio::test(flavor = "multi_thread")]
async fn b20_a_request_names_exactly_one_host() {
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

/// Request that registers `name`, to be hidden in another.
fn hidden(name: &str) -> String {
    let body = json!({"username": name, "password": PASSWORD}).to_string();
    format!(
        "POST /register HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Heads that two parsers could end at different places: the text between head and hidden request, and the fields that declare
/// the end of the body. `{n}` is the length of the text that follows.
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

/// Poem alone accepts `Content-Length` beside `Transfer-Encoding` (and leaves the hidden request unanswered), and lines that
/// end in a bare LF.
#[tokio::test(flavor = "multi_thread")]
async fn b19_a_request_hidden_in_another_is_never_executed() {
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
    // Bodies with an ambiguous end.
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
    // HTTP/1.0 has no chunks (RFC 9112 §6.1).
    let old = "POST /login HTTP/1.0\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
    hide(old, "0\r\n\r\n", &[400]).await;
    // A GET may have a body too, and the server reads nothing behind a chunked body.
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

    // The control: the text behind a request with a clear end is the next request.
    let both = format!("{GET}{}", hidden("open"));
    let statuses: Vec<_> = Wire::say(addr, both)
        .await
        .iter()
        .map(|a| a.status)
        .collect();
    assert_eq!(statuses, [401, 201]);
}

/// Poem alone speaks HTTP/2 to any client that begins with its preface, and sets no limit to its streams.
#[tokio::test(flavor = "multi_thread")]
async fn b21_b22_only_http_1_is_spoken() {
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
    // A server declines an upgrade by ignoring it.
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
