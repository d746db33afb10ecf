//! Journey of a user through the API, as the README shows it.

use serde_json::json;

use crate::harness::{Cluster, PASSWORD, rounds};

#[tokio::test(flavor = "multi_thread")]
async fn register_log_in_see_the_dashboard_log_out_and_be_refused_everywhere() {
    let cluster = Cluster::of(3).await;
    let anyone = cluster.anonymous();

    let registered = anyone.register("Alice", PASSWORD).await;
    assert_eq!(registered.status, 201);
    assert_eq!(registered.json()["message"], "User registered successfully");
    assert_eq!(registered.json()["user"]["username"], "alice");

    let login = anyone.login("alice", PASSWORD).await;
    assert_eq!(login.status, 200);
    assert_eq!(login.json()["token_type"], "Bearer");
    assert_eq!(login.json()["expires_in"], 3600);
    let token = login.json()["token"].as_str().unwrap().to_owned();

    for replica in &cluster.replicas {
        let dashboard = anyone.towards(replica).dashboard(&token).await;
        assert_eq!(dashboard.status, 200);
        assert_eq!(dashboard.json()["message"], "Welcome alice");
    }
    let bearer = format!("Bearer {token}");
    let me = anyone
        .send("GET", "/me", &[("authorization", &bearer)], None)
        .await;
    assert_eq!((me.status, &me.json()["username"]), (200, &json!("alice")));

    assert_eq!(
        anyone
            .towards(&cluster.replicas[1])
            .logout(&token)
            .await
            .status,
        204
    );
    for replica in &cluster.replicas {
        let refused = anyone.towards(replica).dashboard(&token).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (401, "invalid_token")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_of_32_registrations_of_one_name_at_one_instant_exactly_one_wins() {
    let cluster = Cluster::of(3).await;
    let rounds = rounds(100, 1000);
    let (mut counted, mut repeated) = (0, 0);
    while counted < rounds {
        let name = format!("name{}", counted + repeated);
        let attempts: Vec<_> = (0..32)
            .map(|number| {
                let at = cluster.replicas[number % 3].anonymous();
                let (name, password) = (name.clone(), format!("{PASSWORD} {number}"));
                tokio::spawn(async move { (at.register(&name, &password).await.status, password) })
            })
            .collect();
        let (mut won, mut lost, mut unknown) = (Vec::new(), Vec::new(), 0);
        for attempt in attempts {
            match attempt.await.unwrap() {
                (201, password) => won.push(password),
                (409, password) => lost.push(password),
                // The machine stood still for longer than a deadline: the outcome of this operation is unknown.
                (503, _) => unknown += 1,
                (status, _) => panic!("{status}"),
            }
        }
        assert!(won.len() <= 1, "{} have won {name}", won.len());
        if unknown > 0 {
            repeated += 1;
            assert!(
                repeated <= 5 + rounds / 10,
                "{repeated} rounds with an unknown outcome"
            );
            continue;
        }
        assert_eq!((won.len(), lost.len()), (1, 31), "{name}");
        assert_eq!(cluster.anonymous().login(&name, &won[0]).await.status, 200);
        let loser = &lost[counted % 31];
        assert_eq!(cluster.anonymous().login(&name, loser).await.status, 401);
        counted += 1;
    }
    println!("{rounds} rounds of 32 registrations: one winner each ({repeated} rounds repeated)");
}
