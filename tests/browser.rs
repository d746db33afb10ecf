//! Swagger UI in a real browser: a newcomer tries the API out without leaving the page.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use serde_json::{Value, json};

use crate::harness::browser::Browser;
use crate::harness::{Cluster, PASSWORD, User, patiently};

const DASHBOARD: &str = "#operations-Protected-dashboard";

/// Swagger UI, as somebody uses it.
struct SwaggerUi(Browser);

impl SwaggerUi {
    /// Types a token into the form behind Authorize, in place of the one before.
    async fn authorize(&self, token: &str, again: bool) {
        self.0.click(".swagger-ui .btn.authorize").await;
        if again {
            let log_out = ".auth-btn-wrapper .btn.auth:not(.authorize)";
            self.0.click(log_out).await;
        }
        self.0.fill(".auth-container input", token).await;
        self.0.click(".auth-btn-wrapper .btn.authorize").await;
        self.0.click(".auth-btn-wrapper .btn-done").await;
    }

    /// Opens an operation, where it is not open yet.
    async fn open(&self, operation: &str) {
        let summary = format!("{operation} .opblock-summary-control");
        self.0.click(&summary).await;
        self.0.click(&format!("{operation} .try-out__btn")).await;
    }

    /// Executes an open operation, waits for this status and returns the body of the answer.
    async fn execute(&self, operation: &str, status: u16) -> Value {
        self.0.click(&format!("{operation} .execute")).await;
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

    /// Executes an operation with that body.
    async fn send(&self, operation: &str, body: &Value, status: u16) -> Value {
        self.open(operation).await;
        let field = format!("{operation} .body-param__text");
        self.0.replace(&field, &body.to_string()).await;
        self.execute(operation, status).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_goes_the_whole_way_without_leaving_the_page() {
    let cluster = Cluster::of(3).await;
    let server = cluster.replicas[0].addr;
    let browser = Browser::start(server).await;
    browser.open(&format!("http://{server}/docs")).await;
    let page = SwaggerUi(browser);

    let bob = json!({"username": "bob", "password": PASSWORD});
    page.send("#operations-Accounts-register", &bob, 201).await;
    let tokens = page.send("#operations-Sessions-login", &bob, 200).await;
    let first = tokens["token"].as_str().unwrap();
    page.authorize(first, false).await;
    page.open(DASHBOARD).await;
    let dashboard = page.execute(DASHBOARD, 200).await;
    assert!(dashboard["message"].as_str().unwrap().contains("bob"));

    let refresh = json!({"refresh_token": tokens["refresh_token"]});
    let refreshed = page
        .send("#operations-Sessions-refresh", &refresh, 200)
        .await;
    let token = refreshed["token"].as_str().unwrap();
    assert_ne!(token, first);
    page.authorize(token, true).await;

    let elsewhere = User::log_in(&cluster.replicas[1].anonymous(), "bob").await;
    let sessions = "#operations-Sessions-sessions";
    page.open(sessions).await;
    let listed = page.execute(sessions, 200).await;
    let listed = listed["items"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    let other = listed.iter().find(|it| it["current"] == false).unwrap();
    let end = "#operations-Sessions-end_session";
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
        .send("#operations-Accounts-change_password", &change, 200)
        .await;
    for replica in &cluster.replicas {
        let at = replica.anonymous();
        let dashboard = async |token: &str| patiently(async || at.dashboard(token).await).await;
        assert_eq!(dashboard(token).await.status, 401);
        let new = changed["token"].as_str().unwrap();
        assert_eq!(dashboard(new).await.status, 200);
    }
    let login = async |password| {
        let at = cluster.anonymous();
        patiently(async || at.login("bob", password).await)
            .await
            .status
    };
    assert_eq!((login(PASSWORD).await, login(better).await), (401, 200));
    let complaints = page.0.complaints().await.concat();
    assert!(!complaints.contains("Refused"), "{complaints}");
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
    page.authorize(&user.token, false).await;
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
        // What the page has within itself is asked of nobody.
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

    // The proof that this browser reaches nobody else, and that the page may not either.
    let escape = "return fetch('http://127.0.0.1:1/').then(() => 'reached', error => error.name)";
    assert_eq!(browser.run(escape).await, "TypeError");
    let complaints = browser.complaints().await.concat();
    assert!(
        complaints.contains("Content Security Policy"),
        "{complaints}"
    );
}

/// Keeps a picture beside what the build makes.
fn keep(png: &str) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap();
    let png = BASE64_STANDARD.decode(png).unwrap();
    std::fs::write(folder.join("swagger-ui.png"), png).unwrap();
}
