//! Errors between a request and a handler are answered with a problem, whatever the cause: for every path and every method.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::harness::{Anonymous, Answer, Cluster, PASSWORD, Wire};

/// Methods that exist, and one that does not. `CONNECT` has a form of its own.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW",
];

/// Every path and the methods that it supports: those of the document, with `HEAD` beside `GET`, and the pages, which the
/// document leaves out.
async fn paths(at: &Anonymous) -> BTreeMap<String, BTreeSet<String>> {
    let document = at.get("/openapi.json").await.json();
    let documented = document["paths"].as_object().unwrap().iter();
    let mut paths: BTreeMap<_, BTreeSet<_>> = documented
        .map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            (path.clone(), methods.map(|m| m.to_uppercase()).collect())
        })
        .collect();
    assert!(paths.len() >= 5, "{paths:?}");
    for page in ["/", "/docs", "/openapi.json"] {
        paths.insert(page.to_owned(), BTreeSet::from(["GET".to_owned()]));
    }
    for methods in paths.values_mut() {
        if methods.contains("GET") {
            methods.insert("HEAD".to_owned());
        }
    }
    paths
}

/// Checks that an answer rejects the method; returns the methods that it lists.
fn refused_method(answer: &Answer) -> BTreeSet<String> {
    assert_eq!(answer.status, 405, "{answer:?}");
    let allow = answer.header("allow").split(", ");
    allow.map(str::to_owned).collect()
}

