//! Bodies that an operation does not accept: each refusal names the right reason, and the answer repeats nothing of the body.

use serde_json::json;

use crate::harness::{Anonymous, Answer, Cluster, PASSWORD, Wire};

/// Value that must not come back in an answer.
const PLANTED: &str = "S3cret-Planted-Value";
const PATHS: [&str; 2] = ["/register", "/login"];

/// Checks that an answer contains nothing of the planted value.
fn tells_nothing(answer: &Answer) {
    let all = format!("{:?} {}", answer.headers, answer.body).to_lowercase();
    assert!(!all.contains(&PLANTED.to_lowercase()), "{all}");
}

/// Posts bytes as JSON.
async fn post_bytes(cluster: &Cluster, path: &str, body: &[u8]) -> Answer {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let request = [head.as_bytes(), body].concat();
    let mut answers = Wire::say(cluster.replicas[0].addr, request).await;
    assert_eq!(answers.len(), 1, "{}", String::from_utf8_lossy(body));
    answers.pop().unwrap()
}

/// Bare poem accepts `charset=utf-16`.
#[tokio::test(flavor = "multi_thread")]
async fn b8_a_body_that_is_not_declared_as_json_in_utf_8_is_415() {
    let cluster = Cluster::alone().await;
    let at = cluster.anonymous();
    let body = json!({"username": "alice", "password": PASSWORD}).to_string();
    for path in PATHS {
        for content_type in [
            None,
            Some(""),
            Some("text/plain"),
            Some("text/json"),
            Some("application/x-www-form-urlencoded"),
            Some("multipart/form-data; boundary=x"),
            Some("application/xml"),
            Some("application/jsonp"),
            Some("application/problem+json"),
            Some("application/json, text/plain"),
            Some("application/json; charset=utf-16"),
            Some("application/json; charset=iso-8859-1"),
            Some("application/json; charset=utf-8; charset=utf-16"),
            Some("*/*"),
        ] {
            let headers: Vec<_> = content_type
                .map(|kind| ("content-type", kind))
                .into_iter()
                .collect();
            let answer = at.send("POST", path, &headers, Some(&body)).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (415, "unsupported_media_type"),
                "{content_type:?}"
            );
        }
        let twice = [
            ("content-type", "application/json"),
            ("content-type", "text/plain"),
        ];
        assert_eq!(at.send("POST", path, &twice, Some(&body)).await.status, 415);
    }
    for (content_type, status) in [
        ("application/json", 201),
        ("application/json; charset=utf-8", 409),
        ("APPLICATION/JSON;charset=\"UTF-8\"", 409),
    ] {
        let answer = at
            .send(
                "POST",
                "/register",
                &[("content-type", content_type)],
                Some(&body),
            )
            .await;
        assert_eq!(answer.status, status, "{content_type}");
    }
}

