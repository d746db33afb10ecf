//! Forward authentication: the responses to a proxy. `proxies` tests real proxies.

use crate::harness::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_told_whose_a_token_is_whatever_the_method() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice@example.org").await;
    let bearer = format!("Bearer {}", user.token);
    let ask = async |method: &str, headers: &[(&str, &str)]| {
        user.at.send(method, "/verify", headers, None).await
    };
    let data = user.at.dashboard(&user.token).await.json()["data"].clone();
    for method in [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BREW",
    ] {
        let good = ask(
            method,
            &[("authorization", &bearer), ("x-auth-roles", "admin")],
        )
        .await;
        assert_eq!((good.status, good.body.as_str()), (200, ""), "{method}");
        assert_eq!(good.header("x-auth-username"), "alice@example.org");
        assert_eq!(good.header("x-auth-subject"), data["user_id"]);
        assert_eq!(good.header("x-auth-session"), data["session_id"]);
        assert_eq!(good.header("x-auth-roles"), "");
        let bad = ask(method, &[]).await;
        assert_eq!(
            (bad.status, bad.header("x-auth-subject")),
            (401, ""),
            "{method}"
        );
    }
    user.at.logout(&user.token).await;
    assert_eq!(
        ask("GET", &[("authorization", &bearer)]).await.code(),
        "invalid_token"
    );
}
