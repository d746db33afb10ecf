//! An attacker cannot guess passwords faster by using several replicas, and cannot lock a user out by guessing under the user's
//! name.
//!
//!
//! The tests act as a trusted proxy, which sends the address of its client.

use std::time::Duration;

use futures_util::future::join_all;
use portcullis::config::{Config, RateLimitConfig};
use portcullis::domain::Rate;
use serde_json::json;

use crate::harness::{Answer, Cluster, PASSWORD, Replica, report_zero, rounds};

const WRONG: &str = "a wrong horse battery staple";

fn rate(burst: u32, interval: Duration) -> Rate {
    Rate { burst, interval }
}

/// Limits that no test reaches; each test lowers the limit that it is about.
fn limits() -> RateLimitConfig {
    let far = rate(100_000, Duration::from_mins(1));
    RateLimitConfig {
        account: far,
        network: far,
        registration: far,
    }
}

async fn throttled(replicas: usize, limits: RateLimitConfig) -> Cluster {
    Cluster::with(replicas, |_, config| behind_a_proxy(config, limits)).await
}

fn behind_a_proxy(config: &mut Config, limits: RateLimitConfig) {
    config.rate_limits = Some(limits);
    config.http.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
}

/// Sends credentials on behalf of a client at an address.
async fn send(replica: &Replica, path: &str, from: &str, name: &str, password: &str) -> Answer {
    let body = json!({"username": name, "password": password}).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("x-forwarded-for", from),
    ];
    replica
        .anonymous()
        .send("POST", path, &headers, Some(&body))
        .await
}

async fn login(replica: &Replica, from: &str, name: &str, password: &str) -> Answer {
    send(replica, "/login", from, name, password).await
}

