//! Clients of a replica, which send real requests over real sockets.

use std::net::SocketAddr;

use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};

use super::cluster::Replica;

/// Password that satisfies the password policy.
pub const PASSWORD: &str = "correct horse battery staple";

/// Response of the service.
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

/// Omits the rest of a long body: the page of Swagger UI would bury the message of a failing test.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body: String = self.body.chars().take(500).collect();
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body", &body)
            .finish()
    }
}

impl Answer {
    /// Parses the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Code of a problem; checks that the response is a complete problem.
    pub fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        for member in ["type", "title", "detail", "code", "request_id"] {
            assert!(problem[member].is_string(), "{member} in {problem}");
        }
        match self.status {
            401 => assert!(
                self.header("www-authenticate").starts_with("Bearer"),
                "{self:?}"
            ),
            429 | 503 => assert!(
                self.header("retry-after").parse::<u64>().unwrap() >= 1,
                "{self:?}"
            ),
            405 => assert!(!self.header("allow").is_empty(), "{self:?}"),
            _ => {}
        }
        problem["code"].as_str().unwrap().to_owned()
    }

    /// Value of a header; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// Client without a login.
#[derive(Debug, Clone)]
pub struct Anonymous {
    client: Client,
    base: String,
}

/// Creates an HTTP client that ignores the proxies of the environment and trusts these authorities alone. Reading the
/// authorities of the system for each of many clients would take most of a test's time.
pub fn client(trusted: impl IntoIterator<Item = Certificate>) -> Client {
    // A process has one cryptography provider, which may be installed already.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let client = Client::builder().no_proxy().tls_certs_only(trusted);
    client.build().unwrap()
}

impl Anonymous {
    /// Creates a client of the server at `addr`.
    pub fn at(addr: SocketAddr) -> Self {
        Self {
            client: client([]),
            base: format!("http://{addr}"),
        }
    }

    /// Creates a TLS client of the server at `addr` that trusts these authorities, in PEM.
    pub fn over_tls(addr: SocketAddr, authorities: &str) -> Self {
        let trusted = Certificate::from_pem_bundle(authorities.as_bytes()).unwrap();
        Self {
            client: client(trusted),
            base: format!("https://{addr}"),
        }
    }

    /// Same client for another replica.
    pub fn towards(&self, replica: &Replica) -> Self {
        self.towards_addr(replica.addr)
    }

    /// Same client for the server at `addr`.
    pub fn towards_addr(&self, addr: SocketAddr) -> Self {
        Self {
            client: self.client.clone(),
            base: format!("http://{addr}"),
        }
    }

    /// Sends a request of any form.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    /// Sends a request of any form; the server may not respond.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> reqwest::Result<Answer> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body.to_owned());
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer {
            status,
            headers,
            body: response.text().await?,
        })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None).await
    }

    pub async fn try_get(&self, path: &str) -> reqwest::Result<Answer> {
        self.try_send("GET", path, &[], None).await
    }

    /// Posts JSON text unchanged.
    pub async fn post_text(&self, path: &str, body: &str) -> Answer {
        self.send(
            "POST",
            path,
            &[("content-type", "application/json")],
            Some(body),
        )
        .await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string()).await
    }

    pub async fn register(&self, name: &str, password: &str) -> Answer {
        self.post(
            "/register",
            &json!({"username": name, "password": password}),
        )
        .await
    }

    pub async fn login(&self, name: &str, password: &str) -> Answer {
        self.post("/login", &json!({"username": name, "password": password}))
            .await
    }

    /// Requests the dashboard with a token.
    pub async fn dashboard(&self, token: &str) -> Answer {
        self.send(
            "GET",
            "/dashboard",
            &[("authorization", &format!("Bearer {token}"))],
            None,
        )
        .await
    }

    /// Status of the dashboard; `None` if there is no response.
    pub async fn dashboard_once(&self, token: &str) -> Option<u16> {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let answer = self.try_send("GET", "/dashboard", &headers, None).await;
        answer.ok().map(|answer| answer.status)
    }

    /// Ends all sessions of a token's user.
    pub async fn logout_everywhere(&self, token: &str) -> Answer {
        self.send(
            "DELETE",
            "/sessions",
            &[("authorization", &format!("Bearer {token}"))],
            None,
        )
        .await
    }

    /// Exchanges a refresh token.
    pub async fn refresh(&self, token: &str) -> Answer {
        self.post("/refresh", &json!({"refresh_token": token}))
            .await
    }

    /// Lists the sessions of the token's user.
    pub async fn sessions(&self, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.send("GET", "/sessions", &[("authorization", &bearer)], None)
            .await
    }

    /// Revokes one of the sessions of the token's user.
    pub async fn end_session(&self, token: &str, sid: &str) -> Answer {
        let (bearer, path) = (format!("Bearer {token}"), format!("/sessions/{sid}"));
        self.send("DELETE", &path, &[("authorization", &bearer)], None)
            .await
    }

    /// Logs out with a token.
    pub async fn logout(&self, token: &str) -> Answer {
        self.send(
            "POST",
            "/logout",
            &[("authorization", &format!("Bearer {token}"))],
            None,
        )
        .await
    }
}

/// Logged-in user.
#[derive(Debug, Clone)]
pub struct User {
    pub name: String,
    pub token: String,
    pub refresh_token: String,
    pub at: Anonymous,
}

/// Repeats a request while the service answers 503, as a client should, up to 50 times. On a machine that stalls for a moment a
/// deadline passes, which is not the subject of these tests.
pub async fn patiently(act: impl AsyncFn() -> Answer) -> Answer {
    for _ in 0..50 {
        let answer = act().await;
        if answer.status != 503 {
            return answer;
        }
        println!("answered 503; once more");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    act().await
}

impl User {
    /// Registers and logs in at a replica.
    pub async fn register(replica: &Replica, name: &str) -> Self {
        Self::register_at(&replica.anonymous(), name).await
    }

    /// Registers and logs in.
    pub async fn register_at(at: &Anonymous, name: &str) -> Self {
        let answer = patiently(async || at.register(name, PASSWORD).await).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        Self::log_in(at, name).await
    }

    /// Logs in.
    pub async fn log_in(at: &Anonymous, name: &str) -> Self {
        let answer = patiently(async || at.login(name, PASSWORD).await).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = |member: &str| answer.json()[member].as_str().unwrap().to_owned();
        Self {
            name: name.to_owned(),
            token: text("token"),
            refresh_token: text("refresh_token"),
            at: at.clone(),
        }
    }

    /// ID of the session.
    pub fn session(&self) -> String {
        let (_, claims) = super::mint::opened(&self.token);
        claims["sid"].as_str().unwrap().to_owned()
    }

    /// Status of the dashboard at a replica.
    pub async fn dashboard_at(&self, replica: &Replica) -> u16 {
        let at = self.at.towards(replica);
        patiently(async || at.dashboard(&self.token).await)
            .await
            .status
    }

    /// Logs out at a replica; repeats the request until it is acknowledged.
    pub async fn log_out_at(&self, replica: &Replica) -> u16 {
        let at = self.at.towards(replica);
        patiently(async || at.logout(&self.token).await)
            .await
            .status
    }
}
