//! Swagger UI in a real browser: a newcomer tries the API out without leaving the page.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::harness::Cluster;
use crate::harness::browser::Browser;

const DASHBOARD: &str = "#operations-Protected-dashboard";

#[tokio::test(flavor = "multi_thread")]
async fn the_api_can_be_tried_out_in_a_browser_and_no_request_leaves_the_server() {
    let cluster = Cluster::of(1).await;
    let user = cluster.user("alice").await;
    let server = cluster.replicas[0].addr;
    let browser = Browser::start(server).await;

    browser.open(&format!("http://{server}/")).await;
    assert_eq!(browser.address().await, format!("http://{server}/docs"));
    browser.sees(".swagger-ui .info .title", "Portcullis").await;

    browser.click(".swagger-ui .btn.authorize").await;
    browser.fill(".auth-container input", &user.token).await;
    browser.click(".auth-btn-wrapper .btn.authorize").await;
    browser.click(".auth-btn-wrapper .btn-done").await;

    browser
        .click(&format!("{DASHBOARD} .opblock-summary-control"))
        .await;
    browser.click(&format!("{DASHBOARD} .try-out__btn")).await;
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