async fn registered(cluster: &Cluster, from: &str, name: &str) {
    let answer = send(&cluster.replicas[0], "/register", from, name, PASSWORD).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// Number of passwords that all replicas have hashed.
async fn hashes(cluster: &Cluster) -> u64 {
    metric(cluster, "portcullis_password_hashes_total").await
}

/// Sum of a metric over all replicas and labels.
async fn metric(cluster: &Cluster, name: &str) -> u64 {
    let mut sum = 0;
    for replica in &cluster.replicas {
        let page = replica.metrics().await;
        let lines = page.lines().filter(|line| line.starts_with(name));
        sum += lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum::<u64>();
    }
    sum
}

/// Sends `times` wrong passwords at once, over all replicas. Returns the number of requests that were refused without a hash.
async fn guess(
    cluster: &Cluster,
    times: usize,
    name: &str,
    from: impl Fn(usize) -> String,
) -> usize {
    let guesses = (0..times).map(|number| {
        let replica = &cluster.replicas[number % cluster.replicas.len()];
        let from = from(number);
        async move { login(replica, &from, name, WRONG).await }
    });
    let answers = join_all(guesses).await;
    for answer in &answers {
        match answer.status {
            401 => assert_eq!(answer.code(), "invalid_credentials"),
            429 => {
                assert_eq!(answer.code(), "throttled");
                let wait: u64 = answer.header("retry-after").parse().unwrap();
                assert!((1..=600).contains(&wait), "{wait}");
            }
            _ => panic!("{answer:?}"),
        }
    }
    answers.iter().filter(|answer| answer.status == 429).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_c10_of_a_hundred_guesses_at_one_instant_ten_are_hashed() {
    let limits = RateLimitConfig {
        account: rate(10, Duration::from_mins(1)),
        ..limits()
    };
    let rounds = rounds(3, 100);
    let mut too_many = 0;
    let cluster = throttled(3, limits).await;
    for round in 0..rounds {
        let name = format!("alice{round}");
        registered(&cluster, "198.51.100.1", &name).await;
        let before = hashes(&cluster).await;
        let refused = guess(&cluster, 100, &name, |n| format!("203.0.113.{n}")).await;
        let ran = hashes(&cluster).await - before;
        assert_eq!((ran, refused), (10, 90), "round {round}");
        too_many += ran.saturating_sub(10);
    }
    assert_eq!(too_many, 0);
    assert_eq!(
        metric(&cluster, "portcullis_rate_limited_total").await,
        90 * rounds as u64
    );
    report_zero("hashes beyond the limit of an account", rounds * 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_c11_the_limit_is_the_same_for_one_replica_and_for_three() {
    let limits = RateLimitConfig {
        account: rate(10, Duration::from_mins(1)),
        ..limits()
    };
    for replicas in [1, 3] {
        let cluster = throttled(replicas, limits).await;
        registered(&cluster, "198.51.100.1", "alice").await;
        let refused = guess(&cluster, 60, "alice", |n| format!("203.0.113.{n}")).await;
        assert_eq!(refused, 50, "{replicas} replicas");
        for replica in &cluster.replicas {
            let answer = login(replica, "192.0.2.9", "alice", PASSWORD).await;
            assert_eq!(answer.code(), "throttled");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_who_logged_in_before_is_not_locked_out_by_others_and_a_new_place_waits() {
    let limits = RateLimitConfig {
        account: rate(10, Duration::from_secs(4)),
        ..limits()
    };
    let cluster = throttled(3, limits).await;
    let [first, second, third] = &cluster.replicas[..] else {
        unreachable!()
    };
    registered(&cluster, "198.51.100.1", "alice").await;
    let known = "198.51.100.1";
    assert_eq!(login(first, known, "alice", PASSWORD).await.status, 200);

    let refused = guess(&cluster, 50, "alice", |n| format!("203.0.113.{n}")).await;
    assert!(refused >= 35, "{refused}");
    for _ in 0..12 {
        let at_home = login(second, known, "alice", PASSWORD).await;
        assert_eq!(at_home.status, 200, "what is right is given back");
    }
    // The next guess that the service checks uses up the limit for four seconds.
    while let guess = login(first, "203.0.113.99", "alice", WRONG).await
        && guess.status == 429
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let elsewhere = login(third, "192.0.2.9", "alice", PASSWORD).await;
    assert_eq!(elsewhere.code(), "throttled");
    let wait: u64 = elsewhere.header("retry-after").parse().unwrap();
    tokio::time::sleep(Duration::from_secs(wait)).await;
    let elsewhere = login(third, "192.0.2.9", "alice", PASSWORD).await;
    assert_eq!(elsewhere.status, 200, "{elsewhere:?}");
    // The known address has a limit too.
    let refused = guess(&cluster, 30, "alice", |_| known.to_owned()).await;
    assert!(refused >= 15, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a4_stuffing_of_many_accounts_from_one_network_is_stopped() {
    let limits = RateLimitConfig {
        network: rate(20, Duration::from_mins(1)),
        ..limits()
    };
    let cluster = throttled(3, limits).await;
    let accounts = rounds(100, 500);
    let before = hashes(&cluster).await;
    let mut refused = 0;
    for number in 0..accounts {
        let replica = &cluster.replicas[number % 3];
        let answer = login(replica, "203.0.113.7", &format!("victim{number}"), WRONG).await;
        refused += usize::from(answer.status == 429);
    }
    let ran = hashes(&cluster).await - before;
    // Each minute that the test takes allows one more attempt.
    assert!((20..=30).contains(&ran), "{ran}");
    assert_eq!(refused, accounts - usize::try_from(ran).unwrap());
    let neighbour = login(&cluster.replicas[0], "203.0.113.8", "victim0", WRONG).await;
    assert_eq!(neighbour.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a13_a16_registrations_from_one_network_are_limited() {
    let limits = RateLimitConfig {
        registration: rate(20, Duration::from_mins(3)),
        ..limits()
    };
    let cluster = throttled(3, limits).await;
    let attempts = rounds(500, 10_000);
    let register = |number: usize| {
        let replica = &cluster.replicas[number % 3];
        let name = format!("flood{number}");
        async move { send(replica, "/register", "203.0.113.7", &name, PASSWORD).await }
    };
    let mut made = 0;
    for batch in (0..attempts).step_by(50) {
        let answers = join_all((batch..batch + 50).map(register)).await;
        for answer in answers {
            match answer.status {
                201 => made += 1,
                _ => assert_eq!(answer.code(), "throttled"),
            }
        }
    }
    let mut users: usize = 0;
    let mut cursor = "0".to_owned();
    loop {
        let (next, keys): (String, Vec<String>) = cluster
            .redis
            .command(&[
                "SCAN",
                &cursor,
                "MATCH",
                "portcullis:user:*",
                "COUNT",
                "1000",
            ])
            .await;
        users += keys.len();
        cursor = next;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(users, made);
    assert!((20..=25).contains(&made), "{made} of {attempts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a6_who_is_not_trusted_is_not_believed_whom_he_asks_for() {
    let limits = RateLimitConfig {
        network: rate(10, Duration::from_mins(1)),
        ..limits()
    };
    // The tests come from 127.0.0.1, which is no trusted proxy here.
    let cluster = Cluster::with(1, |_, config| config.rate_limits = Some(limits)).await;
    let mut refused = 0;
    for number in 0..rounds(100, 1000) {
        let spoofed = format!("198.51.{}.{}", number / 250, number % 250);
        let forwarded = format!("for={spoofed}");
        let headers = [
            ("content-type", "application/json"),
            ("x-forwarded-for", spoofed.as_str()),
            ("x-real-ip", spoofed.as_str()),
            ("forwarded", forwarded.as_str()),
            ("true-client-ip", spoofed.as_str()),
        ];
        let body = json!({"username": format!("victim{number}"), "password": WRONG}).to_string();
        let at = cluster.anonymous();
        let answer = at.send("POST", "/login", &headers, Some(&body)).await;
        refused += usize::from(answer.status == 429);
    }
    assert!(refused + 15 >= rounds(100, 1000), "{refused}");
    // The service trusts a proxy for its own entry alone: the client wrote the entries to the left of it.
    let cluster = throttled(1, limits).await;
    let mut refused = 0;
    for number in 0..50 {
        let chain = format!("198.51.100.{number}, 203.0.113.7");
        let name = format!("victim{number}");
        let answer = login(&cluster.replicas[0], &chain, &name, WRONG).await;
        refused += usize::from(answer.status == 429);
    }
    assert!((35..=40).contains(&refused), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_all_addresses_of_one_64_are_one_client_and_mapped_ones_are_ipv4() {
    let limits = RateLimitConfig {
        network: rate(10, Duration::from_mins(1)),
        ..limits()
    };
    let cluster = throttled(1, limits).await;
    let replica = &cluster.replicas[0];
    let addresses = rounds(100, 1000);
    let mut passed = 0;
    for number in 0..addresses {
        let from = format!("2001:db8:1:2:{number:x}::{number:x}");
        let answer = login(replica, &from, &format!("victim{number}"), WRONG).await;
        passed += usize::from(answer.status == 401);
    }
    assert!((10..=15).contains(&passed), "{passed} of {addresses}");
    let other = login(replica, "2001:db8:1:3::1", "victim", WRONG).await;
    assert_eq!(other.status, 401);

    for from in ["192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201"] {
        for _ in 0..4 {
            login(replica, from, "victim", WRONG).await;
        }
    }
    let full = login(replica, "192.0.2.1", "victim", WRONG).await;
    assert_eq!(full.code(), "throttled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a8_clients_that_cannot_be_told_apart_are_held_to_the_account_alone() {
    let few = rate(5, Duration::from_mins(1));
    let limits = RateLimitConfig {
        account: few,
        network: few,
        registration: few,
    };
    let cluster = throttled(1, limits).await;
    let at = cluster.anonymous();
    for number in 0..12 {
        let name = format!("user{number}");
        assert_eq!(at.register(&name, PASSWORD).await.status, 201);
        assert_eq!(at.login(&name, WRONG).await.status, 401, "{number}");
    }
    for _ in 0..5 {
        at.login("user0", WRONG).await;
    }
    assert_eq!(at.login("user0", PASSWORD).await.code(), "throttled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a9_no_bucket_outlives_its_period() {
    let limits = RateLimitConfig {
        account: rate(10, Duration::from_millis(100)),
        network: rate(10, Duration::from_millis(100)),
        registration: rate(10, Duration::from_millis(100)),
    };
    let cluster = throttled(1, limits).await;
    registered(&cluster, "198.51.100.1", "alice").await;
    for number in 0..20 {
        let from = format!("203.0.113.{number}");
        login(&cluster.replicas[0], &from, &format!("user{number}"), WRONG).await;
    }
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let left: Vec<String> = cluster
        .redis
        .command(&["KEYS", "portcullis:throttle*"])
        .await;
    assert_eq!(left, Vec::<String>::new());
}

/// Parts of a response that must not depend on the user.
fn shape(answer: &Answer) -> (u16, Vec<String>, String) {
    let id = answer.header("x-request-id");
    let names = answer.headers.keys().map(|name| name.as_str().to_owned());
    (
        answer.status,
        names.collect(),
        answer.body.replace(id, "the id"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a14_names_that_nobody_has_or_could_have_are_throttled_alike() {
    let limits = RateLimitConfig {
        account: rate(3, Duration::from_mins(1)),
        ..limits()
    };
    let cluster = throttled(1, limits).await;
    registered(&cluster, "198.51.100.1", "alice").await;
    let replica = &cluster.replicas[0];
    let mut seen = Vec::new();
    for name in ["alice", "nobody", "no such name could be", "\u{430}lice"] {
        let mut answers = Vec::new();
        for _ in 0..5 {
            answers.push(shape(&login(replica, "203.0.113.7", name, WRONG).await));
        }
        let statuses: Vec<_> = answers.iter().map(|(status, ..)| *status).collect();
        assert_eq!(statuses, [401, 401, 401, 429, 429], "{name}");
        seen.push(answers);
    }
    for other in &seen[1..] {
        assert_eq!(other, &seen[0]);
    }
    // The same name in upper case is the same account.
    let again = login(replica, "203.0.113.7", "ALICE", WRONG).await;
    assert_eq!(again.code(), "throttled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a21_whatever_asks_for_the_password_counts_against_the_same_limit() {
    let limits = RateLimitConfig {
        account: rate(10, Duration::from_mins(10)),
        ..limits()
    };
    let cluster = throttled(3, limits).await;
    registered(&cluster, "198.51.100.1", "alice").await;
    let from = "198.51.100.1";
    let session = login(&cluster.replicas[0], from, "alice", PASSWORD).await;
    let bearer = format!("Bearer {}", session.json()["token"].as_str().unwrap());
    let guesses = [
        (
            "POST",
            "/login",
            json!({"username": "alice", "password": WRONG}),
        ),
        (
            "PUT",
            "/me/password",
            json!({"current_password": WRONG, "new_password": PASSWORD}),
        ),
        ("POST", "/me/delete", json!({"password": WRONG})),
    ];
    let before = hashes(&cluster).await;
    let mut refused = 0;
    for number in 0..30 {
        let (method, path, body) = &guesses[number % 3];
        let headers = [
            ("content-type", "application/json"),
            ("x-forwarded-for", from),
            ("authorization", bearer.as_str()),
        ];
        let at = cluster.replicas[number % 3].anonymous();
        let headers = if *path == "/login" {
            &headers[..2]
        } else {
            &headers
        };
        let answer = at
            .send(method, path, headers, Some(&body.to_string()))
            .await;
        assert!([401, 422, 429].contains(&answer.status), "{answer:?}");
        refused += usize::from(answer.status == 429);
    }
    assert_eq!((hashes(&cluster).await - before, refused), (10, 20));
    let right = login(&cluster.replicas[1], from, "alice", PASSWORD).await;
    assert_eq!(
        right.code(),
        "throttled",
        "also with the right one, until it refills"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guess_whose_hash_was_refused_does_not_count() {
    let limits = RateLimitConfig {
        account: rate(3, Duration::from_hours(1)),
        ..limits()
    };
    let cluster = Cluster::with(1, |_, config| {
        behind_a_proxy(config, limits);
        config.passwords.cost = 8;
        // One lane: a hash is never refused while a lane is free.
        config.passwords.threads = Some(1);
        config.passwords.lanes = Some(1);
        config.passwords.deadline = Duration::from_millis(1);
    })
    .await;
    let replica = &cluster.replicas[0];
    let (mut hashed, mut shed) = (0, 0);
    let mut count = |answer: &Answer| match answer.status {
        401 => hashed += 1,
        503 => shed += 1,
        _ => assert_eq!(answer.code(), "throttled"),
    };
    for _ in 0..4 {
        let crowd = (0..8).map(|_| login(replica, "203.0.113.7", "alice", WRONG));
        join_all(crowd).await.iter().for_each(&mut count);
    }
    // No login is under way now, and the logins that were refused have returned their attempts.
    for _ in 0..20 {
        count(&login(replica, "203.0.113.7", "alice", WRONG).await);
    }
    assert_eq!(hashed, 3, "{shed} were refused");
    assert!(shed >= 3, "{shed} were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_nobody_may_guess() {
    let cluster = throttled(1, limits()).await;
    registered(&cluster, "198.51.100.1", "alice").await;
    let before = hashes(&cluster).await;
    cluster.redis.pause();
    let answers =
        join_all((0..10).map(|_| login(&cluster.replicas[0], "203.0.113.7", "alice", WRONG)));
    for answer in answers.await {
        assert_eq!(answer.code(), "unavailable");
    }
    assert_eq!(hashes(&cluster).await, before);
    cluster.redis.resume();
}
