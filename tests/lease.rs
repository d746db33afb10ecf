//! Replaced primaries that do not know of their replacement: a replica without a lease accepts stale answers from them, and
//! one with a lease does not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use portcullis::domain::{Timestamp, Username};
use portcullis::store::{Entry, SessionEntry};

use crate::harness::follower::{Light, store_of};
use crate::harness::mint::opened;
use crate::harness::sentinel::Watched;
use crate::harness::{Redis, Replica, User, acknowledged, patiently, report_zero, rounds};

/// Queries in the socket of a paused primary.
const QUESTIONS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn i7_rule_8_a_resumed_primary_is_believed_without_a_lease_and_by_its_lag_and_not_with_one() {
    let (mut believed, mut lag_passes, mut checks) = (0, 0, 0);
    for _ in 0..rounds(1, 5) {
        let watched = Watched::start().await;
        let old = watched.primary().await;
        let proxy = watched.proxies[old].url();
        let with_lease = Replica::serve(acknowledged(&watched.url(), 1)).await;
        let without = Replica::serve(acknowledged(&proxy, 0)).await;
        let user = User::register(&with_lease, "alice").await;
        assert_eq!(user.dashboard_at(&without).await, 200);
        let questions = QuestionsInSocket::prepare(&watched.servers[old]).await;

        watched.servers[old].pause();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let questions = questions.ask();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_ne!(watched.primary().await, old, "it was not replaced");
        let user_at = user.at.towards(&with_lease);
        let out = patiently(async || user_at.logout(&user.token).await).await;
        assert_eq!(out.status, 204);
        watched.servers[old].resume();

        let naive_at = user.at.towards(&without);
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            let (strict, naive) = tokio::join!(
                user_at.dashboard(&user.token),
                naive_at.dashboard_once(&user.token)
            );
            checks += 1;
            assert!([401, 503].contains(&strict.status), "{strict:?}");
            believed += usize::from(naive == Some(200));
        }
        lag_passes += questions.await;
    }
    println!(
        "{believed} of {checks} checks without a lease accepted a token that was logged out; of {QUESTIONS} questions in the \
         socket of the resumed primary {lag_passes} show replicas without lag"
    );
    assert!(believed > 0, "without a lease it should be believed");
    assert!(lag_passes > 0, "its lag should look good");
    report_zero("accepted from a resumed primary with a lease", checks);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_9_a_newcomer_does_not_count_while_another_may_hold_a_lease_on_the_old_primary() {
    for _ in 0..rounds(1, 5) {
        let Trio {
            first,
            promoted,
            hesitant,
        } = Trio::start().await;
        let settled = Replica::serve(acknowledged(&first.url(), 1)).await;
        let user = User::register(&settled, "alice").await;
        tokio::time::sleep(Duration::from_millis(300)).await;

        // One of the servers does not learn of the failover, and goes on acknowledging the old primary.
        let () = promoted.command(&["REPLICAOF", "NO", "ONE"]).await;
        let newcomer = Replica::start(acknowledged(&promoted.url(), 1)).await;
        let (enough, started) = (AtomicBool::new(false), Instant::now());
        let accepted = async |replica: &Replica| {
            let (at, mut seen) = (user.at.towards(replica), Vec::new());
            while !enough.load(Ordering::Relaxed) {
                if at.dashboard_once(&user.token).await == Some(200) {
                    seen.push(started.elapsed());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            seen
        };
        let story = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            follow(&hesitant, &promoted).await;
            let moved = started.elapsed();
            tokio::time::sleep(Duration::from_secs(7)).await;
            enough.store(true, Ordering::Relaxed);
            moved
        };
        let (old, new, moved) = tokio::join!(accepted(&settled), accepted(&newcomer), story);
        let (last, first) = (*old.last().unwrap(), *new.first().expect("it never counts"));
        println!(
            "the other replica moved after {moved:.1?}; the old primary was believed until {last:.1?}, the new one from {first:.1?} on"
        );
        assert!(last > moved, "the old lease should outlive the failover");
        assert!(
            last < first,
            "both primaries were believed at the same time"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_8_a_logout_at_the_new_primary_waits_for_leases_on_the_old_one() {
    let (mut too_late, mut longest) = (0, Duration::ZERO);
    let rounds = rounds(3, 20);
    for _ in 0..rounds {
        let Trio {
            first,
            promoted,
            hesitant,
        } = Trio::start().await;
        let believer = Replica::serve(acknowledged(&first.url(), 1)).await;
        let user = User::register(&believer, "alice").await;
        let entries = [session_entry(&user)];
        let store = store_of(&acknowledged(&promoted.url(), 1));

        // The failover is complete at once; only the old primary and the replica that holds a lease on it do not know.
        let () = promoted.command(&["REPLICAOF", "NO", "ONE"]).await;
        follow(&hesitant, &promoted).await;
        linked(&hesitant).await;
        let appended = async {
            loop {
                if let Ok(wait) = store.append(&entries).await {
                    return (Instant::now(), wait);
                }
            }
        };
        let ((appended, wait), mut last) = (appended.await, None);
        let at = user.at.towards(&believer);
        while appended.elapsed() < wait + Duration::from_millis(500) {
            let asked = appended.elapsed();
            if at.dashboard_once(&user.token).await == Some(200) {
                last = Some(asked);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let last = last.expect("the lease should outlive the failover");
        println!(
            "the old primary was believed until {last:.2?} after the append, which waits {wait:?}"
        );
        too_late += usize::from(last > wait);
        longest = longest.max(last);
    }
    assert_eq!(too_late, 0, "of {rounds}");
    report_zero("logouts that a lease on the old primary outlived", rounds);
    assert!(
        longest > Duration::from_secs(1),
        "the greatest window alone would have done: {longest:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_followers_that_reconnect_at_once_miss_no_deadline() {
    let redis = Redis::start().await;
    let followers: Vec<_> = (0..100).map(|_| Light::follow(&redis.url())).collect();
    join_all(followers.iter().map(Light::fresh)).await;
    let sid = portcullis::domain::SessionId::random();
    let (mut answers, mut missed) = (0, 0);
    for _ in 0..rounds(2, 10) {
        let _: u64 = redis
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await;
        let asked = join_all(followers.iter().map(|it| it.refuses(sid))).await;
        answers += asked.len();
        missed += asked.iter().filter(|answer| answer.is_none()).count();
    }
    assert_eq!(missed, 0, "of {answers}");
    report_zero(
        "checks that missed their deadline after 100 followers were cut off",
        answers,
    );
    // Ten seconds after the last request every follower reads once a second.
    let cpu = async || {
        let info: String = redis.command(&["INFO", "cpu"]).await;
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().parse::<f64>().unwrap()
        };
        field("used_cpu_sys:") + field("used_cpu_user:")
    };
    let (busy_before, started) = (cpu().await, Instant::now());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let busy = (cpu().await - busy_before) / started.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(8)).await;
    let (idle_before, started) = (cpu().await, Instant::now());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = (cpu().await - idle_before) / started.elapsed().as_secs_f64();
    println!(
        "Redis with 100 followers: {busy:.3} of a core after a reconnection, {idle:.3} when idle"
    );
    assert!(idle < busy / 2.0 && idle < 0.25, "{idle} after {busy}");
}

/// Replication options: a sync starts at once, and the primary pings its replicas every second.
const REPLICATION: [&str; 8] = [
    "--masteruser",
    "replica",
    "--masterauth",
    crate::harness::REDIS_PASSWORD,
    "--repl-diskless-sync-delay",
    "0",
    "--repl-ping-replica-period",
    "1",
];

/// Primary and its two replicas, one of which is to be promoted.
struct Trio {
    first: Redis,
    promoted: Redis,
    hesitant: Redis,
}

impl Trio {
    async fn start() -> Self {
        let first = Redis::on(crate::harness::free_port(), &REPLICATION).await;
        let port = first.addr().port().to_string();
        let mut options = REPLICATION.to_vec();
        options.extend(["--replicaof", "127.0.0.1", &port]);
        let promoted = Redis::on(crate::harness::free_port(), &options).await;
        let hesitant = Redis::on(crate::harness::free_port(), &options).await;
        for server in [&promoted, &hesitant] {
            linked(server).await;
        }
        Self {
            first,
            promoted,
            hesitant,
        }
    }
}

async fn follow(server: &Redis, primary: &Redis) {
    let port = primary.addr().port().to_string();
    let () = server.command(&["REPLICAOF", "127.0.0.1", &port]).await;
}

/// Creates the feed entry that revokes the session of a user.
fn session_entry(user: &User) -> Entry {
    let (_, claims) = opened(&user.token);
    Entry::Session(SessionEntry {
        tag: user.name.parse::<Username>().unwrap().tag(),
        sid: claims["sid"].as_str().unwrap().parse().unwrap(),
        until: Timestamp::from_secs(claims["exp"].as_u64().unwrap() + 600),
    })
}

async fn linked(server: &Redis) {
    for _ in 0..300 {
        let info: String = server.command(&["INFO", "replication"]).await;
        if info.contains("master_link_status:up") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a replica does not find its primary");
}

/// Connections that are opened before the server is paused.
struct QuestionsInSocket(Vec<redis::aio::MultiplexedConnection>);

impl QuestionsInSocket {
    async fn prepare(server: &Redis) -> Self {
        let client = redis::Client::open(server.admin_url()).unwrap();
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let mut connections = Vec::new();
        for _ in 0..QUESTIONS {
            let opened = client.get_multiplexed_async_connection_with_config(&config);
            connections.push(opened.await.unwrap());
        }
        Self(connections)
    }

    /// Sends the queries at once. Resolves with the number of answers that show a primary whose replicas lag by at most a
    /// second.
    fn ask(self) -> impl Future<Output = usize> {
        let asked = self.0.into_iter().map(|mut connection| {
            tokio::spawn(async move {
                let mut ask = redis::cmd("INFO");
                ask.arg("replication");
                let info: String = ask.query_async(&mut connection).await.unwrap();
                let fine = |line: &str| {
                    line.starts_with("slave")
                        && line.contains("state=online")
                        && (line.ends_with("lag=0") || line.ends_with("lag=1"))
                };
                info.contains("role:master") && info.lines().any(|line| fine(line.trim()))
            })
        });
        let asked: Vec<_> = asked.collect();
        async move {
            let answers = join_all(asked).await.into_iter();
            answers.filter(|passes| *passes.as_ref().unwrap()).count()
        }
    }
}