/// Bare poem answers 405 as text and without `Allow`; the endpoints of poem-openapi for its page and its document answer any
/// method with 200.
#[tokio::test(flavor = "multi_thread")]
async fn b12_every_path_refuses_the_methods_that_it_does_not_know_and_lists_those_that_it_does() {
    let cluster = Cluster::alone().await;
    let at = cluster.anonymous();
    let mut refused = 0;
    let mut paths = paths(&at).await;
    assert!(paths.remove("/verify").is_some(), "it knows every method");
    for (path, known) in paths {
        for method in METHODS.into_iter().filter(|&m| !known.contains(m)) {
            for body in [None, Some(r#"{"username":"alice"}"#)] {
                let json = [("content-type", "application/json")];
                let answer = at.send(method, &path, &json, body).await;
                assert_eq!(answer.status, 405, "{method} {path}");
                assert_eq!(refused_method(&answer), known, "{method} {path}");
                if method == "HEAD" {
                    assert_eq!(answer.body, "");
                } else {
                    assert_eq!(answer.code(), "method_not_allowed");
                }
                refused += 1;
            }
        }
    }
    println!("{refused} requests with a method that the path does not know: all 405 with Allow");

    let management = Anonymous::at(cluster.replicas[0].management);
    for path in ["/livez", "/readyz", "/metrics"] {
        for method in METHODS.into_iter().filter(|m| !["GET", "HEAD"].contains(m)) {
            let answer = management.send(method, path, &[], None).await;
            let known = ["GET", "HEAD"].map(str::to_owned);
            assert_eq!(
                refused_method(&answer),
                BTreeSet::from(known),
                "{method} {path}"
            );
            assert_eq!(answer.code(), "method_not_allowed");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_answers_what_get_does_without_a_body() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice").await;
    let bearer = format!("Bearer {}", user.token);
    let mut checked = 0;
    for (path, known) in paths(&user.at).await {
        for headers in [&[][..], &[("authorization", bearer.as_str())]] {
            if !known.contains("HEAD") || path == "/" {
                continue;
            }
            let get = user.at.send("GET", &path, headers, None).await;
            let head = user.at.send("HEAD", &path, headers, None).await;
            assert_eq!((head.status, head.body.as_str()), (get.status, ""));
            for name in ["content-type", "www-authenticate", "cache-control"] {
                assert_eq!(head.header(name), get.header(name), "{name} of {path}");
            }
            let length = get.body.len().to_string();
            let told = head.header("content-length");
            assert!(told.is_empty() || told == length, "{path}: {told}");
            checked += 1;
        }
    }
    assert_eq!(checked, 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_leads_to_the_docs_and_the_docs_can_be_switched_off() {
    let cluster = Cluster::alone().await;
    for method in ["GET", "HEAD"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answers = Wire::say(cluster.replicas[0].addr, request).await;
        assert_eq!(answers[0].status, 307);
        assert_eq!(answers[0].header("location"), "docs");
    }
    let without = Cluster::with(1, |_, config| {
        config.http.docs = false;
        config.revocation.alone = true;
    })
    .await;
    for path in ["/", "/docs", "/openapi.json"] {
        let answer = without.anonymous().get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
    }
    assert_eq!(without.anonymous().get("/dashboard").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_is_404_whatever_the_method() {
    let cluster = Cluster::alone().await;
    let at = cluster.anonymous();
    for path in [
        "/nothing",
        "/me/nothing",
        "/docs/nothing",
        "/livez",
        "/readyz",
        "/metrics",
    ] {
        for method in METHODS {
            let answer = at.send(method, path, &[], None).await;
            assert_eq!(answer.status, 404, "{method} {path}");
            if method != "HEAD" {
                assert_eq!(answer.code(), "not_found");
            }
        }
    }
    let management = Anonymous::at(cluster.replicas[0].management);
    for path in ["/", "/dashboard", "/login", "/docs"] {
        assert_eq!(management.get(path).await.code(), "not_found");
    }
}

/// A client must not bypass a front proxy's rule for a path by writing the path differently. Bare poem is right here.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_written_differently_is_another_path() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice").await;
    let mut checked = 0;
    for (method, name) in [
        ("GET", "dashboard"),
        ("GET", "me"),
        ("POST", "logout"),
        ("GET", "docs"),
    ] {
        let upper = name.to_uppercase();
        let encoded = format!("%{:02x}{}", name.as_bytes()[0], &name[1..]);
        for target in [
            format!("//{name}"),
            format!("/{name}/"),
            format!("/{name}//"),
            format!("/{upper}"),
            format!("/{encoded}"),
            format!("/./{name}"),
            format!("/x/../{name}"),
            format!("/%2e/{name}"),
            format!("/{name}%00"),
            format!("/{name}%20"),
            format!("/{name};x"),
            format!("/{name}%3f"),
            format!("/{name}."),
            format!("/%2f{name}"),
            format!("/..;/{name}"),
        ] {
            let request = format!(
                "{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\n\r\n",
                user.token
            );
            let answers = Wire::say(cluster.replicas[0].addr, request).await;
            assert_eq!(answers.len(), 1, "{target}");
            assert_eq!(
                (answers[0].status, answers[0].code().as_str()),
                (404, "not_found"),
                "{target}"
            );
            checked += 1;
        }
    }
    println!("{checked} ways to write four paths differently: all 404");
    assert_eq!(user.dashboard_at(&cluster.replicas[0]).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_of_unusual_form_reach_no_route_that_they_do_not_name() {
    let cluster = Cluster::alone().await;
    let addr = cluster.replicas[0].addr;
    let say = async |line: &str| {
        let request = format!("{line}\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answers = Wire::say(addr, request).await;
        assert_eq!(answers.len(), 1, "{line}");
        answers.into_iter().next().unwrap()
    };
    // The absolute form is for proxies, but a server accepts it too (RFC 9112 §3.2.2).
    let absolute = say("GET http://a/dashboard HTTP/1.1").await;
    assert_eq!(absolute.code(), "missing_token");
    for line in ["OPTIONS * HTTP/1.1", "GET dashboard HTTP/1.1"] {
        assert_eq!(say(line).await.code(), "not_found", "{line}");
    }
    // The server opens a tunnel for no client.
    let connect = say("CONNECT example.org:443 HTTP/1.1").await;
    assert!((400..500).contains(&connect.status), "{connect:?}");
    // A request line that hyper cannot parse gets hyper's bare 400.
    for line in [
        "GET /a b HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
    ] {
        assert_eq!(say(line).await.status, 400, "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_the_id_it_brings_and_gets_one_otherwise() {
    let cluster = Cluster::alone().await;
    let at = cluster.anonymous();
    let mut seen = BTreeSet::new();
    let long = "a".repeat(65);
    for (given, is_kept) in [
        ("7f3a-B.c_9", true),
        (&long[..64], true),
        (&long, false),
        ("", false),
        ("a b", false),
        ("a\"b", false),
        ("a,b", false),
        ("<script>", false),
        ("\u{e9}", false),
    ] {
        for path in ["/nothing", "/dashboard", "/openapi.json"] {
            let answer = at.send("GET", path, &[("x-request-id", given)], None).await;
            let id = answer.header("x-request-id").to_owned();
            if is_kept {
                assert_eq!(id, given);
            } else {
                assert_eq!(id.len(), 32, "{id}");
                assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
                assert!(seen.insert(id.clone()), "an id that was there already");
            }
            if answer.status >= 400 {
                answer.code();
                assert_eq!(answer.json()["request_id"], json!(id));
            }
        }
    }
    let without = at.get("/dashboard").await;
    assert!(seen.insert(without.header("x-request-id").to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn b9_b25_b26_no_answer_may_be_stored_sniffed_or_read_by_another_origin() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice").await;
    let bearer = format!("Bearer {}", user.token);
    let from = |origin| {
        [
            ("origin", origin),
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            // A client that does not accept JSON gets JSON all the same, and no copy of its request.
            ("accept", "text/html"),
        ]
    };
    let login = json!({"username": "alice", "password": PASSWORD}).to_string();
    for origin in ["https://evil.example", "null"] {
        for (method, path, body, status) in [
            ("POST", "/login", Some(login.as_str()), 200),
            ("POST", "/login", Some("{}"), 400),
            ("GET", "/dashboard", None, 200),
            ("GET", "/me", None, 200),
            ("POST", "/register", Some(login.as_str()), 409),
            ("GET", "/nothing", None, 404),
            ("OPTIONS", "/login", None, 405),
            ("GET", "/docs", None, 200),
        ] {
            let answer = user.at.send(method, path, &from(origin), body).await;
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            let names = answer
                .headers
                .keys()
                .map(reqwest::header::HeaderName::as_str);
            let cors: Vec<_> = names
                .filter(|name| name.starts_with("access-control"))
                .collect();
            assert!(cors.is_empty(), "{cors:?}");
            assert_ne!(answer.header("content-type"), "text/html");
        }
    }
    let management = Anonymous::at(cluster.replicas[0].management);
    assert_eq!(
        management.get("/readyz").await.header("cache-control"),
        "no-store"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a20_probes_and_metrics_are_not_on_the_public_address_and_nothing_else_on_the_other() {
    let cluster = Cluster::with(1, |_, config| {
        config.revocation.alone = true;
        config.http.docs = false;
    })
    .await;
    let at = cluster.anonymous();
    for path in ["/metrics", "/readyz", "/livez", "/docs", "/openapi.json"] {
        assert_eq!(at.get(path).await.code(), "not_found", "{path}");
    }
    let management = Anonymous::at(cluster.replicas[0].management);
    for path in ["/login", "/dashboard", "/docs", "/.well-known/jwks.json"] {
        assert_eq!(management.get(path).await.status, 404, "{path}");
    }
}
