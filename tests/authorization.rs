//! A token is accepted in one `Authorization` header, as `Bearer`, and in no other way.

use serde_json::json;

use crate::harness::{Cluster, PASSWORD, Wire};

const PROTECTED: [(&str, &str); 3] = [("GET", "/dashboard"), ("GET", "/me"), ("POST", "/logout")];

/// Outcome of a request with these header lines and this query.
async fn outcome(
    cluster: &Cluster,
    method: &str,
    target: &str,
    fields: &[String],
) -> (u16, String, String) {
    let mut request =
        format!("{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n").into_bytes();
    for field in fields {
        // A header consists of bytes; each character stands for one byte.
        request.extend(field.chars().map(|c| u8::try_from(c).unwrap()));
        request.extend(b"\r\n");
    }
    request.extend(b"\r\n");
    let mut answers = Wire::say(cluster.replicas[0].addr, request).await;
    assert_eq!(answers.len(), 1, "{fields:?}");
    let answer = answers.pop().unwrap();
    let code = if answer.status < 300 || answer.body.is_empty() {
        String::new()
    } else {
        answer.code()
    };
    (
        answer.status,
        code,
        answer.header("www-authenticate").to_owned(),
    )
}

fn authorization(value: &str) -> Vec<String> {
    vec![format!("Authorization: {value}")]
}

