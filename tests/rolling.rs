//! Replicas stop and start behind the load balancer of `deploy/`: restarted in turn, killed, cut off from Redis.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;

use crate::harness::site::{REPLICAS, Site};
use crate::harness::{
    Anonymous, Dice, PASSWORD, Proxy, Redis, User, Weather, patiently, report_zero, rounds,
};

const PEOPLE: usize = 12;

/// Record of the responses.
#[derive(Default)]
struct Answers {
    asked: AtomicUsize,
    logouts: AtomicUsize,
    accepted: AtomicUsize,
    failures: Mutex<Vec<(Instant, String)>>,
    over: AtomicBool,
}

impl Answers {
    /// Returns the response if it has the expected status; otherwise records a failure.
    fn is(
        &self,
        status: u16,
        what: &str,
        answer: reqwest::Result<crate::harness::Answer>,
    ) -> Option<crate::harness::Answer> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(answer) if answer.status == status => Some(answer),
            other => {
                let told = other.map(|it| (it.status, it.body));
                let line = format!("{what}: {told:?}");
                self.failures.lock().unwrap().push((Instant::now(), line));
                None
            }
        }
    }

    fn failures(&self) -> Vec<(Instant, String)> {
        self.failures.lock().unwrap().clone()
    }
}

/// Logs in, requests the dashboard and logs out, repeatedly, over connections that are kept open.
async fn visit(at: Anonymous, number: usize, answers: &Answers, mut dice: Dice) {
    let name = format!("person{number}");
    let credentials = serde_json::json!({"username": name, "password": PASSWORD}).to_string();
    let json = [("content-type", "application/json")];
    while !answers.over.load(Ordering::Relaxed) {
        let login = at
            .try_send("POST", "/login", &json, Some(&credentials))
            .await;
        let Some(login) = answers.is(200, "login", login) else {
            continue;
        };
        let bearer = format!("Bearer {}", login.json()["token"].as_str().unwrap());
        let headers = [("authorization", bearer.as_str())];
        for _ in 0..10 + dice.below(30) {
            let dashboard = at.try_send("GET", "/dashboard", &headers, None).await;
            answers.is(200, "dashboard", dashboard);
        }
        let logout = at.try_send("POST", "/logout", &headers, None).await;
        if answers.is(204, "logout", logout).is_some() {
            answers.logouts.fetch_add(1, Ordering::Relaxed);
            let after = at.try_send("GET", "/dashboard", &headers, None).await;
            let accepted = after.as_ref().is_ok_and(|it| it.status == 200);
            answers
                .accepted
                .fetch_add(usize::from(accepted), Ordering::Relaxed);
            answers.is(401, "dashboard after the logout", after);
        }
    }
}

/// Runs clients while `happens` does something to the deployment.
async fn beside(site: &mut Site, answers: &Answers, happens: impl AsyncFnOnce(&mut Site)) {
    let at = site.anyone();
    for number in 0..PEOPLE {
        let register = async || at.register(&format!("person{number}"), PASSWORD).await;
        assert!([201, 409].contains(&patiently(register).await.status));
    }
    let mut dice = Dice::new();
    let people = (0..PEOPLE).map(|number| visit(site.anyone(), number, answers, dice.split()));
    let people: Vec<_> = people.collect();
    let happening = async {
        happens(site).await;
        answers.over.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(people), happening);
}

