//! Token introspection (RFC 7662), revocation (RFC 7009) and authorization server metadata (RFC 8414) for other services.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use portcullis::config::{ClientConfig, Secret};
use serde_json::Value;

use crate::harness::{Anonymous, Answer, Cluster, User, patiently};

const CLIENT: &str = "gate";
const ITS_SECRET: &str = "c7d1f0a92b3e48568f7a6b5c4d3e2f10";

async fn cluster(replicas: usize) -> Cluster {
    Cluster::with(replicas, |_, config| {
        config.clients = vec![ClientConfig {
            id: CLIENT.to_owned(),
            secret: Secret::new(ITS_SECRET.to_owned()),
        }];
    })
    .await
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

async fn ask(at: &Anonymous, path: &str, token: &str) -> Answer {
    let credentials = basic(CLIENT, ITS_SECRET);
    let headers = [
        ("authorization", credentials.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let form = format!("token={token}&token_type_hint=whatever&other=1");
    patiently(async || at.send("POST", path, &headers, Some(&form)).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_learns_what_an_access_token_says_as_long_as_it_stands() {
    let cluster = cluster(2).await;
    let alice = cluster.user("alice").await;
    let other = cluster.replicas[1].anonymous();
    let said = ask(&other, "/introspect", &alice.token).await;
    assert_eq!(said.status, 200, "{said:?}");
    assert_eq!(said.header("cache-control"), "no-store");
    let said = said.json();
    let data = alice.at.dashboard(&alice.token).await.json()["data"].clone();
    assert_eq!(said["active"], true);
    assert_eq!(said["username"], "alice");
    assert_eq!(said["sub"], data["user_id"]);
    assert_eq!(said["sid"], data["session_id"]);
    assert_eq!(said["token_type"], "Bearer");
    for number in ["exp", "iat", "nbf"] {
        assert!(said[number].as_u64().unwrap() > 1_700_000_000, "{said}");
    }
    let inactive = serde_json::json!({"active": false});
    for nothing in [alice.refresh_token.as_str(), "nonsense", ""] {
        assert_eq!(
            ask(&other, "/introspect", nothing).await.json(),
            inactive,
            "{nothing}"
        );
    }
    assert_eq!(alice.at.logout(&alice.token).await.status, 204);
    assert_eq!(
        ask(&other, "/introspect", &alice.token).await.json(),
        inactive
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_revokes_sessions_by_either_token_on_all_replicas() {
    let cluster = cluster(3).await;
    let alice = cluster.user("alice").await;
    let other = cluster.replicas[1].anonymous();
    for round in 0..10 {
        let session = User::log_in(&alice.at, "alice").await;
        let token = if round % 2 == 0 {
            &session.token
        } else {
            &session.refresh_token
        };
        let revoked = ask(&other, "/revoke", token).await;
        assert_eq!((revoked.status, revoked.body.as_str()), (200, ""));
        for replica in &cluster.replicas {
            assert_eq!(session.dashboard_at(replica).await, 401);
        }
        let refreshed = patiently(async || session.at.refresh(&session.refresh_token).await).await;
        assert_eq!(refreshed.status, 401);
        // Repeat the revocation, and revoke a text that is no token.
        assert_eq!(ask(&other, "/revoke", token).await.status, 200);
        assert_eq!(ask(&other, "/revoke", "nonsense").await.status, 200);
    }
    assert_eq!(
        alice.dashboard_at(&cluster.replicas[2]).await,
        200,
        "another session"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_client_is_told_nothing_and_a_bad_form_is_a_bad_form() {
    let cluster = cluster(1).await;
    let alice = cluster.user("alice").await;
    let form = format!("token={}", alice.token);
    let good = basic(CLIENT, ITS_SECRET);
    let bearer = format!("Bearer {}", alice.token);
    let kind = ("content-type", "application/x-www-form-urlencoded");
    for path in ["/introspect", "/revoke"] {
        for credentials in [
            basic(CLIENT, "wrong"),
            basic("other", ITS_SECRET),
            basic("", ""),
            "Basic !".to_owned(),
            bearer.clone(),
            String::new(),
        ] {
            let headers = [("authorization", credentials.as_str()), kind];
            let refused = alice.at.send("POST", path, &headers, Some(&form)).await;
            assert_eq!(refused.status, 401, "{path} {credentials}");
            assert!(refused.header("www-authenticate").starts_with("Basic "));
            assert_eq!(refused.json()["error"], "invalid_client");
        }
        let with = |kind| [("authorization", good.as_str()), ("content-type", kind)];
        for (kind, body) in [
            ("application/x-www-form-urlencoded", ""),
            ("application/x-www-form-urlencoded", "token=a&token=b"),
            (
                "application/x-www-form-urlencoded",
                "token_type_hint=access_token",
            ),
            ("application/json", r#"{"token":"a"}"#),
        ] {
            let refused = alice.at.send("POST", path, &with(kind), Some(body)).await;
            assert_eq!(refused.status, 400, "{path} {body}");
            assert_eq!(refused.json()["error"], "invalid_request");
        }
    }
    assert_eq!(
        alice.dashboard_at(&cluster.replicas[0]).await,
        200,
        "nothing was revoked"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_says_what_there_is_and_what_is_not() {
    let with = cluster(1).await;
    let without = Cluster::alone().await;
    let path = "/.well-known/oauth-authorization-server";
    let text =
        |document: &Value, name: &str| document[name].as_str().unwrap_or_default().to_owned();
    let there = with.anonymous().get(path).await.json();
    assert_eq!(text(&there, "issuer"), "http://localhost:8080");
    assert_eq!(
        text(&there, "jwks_uri"),
        "http://localhost:8080/.well-known/jwks.json"
    );
    assert_eq!(
        text(&there, "introspection_endpoint"),
        "http://localhost:8080/introspect"
    );
    assert_eq!(
        text(&there, "revocation_endpoint"),
        "http://localhost:8080/revoke"
    );
    assert_eq!(there["grant_types_supported"], serde_json::json!([]));
    // Every endpoint that the metadata names exists.
    for name in ["jwks_uri", "service_documentation"] {
        let path = text(&there, name).replace("http://localhost:8080", "");
        assert_eq!(with.anonymous().get(&path).await.status, 200, "{name}");
    }
    let there = without.anonymous().get(path).await.json();
    assert_eq!(
        there.get("introspection_endpoint"),
        None,
        "nobody could use it"
    );
    let nobody = basic(CLIENT, ITS_SECRET);
    let headers = [("authorization", nobody.as_str())];
    let refused = without
        .anonymous()
        .send("POST", "/introspect", &headers, Some("token=x"))
        .await;
    assert_eq!(refused.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_sessions_but_the_one_at_hand_end_on_all_replicas() {
    let cluster = Cluster::of(3).await;
    let alice = cluster.user("alice").await;
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(User::log_in(&alice.at, "alice").await);
    }
    let bearer = format!("Bearer {}", alice.token);
    let headers = [("authorization", bearer.as_str())];
    let path = "/sessions?keep=current";
    let ended = patiently(async || alice.at.send("DELETE", path, &headers, None).await).await;
    assert_eq!(ended.status, 204);
    for replica in &cluster.replicas {
        for other in &others {
            assert_eq!(other.dashboard_at(replica).await, 401);
        }
        assert_eq!(alice.dashboard_at(replica).await, 200);
    }
    let listed = alice.at.sessions(&alice.token).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    let refreshed = patiently(async || alice.at.refresh(&alice.refresh_token).await).await;
    assert_eq!(refreshed.status, 200);
    let wrong = alice
        .at
        .send("DELETE", "/sessions?keep=all", &headers, None)
        .await;
    assert_eq!(wrong.code(), "malformed_request");
}