/// Bare poem-openapi answers a missing token with text and without `WWW-Authenticate`.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_bearer_token_is_401_and_told_what_to_send() {
    let cluster = Cluster::alone().await;
    let token = cluster.user("alice").await.token;
    for (method, path) in PROTECTED {
        for fields in [
            vec![],
            authorization(""),
            authorization("Basic YWxpY2U6c2VjcmV0"),
            authorization(&format!("Basic {token}")),
            authorization(&format!("Token {token}")),
            authorization(&format!("Bearer\t{token}")),
            authorization(&format!("Bearer{token}")),
            authorization(&format!("Bearer: {token}")),
            authorization(&format!("DPoP {token}")),
            authorization(&token),
            // Places other than the `Authorization` header.
            vec![format!("Cookie: token={token}; access_token={token}")],
            vec![format!("X-Authorization: Bearer {token}")],
            vec![format!("Proxy-Authorization: Bearer {token}")],
        ] {
            let (status, code, challenge) = outcome(&cluster, method, path, &fields).await;
            assert_eq!(
                (status, code.as_str()),
                (401, "missing_token"),
                "{path} {fields:?}"
            );
            // RFC 6750 §3.1: a client that sent no token is told no error.
            assert_eq!(challenge, r#"Bearer realm="portcullis""#);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_none_is_401_invalid_token() {
    let cluster = Cluster::alone().await;
    let token = cluster.user("alice").await.token;
    for (method, path) in PROTECTED {
        for value in [
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            "Bearer x".to_owned(),
            "Bearer ...".to_owned(),
            format!("Bearer  {token}"),
            format!("Bearer \t{token}"),
            format!("Bearer {token} x"),
            format!("Bearer \"{token}\""),
            format!("Bearer <{token}>"),
            format!("Bearer {token}="),
            format!("Bearer {token};"),
            format!("Bearer Bearer {token}"),
            format!("Bearer token={token}"),
            format!("Bearer {token}\u{e9}"),
            format!("Bearer \u{80}{token}"),
            // Longer than any token that Portcullis issues, up to the limit of a header section.
            format!("Bearer {token}{}", "A".repeat(4097 - token.len())),
            format!("Bearer {}", "A".repeat(8_000)),
            format!("Bearer {}", ".".repeat(8_000)),
            format!("Bearer {0}.{0}.{0}", "eyJ".repeat(1_500)),
        ] {
            let (status, code, challenge) =
                outcome(&cluster, method, path, &authorization(&value)).await;
            assert_eq!(
                (status, code.as_str()),
                (401, "invalid_token"),
                "{path} {value:?}"
            );
            assert_eq!(
                challenge,
                r#"Bearer realm="portcullis", error="invalid_token""#
            );
        }
    }
}

/// A head that hyper cannot parse gets hyper's bare 400. The next limit is Portcullis' own.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_with_control_characters_or_beyond_the_bounds_reaches_no_route() {
    let cluster = Cluster::alone().await;
    let token = cluster.user("alice").await.token;
    for control in ["\0", "\u{1}", "\u{7f}", "\u{1b}[2J", "\r", "\u{8}"] {
        for value in [
            format!("Bearer {control}{token}"),
            format!("Bearer {token}{control}x"),
        ] {
            let (status, ..) = outcome(&cluster, "GET", "/dashboard", &authorization(&value)).await;
            assert_eq!(status, 400, "{control:?}");
        }
    }
    for bytes in [17_000, 64_000, 600_000] {
        let value = format!("Bearer {}", "A".repeat(bytes));
        let (status, code, _) =
            outcome(&cluster, "GET", "/dashboard", &authorization(&value)).await;
        assert_eq!((status, code.as_str()), (431, "headers_too_large"));
    }
}

/// Bare poem takes the first of two headers.
#[tokio::test(flavor = "multi_thread")]
async fn t17_t18_a_request_that_sends_two_tokens_is_400() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice").await;
    let other = cluster.user("bob").await;
    let (good, bad) = (format!("Bearer {}", user.token), "Bearer x".to_owned());
    let another = format!("Bearer {}", other.token);
    for (method, path) in PROTECTED {
        for [first, second] in [
            [&good, &bad],
            [&bad, &good],
            [&good, &good],
            [&good, &another],
        ] {
            let two = [authorization(first), authorization(second)].concat();
            let joined = authorization(&format!("{first}, {second}"));
            let tight = authorization(&format!("{first},{second}"));
            for fields in [two, joined, tight] {
                let (status, code, _) = outcome(&cluster, method, path, &fields).await;
                assert_eq!(
                    (status, code.as_str()),
                    (400, "invalid_request"),
                    "{path} {fields:?}"
                );
            }
        }
        let (token, basic) = (&user.token, "Basic YWxpY2U6c2VjcmV0".to_owned());
        let mixed = [authorization(&basic), authorization(&good)].concat();
        for (target, fields, expected) in [
            (path.to_owned(), mixed, (400, "invalid_request")),
            (
                format!("{path}?access_token={token}"),
                authorization(&good),
                (400, "invalid_request"),
            ),
            (
                format!("{path}?a=b&access_token=x"),
                authorization(&good),
                (400, "invalid_request"),
            ),
            // A token in the query alone counts as not sent (RFC 6750 §2.3 is not supported).
            (
                format!("{path}?access_token={token}"),
                vec![],
                (401, "missing_token"),
            ),
        ] {
            let (status, code, _) = outcome(&cluster, method, &target, &fields).await;
            assert_eq!((status, code.as_str()), expected, "{target:.30} {fields:?}");
        }
    }
    // None of these requests logged the user out.
    assert_eq!(user.dashboard_at(&cluster.replicas[0]).await, 200);
    assert_eq!(other.dashboard_at(&cluster.replicas[0]).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn t19_the_scheme_is_matched_without_regard_to_case() {
    let cluster = Cluster::alone().await;
    let token = cluster.user("alice").await.token;
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let (status, ..) = outcome(
            &cluster,
            "GET",
            "/dashboard",
            &authorization(&format!("{scheme} {token}")),
        )
        .await;
        assert_eq!(status, 200, "{scheme}");
    }
    // Unrelated query parameters do no harm.
    let fields = authorization(&format!("Bearer {token}"));
    let (status, ..) = outcome(
        &cluster,
        "GET",
        "/dashboard?page=2&my_access_token=x",
        &fields,
    )
    .await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_sent_to_a_route_that_asks_for_none_changes_nothing() {
    let cluster = Cluster::alone().await;
    let at = cluster.anonymous();
    let body = json!({"username": "alice", "password": PASSWORD}).to_string();
    for (path, statuses) in [("/register", [201, 409]), ("/login", [200, 200])] {
        for (value, status) in ["Bearer x", "Basic x"].into_iter().zip(statuses) {
            let headers = [
                ("authorization", value),
                ("content-type", "application/json"),
            ];
            assert_eq!(
                at.send("POST", path, &headers, Some(&body)).await.status,
                status
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t12_neither_token_opens_what_the_other_opens() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice").await;
    let refreshed = user.at.refresh(&user.token).await;
    assert_eq!(refreshed.code(), "invalid_token");
    for path in ["/dashboard", "/me", "/sessions", "/verify"] {
        let bearer = format!("Bearer {}", user.refresh_token);
        let headers = [("authorization", bearer.as_str())];
        let answer = user.at.send("GET", path, &headers, None).await;
        assert_eq!(answer.code(), "invalid_token", "{path}");
    }
    assert_eq!(user.dashboard_at(&cluster.replicas[0]).await, 200);
    let refreshed = user.at.refresh(&user.refresh_token).await;
    assert_eq!(refreshed.status, 200, "neither was used up by that");
}