#[tokio::test(flavor = "multi_thread")]
async fn i17_replicas_are_restarted_in_turn_twice_over_and_no_request_fails() {
    let redis = Redis::start().await;
    let mut site = Site::at(&redis.url()).await;
    let answers = Answers::default();
    let wanted = rounds(30_000, 100_000);
    beside(&mut site, &answers, async |site| {
        for _ in 0..2 {
            for number in 0..REPLICAS {
                assert!(site.replicas[number].stop().await.success());
                site.again(number).await;
            }
        }
        while answers.asked.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let failures = answers.failures();
    let (asked, logouts) = (answers.asked.into_inner(), answers.logouts.into_inner());
    assert!(
        failures.is_empty(),
        "{} of {asked}: {failures:#?}",
        failures.len()
    );
    println!("{logouts} logouts among them");
    report_zero(
        "requests that failed while replicas were restarted twice over",
        asked,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn i18_a_killed_replica_costs_what_was_in_flight_on_it_and_nothing_that_was_acknowledged() {
    let redis = Redis::start().await;
    let mut site = Site::at(&redis.url()).await;
    let answers = Answers::default();
    let kills = rounds(5, 20);
    let mut when = Vec::new();
    beside(&mut site, &answers, async |site| {
        for number in 0..kills {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let number = number % REPLICAS;
            when.push(Instant::now());
            site.replicas[number].signal(Signal::KILL);
            tokio::time::sleep(Duration::from_millis(2500)).await;
            site.again(number).await;
        }
    })
    .await;
    let failures = answers.failures();
    for (number, killed) in when.iter().enumerate() {
        let next = when.get(number + 1);
        let of = |time: &Instant| time >= killed && next.is_none_or(|next| time < next);
        let of: Vec<_> = failures.iter().filter(|(time, _)| of(time)).collect();
        let late = of
            .iter()
            .filter(|(time, _)| *time > *killed + Duration::from_secs(1));
        println!(
            "kill {}: {} failures, {} later than a second",
            number + 1,
            of.len(),
            late.clone().count()
        );
        assert_eq!(late.count(), 0, "{of:#?}");
        // At most one failure for each client, whose request was in flight.
        assert!(of.len() <= PEOPLE, "{of:#?}");
    }
    let asked = answers.asked.into_inner();
    assert_eq!(answers.accepted.into_inner(), 0);
    println!(
        "{} of {asked} requests failed by {kills} kills",
        failures.len()
    );
    report_zero(
        "tokens accepted after their logout",
        answers.logouts.into_inner(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_alone_is_cut_off_leaves_the_balancer_and_comes_back() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.addr()).await;
    let site = Site::over([proxy.url(), redis.url(), redis.url()]).await;
    assert_eq!(site.seen().await, REPLICAS);
    proxy.set(Weather {
        black_hole: true,
        ..Weather::default()
    });
    let cut = Instant::now();
    while site.ready(0).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let left = cut.elapsed();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(site.seen().await, REPLICAS - 1);
    let user = User::register_at(&site.anyone(), "alice").await;
    for _ in 0..30 {
        assert_eq!(site.anyone().dashboard(&user.token).await.status, 200);
    }
    proxy.set(Weather::default());
    let mended = Instant::now();
    while !site.ready(0).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let back = mended.elapsed();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(site.seen().await, REPLICAS);
    println!("it left after {left:.1?} and was ready {back:.1?} after it reached Redis again");
    assert!(
        left > Duration::from_secs(10),
        "a failover is shorter: {left:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_redis_gone_nobody_leaves_before_ten_seconds_and_all_come_back_without_a_restart() {
    let mut redis = Redis::start().await;
    let site = Site::at(&redis.url()).await;
    let user = User::register_at(&site.anyone(), "alice").await;
    redis.kill();
    let gone = Instant::now();
    while gone.elapsed() < Duration::from_secs(9) {
        for number in 0..REPLICAS {
            assert!(site.ready(number).await, "{:?}", gone.elapsed());
        }
        let answer = site.anyone().dashboard(&user.token).await;
        assert_eq!(answer.status, 503);
        assert_ne!(answer.header("x-served-by"), "", "by a replica");
    }
    while site.ready(0).await || site.ready(1).await || site.ready(2).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let left = gone.elapsed();
    redis.start_again().await;
    let back = Instant::now();
    for number in 0..REPLICAS {
        while !site.ready(number).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let ready = back.elapsed();
    println!(
        "all had left after {left:.1?} and were ready {ready:.1?} after Redis was back, of which 1.5 s are settling"
    );
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(site.anyone().dashboard(&user.token).await.status, 200);
    site.end().await;
}
