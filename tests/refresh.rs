//! Refresh tokens: each is exchanged once, with a short grace time for repetitions, and a session ends if a client presents a
//! copy.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use portcullis::config::Secret;
use serde_json::Value;
use tokio::sync::RwLock;

use crate::harness::{
    Answer, Cluster, Dice, Redis, Replica, User, config, patiently, report_zero, rounds,
};

/// New tokens; a response without tokens panics.
struct Tokens {
    access: String,
    refresh: String,
}

impl Tokens {
    fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = |member: &str| answer.json()[member].as_str().unwrap().to_owned();
        Self {
            access: text("token"),
            refresh: text("refresh_token"),
        }
    }
}

/// Exchanges a token at a replica, and repeats the request if the replica answers 503: the grace time exists for such
/// repetitions.
async fn refresh(cluster: &Cluster, replica: usize, token: &str) -> Answer {
    let at = cluster.replicas[replica % cluster.replicas.len()].anonymous();
    patiently(async || at.refresh(token).await).await
}

/// Status of the dashboard at each replica.
async fn everywhere(cluster: &Cluster, user: &User, token: &str) -> Vec<u16> {
    let at = |replica| {
        let at = user.at.towards(replica);
        async move { patiently(async || at.dashboard(token).await).await.status }
    };
    join_all(cluster.replicas.iter().map(at)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_gives_new_tokens_of_the_same_session() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice").await;
    let answer = refresh(&cluster, 0, &user.refresh_token).await;
    let new = Tokens::of(&answer);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.json()["refresh_expires_in"], 7 * 24 * 3600);
    assert!(new.access != user.token && new.refresh != user.refresh_token);
    for token in [&user.token, &new.access] {
        assert_eq!(user.at.dashboard(token).await.status, 200);
    }
    let session = |answer: &Answer| answer.json()["data"]["session_id"].clone();
    assert_eq!(
        session(&user.at.dashboard(&user.token).await),
        session(&user.at.dashboard(&new.access).await)
    );
    // A logout with the newer token ends the whole session.
    assert_eq!(user.at.logout(&new.access).await.status, 204);
    assert_eq!(everywhere(&cluster, &user, &user.token).await, [401]);
    assert_eq!(
        refresh(&cluster, 0, &new.refresh).await.code(),
        "invalid_token"
    );
    assert_eq!(refresh(&cluster, 0, &user.refresh_token).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_fifty_refreshes_of_one_token_at_one_instant_give_one_successor() {
    let cluster = Cluster::of(3).await;
    let mut token = cluster.user("alice").await.refresh_token;
    let rounds = rounds(8, 200);
    for _ in 0..rounds {
        let all = (0..50).map(|number| refresh(&cluster, number, &token));
        let successors: Vec<_> = join_all(all).await.iter().map(Tokens::of).collect();
        let successor = &successors[0].refresh;
        assert!(successors.iter().all(|other| other.refresh == *successor));
        token.clone_from(successor);
    }
    report_zero("sessions ended by refreshes at one instant", rounds * 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn t22_t23_a_token_that_was_traded_long_ago_ends_the_session_on_all_replicas() {
    let grace = Duration::from_millis(300);
    let cluster = Cluster::with(3, |_, config| config.tokens.refresh_reuse_interval = grace).await;
    let mut ended = 0;
    // These are a token two generations old, used at once, and a parent after the grace time.
    for (number, generations) in [2, 1, 2, 1].into_iter().enumerate() {
        let user = cluster.user(&format!("user-{number}")).await;
        let mut newest = Tokens {
            access: user.token.clone(),
            refresh: user.refresh_token.clone(),
        };
        for generation in 0..generations {
            newest = Tokens::of(&refresh(&cluster, generation, &newest.refresh).await);
        }
        assert_eq!(everywhere(&cluster, &user, &newest.access).await, [200; 3]);
        if generations == 1 {
            tokio::time::sleep(grace * 2).await;
        }
        let reused = refresh(&cluster, number, &user.refresh_token).await;
        assert_eq!(reused.code(), "invalid_token");
        for token in [&user.token, &newest.access] {
            assert_eq!(everywhere(&cluster, &user, token).await, [401; 3]);
        }
        assert_eq!(refresh(&cluster, 0, &newest.refresh).await.status, 401);
        ended += 1;
    }
    report_zero("tokens accepted after a reuse had answered", ended * 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_the_parent_within_the_grace_gives_the_same_successor_and_does_not_extend_it() {
    let grace = Duration::from_secs(1);
    let cluster = Cluster::with(2, |_, config| config.tokens.refresh_reuse_interval = grace).await;
    let user = cluster.user("alice").await;
    let first = Tokens::of(&refresh(&cluster, 0, &user.refresh_token).await);
    let again = Tokens::of(&refresh(&cluster, 1, &user.refresh_token).await);
    assert_eq!(first.refresh, again.refresh);
    tokio::time::sleep(grace * 6 / 10).await;
    Tokens::of(&refresh(&cluster, 1, &user.refresh_token).await);
    tokio::time::sleep(grace * 6 / 10).await;
    assert_eq!(refresh(&cluster, 0, &user.refresh_token).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_token_than_the_store_knows_resynchronises_it() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice").await;
    let mut newest = user.refresh_token.clone();
    for _ in 0..3 {
        newest = Tokens::of(&refresh(&cluster, 0, &newest).await).refresh;
    }
    // This has the effect of a failover that loses the last rotations.
    let keys: Vec<String> = cluster.redis.command(&["KEYS", "*session:*"]).await;
    cluster
        .redis
        .command::<()>(&["HSET", &keys[0], "counter", "2"])
        .await;
    let next = Tokens::of(&refresh(&cluster, 0, &newest).await);
    let after = Tokens::of(&refresh(&cluster, 0, &next.refresh).await);
    assert_eq!(user.at.dashboard(&after.access).await.status, 200);
    let metrics = cluster.replicas[0].metrics().await;
    assert!(metrics.contains("outcome=\"resynchronised\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_c6_no_session_survives_a_logout_that_races_a_refresh() {
    let cluster = Cluster::of(3).await;
    let mut dice = Dice::new();
    let rounds = rounds(100, 2000);
    cluster.user("alice").await;
    for _ in 0..rounds {
        let user = User::log_in(&cluster.anonymous(), "alice").await;
        let (at, there) = (dice.below(3), dice.below(3));
        let later = Duration::from_micros(dice.below(3000) as u64);
        let first = dice.percent(50);
        let traded = async {
            if first {
                tokio::time::sleep(later).await;
            }
            refresh(&cluster, at, &user.refresh_token).await
        };
        let out = async {
            if !first {
                tokio::time::sleep(later).await;
            }
            user.log_out_at(&cluster.replicas[there]).await
        };
        let (traded, out) = tokio::join!(traded, out);
        assert_eq!(out, 204);
        let mut tokens = vec![user.token.clone()];
        if traded.status == 200 {
            let new = Tokens::of(&traded);
            tokens.push(new.access);
            assert_eq!(refresh(&cluster, at, &new.refresh).await.status, 401);
        }
        assert_eq!(
            refresh(&cluster, there, &user.refresh_token).await.status,
            401
        );
        for token in tokens {
            assert_eq!(everywhere(&cluster, &user, &token).await, [401; 3]);
        }
    }
    report_zero("sessions that survived a logout beside a refresh", rounds);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_changed_replica_by_replica_and_nobody_is_logged_out() {
    let secret = |text: &str| Secret::new(text.repeat(8));
    let lists = [
        vec![secret("old1")],
        vec![secret("old1"), secret("new2")],
        vec![secret("new2"), secret("old1")],
    ];
    // Each round has two replicas, of which one is a step ahead of the other.
    for pair in lists.windows(2) {
        let cluster = Cluster::with(2, |number, config| {
            config.tokens.refresh_secrets.clone_from(&pair[number]);
        })
        .await;
        let mut token = cluster.user("alice").await.refresh_token;
        for replica in [0, 1, 1, 0, 1, 0, 0] {
            token = Tokens::of(&refresh(&cluster, replica, &token).await).refresh;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_changed_by_rolling_restarts_under_load_and_nobody_is_logged_out() {
    let secret = |text: &str| Secret::new(text.repeat(8));
    let settings = |redis: &Redis, secrets: &[Secret]| {
        let mut config = config(&redis.url());
        config.tokens.refresh_secrets = secrets.to_vec();
        config
    };
    let redis = Redis::start().await;
    let first = settings(&redis, &[secret("old1")]);
    let replicas = RwLock::new(Replica::serve_all(3, &first).await);
    let mut people = Vec::new();
    for number in 0..8 {
        people.push(User::register(&replicas.read().await[0], &format!("user{number}")).await);
    }
    let wanted = rounds(1_500, 20_000);
    let (traded, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let keep_trading = async |user: User, number: usize| {
        let mut token = user.refresh_token.clone();
        while !over.load(Ordering::Relaxed) {
            let replicas = replicas.read().await;
            let count = traded.fetch_add(1, Ordering::Relaxed);
            let at = replicas[(count + number) % replicas.len()].anonymous();
            let answer = patiently(async || at.refresh(&token).await).await;
            token = Tokens::of(&answer).refresh;
            drop(replicas);
            // Without a pause the lock would never be free for the operator who replaces the replicas.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        token
    };
    let people = people.into_iter().enumerate();
    let people = people.map(|(number, user)| keep_trading(user, number));
    let operator = async {
        for (step, secrets) in [
            vec![secret("old1"), secret("new2")],
            vec![secret("new2"), secret("old1")],
            vec![secret("new2")],
        ]
        .iter()
        .enumerate()
        {
            while traded.load(Ordering::Relaxed) < wanted * (step + 1) / 4 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            for number in 0..3 {
                let new = Replica::serve(settings(&redis, secrets)).await;
                let old = std::mem::replace(&mut replicas.write().await[number], new);
                old.stop().await;
            }
        }
        while traded.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let people: Vec<_> = people.collect();
    let (tokens, ()) = tokio::join!(join_all(people), operator);
    report_zero(
        "refreshes refused while the secret changed",
        traded.into_inner(),
    );
    // The control: a replica without the new secret accepts none of the tokens.
    let stranger = Replica::serve(settings(&redis, &[secret("old1")])).await;
    for token in tokens {
        let at = stranger.anonymous();
        let answer = patiently(async || at.refresh(&token).await).await;
        assert_eq!(answer.status, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t25_nothing_in_redis_is_a_token_or_opens_anything() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice").await;
    let newest = Tokens::of(&refresh(&cluster, 0, &user.refresh_token).await);
    let keys: Vec<String> = cluster.redis.command(&["KEYS", "*"]).await;
    let mut found = keys.clone();
    for key in &keys {
        let kind: String = cluster.redis.command(&["TYPE", key]).await;
        let read: &[&str] = match kind.as_str() {
            "hash" => &["HGETALL", key],
            "set" => &["SMEMBERS", key],
            "zset" => &["ZRANGE", key, "0", "-1"],
            "string" => &["GET", key],
            "stream" => continue,
            other => panic!("a key of type {other}"),
        };
        match cluster.redis.command(read).await {
            redis::Value::BulkString(text) => found.push(String::from_utf8(text).unwrap()),
            values => found.extend(redis::from_redis_value::<Vec<String>>(values).unwrap()),
        }
    }
    for text in &found {
        for token in [&newest.refresh, &newest.access, &user.refresh_token] {
            assert!(
                !text.contains(token.as_str()) && !token.contains(text.as_str()) || text.len() < 8,
                "{text}"
            );
        }
        assert_eq!(user.at.refresh(text).await.status, 401);
    }
    report_zero("texts in Redis that could be traded", found.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn t24_neither_token_outlives_its_session() {
    let cluster = Cluster::with(1, |_, config| {
        config.revocation.alone = true;
        config.tokens.access_ttl = Duration::from_mins(1);
        config.tokens.session_idle_timeout = Duration::from_mins(1);
        config.tokens.session_max_age = Duration::from_secs(3);
    })
    .await;
    let user = cluster.user("alice").await;
    let answer = refresh(&cluster, 0, &user.refresh_token).await;
    let seconds = |member: &str| answer.json()[member].as_u64().unwrap();
    assert!(
        seconds("expires_in") <= 3 && seconds("refresh_expires_in") <= 3,
        "{answer:?}"
    );
    let token = Tokens::of(&answer).refresh;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(refresh(&cluster, 0, &token).await.status, 401);
    let sessions: Vec<String> = cluster.redis.command(&["KEYS", "*session*"]).await;
    assert_eq!(sessions, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_his_sessions_and_ends_one_of_them_on_all_replicas() {
    let cluster = Cluster::of(3).await;
    let alice = cluster.user("alice").await;
    let phone = User::log_in(&cluster.anonymous(), "alice").await;
    let mallory = cluster.user("mallory").await;
    let list = alice.at.sessions(&alice.token).await;
    assert_eq!(list.status, 200, "{list:?}");
    let list = list.json();
    assert_eq!(list["next_cursor"], Value::Null);
    let items = list["items"].as_array().unwrap();
    let current: Vec<_> = items.iter().map(|item| item["current"].clone()).collect();
    assert_eq!(current, [false, true], "the newest first: {list}");
    assert_eq!(items[0]["address"], "127.0.0.1");
    let phones = items[0]["sid"].as_str().unwrap();

    // A user cannot revoke another user's session, and does not learn if such a session exists.
    for sid in [phones, "AAAAAAAAAAAAAAAAAAAAAA", "nonsense"] {
        assert_eq!(
            mallory.at.end_session(&mallory.token, sid).await.code(),
            "not_found"
        );
    }
    assert_eq!(everywhere(&cluster, &phone, &phone.token).await, [200; 3]);
    assert_eq!(alice.at.end_session(&alice.token, phones).await.status, 204);
    assert_eq!(everywhere(&cluster, &phone, &phone.token).await, [401; 3]);
    assert_eq!(refresh(&cluster, 1, &phone.refresh_token).await.status, 401);
    assert_eq!(everywhere(&cluster, &alice, &alice.token).await, [200; 3]);
    assert_eq!(alice.at.end_session(&alice.token, phones).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a17_the_twenty_first_session_ends_the_oldest_on_all_replicas() {
    let cluster = Cluster::of(3).await;
    let mut sessions = vec![cluster.user("alice").await];
    for number in 1..20_usize {
        let at = cluster.replicas[number % 3].anonymous();
        sessions.push(User::log_in(&at, "alice").await);
    }
    assert_eq!(
        everywhere(&cluster, &sessions[0], &sessions[0].token).await,
        [200; 3]
    );
    let last = User::log_in(&cluster.anonymous(), "alice").await;
    assert_eq!(
        everywhere(&cluster, &sessions[0], &sessions[0].token).await,
        [401; 3]
    );
    for session in sessions[1..].iter().chain([&last]) {
        assert_eq!(
            everywhere(&cluster, session, &session.token).await,
            [200; 3]
        );
    }
    let open = last.at.sessions(&last.token).await.json();
    assert_eq!(open["items"].as_array().unwrap().len(), 20);
}
