//! Feed under faults: windows of every length, slow networks, lost data, half-done revocations, a full Redis.

use std::sync::Arc;
use std::time::Duration;

use portcullis::domain::{SessionId, UserId};
use portcullis::store::Entry;

use crate::harness::follower::{Light, claims, entry, revoke_many};
use crate::harness::mint::opened;
use crate::harness::{
    Answer, Cluster, Proxy, Redis, Replica, User, Weather, config, report_zero, rounds,
};

const W0: Duration = Duration::ZERO;

/// Logs out this number of times, and checks each token on all replicas at once when the logout has answered. Returns the
/// number of checks that were not answered with a refusal.
async fn accepted_after_logout(replicas: &[Replica], logouts: usize) -> usize {
    let mut accepted = 0;
    for batch in 0..logouts.div_ceil(20) {
        let one = async |number: usize| {
            let at = |shift: usize| &replicas[(number / 7 + number + shift) % replicas.len()];
            let user = User::log_in(&at(0).anonymous(), "alice").await;
            assert_eq!(
                user.dashboard_at(at(1)).await,
                200,
                "good before its logout"
            );
            assert_eq!(user.log_out_at(at(2)).await, 204);
            let checks = replicas.iter().map(|replica| user.dashboard_at(replica));
            let answers = futures_util::future::join_all(checks).await;
            answers.into_iter().filter(|&status| status != 401).count()
        };
        let batch = (0..20).map(|number| one(batch * 20 + number));
        accepted += futures_util::future::join_all(batch)
            .await
            .into_iter()
            .sum::<usize>();
    }
    accepted
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_1_a_window_of_zero_and_one_of_250_ms_keep_the_same_promise() {
    for window in [W0, Duration::from_millis(250)] {
        let cluster = Cluster::with(3, |_, config| config.revocation.window = window).await;
        cluster.user("alice").await;
        let logouts = rounds(200, 10_000);
        assert_eq!(accepted_after_logout(&cluster.replicas, logouts).await, 0);
        report_zero(
            &format!("accepted after logout, window {window:?}"),
            logouts * 3,
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_3_a_rolling_change_of_the_window_keeps_the_promise() {
    let mut cluster = Cluster::with(3, |_, config| config.revocation.window = W0).await;
    cluster.user("alice").await;
    let mut checks = 0;
    for (number, millis) in [300, 0, 120].into_iter().enumerate() {
        let mut config = config(&cluster.redis.url());
        config.revocation.window = Duration::from_millis(millis);
        let replica = Replica::start(config).await;
        replica.ready().await;
        cluster.replicas.push(replica);
        cluster.replicas.remove(number % 2).stop().await;
        let logouts = rounds(60, 3000);
        assert_eq!(accepted_after_logout(&cluster.replicas, logouts).await, 0);
        checks += logouts * cluster.replicas.len();
    }
    report_zero("accepted after logout while the window changed", checks);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_3_a_window_whose_announcement_was_lost_is_waited_for_all_the_same() {
    let mut cluster = Cluster::with(2, |number, config| {
        config.revocation.window = Duration::from_millis([50, 1000][number]);
    })
    .await;
    cluster.redis.command::<()>(&["FLUSHALL"]).await;
    // One second until every replica has noticed the loss, and three to settle.
    tokio::time::sleep(Duration::from_millis(4500)).await;
    // A new replica announces a short window, and the feed has forgotten the long one.
    let newcomer = Replica::start(config(&cluster.redis.url())).await;
    newcomer.ready().await;
    cluster.replicas.push(newcomer);
    cluster.user("alice").await;
    let logouts = rounds(40, 400);
    let accepted = accepted_after_logout(&cluster.replicas, logouts).await;
    assert_eq!(accepted, 0);
    report_zero(
        "accepted after logout once announcements were lost",
        logouts * 3,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_1_a_network_slower_than_the_window_makes_requests_wait_and_never_fail() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.addr()).await;
    let mut replicas = vec![Replica::start(config(&redis.url())).await];
    for _ in 0..2 {
        replicas.push(Replica::start(config(&proxy.url())).await);
    }
    for replica in &replicas {
        replica.ready().await;
    }
    User::register(&replicas[0], "alice").await;
    proxy.set(Weather {
        delay: Duration::from_millis(100),
        ..Weather::default()
    });
    let logouts = rounds(60, 1000);
    let mut accepted = 0;
    for _ in 0..logouts {
        let user = User::log_in(&replicas[0].anonymous(), "alice").await;
        for replica in &replicas {
            assert_eq!(
                user.dashboard_at(replica).await,
                200,
                "every request is answered"
            );
        }
        assert_eq!(user.at.logout(&user.token).await.status, 204);
        let checks = replicas.iter().map(|replica| user.dashboard_at(replica));
        let answers = futures_util::future::join_all(checks).await;
        accepted += answers.into_iter().filter(|&status| status != 401).count();
    }
    assert_eq!(accepted, 0);
    report_zero(
        "accepted after logout through a network slower than the window",
        logouts * 3,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_13_connections_that_are_cut_under_way_let_no_revoked_token_through() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.addr()).await;
    let replicas = [
        Replica::start(config(&redis.url())).await,
        Replica::start(config(&proxy.url())).await,
    ];
    for replica in &replicas {
        replica.ready().await;
    }
    User::register(&replicas[0], "alice").await;
    let logouts = rounds(100, 2000);
    let mut unanswered = 0;
    for _ in 0..logouts {
        let user = User::log_in(&replicas[0].anonymous(), "alice").await;
        let cutting = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            proxy.cut();
        };
        let (logout, ()) = tokio::join!(user.at.logout(&user.token), cutting);
        assert_eq!(logout.status, 204);
        match user.dashboard_at(&replicas[1]).await {
            401 => {}
            503 => unanswered += 1,
            other => panic!("{other} after the logout answered"),
        }
    }
    println!("{unanswered} of {logouts} checks were answered 503");
    report_zero(
        "accepted after logout over connections that are cut",
        logouts,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_and_7_what_a_flush_has_lost_is_put_back_by_twenty_replicas_without_a_stampede() {
    let redis = Redis::start().await;
    let followers: Vec<_> = (0..20).map(|_| Light::follow(&redis.url())).collect();
    for follower in &followers {
        follower.fresh().await;
    }
    let lost = rounds(5_000, 100_000);
    let revoked = revoke_many(&followers[0].store, lost).await;
    for follower in &followers {
        follower.knows(lost).await;
    }
    redis.command::<()>(&["FLUSHALL"]).await;
    // One append right after the flush: the last ID has not gone backwards, so only the count shows the loss.
    let after = entry(Duration::from_mins(30));
    let entries = [Entry::Session(after)];
    let window = followers[3].store.append(&entries).await.unwrap();
    tokio::time::sleep(window).await;

    for sid in revoked.iter().chain([&after.sid]) {
        let answer = followers[0].refuses(*sid).await;
        assert_ne!(answer, Some(false), "a revoked token became valid again");
        if answer.is_none() {
            followers[0].fresh().await;
        }
    }
    for follower in &followers {
        follower.fresh().await;
    }
    let length: usize = redis
        .command(&["XLEN", "portcullis:{feed}:revocations"])
        .await;
    assert!(
        length > lost && length <= 2 * (lost + 1),
        "{length} entries where {lost} were lost"
    );
    let newcomer = Light::follow(&redis.url());
    newcomer.fresh().await;
    for sid in &revoked {
        assert_eq!(newcomer.refuses(*sid).await, Some(true));
    }
    let reappended: u64 = followers
        .iter()
        .map(|follower| follower.revocations.reappended())
        .sum();
    println!("{lost} lost, {reappended} put back by 20 replicas, feed has {length}");
    report_zero("revoked sessions that a newcomer does not know", lost);
}

/// Returns how long the present history settles, as the first replica that saw it has recorded.
async fn settling(redis: &Redis) -> Duration {
    let ask = "local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        return {redis.call('GET', KEYS[1]) or '', redis.call('INFO', 'server'), now}";
    loop {
        let (settled, server, now): (String, String, u64) = redis
            .command(&["EVAL", ask, "1", "portcullis:{feed}:stable_since"])
            .await;
        let (history, from) = settled.split_once(' ').unwrap_or_default();
        let run = history.split(':').next().unwrap();
        if !run.is_empty() && server.contains(run) {
            return Duration::from_millis(from.parse::<u64>().unwrap().saturating_sub(now));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_9_a_history_settles_for_less_time_where_a_restart_has_cut_everybody_off() {
    let short = Duration::from_secs(1)..=Duration::from_millis(1500);
    let long = Duration::from_millis(2500)..=Duration::from_secs(3);
    for persistent in ["yes", "no"] {
        let mut redis = Redis::with(&["--appendonly", persistent]).await;
        let follower = Light::follow(&redis.url());
        follower.fresh().await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        redis.command::<()>(&["FLUSHALL"]).await;
        let flushed = settling(&redis).await;
        follower.fresh().await;
        redis.kill();
        redis.start_again().await;
        let restarted = settling(&redis).await;
        println!("flushed: {flushed:.1?}, restarted (appendonly {persistent}): {restarted:.1?}");
        assert!(long.contains(&flushed), "{flushed:?}");
        assert!(short.contains(&restarted), "{restarted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_7_what_each_of_many_replicas_alone_knows_is_put_back_before_the_settling_ends() {
    let redis = Redis::start().await;
    let followers: Vec<_> = (0..12).map(|_| Light::follow(&redis.url())).collect();
    for follower in &followers {
        follower.fresh().await;
    }
    // No client asks, so no replica reads more often than once a second: the others do not know yet what one of them appends
    // at once.
    for follower in &followers {
        follower.store.append(&[]).await.unwrap();
    }
    let users: Vec<_> = followers
        .iter()
        .map(|_| (UserId::new(), SessionId::random()))
        .collect();
    let logouts = followers.iter().zip(&users).map(|(follower, (user, sid))| {
        let claims = claims("alice", *user, *sid);
        async move {
            follower
                .revocations
                .revoke_session(&claims, Duration::from_hours(1))
                .await
        }
    });
    for logout in futures_util::future::join_all(logouts).await {
        logout.unwrap();
    }
    redis.command::<()>(&["FLUSHALL"]).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // The first follower that is fresh again must know all the revocations already.
    let first = followers.iter().map(|follower| Box::pin(follower.fresh()));
    let ((), first, _) = futures_util::future::select_all(first).await;
    for (_, sid) in &users {
        assert_eq!(followers[first].refuses(*sid).await, Some(true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_5_an_entry_lives_longer_than_every_token_that_it_refuses() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let newer = user.at.refresh(&user.refresh_token).await.json();
    let newer = newer["token"].as_str().unwrap();
    // The older token logs out, and the newer token lives for longer.
    assert_eq!(user.at.logout(&user.token).await.status, 204);
    let everywhere = User::log_in(&user.at, "alice").await;
    let all = user.at.logout_everywhere(&everywhere.token).await;
    assert_eq!(all.status, 204);

    let expires = |token: &str| opened(token).1["exp"].as_u64().unwrap();
    assert!(expires(newer) > expires(&user.token));
    let feed = ["XRANGE", "portcullis:{feed}:revocations", "-", "+"];
    let entries: Vec<(String, Vec<(String, String)>)> = cluster.redis.command(&feed).await;
    let entries: Vec<_> = entries
        .iter()
        .map(|(_, fields)| fields[0].1.as_str())
        .collect();
    let until = |entry: &str| entry.rsplit(':').next().unwrap().parse::<u64>().unwrap() / 1000;
    let [session, account] = &entries[..] else {
        panic!("{entries:?}");
    };
    assert!(session.starts_with("s:") && account.starts_with("u:"));
    // Leeway of verification, and two minutes.
    let margin = 125;
    assert!(until(session) >= expires(newer) + margin, "{entries:?}");
    // A token may live for a day at most, whatever the setting is now.
    let day = expires(&everywhere.token) - 3600 + 24 * 3600;
    assert!(until(account) >= day + margin, "{entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_a_feed_deleted_by_hand_is_found_out_and_put_back() {
    let redis = Redis::start().await;
    let follower = Light::follow(&redis.url());
    follower.fresh().await;
    let revoked = revoke_many(&follower.store, 100).await;
    follower.knows(revoked.len()).await;
    redis
        .command::<()>(&["DEL", "portcullis:{feed}:revocations"])
        .await;
    // A new follower that knows nothing must not become fresh sooner than those that know the revocations.
    let newcomer = Light::follow(&redis.url());
    newcomer.fresh().await;
    for sid in &revoked {
        assert_eq!(newcomer.refuses(*sid).await, Some(true));
    }
    report_zero("revocations lost by a deleted key", revoked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_rule_6_and_9_an_empty_restart_is_found_out_and_what_is_known_is_put_back() {
    let mut redis = Redis::with(&["--appendonly", "no"]).await;
    let followers: Vec<_> = (0..3).map(|_| Light::follow(&redis.url())).collect();
    for follower in &followers {
        follower.fresh().await;
    }
    let revoked = revoke_many(&followers[0].store, 500).await;
    for follower in &followers {
        follower.knows(revoked.len()).await;
    }
    redis.kill();
    redis.start_again().await;
    let newcomer = Light::follow(&redis.url());
    newcomer.fresh().await;
    for sid in &revoked {
        assert_eq!(newcomer.refuses(*sid).await, Some(true));
    }
    report_zero("revocations lost by an empty restart", revoked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn c14_a_script_flush_costs_no_answer() {
    let cluster = Cluster::of(2).await;
    cluster.user("alice").await;
    for _ in 0..10 {
        cluster.redis.command::<()>(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(accepted_after_logout(&cluster.replicas, 20).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_rule_6_and_7_a_truncated_append_only_file_loses_no_revocation_that_a_replica_knows() {
    let mut redis = Redis::start().await;
    let follower = Light::follow(&redis.url());
    follower.fresh().await;
    let revoked = revoke_many(&follower.store, 200).await;
    follower.knows(revoked.len()).await;
    redis.kill();
    let file = std::fs::read_dir(redis.folder().join("appendonlydir"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with(".incr.aof"))
        .unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    redis.start_again().await;
    let newcomer = Light::follow(&redis.url());
    newcomer.fresh().await;
    for sid in &revoked {
        assert_eq!(newcomer.refuses(*sid).await, Some(true));
    }
    assert!(
        follower.revocations.reappended() > 0,
        "something was lost, or this shows nothing"
    );
}

/// Half-done logout, from one session or from everywhere: the network swallows the append after the user's script has run.
struct HalfDone {
    redis: Redis,
    proxy: Proxy,
    /// Connected through the proxy.
    slow: Replica,
    /// Connected directly.
    other: Replica,
    user: User,
}

impl HalfDone {
    async fn new() -> Self {
        Self::of(async |user| user.at.logout(&user.token).await).await
    }

    async fn of(logout: impl AsyncFn(&User) -> Answer) -> Self {
        let redis = Redis::start().await;
        let proxy = Proxy::to(redis.addr()).await;
        let slow = Replica::start(config(&proxy.url())).await;
        let other = Replica::start(config(&redis.url())).await;
        slow.ready().await;
        other.ready().await;
        let user = User::register(&slow, "alice").await;
        // Keys that only an append names.
        proxy.set(Weather {
            swallow: vec!["{feed}:windows", "{feed}:stable_since"],
            ..Weather::default()
        });
        let answer = logout(&user).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "unavailable")
        );
        assert_eq!(
            user.dashboard_at(&slow).await,
            401,
            "the replica that was asked refuses from then on"
        );
        assert_eq!(
            user.dashboard_at(&other).await,
            200,
            "the others have not heard; nothing was acknowledged"
        );
        Self {
            redis,
            proxy,
            slow,
            other,
            user,
        }
    }

    async fn eventually_refused_elsewhere(&self) {
        for _ in 0..500 {
            if self.user.dashboard_at(&self.other).await == 401 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the other replica goes on accepting the token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_4_a_half_done_logout_is_completed_by_its_retry() {
    let half = HalfDone::new().await;
    half.proxy.set(Weather::default());
    assert_eq!(half.user.at.logout(&half.user.token).await.status, 204);
    assert_eq!(half.user.dashboard_at(&half.other).await, 401);
    assert_eq!(
        half.user.at.logout(&half.user.token).await.status,
        204,
        "and once more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_4_a_half_done_logout_is_completed_by_the_background() {
    let half = HalfDone::new().await;
    half.proxy.set(Weather::default());
    half.eventually_refused_elsewhere().await;
    let outboxes: Vec<String> = half.redis.command(&["KEYS", "portcullis:outbox:*"]).await;
    assert!(outboxes.is_empty(), "{outboxes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_4_a_half_done_logout_is_completed_by_the_next_verb_on_that_user() {
    let half = HalfDone::new().await;
    // The replica that failed never comes back.
    half.proxy.set(Weather {
        refuse: true,
        black_hole: true,
        ..Weather::default()
    });
    half.proxy.cut();
    let again = User::log_in(&half.other.anonymous(), "alice").await;
    assert_eq!(
        half.user.dashboard_at(&half.other).await,
        401,
        "the login has appended what it found"
    );
    assert_eq!(again.dashboard_at(&half.other).await, 200);
    drop(half.slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_4_a_logout_that_never_reached_redis_is_carried_on_by_the_background() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.addr()).await;
    let cut_off = Replica::start(config(&proxy.url())).await;
    let other = Replica::start(config(&redis.url())).await;
    cut_off.ready().await;
    other.ready().await;
    let user = User::register(&cut_off, "alice").await;
    proxy.set(Weather {
        black_hole: true,
        ..Weather::default()
    });
    assert_eq!(user.at.logout(&user.token).await.status, 503);
    assert_eq!(
        user.dashboard_at(&other).await,
        200,
        "nothing was acknowledged"
    );
    proxy.set(Weather::default());
    proxy.cut();
    for _ in 0..1000 {
        if user.dashboard_at(&other).await == 401 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the other replica goes on accepting the token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_said_a_thousand_times_leaves_an_entry_a_replica() {
    let cluster = Cluster::of(2).await;
    let user = cluster.user("alice").await;
    for _ in 0..10 {
        let logouts = (0..100).map(|number| user.log_out_at(&cluster.replicas[number % 2]));
        let answers = futures_util::future::join_all(logouts).await;
        assert!(answers.iter().all(|&status| status == 204), "{answers:?}");
    }
    let length: usize = cluster
        .redis
        .command(&["XLEN", "portcullis:{feed}:revocations"])
        .await;
    assert!(
        (1..=4).contains(&length),
        "{length} entries for one session"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_7_and_11_a_session_record_that_comes_back_by_hand_is_removed_again() {
    let redis = Redis::start().await;
    let follower = Light::follow(&redis.url());
    follower.fresh().await;
    let short = entry(Duration::from_millis(500));
    let record = format!("portcullis:session:{{{}}}:{}", short.tag, short.sid);
    follower
        .store
        .append(&[Entry::Session(short)])
        .await
        .unwrap();
    redis
        .command::<()>(&["HSET", &record, "user", "somebody"])
        .await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // The entry has expired; the next revocation trims the feed, and repairs the records of the entries that it trims.
    let claims = claims("alice", UserId::new(), short.sid);
    let revocations = Arc::clone(&follower.revocations);
    revocations
        .revoke_session(&claims, Duration::from_hours(1))
        .await
        .unwrap();
    for _ in 0..300 {
        if redis.command::<u8>(&["EXISTS", &record]).await == 0 {
            // The trim follows the repair.
            for _ in 0..300 {
                let length: usize = redis
                    .command(&["XLEN", "portcullis:{feed}:revocations"])
                    .await;
                if length == 1 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("more than the new entry is left");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the record is there for good");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_12_after_logging_out_everywhere_no_earlier_token_is_accepted_and_versions_go_up_only()
{
    let cluster = Cluster::of(3).await;
    let first = cluster.user("alice").await;
    for round in 0..rounds(30, 1000) {
        let sessions =
            futures_util::future::join_all((0..5).map(|_| User::log_in(&first.at, "alice"))).await;
        if round == 7 {
            // A loss of data undoes the version; the revocation that the feed knows holds all the same.
            let key = "portcullis:user:{2bd806c9}:alice";
            redis_set_back(&cluster.redis, key).await;
        }
        let acting = User::log_in(&cluster.replicas[round % 3].anonymous(), "alice").await;
        let bearer = format!("Bearer {}", acting.token);
        let answer = acting
            .at
            .send("DELETE", "/sessions", &[("authorization", &bearer)], None)
            .await;
        assert_eq!(answer.status, 204);
        for user in sessions.iter().chain([&acting]) {
            let checks = cluster
                .replicas
                .iter()
                .map(|replica| user.dashboard_at(replica));
            assert_eq!(
                futures_util::future::join_all(checks).await,
                [401, 401, 401]
            );
        }
    }
    assert_eq!(
        User::log_in(&first.at, "alice")
            .await
            .dashboard_at(&cluster.replicas[2])
            .await,
        200
    );
}

async fn redis_set_back(redis: &Redis, key: &str) {
    redis
        .command::<()>(&["HSET", key, "version", "1", "min_session_version", "1"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_14_without_redis_checks_answer_503_unless_staleness_was_chosen() {
    let mut cluster = Cluster::with(2, |number, config| {
        config.revocation.stale_if_error = Duration::from_secs(if number == 1 { 600 } else { 0 });
    })
    .await;
    let user = cluster.user("alice").await;
    cluster.redis.kill();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let strict = cluster.anonymous().dashboard(&user.token).await;
    assert_eq!(
        (strict.status, strict.code().as_str()),
        (503, "unavailable")
    );
    assert_eq!(user.dashboard_at(&cluster.replicas[1]).await, 200);
    // This replica does not acknowledge a logout, but refuses the token all the same.
    let at = user.at.towards(&cluster.replicas[1]);
    assert_eq!(at.logout(&user.token).await.status, 503);
    assert_eq!(at.dashboard(&user.token).await.status, 401);
    // A replica never serves without a first view: one that starts without Redis has none.
    let mut config = config(&cluster.redis.url());
    config.revocation.stale_if_error = Duration::from_mins(10);
    let newcomer = Replica::start(config).await;
    assert_eq!(
        newcomer.anonymous().dashboard(&user.token).await.status,
        503
    );
    cluster.redis.start_again().await;
    for replica in cluster.replicas.iter().chain([&newcomer]) {
        replica.ready().await;
        for _ in 0..500 {
            if user.dashboard_at(replica).await == 401 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(
            user.dashboard_at(replica).await,
            401,
            "the logout was completed in the background"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_logouts_redis_holds_users_and_the_feed_and_nothing_else() {
    let cluster = Cluster::of(3).await;
    for number in 0..20 {
        let user = cluster.user(&format!("user{number}")).await;
        let another = User::log_in(&user.at, &user.name).await;
        assert_eq!(user.at.logout(&user.token).await.status, 204);
        if number % 2 == 0 {
            assert_eq!(another.at.logout(&another.token).await.status, 204);
        } else {
            let bearer = format!("Bearer {}", another.token);
            assert_eq!(
                another
                    .at
                    .send("DELETE", "/sessions", &[("authorization", &bearer)], None)
                    .await
                    .status,
                204
            );
        }
    }
    let keys: Vec<String> = cluster.redis.command(&["KEYS", "*"]).await;
    let (kept, left): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| {
        key.starts_with("portcullis:user:") || key.starts_with("portcullis:{feed}:")
    });
    assert_eq!(left, Vec::<String>::new());
    assert!(kept.len() >= 20);
}
