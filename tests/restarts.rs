//! The oracle of restarts: every acknowledged change is there after every kind of restart, for every way to run Redis that our
//! documentation describes, with the very files that we ship.
//!
//!
//! All replicas stop before Redis does, and new replicas start after it: a replica that went on would put back the entries that
//! it remembers, and hide the loss.

mod servers;
mod state;

use std::collections::BTreeMap;

use crate::harness::process::{PATIENCE, Process, folder};
use crate::harness::redis::Redis;
use crate::harness::shards::Shards;
use crate::harness::{PASSWORD, SECRET, User, patiently};

use self::servers::{Servers, Way};
use self::state::{Finding, State};

/// Kinds of restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `SIGTERM` to all servers.
    Terminated,
    /// `SIGKILL` to all servers.
    Killed,
    /// Power cut of all servers at once.
    PowerCut,
    /// Rewrite of the append-only file between two acknowledged changes, then `SIGTERM`.
    RewrittenBefore,
    /// `SIGTERM`, a rewrite as soon as the servers are back, and `SIGKILL`.
    RewrittenAfter,
    /// The primary dies, another server takes over, the first comes back, and takes over again.
    FailedOver,
}

async fn nothing_is_lost(way: Way) {
    let mut kinds = vec![
        Kind::Terminated,
        Kind::Killed,
        Kind::PowerCut,
        Kind::RewrittenBefore,
        Kind::RewrittenAfter,
    ];
    if way.has_failover() {
        kinds.push(Kind::FailedOver);
    }
    let mut servers = Servers::start(way).await;
    let mut lost = Vec::new();
    for kind in kinds {
        let files = folder();
        let settings = servers.settings();
        let mut replica = settings.replica(files.path()).await;
        let first = State::acknowledged(&replica, &settings, &format!("{kind:?}-1")).await;
        if kind == Kind::RewrittenBefore {
            servers.rewrite().await;
        }
        let second = State::acknowledged(&replica, &settings, &format!("{kind:?}-2")).await;
        let states = [first, second];
        assert!(replica.stop().await.success());
        match kind {
            Kind::Terminated | Kind::RewrittenBefore => servers.restart("-TERM").await,
            Kind::Killed => servers.restart("-KILL").await,
            Kind::PowerCut => servers.cut_power().await,
            Kind::RewrittenAfter => {
                servers.restart("-TERM").await;
                servers.rewrite().await;
                servers.restart("-KILL").await;
            }
            Kind::FailedOver => servers.fail_over_and_back().await,
        }
        let mut newcomer = settings.replica(files.path()).await;
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for state in states {
            for finding in state.compare(&newcomer, &settings).await {
                let Finding { what, .. } = &finding;
                let count = counts.entry(what).or_default();
                count.0 += 1;
                if !finding.is_kept() {
                    count.1 += 1;
                    lost.push(format!("{way:?}, {kind:?}: {finding}"));
                }
            }
        }
        for (what, (compared, lost)) in counts {
            println!("{way:?} | {kind:?} | {what} | {compared} compared | {lost} lost");
        }
        newcomer.stop().await;
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_with_our_configuration_and_users_loses_nothing() {
    nothing_is_lost(Way::One).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_of_compose_loses_nothing() {
    nothing_is_lost(Way::Compose).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_the_sentinel_overlay_lose_nothing() {
    nothing_is_lost(Way::Sentinel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_our_users_loses_nothing() {
    nothing_is_lost(Way::Cluster).await;
}

/// Redis' default for an append-only file that it cannot read completely.
const IGNORED: [&str; 2] = ["--propagation-error-behavior", "ignore"];

#[tokio::test(flavor = "multi_thread")]
async fn redis_as_configured_refuses_to_start_rather_than_leave_something_out() {
    let mut redis = Redis::start().await;
    let write = "redis.call('SET', KEYS[1], '1') redis.call('SET', KEYS[1], '2')";
    let () = redis.command(&["EVAL", write, "1", "key"]).await;
    let users = std::fs::read_to_string(redis.config_file()).unwrap();
    let without = users.replace("user default off ~* &* +@all", "user default off");
    std::fs::write(redis.config_file(), without).unwrap();
    redis.terminate();
    assert!(
        !redis.try_start().await,
        "it serves without what the script wrote"
    );
    std::fs::write(redis.config_file(), users).unwrap();
    redis.start_again().await;
    assert_eq!(redis.command::<String>(&["GET", "key"]).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgot_is_not_used_and_all_is_back_after_the_recovery_of_the_runbook() {
    let shipped = "user default off ~* &* +@all";
    // With the configuration that we ship, Redis would refuse to start, as the test above shows; operators may use another.
    let mut redis = Redis::with(&IGNORED).await;
    let users = std::fs::read_to_string(redis.config_file()).unwrap();
    assert!(users.contains(shipped));
    std::fs::write(
        redis.config_file(),
        users.replace(shipped, "user default off"),
    )
    .unwrap();
    redis.terminate();
    redis.start_again().await;

    let files = folder();
    let url = redis.url();
    let variables = [("REDIS_URL", url.as_str()), ("JWT_SECRET", SECRET)];
    // The replica warns as soon as it can see the problem, and serves: nothing is lost yet.
    let mut replica = Process::serve(files.path(), &variables).await;
    let warned = replica.event("redis_default_user").await;
    assert_eq!(warned["level"], "ERROR", "{warned}");
    let checked = check(files.path(), &variables).await;
    assert_eq!(checked.0, 69, "{checked:?}");
    assert!(
        checked
            .1
            .contains("FAILED: the user `default` may not write"),
        "{checked:?}"
    );
    let user = User::register_at(&replica.anonymous(), "alice").await;
    let other = User::log_in(&replica.anonymous(), "alice").await;
    let leaving = User::log_in(&replica.anonymous(), "alice").await;
    assert_eq!(replica.anonymous().logout(&other.token).await.status, 204);

    redis.terminate();
    redis.start_again().await;
    // One replica was running before, and one starts now.
    let newcomer = Process::listen(files.path(), &variables).await;
    for replica in [&replica, &newcomer] {
        replica.event("redis_lost_transactions").await;
        let ready = replica.probes().get("/readyz").await;
        assert_eq!(ready.status, 503, "{ready:?}");
        assert!(
            ready.body.contains("Redis forgets at a restart"),
            "{ready:?}"
        );
        let at = replica.anonymous();
        let answers = [
            at.dashboard(&user.token).await,
            at.login("alice", PASSWORD).await,
            at.register("bob", PASSWORD).await,
            at.refresh(&user.refresh_token).await,
            at.logout(&leaving.token).await,
        ];
        for answer in answers {
            assert_eq!(answer.status, 503, "{answer:?}");
        }
    }
    let checked = check(files.path(), &variables).await;
    assert_eq!(checked.0, 69, "{checked:?}");
    assert!(checked.1.contains("FAILED: Redis has lost"), "{checked:?}");

    // Stop Redis, correct the rights, start it: the file still has all data.
    redis.terminate();
    std::fs::write(redis.config_file(), &users).unwrap();
    redis.start_again().await;
    for replica in [&replica, &newcomer] {
        replica.ready().await;
        let at = replica.anonymous();
        let dashboard = async |of: &User| patiently(async || at.dashboard(&of.token).await).await;
        assert_eq!(dashboard(&user).await.status, 200);
        assert_eq!(dashboard(&other).await.status, 401);
    }
    assert_eq!(
        replica
            .anonymous()
            .refresh(&user.refresh_token)
            .await
            .status,
        200
    );
    let checked = check(files.path(), &variables).await;
    assert_eq!(checked.0, 0, "{checked:?}");
    assert!(replica.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_may_not_ask_for_the_rights_of_default_says_so() {
    let redis = Redis::start().await;
    let () = redis
        .command(&["ACL", "SETUSER", "portcullis", "-acl|dryrun"])
        .await;
    let files = folder();
    let url = redis.url();
    let variables = [("REDIS_URL", url.as_str()), ("JWT_SECRET", SECRET)];
    let replica = Process::serve(files.path(), &variables).await;
    let warned = replica.event("redis_default_user").await;
    assert_eq!(warned["level"], "WARN", "{warned}");
    let (code, said) = check(files.path(), &variables).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("WARNING: the rights of the user `default` are unknown"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_after_a_rewrite_is_found_out_too() {
    let mut redis = Redis::with(&IGNORED).await;
    let files = folder();
    let url = redis.url();
    let variables = [("REDIS_URL", url.as_str()), ("JWT_SECRET", SECRET)];
    let replica = Process::serve(files.path(), &variables).await;
    let scripted = ["GET", "portcullis:{feed}:canary:scripted"];
    let number = async |redis: &Redis| {
        let number: Option<u64> = redis.command(&scripted).await;
        number.unwrap_or(0)
    };
    while number(&redis).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // From here on the file begins with a snapshot that contains the canary.
    redis.rewrite().await;
    let before = number(&redis).await;
    while number(&redis).await == before {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let users = std::fs::read_to_string(redis.config_file()).unwrap();
    let without = users.replace("user default off ~* &* +@all", "user default off");
    std::fs::write(redis.config_file(), without).unwrap();
    redis.terminate();
    redis.start_again().await;
    replica.event("redis_lost_transactions").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_cut_within_a_transaction_stops_no_later_start_of_the_private_redis() {
    let files = folder();
    let secret = [("JWT_SECRET", SECRET)];
    let mut replica = Process::serve(files.path(), &secret).await;
    User::register_at(&replica.anonymous(), "alice").await;
    assert!(replica.stop().await.success());
    // As a power cut leaves it in the middle of a script's writes.
    let file = append_only_file(files.path()).unwrap();
    let mut text = std::fs::read(&file).unwrap();
    text.extend(b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$33\r\nportcullis:{feed}:canary:scri");
    std::fs::write(&file, text).unwrap();

    let mut replica = Process::serve(files.path(), &secret).await;
    User::register_at(&replica.anonymous(), "bob").await;
    let rewritten = async {
        while file.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let rewritten = tokio::time::timeout(PATIENCE, rewritten).await;
    assert!(rewritten.is_ok(), "the file is not rewritten");
    assert!(replica.stop().await.success());
    let mut replica = Process::serve(files.path(), &secret).await;
    for name in ["alice", "bob"] {
        User::log_in(&replica.anonymous(), name).await;
    }
    assert!(replica.stop().await.success());
}

/// Finds the file that the writes of a private Redis go to.
fn append_only_file(folder: &std::path::Path) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if let Some(file) = append_only_file(&path) {
                return Some(file);
            }
        } else if path.to_string_lossy().ends_with(".incr.aof") {
            return Some(path);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_starts_again_after_it_was_told_to_rewrite_its_configuration() {
    let mut redis = Redis::start().await;
    // Sentinels do that at every failover.
    let () = redis.command(&["CONFIG", "REWRITE"]).await;
    redis.terminate();
    redis.start_again().await;
    let users: Vec<String> = redis.command(&["ACL", "USERS"]).await;
    assert_eq!(users.len(), 5, "{users:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_while_a_cluster_is_being_joined_serves_once_it_is() {
    let shards = Shards::apart(&[], &[]).await;
    let (url, files) = (shards.url(), folder());
    let variables = [("REDIS_URL", url.as_str()), ("JWT_SECRET", SECRET)];
    let early = Process::listen(files.path(), &variables).await;
    // The replica has queried servers that know no others, and repeats that while they are joined.
    early.event("feed").await;
    shards.join().await;
    early.ready().await;
    for number in 0..12 {
        User::register_at(&early.anonymous(), &format!("user{number}")).await;
    }
}

/// Exit code and output of `portcullis check`.
async fn check(folder: &std::path::Path, variables: &[(&str, &str)]) -> (i32, String) {
    let mut program = crate::harness::process::program(folder, variables);
    let output = program.arg("check").output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code().unwrap(), text)
}
