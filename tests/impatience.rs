//! Clients that disconnect, repeat requests, or come all at once: no client gets the answer to another's request, and no
//! operation is done twice. The numbers are those of the threats in `docs/security.md`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Anonymous, Cluster, Dice, PASSWORD, User, patiently, report_zero, rounds};

/// Clients that ask at the same time.
const PEOPLE: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn c12_who_hangs_up_leaves_nobody_the_answer_of_another() {
    let cluster = Cluster::of(3).await;
    let mut people = Vec::new();
    for number in 0..PEOPLE {
        people.push(cluster.user(&format!("person{number}")).await);
    }
    let each = rounds(3_000, 20_000) / PEOPLE;
    let (answered, cut, foreign) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let mut dice = Dice::new();
    let ask = async |user: &User, mut dice: Dice| {
        let bearer = format!("Bearer {}", user.token);
        let headers = [("authorization", bearer.as_str())];
        for _ in 0..each {
            let at = user.at.towards(&cluster.replicas[dice.below(3)]);
            // Each of these requests asks Redis, on a pooled connection that others use before and after.
            let path = ["/me", "/sessions", "/me", "/dashboard"][dice.below(4)];
            let asked = at.try_send("GET", path, &headers, None);
            let answer = if dice.percent(30) {
                let patience = Duration::from_micros(dice.below(3_000) as u64);
                tokio::time::timeout(patience, asked).await.ok()
            } else {
                Some(asked.await)
            };
            let Some(Ok(answer)) = answer else {
                cut.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            answered.fetch_add(1, Ordering::Relaxed);
            let is_own = match (answer.status, path) {
                (503, _) => true,
                (_, "/me") => answer.json()["username"] == user.name,
                (_, "/dashboard") => answer.json()["message"] == format!("Welcome {}", user.name),
                _ => answer.json()["items"][0]["sid"] == user.session(),
            };
            foreign.fetch_add(usize::from(!is_own), Ordering::Relaxed);
        }
    };
    let all = people.iter().map(|user| ask(user, dice.split()));
    join_all(all.collect::<Vec<_>>()).await;
    let (answered, cut) = (answered.into_inner(), cut.into_inner());
    assert!(cut * 20 > answered, "{cut} of {answered} were cut");
    assert_eq!(foreign.into_inner(), 0);
    println!("{cut} requests were given up");
    report_zero("answers with somebody else's data", answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn c13_what_is_said_twice_is_done_once() {
    let cluster = Cluster::of(3).await;
    let mut dice = Dice::new();
    let times = rounds(40, 1_000);
    for number in 0..times {
        let name = format!("person{number}");
        let register = async |at: Anonymous| {
            let body = json!({"username": name, "password": PASSWORD}).to_string();
            let headers = [("content-type", "application/json")];
            at.try_send("POST", "/register", &headers, Some(&body))
                .await
        };
        let patience = Duration::from_micros(dice.below(6_000) as u64);
        let first = tokio::time::timeout(patience, register(cluster.anonymous())).await;
        let at = cluster.replicas[dice.below(3)].anonymous();
        let again = patiently(async || register(at.clone()).await.unwrap()).await;
        match first {
            Ok(Ok(first)) if first.status == 201 => assert_eq!(again.code(), "name_taken"),
            _ => assert!([201, 409].contains(&again.status), "{again:?}"),
        }
        let user = User::log_in(&at, &name).await;
        for replica in [0, 1, 2, 1] {
            assert_eq!(user.log_out_at(&cluster.replicas[replica]).await, 204);
        }
        let stranger = register(at).await.unwrap();
        assert_eq!(stranger.code(), "name_taken");
    }
    let keys: Vec<String> = cluster.redis.command(&["KEYS", "portcullis:user:*"]).await;
    assert_eq!(keys.len(), times);
}

#[tokio::test(flavor = "multi_thread")]
async fn a15_a_storm_of_logins_is_refused_early_and_the_dashboard_answers_as_before() {
    let cluster = Cluster::with(2, |_, config| {
        config.passwords.cost = 10;
        config.passwords.threads = Some(1);
        config.passwords.deadline = Duration::from_millis(400);
    })
    .await;
    let mut people = Vec::new();
    for number in 0..4 {
        people.push(cluster.user(&format!("person{number}")).await);
    }
    let storm = async {
        let (mut in_time, mut refused) = (0, 0);
        for _ in 0..rounds(2, 20) {
            let logins = (0..100).map(|number| {
                let at = people[0].at.towards(&cluster.replicas[number % 2]);
                async move { at.login(&format!("nobody{number}"), PASSWORD).await }
            });
            for answer in join_all(logins).await {
                if answer.status == 401 {
                    in_time += 1;
                } else {
                    assert_eq!(answer.code(), "overloaded", "{answer:?}");
                    refused += 1;
                }
            }
        }
        (in_time, refused)
    };
    let over = AtomicUsize::new(0);
    let ordinary = async {
        let (mut answered, mut ready) = (0, 0);
        while over.load(Ordering::Relaxed) == 0 {
            let user = &people[answered % people.len()];
            assert_eq!(user.at.dashboard(&user.token).await.status, 200);
            answered += 1;
            let probes = Anonymous::at(cluster.replicas[answered % 2].management);
            assert_eq!(probes.get("/readyz").await.status, 200);
            ready += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (answered, ready)
    };
    let storm = async {
        let outcome = storm.await;
        over.store(1, Ordering::Relaxed);
        outcome
    };
    let ((in_time, refused), (answered, _)) = tokio::join!(storm, ordinary);
    println!("{in_time} logins were checked in time, {refused} refused at once");
    assert!(in_time > 0 && refused > in_time, "{in_time} and {refused}");
    report_zero(
        "dashboards and probes that failed in a storm of logins",
        answered * 2,
    );
}
