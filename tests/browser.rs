//! Swagger UI in a real browser: a new user tries the API out without leaving the page.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::browser::Browser;
use crate::harness::process::PATIENCE;
use crate::harness::{Anonymous, Cluster, PASSWORD, User, free_port, patiently};

const REGISTER: &str = "#operations-Quickstart-register";
const LOGIN: &str = "#operations-Quickstart-login";
const DASHBOARD: &str = "#operations-Quickstart-getDashboard";
const REFRESH: &str = "#operations-Quickstart-refreshTokens";
const LOGOUT: &str = "#operations-Quickstart-logout";

/// User name and message of the log-in bar.
const USER: &str = "#logout:not([hidden]) #user";
const MESSAGE: &str = "#message";

/// Swagger UI, driven as a user drives it.
struct SwaggerUi(Browser);

impl SwaggerUi {
    /// Types a token into the form behind Authorize.
    async fn authorize(&self, token: &str) {
        self.press(".swagger-ui .btn.authorize").await;
        self.0.fill(".auth-container input", token).await;
        self.press(".auth-btn-wrapper .btn.authorize").await;
        self.press(".auth-btn-wrapper .btn-done").await;
    }

    /// Presses a button by the keyboard: content that loads above the button may move it away from the pointer.
    async fn press(&self, button: &str) {
        const ENTER: &str = "\u{E007}";
        self.0.fill(button, ENTER).await;
    }

    /// Opens a closed operation.
    async fn open(&self, operation: &str) {
        self.press(&format!("{operation} .opblock-summary-control"))
            .await;
    }

    /// Opens an operation and executes it with the values that the page has filled in.
    async fn press_execute(&self, operation: &str, status: u16) -> Value {
        self.open(operation).await;
        self.execute(operation, status).await
    }

    /// Logs in with the form of the page.
    async fn log_in(&self, name: &str, password: &str) {
        self.0.replace("#login [name=username]", name).await;
        self.0.replace("#login [name=password]", password).await;
        self.press("#login button").await;
    }

    /// Logs out with the form of the page, and waits until the log-in form is there.
    async fn log_out(&self) {
        self.press("#logout button").await;
        self.0.sees("#login:not([hidden]) button", "Log in").await;
    }

    /// Access token that Swagger UI sends; empty if it has none.
    async fn token(&self) -> String {
        let token = self.0.run("return heldToken()").await;
        token.as_str().unwrap().to_owned()
    }

    /// Checks that the page has met no error, and that the browser has blocked nothing that the page wanted.
    async fn has_no_fault(&self) {
        let complaints = self.0.complaints().await.concat();
        for word in ["Content Security Policy", "Refused", "Error:"] {
            assert!(!complaints.contains(word), "{complaints}");
        }
    }

    /// Executes an open operation, waits for this status and returns the body of the answer.
    async fn execute(&self, operation: &str, status: u16) -> Value {
        // Clear the previous answer, which would look like this one.
        let clear = format!("document.querySelector('{operation} .btn-clear')?.click()");
        self.0.run(&clear).await;
        self.press(&format!("{operation} .execute")).await;
        let answer = format!("{operation} .live-responses-table .response");
        let shown = format!("{answer} .response-col_status");
        self.0.sees(&shown, &status.to_string()).await;
        if status == 204 {
            return Value::Null;
        }
        let body = format!("{answer} .highlight-code code");
        self.0.sees(&body, "}").await;
        let read = format!("return document.querySelector({body:?}).textContent");
        let text = self.0.run(&read).await;
        serde_json::from_str(text.as_str().unwrap()).unwrap()
    }

    /// Executes an operation with this body.
    async fn send(&self, operation: &str, body: &Value, status: u16) -> Value {
        self.open(operation).await;
        let field = format!("{operation} .body-param__text");
        self.0.replace(&field, &body.to_string()).await;
        self.execute(operation, status).await
    }
}

