//! Forged tokens over HTTP: each is 401 `invalid_token` on every protected route, costs Redis nothing, and makes the service
//! contact no other host.

use aws_lc_rs::hmac;
use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::mint::{opened, segment, signed, signed_by, with, with_another, without};
use crate::harness::{Cluster, User};

/// Sample of the forgeries that `tokens` tries in full.
fn forgeries(token: &str, listener: &str) -> Vec<String> {
    let (header, claims) = opened(token);
    let (h, c) = (header.to_string(), claims.to_string());
    let exp = claims["exp"].as_u64().unwrap();
    let mut forged = vec![
        signed_by(hmac::HMAC_SHA256, b"supersecretkey", &h, &c),
        signed_by(hmac::HMAC_SHA256, b"", &h, &c),
        signed_by(
            hmac::HMAC_SHA512,
            crate::harness::SECRET.as_bytes(),
            &with(&header, "alg", "HS512"),
            &c,
        ),
        format!("{}.{}.", segment(with(&header, "alg", "none")), segment(&c)),
        signed(&with(&header, "typ", "JWT"), &c),
        signed(&with(&header, "crit", json!(["x"])), &c),
        signed(&with(&header, "kid", "../../dev/null"), &c),
        signed(
            &with(&header, "jku", format!("http://{listener}/jwks.json")),
            &c,
        ),
        signed(
            &with(&header, "x5u", format!("http://{listener}/x.pem")),
            &c,
        ),
        signed(&h, &with(&claims, "iss", format!("http://{listener}"))),
        signed(&h, &with(&claims, "aud", json!(["portcullis"]))),
        signed(&h, &with(&claims, "exp", exp - 3606)),
        signed(&h, &with(&claims, "exp", u64::MAX)),
        signed(&h, &with(&claims, "nbf", exp)),
        signed(&h, &with(&claims, "iat", exp)),
        signed(&h, &with(&claims, "username", "A b")),
        signed(&h, &with_another(&claims, "sub", &json!("admin"))),
        format!("{token}="),
        format!("{token}.x"),
        token[..token.len() - 1].to_owned(),
        "x".repeat(8_000),
    ];
    let members = claims.as_object().unwrap().keys();
    forged.extend(members.map(|claim| signed(&h, &without(&claims, claim))));
    forged
}

#[tokio::test(flavor = "multi_thread")]
async fn t4_t5_t21_a_forged_token_is_401_on_every_route_and_the_service_asks_nobody() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forged = forgeries(&user.token, &listener.local_addr().unwrap().to_string());

    let (header, claims) = opened(&user.token);
    // Different formatting of the same claims, so that the token is not the one that a replica has cached.
    let control = serde_json::to_string_pretty(&claims).unwrap();
    let control = signed(&header.to_string(), &control);
    assert_ne!(control, user.token);
    assert_eq!(user.at.dashboard(&control).await.status, 200, "the control");

    cluster.redis.command::<()>(&["CONFIG", "RESETSTAT"]).await;
    let begun = std::time::Instant::now();
    let mut refused = 0;
    for _ in 0..10 {
        for token in &forged {
            for (method, path) in [("GET", "/dashboard"), ("GET", "/me"), ("POST", "/logout")] {
                let bearer = format!("Bearer {token}");
                let answer = user
                    .at
                    .send(method, path, &[("authorization", &bearer)], None)
                    .await;
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (401, "invalid_token"),
                    "{path} {token}"
                );
                assert!(
                    answer
                        .header("www-authenticate")
                        .contains(r#"error="invalid_token""#)
                );
                refused += 1;
            }
        }
    }
    let took = begun.elapsed();
    println!(
        "{refused} requests with {} forged tokens: 0 accepted",
        forged.len()
    );
    // The feed reads by one script; any cost of a forged token would show as another command.
    for (command, calls) in cluster.redis.command_counts().await {
        let is_anothers = [
            // The canary and the inspection, every few seconds, and the test itself.
            "acl|dryrun",
            "auth",
            "role",
            "set",
            "evalsha",
            "exists",
            "xinfo|stream",
            "xrange",
            "get",
            "info",
            "time",
            "config|get",
            "config|resetstat",
            "ping",
            "client|setinfo",
            "hello",
            "select",
        ];
        assert!(
            is_anothers.contains(&command.as_str()),
            "{command} was run {calls} times"
        );
        assert!(
            command != "evalsha" || (calls as f64) < took.as_secs_f64() * 90.0 + 5.0,
            "{calls} scripts in {took:?}"
        );
    }
    let nobody =
        tokio::time::timeout(std::time::Duration::from_millis(100), listener.accept()).await;
    assert!(nobody.is_err(), "somebody asked for a key");
    assert_eq!(
        user.dashboard_at(&cluster.replicas[0]).await,
        200,
        "nobody was logged out"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn t14_no_other_spelling_of_a_token_outlives_its_logout() {
    let cluster = Cluster::of(2).await;
    let user = cluster.user("alice").await;
    let (header, claims) = opened(&user.token);
    // Even an attacker with the key cannot write a token that the ended session accepts.
    let fresh = signed(
        &header.to_string(),
        &with(&claims, "jti", segment([7_u8; 16])),
    );
    let pretty = signed(
        &header.to_string(),
        &serde_json::to_string_pretty(&claims).unwrap(),
    );
    let token = &user.token;
    let spellings = [
        fresh,
        pretty,
        token.clone(),
        format!("{token}="),
        format!("{token} "),
        token.replace('_', "/"),
    ];
    for valid in &spellings[..3] {
        assert_eq!(
            user.at.dashboard(valid).await.status,
            200,
            "good before the logout"
        );
    }
    assert_eq!(user.at.logout(token).await.status, 204);
    for replica in &cluster.replicas {
        for token in &spellings {
            assert_eq!(
                user.at.towards(replica).dashboard(token).await.code(),
                "invalid_token"
            );
        }
    }
    let again = User::log_in(&user.at, "alice").await;
    assert_eq!(again.dashboard_at(&cluster.replicas[1]).await, 200);
}
