//! Power cuts: every acknowledged operation survives them if Redis is set up as the documentation tells operators to.
//!
//! Killing a server proves nothing about this: the data that it has written stays in the system's cache and is read back. So
//! the test cuts each file to the length that it had when it was last written out (`power_cut.c` notes that length), before
//! it starts the server again. The test stops the replicas as well: they would put back the revocations that they remember,
//! and so hide the loss.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;

use crate::harness::power::Disk;
use crate::harness::{
    Anonymous, Answer, Dice, PASSWORD, Redis, Replica, config, patiently, report_zero, rounds,
};

/// Users who register, log in and log out until the power goes.
const PEOPLE: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_loses_nothing_acknowledged_with_appendfsync_always_and_something_with_everysec()
 {
    let disk = Disk::new();
    let mut dice = Dice::new();
    let (mut registrations, mut logouts) = (0, 0);
    for _ in 0..rounds(3, 10) {
        let cut = PowerCut::with("always", &disk, &mut dice).await;
        assert!(
            cut.registered > 0 && cut.ended > 0,
            "nothing was acknowledged, so this shows nothing: {cut:?}"
        );
        assert_eq!((cut.registered_lost, cut.ended_lost), (0, 0), "{cut:?}");
        registrations += cut.registered;
        logouts += cut.ended;
    }
    report_zero("registrations lost by power cuts", registrations);
    report_zero("logouts lost by power cuts", logouts);
    for _ in 0..10 {
        let cut = PowerCut::with("everysec", &disk, &mut dice).await;
        println!("with everysec: {cut:?}");
        if cut.registered_lost > 0 && cut.ended_lost > 0 {
            return;
        }
    }
    panic!("ten power cuts with everysec lost nothing: this test would not notice a loss");
}

/// Acknowledged operations before a power cut, and how many of them were lost.
#[derive(Debug)]
struct PowerCut {
    registered: usize,
    registered_lost: usize,
    /// Sessions whose revocation was acknowledged.
    ended: usize,
    ended_lost: usize,
    #[expect(dead_code, reason = "printed")]
    bytes_lost: u64,
}

impl PowerCut {
    /// Cuts the power under load, at a random moment, and counts what is left.
    async fn with(appendfsync: &str, disk: &Disk, dice: &mut Dice) -> Self {
        disk.forget();
        let variables = disk.variables();
        let variables = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let variables: Vec<_> = variables.collect();
        let options = ["--appendonly", "yes", "--appendfsync", appendfsync];
        let mut redis = Redis::under(&variables, &options).await;
        let (one, two) = (replica(&redis, false).await, replica(&redis, false).await);
        let dark = AtomicBool::new(false);
        let people = (0..PEOPLE).map(|number| live([&one, &two][number % 2], number, &dark));
        let moment = dice.millis(1000, 3000);
        let cutting = async {
            tokio::time::sleep(moment).await;
            redis.kill();
            dark.store(true, Ordering::Relaxed);
        };
        let (acknowledged, ()) = tokio::join!(join_all(people), cutting);
        one.stop().await;
        two.stop().await;
        let bytes_lost = disk.cut(redis.folder());

        redis.start_again().await;
        let newcomer = replica(&redis, true).await;
        let (mut registered, mut ended) = (Vec::new(), Vec::new());
        for person in acknowledged {
            registered.extend(person.registered);
            ended.extend(person.ended);
        }
        let at = newcomer.anonymous();
        let (mut registered_lost, mut ended_lost) = (0, 0);
        for names in registered.chunks(PEOPLE) {
            let logins = names
                .iter()
                .map(|name| patiently(async || at.login(name, PASSWORD).await));
            registered_lost += count(&join_all(logins).await, [200, 401]);
        }
        for tokens in ended.chunks(PEOPLE) {
            let checks = tokens
                .iter()
                .map(|token| patiently(async || at.dashboard(token).await));
            ended_lost += count(&join_all(checks).await, [401, 200]);
        }
        newcomer.stop().await;
        Self {
            registered: registered.len(),
            registered_lost,
            ended: ended.len(),
            ended_lost,
            bytes_lost,
        }
    }
}

/// Counts the lost operations; panics at any status other than these two.
fn count(answers: &[Answer], [kept, lost]: [u16; 2]) -> usize {
    for answer in answers {
        assert!([kept, lost].contains(&answer.status), "{answer:?}");
    }
    answers.iter().filter(|it| it.status == lost).count()
}

/// Starts a replica and waits until it is ready. A single replica trusts the feed that it finds at once: no other replica is
/// left that could put entries back.
async fn replica(redis: &Redis, alone: bool) -> Replica {
    let mut config = config(&redis.url());
    config.revocation.alone = alone;
    // After the power cut every request fails, so logs would be noise.
    "off".clone_into(&mut config.telemetry.filter);
    let replica = Replica::start(config).await;
    replica.ready().await;
    replica
}

/// Operations that the service acknowledged to one user.
#[derive(Default)]
struct Acknowledged {
    /// Names.
    registered: Vec<String>,
    /// Tokens of revoked sessions.
    ended: Vec<String>,
}

/// Registers, logs in twice, and logs out, from one session or from all, again and again until the power cut.
async fn live(replica: &Replica, number: usize, dark: &AtomicBool) -> Acknowledged {
    let (at, mut told) = (replica.anonymous(), Acknowledged::default());
    for life in 0.. {
        let name = format!("user-{number}-{life}");
        // The power cut comes at any moment. After it no client gets an answer, and an operation without an answer may or may
        // not have happened.
        if dark.load(Ordering::Relaxed) {
            break;
        }
        if at.register(&name, PASSWORD).await.status != 201 {
            continue;
        }
        told.registered.push(name.clone());
        let (Some(first), Some(second)) = (log_in(&at, &name).await, log_in(&at, &name).await)
        else {
            continue;
        };
        if life % 3 == 0 {
            if at.logout_everywhere(&first).await.status == 204 {
                told.ended.extend([first, second]);
            }
        } else if at.logout(&first).await.status == 204 {
            told.ended.push(first);
        }
    }
    told
}

async fn log_in(at: &Anonymous, name: &str) -> Option<String> {
    let answer = at.login(name, PASSWORD).await;
    (answer.status == 200).then(|| answer.json()["token"].as_str().unwrap().to_owned())
}