/// Bodies that do not have the form of credentials, each with the planted value if the form has room for it.
#[expect(clippy::too_many_lines, reason = "one line a case")]
fn malformed() -> Vec<Vec<u8>> {
    let good = format!(r#"{{"username":"alice","password":"{PLANTED}"}}"#);
    let mut bodies: Vec<Vec<u8>> = [
        // Syntax.
        "",
        " ",
        "{",
        "}",
        "{}}",
        r#"{"username":"#,
        r#"{"username":"S3cret-Planted-Value"#,
        r"{'username':'alice','password':'S3cret-Planted-Value'}",
        r#"{username:"alice",password:"S3cret-Planted-Value"}"#,
        r#"{"username":"alice","password":"S3cret-Planted-Value",}"#,
        r#"{"username":"alice","password":"S3cret-Planted-Value"} /* */"#,
        r#"{"username":"alice" "password":"S3cret-Planted-Value"}"#,
        r#"{"username":"alice","password":"S3cret-Planted-Value\x"}"#,
        "{\"username\":\"alice\",\"password\":\"S3cret-Planted-Value\n\"}",
        "username=alice&password=S3cret-Planted-Value",
        // Numbers out of range, and text that is no JSON at all.
        r#"{"username":"alice","password":1e999}"#,
        r#"{"username":"alice","password":NaN}"#,
        r#"{"username":"alice","password":-Infinity}"#,
        r#"{"username":"alice","password":01}"#,
        // Text that is not valid Unicode.
        r#"{"username":"alice","password":"S3cret-Planted-Value\ud800"}"#,
        r#"{"username":"alice","password":"S3cret-Planted-Value\udc00\ud800"}"#,
        r#"{"username":"alice","password":"S3cret-Planted-Value\u12"}"#,
        // Values other than an object.
        "null",
        "true",
        "1",
        r#""S3cret-Planted-Value""#,
        "[]",
        r#"["alice","S3cret-Planted-Value"]"#,
        r#"[{"username":"alice","password":"S3cret-Planted-Value"}]"#,
        // Missing members.
        "{}",
        r#"{"username":"alice"}"#,
        r#"{"password":"S3cret-Planted-Value"}"#,
        r#"{"Username":"alice","Password":"S3cret-Planted-Value"}"#,
        // Duplicate members.
        r#"{"username":"a","username":"S3cret-Planted-Value","password":"S3cret-Planted-Value"}"#,
        r#"{"username":"alice","password":"S3cret-Planted-Value","password":"S3cret-Planted-Value"}"#,
        r#"{"username":"alice","password":"x","pass\u0077ord":"S3cret-Planted-Value"}"#,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    // Unknown members.
    for member in [
        "role",
        "roles",
        "id",
        "disabled",
        "__proto__",
        "constructor",
        "",
        "username ",
        PLANTED,
    ] {
        let text = format!(r#"{{"username":"alice","password":"{PLANTED}","{member}":"admin"}}"#);
        bodies.push(text.into_bytes());
    }
    // Values of other types: bare poem accepts numbers and booleans as strings, and repeats the other values in its answer.
    for value in [
        json!(1),
        json!(-1),
        json!(0.5),
        json!(true),
        json!(false),
        json!(null),
        json!([]),
        json!({}),
        json!([PLANTED]),
        json!({"x": PLANTED}),
        json!({"$ne": PLANTED}),
        json!([[{"x": [PLANTED]}]]),
    ] {
        bodies.push(
            json!({"username": "alice", "password": value})
                .to_string()
                .into(),
        );
        bodies.push(
            json!({"username": value, "password": PLANTED})
                .to_string()
                .into(),
        );
    }
    // Text before and after the JSON.
    for (before, behind) in [
        ("", "x"),
        ("", "{}"),
        ("", "\0"),
        ("x", ""),
        ("\u{feff}", ""),
        ("\u{b}", ""),
        (")]}',\n", ""),
    ] {
        bodies.push(format!("{before}{good}{behind}").into_bytes());
    }
    // Other encodings, with and without a byte order mark.
    let units: Vec<u16> = good.encode_utf16().collect();
    let (le, be): (Vec<u8>, Vec<u8>) = (
        units.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
        units.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
    );
    bodies.extend([
        [&b"\xff\xfe"[..], &le].concat(),
        [&b"\xfe\xff"[..], &be].concat(),
        le,
        be,
    ]);
    // Bytes that are not valid UTF-8: a lone continuation byte, an overlong form, a surrogate, a code point beyond Unicode, a
    // truncated sequence.
    for bytes in [
        &b"\x80"[..],
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\xff",
    ] {
        bodies.push(
            [
                br#"{"username":"alice","password":"S3cret-Planted-Value"#,
                bytes,
                b"\"}",
            ]
            .concat(),
        );
    }
    // Nested more deeply than a parser's stack allows.
    for levels in [1, 127, 128, 200, 5_000] {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        bodies.push(format!(r#"{{"username":"alice","password":{open}{close}}}"#).into_bytes());
        bodies.push(format!("{open}{close}").into_bytes());
        bodies.push(open.into_bytes());
        let objects = r#"{"username":"#.repeat(levels.min(1_000));
        bodies.push(objects.into_bytes());
    }
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn b1_b2_b3_b4_b5_b11_a_body_of_another_form_is_400_and_nothing_of_it_comes_back() {
    let cluster = Cluster::alone().await;
    let bodies = malformed();
    for path in PATHS {
        for body in &bodies {
            let answer = post_bytes(&cluster, path, body).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (400, "malformed_request"),
                "{path} {}",
                String::from_utf8_lossy(body)
            );
            tells_nothing(&answer);
        }
    }
    println!(
        "{} malformed bodies on {} paths: all 400",
        bodies.len(),
        PATHS.len()
    );
    // None of these requests was half accepted.
    assert_eq!(
        cluster.anonymous().register("alice", PASSWORD).await.status,
        201
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn b10_a_million_levels_of_nesting_are_refused_without_being_read() {
    let cluster = Cluster::alone().await;
    for path in PATHS {
        for body in ["[".repeat(1_000_000), r#"{"a":"#.repeat(1_000_000)] {
            let answer = post_bytes(&cluster, path, body.as_bytes()).await;
            assert_eq!(answer.code(), "payload_too_large");
        }
    }
    assert_eq!(
        cluster.anonymous().register("alice", PASSWORD).await.status,
        201
    );
}

/// Encodes `body` in chunks of 1 KiB.
fn chunked(body: &str) -> String {
    let chunks = body.as_bytes().chunks(1024);
    let chunks = chunks.map(|chunk| {
        format!(
            "{:x}\r\n{}\r\n",
            chunk.len(),
            str::from_utf8(chunk).unwrap()
        )
    });
    chunks.collect::<String>() + "0\r\n\r\n"
}

/// Bare poem reads a body of any size: one request with 300 MiB grew the process by as much. Its `SizeLimit` answers 411 to a
/// chunked body and to a plain `GET`.
#[tokio::test(flavor = "multi_thread")]
async fn b6_a_body_is_16_kib_at_most_declared_or_in_chunks() {
    let cluster = Cluster::alone().await;
    let addr = cluster.replicas[0].addr;
    let head = "POST /register HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let body = |name: &str, bytes: usize| {
        let start = format!(r#"{{"username":"{name}","password":"{PASSWORD}""#);
        format!("{start}{}}}", " ".repeat(bytes - start.len() - 1))
    };
    let largest = 16 * 1024;
    let declared = |body: &str| {
        format!(
            "{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let streamed =
        |body: &str| format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunked(body));
    for (request, status) in [
        (declared(&body("alice", largest)), 201),
        (streamed(&body("bob", largest)), 201),
        (declared(&body("carol", largest + 1)), 413),
        (streamed(&body("carol", largest + 1)), 413),
        (declared(&body("carol", 200_000)), 413),
        (streamed(&body("carol", 200_000)), 413),
        // The declared length alone causes the refusal: the server does not wait for a body that never comes.
        (format!("{head}Content-Length: 10737418240\r\n\r\n"), 413),
        (
            format!("{head}Content-Length: 9223372036854775807\r\n\r\n"),
            413,
        ),
    ] {
        let answers = Wire::say(addr, &request).await;
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].status, status);
        if status == 413 {
            assert_eq!(answers[0].code(), "payload_too_large");
            assert_eq!(answers[0].header("connection"), "close");
        }
    }
    assert_eq!(
        cluster.anonymous().register("carol", PASSWORD).await.status,
        201
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn b7_a_body_where_none_is_asked_for_does_no_harm() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice").await;
    let addr = cluster.replicas[0].addr;
    let bearer = format!("Authorization: Bearer {}", user.token);
    let huge = "x".repeat(17_000);
    for (body, dashboard, plain) in [
        ("Content-Length: 5\r\n\r\nhello", 200, 401),
        ("Content-Length: 0\r\n\r\n", 200, 401),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            200,
            401,
        ),
        ("\r\n", 200, 401),
        (&format!("Content-Length: 17000\r\n\r\n{huge}"), 413, 413),
    ] {
        let get = |field: &str| {
            format!("GET /dashboard HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{field}\r\n{body}")
        };
        let good = Wire::say(addr, get(&bearer)).await;
        assert_eq!(
            good.iter().map(|a| a.status).collect::<Vec<_>>(),
            [dashboard],
            "{body:.40}"
        );
        let bad = Wire::say(addr, get("Accept: */*")).await;
        assert_eq!(
            bad.iter().map(|a| a.status).collect::<Vec<_>>(),
            [plain],
            "{body:.40}"
        );
        bad[0].code();
    }
    // A logout takes no body, so it demands nothing of one.
    let at: &Anonymous = &user.at;
    let headers = [
        ("authorization", &*format!("Bearer {}", user.token)),
        ("content-type", "text/plain"),
    ];
    assert_eq!(
        at.send("POST", "/logout", &headers, Some("{{{"))
            .await
            .status,
        204
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_nobodys_request() {
    let cluster = Cluster::alone().await;
    let body = json!({"username": "alice", "password": PASSWORD}).to_string();
    let head = "POST /register HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    for request in [
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len() + 1),
        format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
            body.len()
        ),
        format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}",
            body.len() + 5
        ),
        format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\nzz\r\n\r\n",
            body.len()
        ),
    ] {
        let mut wire = Wire::to(cluster.replicas[0].addr).await;
        wire.send(&request).await;
        wire.finish().await;
        for answer in wire.answers().await {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (400, "malformed_request")
            );
        }
    }
    assert_eq!(
        cluster.anonymous().register("alice", PASSWORD).await.status,
        201
    );
}
