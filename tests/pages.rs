//! Pages in browsers: those of other origins, and tokens in cookies.

use std::collections::BTreeMap;

use serde_json::json;

use crate::harness::{Anonymous, Answer, Cluster, PASSWORD, patiently};

const APP: &str = "https://app.example.com";

/// Name of the cookie. Its prefix makes browsers ensure that it comes from this host and over TLS.
const COOKIE: &str = "__Host-portcullis";

async fn with_cookies() -> Cluster {
    Cluster::with(2, |_, config| config.http.cookies = true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_are_answered_only_where_they_are_named() {
    let open = Cluster::with(1, |_, config| {
        config.http.cors_origins = vec![APP.to_owned()];
    })
    .await;
    let closed = Cluster::alone().await;
    let preflight = [
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,content-type",
        ),
    ];
    let ask = async |at: &Anonymous, origin: &str| {
        let headers = [&preflight[..], &[("origin", origin)]].concat();
        at.send("OPTIONS", "/login", &headers, None).await
    };
    let allowed = ask(&open.anonymous(), APP).await;
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.header("access-control-allow-origin"), APP);
    assert!(
        allowed
            .header("access-control-allow-methods")
            .contains("POST")
    );
    assert!(allowed.header("vary").contains("Origin"));
    assert_eq!(allowed.header("access-control-allow-credentials"), "");
    for origin in [
        "https://app.example.com.evil.example",
        "https://evil.example",
        "http://app.example.com",
        "https://APP.example.com",
        "null",
        "*",
    ] {
        let refused = ask(&open.anonymous(), origin).await;
        assert_eq!(refused.status, 405, "{origin}");
        assert_eq!(
            refused.header("access-control-allow-origin"),
            "",
            "{origin}"
        );
    }
    assert_eq!(
        ask(&closed.anonymous(), APP)
            .await
            .header("access-control-allow-origin"),
        ""
    );
    // The page that sent the request may read errors too.
    let headers = [("origin", APP)];
    let refused = open
        .anonymous()
        .send("GET", "/dashboard", &headers, None)
        .await;
    assert_eq!(
        (
            refused.status,
            refused.header("access-control-allow-origin")
        ),
        (401, APP)
    );
    assert!(
        refused
            .header("access-control-expose-headers")
            .contains("www-authenticate")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_headers_that_keep_browsers_from_harm() {
    let cluster = Cluster::alone().await;
    let at = cluster.anonymous();
    for path in [
        "/dashboard",
        "/openapi.json",
        "/docs",
        "/nothing",
        "/.well-known/jwks.json",
    ] {
        let answer = at.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(
            answer.header("cross-origin-resource-policy"),
            "same-origin",
            "{path}"
        );
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(!answer.header("cache-control").is_empty(), "{path}");
        assert_eq!(answer.header("server"), "", "{path}");
    }
}

/// Browser on a page of the service's own origin.
struct Browser {
    at: Anonymous,
    jar: BTreeMap<String, String>,
}

impl Browser {
    /// Opens a page of this origin, where alice registers and logs in. Returns the browser and the response to the login.
    async fn logged_in(cluster: &Cluster) -> (Self, Answer) {
        let at = cluster.anonymous();
        let registered = patiently(async || at.register("alice", PASSWORD).await).await;
        assert_eq!(registered.status, 201);
        let mut browser = Self {
            at,
            jar: BTreeMap::new(),
        };
        let credentials = json!({"username": "alice", "password": PASSWORD}).to_string();
        let login = browser.send("POST", "/login", "same-origin", Some(&credentials));
        let login = login.await;
        assert_eq!(login.status, 200, "{login:?}");
        (browser, login)
    }

    fn access_token(&self) -> String {
        let (access, _) = self.jar[COOKIE].split_once('~').unwrap();
        access.to_owned()
    }

    async fn send(&mut self, method: &str, path: &str, site: &str, body: Option<&str>) -> Answer {
        let cookies: Vec<_> = self
            .jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookies = cookies.join("; ");
        let mut headers = vec![
            ("sec-fetch-site", site),
            ("content-type", "application/json"),
        ];
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        let answer = patiently(async || self.at.send(method, path, &headers, body).await).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let text = cookie.to_str().unwrap();
            for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
                assert!(text.contains(attribute), "{text}");
            }
            let (name, rest) = text.split_once('=').unwrap();
            assert!(name.starts_with("__Host-"), "{text}");
            let value = rest.split(';').next().unwrap();
            if text.contains("Max-Age=0") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_keeps_its_tokens_where_no_script_reads_them_until_it_logs_out() {
    let cluster = with_cookies().await;
    let at = cluster.anonymous();
    let (mut browser, login) = Browser::logged_in(&cluster).await;
    assert_eq!(
        (&login.json()["token"], &login.json()["refresh_token"]),
        (&json!(""), &json!(""))
    );
    assert_eq!(browser.jar.len(), 1, "{:?}", browser.jar.keys());
    let kept = browser.jar.clone();
    let (access, refresh) = kept[COOKIE].split_once('~').unwrap();
    assert!(access.len() > 100 && refresh.len() > 50);
    assert!(!login.body.contains(access) && !login.body.contains(refresh));
    assert_eq!(
        browser
            .send("GET", "/dashboard", "same-origin", None)
            .await
            .status,
        200
    );

    let refreshed = browser.send(
        "POST",
        "/refresh",
        "same-origin",
        Some(r#"{"refresh_token":""}"#),
    );
    let refreshed = refreshed.await;
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    assert_eq!(refreshed.json()["refresh_token"], "");
    assert_ne!(browser.jar, kept, "new tokens");

    let access = browser.access_token();
    let out = browser.send("POST", "/logout", "same-origin", None).await;
    assert_eq!(out.status, 204);
    assert!(browser.jar.is_empty(), "the cookies are gone");
    for replica in &cluster.replicas {
        let at = at.towards(replica);
        let old = patiently(async || at.dashboard(&access).await).await;
        assert_eq!(old.status, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_follows_its_session_through_a_new_password_to_its_end() {
    let cluster = with_cookies().await;
    let (mut browser, _) = Browser::logged_in(&cluster).await;
    let before = browser.access_token();
    let other = json!({"current_password": PASSWORD, "new_password": "a staple of correct horses"})
        .to_string();
    let changed = browser.send("PUT", "/me/password", "same-origin", Some(&other));
    let changed = changed.await;
    assert_eq!(
        (changed.status, &changed.json()["token"]),
        (200, &json!(""))
    );
    assert_ne!(browser.access_token(), before);
    assert_eq!(cluster.anonymous().dashboard(&before).await.status, 401);
    let kept = browser
        .send("DELETE", "/sessions?keep=current", "same-origin", None)
        .await;
    assert_eq!((kept.status, browser.jar.len()), (204, 1));

    // The browser revokes its own session, by ID.
    let listed = browser
        .send("GET", "/sessions", "same-origin", None)
        .await
        .json();
    let path = format!("/sessions/{}", listed["items"][0]["sid"].as_str().unwrap());
    let ended = browser.send("DELETE", &path, "same-origin", None).await;
    assert_eq!((ended.status, browser.jar.len()), (204, 0));

    let again = json!({"username": "alice", "password": "a staple of correct horses"}).to_string();
    browser
        .send("POST", "/login", "same-origin", Some(&again))
        .await;
    let proof = json!({"password": "a staple of correct horses"}).to_string();
    let deleted = browser
        .send("POST", "/me/delete", "same-origin", Some(&proof))
        .await;
    assert_eq!((deleted.status, browser.jar.len()), (204, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_cannot_act_with_the_cookie_of_a_user() {
    let cluster = with_cookies().await;
    let at = cluster.anonymous();
    let (mut browser, _) = Browser::logged_in(&cluster).await;
    let delete = json!({"password": PASSWORD}).to_string();
    let attempts = [
        ("POST", "/logout", None),
        ("DELETE", "/sessions", None),
        ("POST", "/me/delete", Some(delete.as_str())),
        ("POST", "/refresh", Some(r#"{"refresh_token":""}"#)),
    ];
    for site in ["cross-site", "same-site", "none"] {
        for (method, path, body) in attempts {
            let answer = browser.send(method, path, site, body).await;
            assert_eq!(answer.code(), "forbidden", "{site} {method} {path}");
        }
    }
    // An old browser sends the page's origin instead.
    let cookie = format!("{COOKIE}={}", browser.jar[COOKIE]);
    for (origin, status) in [
        (Some("https://evil.example"), 403),
        (None, 403),
        (Some("http://localhost:8080"), 204),
    ] {
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let answer = patiently(async || at.send("POST", "/logout", &headers, None).await).await;
        assert_eq!(answer.status, status, "{origin:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_count_only_where_they_are_switched_on_and_programs_get_their_tokens() {
    let off = Cluster::alone().await;
    let user = off.user("alice").await;
    let value = format!("{}~{}", user.token, user.refresh_token);
    let cookie = format!("{COOKIE}={value}");
    let headers = [
        ("cookie", cookie.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    assert_eq!(
        off.anonymous()
            .send("GET", "/dashboard", &headers, None)
            .await
            .code(),
        "missing_token"
    );
    let on = with_cookies().await;
    let user = on.user("alice").await;
    assert!(user.token.len() > 100, "a program has no cookies");
    let login = on.anonymous().login("alice", PASSWORD).await;
    assert_eq!(login.header("set-cookie"), "");
    // Two cookies of the same name count as none.
    let value = format!("{}~{}", user.token, user.refresh_token);
    let once = format!("{COOKIE}={value}");
    let headers = [("cookie", once.as_str()), ("sec-fetch-site", "same-origin")];
    let at = on.anonymous();
    assert_eq!(
        at.send("GET", "/dashboard", &headers, None).await.status,
        200
    );
    let twice = format!("{COOKIE}={value}; {COOKIE}={value}");
    let headers = [
        ("cookie", twice.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    assert_eq!(
        on.anonymous()
            .send("GET", "/dashboard", &headers, None)
            .await
            .status,
        401
    );
}
