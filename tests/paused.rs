//! Replicas that are stopped and continued at random: a process that is stopped answers no request, and its view from before is
//! too old to answer from.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;

use crate::harness::process::{Process, folder};
use crate::harness::{Answer, Dice, PASSWORD, Proxy, Redis, SECRET, Weather, report_zero, rounds};

/// Number of clients that log in and out at the same time.
const PEOPLE: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn no_replica_accepts_a_token_after_its_logout_answered_with_all_stopped_and_continued_at_random()
 {
    pausing("50ms", Duration::ZERO, rounds(300, 6_000)).await;
    pausing("0ms", Duration::ZERO, rounds(60, 600)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_2_a_stopped_replica_that_finds_an_old_answer_waiting_does_not_take_it_for_a_new_one()
{
    // On a slow network nearly every stop interrupts a read; the read's answer waits until the replica continues.
    pausing("50ms", Duration::from_millis(20), rounds(120, 1_200)).await;
}

/// Logs out repeatedly while three replicas, each a process, are stopped and continued.
async fn pausing(window: &str, delay: Duration, logouts: usize) {
    let mut dice = Dice::new();
    let (folder, redis) = (folder(), Redis::start().await);
    let proxy = Proxy::to(redis.addr()).await;
    let url = proxy.url();
    let settings = [
        ("REDIS_URL", url.as_str()),
        ("JWT_SECRET", SECRET),
        ("REVOCATION_WINDOW", window),
    ];
    let replicas = (0..3).map(|_| Process::serve(folder.path(), &settings));
    let replicas = join_all(replicas).await;
    let registered = replicas[0].anonymous().register("alice", PASSWORD).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    proxy.set(Weather {
        delay,
        ..Weather::default()
    });

    let (enough, mut seen) = (AtomicBool::new(false), Seen::default());
    let pauses = replicas.iter().map(|it| pause(it, dice.split(), &enough));
    let pauses = join_all(pauses.collect::<Vec<_>>());
    let people = (0..PEOPLE).map(|_| dice.split()).collect::<Vec<_>>();
    let people = async {
        let people = people.into_iter();
        let seen = people.map(|dice| log_out_often(&replicas, logouts / PEOPLE, dice));
        let seen = join_all(seen).await;
        enough.store(true, Ordering::Relaxed);
        seen
    };
    let (stops, everybody) = tokio::join!(pauses, people);
    for one in everybody {
        seen.refused += one.refused;
        seen.accepted += one.accepted;
        seen.unavailable += one.unavailable;
    }
    let stops: usize = stops.into_iter().sum();
    println!("window {window}, network up to {delay:?}: {stops} stops, {seen:?}");
    assert_eq!(seen.accepted, 0);
    assert!(
        seen.refused > logouts,
        "too few answers to show anything: {seen:?}"
    );
    report_zero(
        &format!("accepted after logout by replicas that are stopped, window {window}"),
        logouts * 3,
    );
}

/// Responses to checks that were sent after the logout had been answered.
#[derive(Debug, Default)]
struct Seen {
    refused: usize,
    accepted: usize,
    unavailable: usize,
}

/// Stops the replica for a while, repeatedly. Returns the number of stops.
async fn pause(replica: &Process, mut dice: Dice, enough: &AtomicBool) -> usize {
    let mut stops = 0;
    while !enough.load(Ordering::Relaxed) {
        tokio::time::sleep(dice.millis(20, 200)).await;
        replica.signal(Signal::STOP);
        tokio::time::sleep(dice.millis(5, 200)).await;
        replica.signal(Signal::CONT);
        stops += 1;
    }
    stops
}

/// Logs in at one replica and out at another, and checks the token at all three at once when the logout has answered.
async fn log_out_often(replicas: &[Process], times: usize, mut dice: Dice) -> Seen {
    let client = replicas[0].anonymous();
    let (mut seen, replicas) = (Seen::default(), replicas.iter());
    let at: Vec<_> = replicas.map(|it| client.towards_addr(it.addr)).collect();
    for _ in 0..times {
        let (one, other) = (&at[dice.below(3)], &at[dice.below(3)]);
        let login = answered(200, async || one.login("alice", PASSWORD).await).await;
        let token = login.json()["token"].as_str().unwrap().to_owned();
        answered(204, async || other.logout(&token).await).await;
        let checks = at.iter().map(|it| it.dashboard(&token));
        for answer in join_all(checks).await {
            match answer.status {
                401 => seen.refused += 1,
                503 => seen.unavailable += 1,
                _ => seen.accepted += 1,
            }
        }
    }
    seen
}

/// Repeats the request until it is answered with `status`; a replica that was stopped in the middle of a request may have
/// missed the deadline.
async fn answered(status: u16, ask: impl AsyncFn() -> Answer) -> Answer {
    for _ in 0..100 {
        let answer = ask().await;
        if answer.status == status {
            return answer;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    panic!("a hundred times 503");
}
