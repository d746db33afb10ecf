//! All kinds of load at once, for any duration: clients that log in, request the dashboard, refresh and log out, attackers who
//! guess passwords, senders of malformed requests, slow and idle connections, over two replicas. Afterwards nothing has grown:
//! memory, descriptors, keys in Redis.
//!
//!
//! `make soak` runs it for ten minutes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::crowds::held;
use crate::harness::process::{Process, folder};
use crate::harness::{Anonymous, Dice, PASSWORD, Redis, SECRET, User, Wire, patiently, rounds};

const PEOPLE: usize = 16;
/// Memory of a denylist entry in a replica, in KiB, with room to grow.
const ENTRY: f64 = 0.1;
/// Allowed variation of a replica's memory, in KiB.
const SLACK: usize = 16 * 1024;

/// Counters of the load so far.
#[derive(Debug, Default)]
struct Done {
    visits: AtomicUsize,
    refused: AtomicUsize,
    nonsense: AtomicUsize,
    slow: AtomicUsize,
    failed: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_at_once_leaves_nothing_behind() {
    let given = std::env::var("PORTCULLIS_SOAK").ok();
    let seconds = given.map_or(rounds(8, 60), |it| it.parse().expect("seconds"));
    let (one, two, redis) = (folder(), folder(), Redis::start().await);
    let url = redis.url();
    let settings = [
        ("REDIS_URL", url.as_str()),
        ("JWT_SECRET", SECRET),
        ("RATE_LIMIT", "on"),
        ("RATE_LIMIT_NETWORK", "1000000@1ms"),
        ("RATE_LIMIT_REGISTRATION", "1000000@1ms"),
        ("RATE_LIMIT_ACCOUNT", "10@1s"),
    ];
    let mut replicas = [
        Process::serve(one.path(), &settings).await,
        Process::serve(two.path(), &settings).await,
    ];
    let at: Vec<_> = replicas.iter().map(Process::anonymous).collect();
    for number in 0..PEOPLE {
        let register = async || at[0].register(&format!("person{number}"), PASSWORD).await;
        assert_eq!(patiently(register).await.status, 201);
    }
    let (done, over) = (Done::default(), AtomicBool::new(false));
    let mut dice = Dice::new();
    // The first third of the time is for warming up, the rest for the measurement.
    let warm = Duration::from_secs(seconds as u64) / 3;
    let watch = async {
        tokio::time::sleep(warm).await;
        let before = look(&replicas, &redis).await;
        let begun = Instant::now();
        while begun.elapsed() < warm * 2 {
            tokio::time::sleep((warm * 2).min(Duration::from_secs(10))).await;
            println!(
                "{:?} {done:?} {:?}",
                begun.elapsed(),
                look(&replicas, &redis).await
            );
        }
        over.store(true, Ordering::Relaxed);
        before
    };
    let people = (0..PEOPLE).map(|number| visit(&at, number, &done, &over, dice.split()));
    let people: Vec<_> = people.collect();
    let addresses: Vec<_> = replicas.iter().map(|it| it.addr).collect();
    let (before, ..) = tokio::join!(
        watch,
        join_all(people),
        guess(&at, &done, &over),
        talk_nonsense(&at, &done, &over, dice.split()),
        dawdle(&addresses, &done, &over),
    );
    // The server closes slow connections within six seconds.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let after = look(&replicas, &redis).await;
    println!("{seconds} s: {done:?}\nbefore {before:?}\nafter  {after:?}");
    assert_eq!(
        done.failed.into_inner(),
        0,
        "answers that were none of those expected"
    );
    assert!(
        done.visits.into_inner() > seconds,
        "hardly anything was done"
    );
    assert!(
        after.keys <= before.keys + PEOPLE,
        "keys: {before:?} {after:?}"
    );
    let learned = (after.entries - before.entries) as f64 * ENTRY;
    for (before, after) in before.held.iter().zip(&after.held) {
        assert!(after.0 <= before.0 + 8, "descriptors: {before:?} {after:?}");
        let grown = after.1 as f64 - before.1 as f64;
        assert!(grown < learned + SLACK as f64, "{grown} KiB for {learned}");
    }
    for replica in &mut replicas {
        assert!(replica.stop().await.success());
    }
}

/// Resources in use at one moment.
#[derive(Debug)]
struct Look {
    /// Descriptors, and memory in KiB, of each replica.
    held: Vec<(usize, usize)>,
    keys: usize,
    /// Number of entries that the feed has ever had.
    entries: usize,
}

async fn look(replicas: &[Process; 2], redis: &Redis) -> Look {
    let keys: Vec<String> = redis.command(&["KEYS", "*"]).await;
    // The keys that a guess leaves expire with its period.
    let lasting = keys.iter().filter(|key| !key.contains("throttle"));
    let info: redis::Value = redis
        .command(&["XINFO", "STREAM", "portcullis:{feed}:revocations"])
        .await;
    let fields: Vec<(String, redis::Value)> = redis::from_redis_value(info).unwrap();
    let added = fields.into_iter().find(|(name, _)| name == "entries-added");
    Look {
        held: replicas.iter().map(held).collect(),
        keys: lasting.count(),
        entries: redis::from_redis_value(added.unwrap().1).unwrap(),
    }
}

/// Counts a response with an unexpected status as a failure.
fn expect(done: &Done, status: u16, good: &[u16]) {
    if !good.contains(&status) {
        println!("answered {status} where {good:?} was expected");
        done.failed.fetch_add(1, Ordering::Relaxed);
    }
}

async fn visit(at: &[Anonymous], number: usize, done: &Done, over: &AtomicBool, mut dice: Dice) {
    let name = format!("person{number}");
    while !over.load(Ordering::Relaxed) {
        let mut user = User::log_in(&at[dice.below(2)], &name).await;
        for _ in 0..dice.below(20) {
            expect(
                done,
                at[dice.below(2)].dashboard(&user.token).await.status,
                &[200],
            );
        }
        let refreshed = at[dice.below(2)].refresh(&user.refresh_token).await;
        expect(done, refreshed.status, &[200]);
        if refreshed.status == 200 {
            let token = refreshed.json()["token"].as_str().map(str::to_owned);
            user.token = token.unwrap();
        }
        expect(
            done,
            at[dice.below(2)].sessions(&user.token).await.status,
            &[200],
        );
        expect(
            done,
            at[dice.below(2)].logout(&user.token).await.status,
            &[204],
        );
        for replica in at {
            expect(done, replica.dashboard(&user.token).await.status, &[401]);
        }
        done.visits.fetch_add(1, Ordering::Relaxed);
    }
}

async fn guess(at: &[Anonymous], done: &Done, over: &AtomicBool) {
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        // No client logs in as this user: such a client would be rate-limited together with the attacker.
        let victim = format!("victim{}", number % 5);
        let login = at[number % 2].login(&victim, "not the password").await;
        expect(done, login.status, &[401, 429]);
        done.refused.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn talk_nonsense(at: &[Anonymous], done: &Done, over: &AtomicBool, mut dice: Dice) {
    let long = "x".repeat(20_000);
    while !over.load(Ordering::Relaxed) {
        let at = &at[dice.below(2)];
        let bodies = ["{", "[]", r#"{"username":1}"#, &long];
        let answer = at.post_text("/login", bodies[dice.below(4)]).await;
        expect(done, answer.status, &[400, 413]);
        let forged = format!("{}.{}.x", dice.below(1_000_000), dice.below(1_000_000));
        expect(done, at.dashboard(&forged).await.status, &[401]);
        let path = format!("/{}", dice.below(1_000_000));
        expect(done, at.get(&path).await.status, &[404]);
        let taken = json!({"username": "person1", "password": PASSWORD});
        expect(done, at.post("/register", &taken).await.status, &[409]);
        done.nonsense.fetch_add(4, Ordering::Relaxed);
    }
}

/// Opens connections that send half a head, or nothing at all; forty at a time.
async fn dawdle(addresses: &[std::net::SocketAddr], done: &Done, over: &AtomicBool) {
    let one = async |number: usize| {
        while !over.load(Ordering::Relaxed) {
            let mut wire = Wire::to(addresses[number % 2]).await;
            if number.is_multiple_of(2) {
                wire.send("GET / HTTP/1.1\r\nHo").await;
            }
            while !over.load(Ordering::Relaxed)
                && !wire.is_closed_within(Duration::from_millis(500)).await
            {}
            done.slow.fetch_add(1, Ordering::Relaxed);
        }
    };
    join_all((0..40).map(one)).await;
}