async fn docs_of(server: SocketAddr) -> SwaggerUi {
    let browser = Browser::start(server).await;
    browser.open(&format!("http://{server}/docs")).await;
    SwaggerUi(browser)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journey_needs_execute_alone() {
    let cluster = Cluster::of(2).await;
    let page = docs_of(cluster.replicas[0].addr).await;

    // Operations that the page shows first.
    page.0.sees(".opblock-tag-section", "Quickstart").await;
    let shown = "return [...document.querySelectorAll('.opblock-summary-path')].slice(0, 5)
        .map(it => it.dataset.path)";
    assert_eq!(
        page.0.run(shown).await,
        json!(["/register", "/login", "/dashboard", "/refresh", "/logout"])
    );
    let verify = "return document.querySelectorAll('[data-path=\"/verify\"]').length";
    assert_eq!(page.0.run(verify).await, 1);

    page.press_execute(REGISTER, 201).await;
    let tokens = page.press_execute(LOGIN, 200).await;
    let dashboard = page.press_execute(DASHBOARD, 200).await;
    assert_eq!(dashboard["message"], "Welcome alice");

    // Two operations more than the journey promises.
    page.0.sees(USER, "alice").await;
    assert_eq!(page.token().await, tokens["token"]);
    let refreshed = page.press_execute(REFRESH, 200).await;
    assert_ne!(refreshed["token"], tokens["token"]);
    assert_eq!(page.token().await, refreshed["token"]);
    let token = page.token().await;
    page.press_execute(LOGOUT, 204).await;
    page.0.sees("#login:not([hidden]) button", "Log in").await;
    assert_eq!(page.token().await, "");
    for replica in &cluster.replicas {
        let old = patiently(async || replica.anonymous().dashboard(&token).await).await;
        assert_eq!(old.status, 401);
    }
    page.has_no_fault().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_on_the_page_by_name_and_password() {
    let cluster = Cluster::of(2).await;
    let user = cluster.user("alice").await;
    let page = docs_of(cluster.replicas[0].addr).await;

    page.log_in("alice", "not this password").await;
    page.0
        .sees(MESSAGE, "The username or the password is wrong.")
        .await;
    page.0.sees("#login:not([hidden]) button", "Log in").await;
    assert_eq!(page.token().await, "");

    page.log_in("alice", PASSWORD).await;
    page.0.sees(USER, "alice").await;
    let dashboard = page.press_execute(DASHBOARD, 200).await;
    assert_eq!(dashboard["message"], "Welcome alice");
    let token = page.token().await;
    assert_ne!(token, user.token, "a session of its own");

    page.log_out().await;
    page.0.sees(MESSAGE, "Logged out").await;
    for replica in &cluster.replicas {
        let old = patiently(async || replica.anonymous().dashboard(&token).await).await;
        assert_eq!(old.status, 401);
        assert_eq!(user.dashboard_at(replica).await, 200);
    }
    let refused = page.execute(DASHBOARD, 401).await;
    assert_eq!(refused["code"], "missing_token");

    // The page shows a token under Authorize like a token of the form, and logs it out in the same way.
    page.authorize(&user.token).await;
    page.0.sees(USER, "alice").await;
    page.execute(DASHBOARD, 200).await;
    page.log_out().await;
    assert_eq!(user.dashboard_at(&cluster.replicas[1]).await, 401);
    page.has_no_fault().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_logs_in_where_tokens_are_kept_in_a_cookie() {
    let cluster = Cluster::with(1, |_, config| config.http.cookies = true).await;
    let user = cluster.user("alice").await;
    let server = cluster.replicas[0].addr;
    let page = docs_of(server).await;
    page.log_in("alice", PASSWORD).await;
    page.0.sees(USER, "alice").await;
    assert_eq!(page.token().await, "");
    assert_eq!(page.0.run("return document.cookie").await, "");
    page.press_execute(DASHBOARD, 200).await;
    page.press_execute(REFRESH, 200).await;
    page.execute(DASHBOARD, 200).await;

    page.0.open("about:blank").await;
    page.0.open(&format!("http://{server}/docs")).await;
    page.0.sees(USER, "alice").await;
    page.log_out().await;
    page.press_execute(DASHBOARD, 401).await;

    // Swagger UI would send a pasted token in place of the cookie.
    page.authorize(&user.token).await;
    page.press_execute(LOGIN, 200).await;
    assert_eq!(page.token().await, "");
    page.0.sees(USER, "alice").await;
    page.execute(DASHBOARD, 200).await;
    page.press_execute(LOGOUT, 204).await;
    page.0.sees("#login:not([hidden]) button", "Log in").await;
    page.has_no_fault().await;
}

/// Proxy that takes `/auth` off every path before it asks a replica. It ends with the test.
struct Prefix {
    proxy: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prefix {
    async fn start(program: &str, replica: SocketAddr) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let here = folder.path().display();
        let (config, start) = match program {
            "nginx" => (
                format!(
                    "daemon off; master_process off; pid {here}/pid; error_log stderr; events {{}}
                     http {{
                         access_log off;
                         client_body_temp_path {here}; proxy_temp_path {here}; fastcgi_temp_path {here};
                         uwsgi_temp_path {here}; scgi_temp_path {here};
                         server {{
                             listen 127.0.0.1:{port};
                             location /auth/ {{ proxy_pass http://{replica}/; }}
                         }}
                     }}"
                ),
                r#"PATH=$PATH:/usr/sbin; exec nginx -p "$1" -c "$0""#,
            ),
            _ => (
                format!(
                    "{{\n auto_https off\n admin off\n}}\nhttp://127.0.0.1:{port} {{
                         bind 127.0.0.1
                         handle_path /auth/* {{\n reverse_proxy {replica}\n }}\n}}\n"
                ),
                r#"HOME=$1 exec caddy run --config "$0" --adapter caddyfile"#,
            ),
        };
        let file = folder.path().join("config");
        std::fs::write(&file, config).unwrap();
        let proxy = Command::new("sh")
            .args(["-c", start])
            .arg(&file)
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self {
            proxy,
            address: ([127, 0, 0, 1], port).into(),
            _folder: folder,
        };
        let answers = async {
            let anyone = Anonymous::at(this.address);
            while anyone.try_get("/").await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let answers = tokio::time::timeout(PATIENCE, answers).await;
        assert!(answers.is_ok(), "{program} does not answer");
        this
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        self.proxy.kill().ok();
        self.proxy.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_keeps_the_path_prefix_of_a_proxy() {
    let cluster = Cluster::alone().await;
    cluster.user("alice").await;
    for program in ["nginx", "caddy"] {
        let prefix = Prefix::start(program, cluster.replicas[0].addr).await;
        let base = format!("http://{}/auth/", prefix.address);
        let browser = Browser::start(prefix.address).await;
        browser.open(&base).await;
        assert_eq!(browser.address().await, format!("{base}docs"), "{program}");
        let page = SwaggerUi(browser);
        page.log_in("alice", PASSWORD).await;
        page.0.sees(USER, "alice").await;
        page.press_execute(DASHBOARD, 200).await;
        page.press_execute(LOGOUT, 204).await;
        let requested = page.0.requested().await;
        for url in &requested {
            let stays = url.starts_with(&base) || url.starts_with("data:");
            assert!(stays, "{program}: {url}");
        }
        for path in ["login", "dashboard", "logout"] {
            assert!(requested.contains(&format!("{base}{path}")), "{path}");
        }
        page.has_no_fault().await;
    }
    // The document tells other programs the same.
    let document = cluster.anonymous().get("/openapi.json").await.json();
    assert_eq!(document["servers"], json!([{"url": "."}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_manages_sessions_and_the_password_without_leaving_the_page() {
    let cluster = Cluster::of(3).await;
    let page = docs_of(cluster.replicas[0].addr).await;

    let bob = json!({"username": "bob", "password": PASSWORD});
    page.send(REGISTER, &bob, 201).await;
    page.send(LOGIN, &bob, 200).await;
    let token = page.token().await;

    let elsewhere = User::log_in(&cluster.replicas[1].anonymous(), "bob").await;
    let sessions = "#operations-Sessions-listSessions";
    let listed = page.press_execute(sessions, 200).await;
    let listed = listed["items"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    let other = listed.iter().find(|it| it["current"] == false).unwrap();
    let end = "#operations-Sessions-revokeSession";
    page.open(end).await;
    let field = format!("{end} [data-param-name=sid] input");
    page.0.fill(&field, other["sid"].as_str().unwrap()).await;
    page.execute(end, 204).await;
    for replica in &cluster.replicas {
        assert_eq!(elsewhere.dashboard_at(replica).await, 401);
    }

    let better = "quokka lantern 71 umbrella";
    let change = json!({"current_password": PASSWORD, "new_password": better});
    let changed = page
        .send("#operations-Account-changePassword", &change, 200)
        .await;
    let new = page.token().await;
    assert_eq!(new, changed["token"]);
    for replica in &cluster.replicas {
        let at = replica.anonymous();
        let dashboard = async |token: &str| patiently(async || at.dashboard(token).await).await;
        assert_eq!(dashboard(&token).await.status, 401);
        assert_eq!(dashboard(&new).await.status, 200);
    }
    let login = async |password| {
        let at = cluster.anonymous();
        patiently(async || at.login("bob", password).await)
            .await
            .status
    };
    assert_eq!((login(PASSWORD).await, login(better).await), (401, 200));
    page.has_no_fault().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_can_be_tried_out_in_a_browser_and_no_request_leaves_the_server() {
    let cluster = Cluster::of(1).await;
    let user = cluster.user("alice").await;
    let server = cluster.replicas[0].addr;
    let browser = Browser::start(server).await;

    browser.open(&format!("http://{server}/")).await;
    assert_eq!(browser.address().await, format!("http://{server}/docs"));
    browser.sees(".swagger-ui .info .title", "Portcullis").await;

    let page = SwaggerUi(browser);
    page.authorize(&user.token).await;
    page.open(DASHBOARD).await;
    let browser = page.0;
    browser.click(&format!("{DASHBOARD} .execute")).await;
    let answer = format!("{DASHBOARD} .live-responses-table .response");
    browser
        .sees(&format!("{answer} .response-col_status"), "200")
        .await;
    browser
        .sees(&format!("{answer} .highlight-code"), "Welcome alice")
        .await;
    keep(&browser.screenshot().await);

    assert_eq!(user.at.logout(&user.token).await.status, 204);
    browser.click(&format!("{DASHBOARD} .execute")).await;
    browser
        .sees(&format!("{answer} .response-col_status"), "401")
        .await;
    browser
        .sees(&format!("{answer} .highlight-code"), "invalid_token")
        .await;

    let requested = browser.requested().await;
    let ours = format!("http://{server}/");
    let asked = |path: &str| {
        requested
            .iter()
            .filter(|url| **url == format!("{ours}{path}"))
            .count()
    };
    assert_eq!(
        (asked(""), asked("docs"), asked("dashboard")),
        (1, 1, 2),
        "{requested:#?}"
    );
    for url in &requested {
        // The page requests its embedded resources from no server.
        assert!(url.starts_with(&ours) || url.starts_with("data:"), "{url}");
    }
    let complaints = browser.complaints().await;
    for complaint in &complaints {
        assert!(
            !complaint.contains("Content Security Policy"),
            "{complaint}"
        );
        assert!(!complaint.contains("Refused"), "{complaint}");
    }
    println!(
        "{} requests, all to the server; console: {complaints:#?}",
        requested.len()
    );

    // This request proves that the browser reaches no other host, and that the page may not either.
    let escape = "return fetch('http://127.0.0.1:1/').then(() => 'reached', error => error.name)";
    assert_eq!(browser.run(escape).await, "TypeError");
    let complaints = browser.complaints().await.concat();
    assert!(
        complaints.contains("Content Security Policy"),
        "{complaints}"
    );
}

/// Saves a screenshot in the build's target folder.
fn keep(png: &str) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap();
    let png = BASE64_STANDARD.decode(png).unwrap();
    std::fs::write(folder.join("swagger-ui.png"), png).unwrap();
}
