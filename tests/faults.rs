//! Fault injection: each fault of the infrastructure, done to three replicas behind the balancer of `deploy/`. The answers
//! during a fault match the table of failures in `docs/operate/redis.md`. Afterwards every replica works again without a
//! restart.
//!
//! Other tests cover Redis that is killed or paused under load (`outage`), a paused or replaced primary (`lease` and
//! `failover`), a Cluster (`sharding`), certificates (`encryption`), and replicas that end (`rolling`).

mod bad_hour;
mod people;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, Signal};

use self::bad_hour::BadHour;
use self::people::{People, in_time};
use crate::harness::site::{REPLICAS, Site, Variables};
use crate::harness::{
    Anonymous, Cluster, PASSWORD, Proxy, REDIS_PASSWORD, Redis, User, Weather, Wire, free_port,
    patiently, report_zero, rounds,
};

#[tokio::test(flavor = "multi_thread")]
async fn i1_replicas_that_start_without_redis_live_and_serve_when_it_comes() {
    let port = free_port();
    let url = format!("redis://portcullis:{REDIS_PASSWORD}@127.0.0.1:{port}");
    let site = Site::begin([0; REPLICAS].map(|_| vec![("REDIS_URL", url.clone())])).await;
    for replica in &site.replicas {
        let probes = replica.probes();
        assert_eq!(probes.get("/livez").await.status, 200);
        assert_eq!(probes.get("/readyz").await.status, 503);
    }
    let early = site.anyone().register("alice", PASSWORD).await;
    assert_eq!(early.code(), "unavailable", "{early:?}");
    let _redis = Redis::on(port, &[]).await;
    site.all_ready().await;
    let alice = User::register_at(&site.anyone(), "alice").await;
    assert_eq!(alice.at.dashboard(&alice.token).await.status, 200);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_with_redis_in_a_black_hole_everything_is_503_in_time() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.addr()).await;
    let site = Site::at(&proxy.url()).await;
    let people = People::of(&site).await;
    proxy.set(Weather {
        black_hole: true,
        ..Weather::default()
    });
    let tally = people.ask_often(rounds(3, 20)).await;
    tally.check([503, 503, 503, 503, 503]);
    // Within the grace period every replica stays ready: all share the fault, so leaving the balancer would help no client.
    site.probed(200, 200).await;
    proxy.set(Weather::default());
    people.see_all_well(&site).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_network_that_is_slow_and_uneven_costs_no_request() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.addr()).await;
    let site = Site::at(&proxy.url()).await;
    // Up to 35 ms each way: more than the freshness window for a round trip.
    proxy.set(Weather {
        delay: Duration::from_millis(35),
        ..Weather::default()
    });
    let mut asked = 0;
    for round in 0..rounds(6, 60) {
        let visits = (0..12).map(async |number| {
            let user = User::register_at(&site.anyone(), &format!("person-{round}-{number}")).await;
            for _ in 0..5 {
                assert_eq!(user.at.dashboard(&user.token).await.status, 200);
            }
            assert_eq!(user.at.refresh(&user.refresh_token).await.status, 200);
            assert_eq!(user.at.logout(&user.token).await.status, 204);
            assert_eq!(user.at.dashboard(&user.token).await.status, 401);
            10
        });
        asked += join_all(visits).await.into_iter().sum::<usize>();
    }
    report_zero(
        "requests that failed in a network slower than the window",
        asked,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_primary_that_was_demoted_is_believed_nothing_until_it_is_one_again() {
    let redis = Redis::start().await;
    let site = Site::at(&redis.url()).await;
    let people = People::of(&site).await;
    // Redis becomes a replica of a primary that does not exist, so it keeps its data.
    let nobody = free_port().to_string();
    let () = redis.command(&["REPLICAOF", "127.0.0.1", &nobody]).await;
    site.wait("nobody believes it", async || people.look().await == 503)
        .await;
    let tally = people.ask_often(rounds(5, 20)).await;
    tally.check([503, 503, 503, 503, 503]);
    let () = redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    people.see_all_well(&site).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_full_redis_takes_logouts_and_answers_checks_and_refuses_the_rest() {
    let redis = Redis::start().await;
    let site = Site::at(&redis.url()).await;
    let people = People::of(&site).await;
    let () = redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let tally = people.ask_often(3).await;
    tally.check([503, 503, 503, 200, 204]);
    site.probed(200, 200).await;
    let () = redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    people.see_all_well(&site).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_redis_that_begins_to_evict_is_not_used_any_longer() {
    let redis = Redis::start().await;
    let site = Site::at(&redis.url()).await;
    let people = People::of(&site).await;
    let policy = async |policy| {
        let () = redis
            .command(&["CONFIG", "SET", "maxmemory-policy", policy])
            .await;
    };
    policy("allkeys-lru").await;
    let begun = Instant::now();
    site.wait("nobody is ready", async || {
        !site.ready(0).await && !site.ready(1).await && !site.ready(2).await
    })
    .await;
    println!("not ready {:.1?} after the change", begun.elapsed());
    for replica in &site.replicas {
        let why = replica.probes().get("/readyz").await.body;
        assert!(
            why.contains("allkeys-lru") && why.contains("noeviction"),
            "{why}"
        );
        let at = people.reader.at.towards_addr(replica.addr);
        assert_eq!(
            at.dashboard(&people.reader.token).await.code(),
            "unavailable"
        );
    }
    policy("noeviction").await;
    site.all_ready().await;
    people.see_all_well(&site).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_a_full_disk_loses_nothing_that_was_acknowledged() {
    for (fsync, then) in [
        // Redis goes on, and refuses writes.
        ("everysec", [503, 503, 503, 200, 503]),
        // Redis ends: it could not guarantee durability.
        ("always", [503, 503, 503, 503, 503]),
    ] {
        let bad = BadHour::new();
        let options = ["--appendonly", "yes", "--appendfsync", fsync];
        let variables = bad.preloaded("BAD_DISK");
        let variables = variables.each_ref().map(|(name, value)| (*name, &**value));
        let mut redis = Redis::under(&variables, &options).await;
        let site = Site::at(&redis.url()).await;
        let people = People::of(&site).await;
        bad.begin("");
        // The first write discovers the fault.
        site.wait("the disk is full", async || {
            site.anyone().register("carol", PASSWORD).await.status == 503
        })
        .await;
        let tally = people.ask_often(3).await;
        tally.check(then);
        bad.end();
        if fsync == "always" {
            redis.kill();
            redis.start_again().await;
        }
        people.see_all_well(&site).await;
        site.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_more_requests_than_connections_to_a_slow_redis_are_200_or_503_and_then_200() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.addr()).await;
    let site = Site::at(&proxy.url()).await;
    let people = People::of(&site).await;
    proxy.set(Weather {
        delay: Duration::from_millis(100),
        ..Weather::default()
    });
    let bearer = format!("Bearer {}", people.reader.token);
    let headers = [("authorization", bearer.as_str())];
    let replica = people.reader.at.towards_addr(site.replicas[0].addr);
    // `/me` asks Redis, unlike the dashboard.
    let ask = async || in_time(replica.send("GET", "/me", &headers, None)).await;
    let answers = join_all((0..500).map(|_| ask())).await;
    let count = |status| answers.iter().filter(|it| it.status == status).count();
    let (served, refused) = (count(200), count(503));
    println!(
        "of 500 at once over 32 connections of 100 ms and more: {served} served, {refused} refused"
    );
    assert_eq!(served + refused, 500);
    assert!(served > 0, "the connections are used");
    proxy.set(Weather::default());
    site.wait("it is served again", async || ask().await.status == 200)
        .await;
    let answers = join_all((0..100).map(|_| patiently(ask))).await;
    assert!(answers.iter().all(|it| it.status == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn i19_a_replica_that_hangs_leaves_the_balancer_and_comes_back_with_what_it_missed() {
    let redis = Redis::start().await;
    let site = Site::at(&redis.url()).await;
    let people = People::of(&site).await;
    site.replicas[1].signal(Signal::STOP);
    let stopped = Instant::now();
    // Clients that are connected to the paused replica wait for it; new clients need not.
    site.wait("the balancer misses it", async || {
        let asks = (0..6).map(|_| async {
            let newcomer = site.anyone();
            let ask = newcomer.try_get("/nowhere");
            tokio::time::timeout(Duration::from_millis(500), ask)
                .await
                .is_ok()
        });
        join_all(asks).await.into_iter().all(|answered| answered)
    })
    .await;
    println!(
        "no newcomer was sent to it {:.1?} after it stopped",
        stopped.elapsed()
    );
    for _ in 0..rounds(30, 300) {
        let answer = in_time(site.anyone().dashboard(&people.reader.token)).await;
        assert_eq!(answer.status, 200);
    }
    let leaver = User::log_in(&site.anyone(), "leaver").await;
    assert_eq!(leaver.at.logout(&leaver.token).await.status, 204);
    site.replicas[1].signal(Signal::CONT);
    let back = leaver.at.towards_addr(site.replicas[1].addr);
    let late = patiently(async || back.dashboard(&leaver.token).await).await;
    assert_eq!(late.status, 401);
    site.all_ready().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i20_i21_replicas_whose_clocks_are_off_or_jump_sign_and_verify_by_that_of_redis() {
    let redis = Redis::start().await;
    let (fast, slow) = (BadHour::new(), BadHour::new());
    fast.begin("120");
    slow.begin("-120");
    let told = |bad: Option<&BadHour>| -> Variables {
        let mut variables = vec![("REDIS_URL", redis.url())];
        variables.extend(bad.iter().flat_map(|it| it.preloaded("BAD_CLOCK")));
        variables
    };
    let site = Site::begin([told(None), told(Some(&fast)), told(Some(&slow))]).await;
    site.all_ready().await;
    for (number, is_off) in [(0, false), (1, true), (2, true)] {
        let said = !site.replicas[number].events("clock_skew").is_empty();
        assert_eq!(said, is_off, "replica {number}");
    }
    let each = || site.replicas.iter().map(|it| it.addr);
    let register = User::register_at(&site.anyone(), "alice").await;
    let mut asked = 0;
    for round in 0..rounds(30, 300) {
        // From the second round on the clocks jump, forth and back, by hours.
        if round > 0 {
            fast.begin(if round % 2 == 0 { "7200" } else { "-3600" });
            slow.begin(if round % 3 == 0 { "-86400" } else { "30" });
        }
        for minted_at in each() {
            let user = User::log_in(&register.at.towards_addr(minted_at), "alice").await;
            for asked_at in each() {
                let at = user.at.towards_addr(asked_at);
                assert_eq!(at.dashboard(&user.token).await.status, 200, "round {round}");
                asked += 1;
            }
            assert_eq!(user.at.logout(&user.token).await.status, 204);
            for asked_at in each() {
                let at = user.at.towards_addr(asked_at);
                assert_eq!(at.dashboard(&user.token).await.status, 401, "round {round}");
                asked += 1;
            }
        }
    }
    report_zero("answers that a clock made wrong", asked);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i22_without_descriptors_idle_connections_make_room_and_nothing_spins() {
    let redis = Redis::start().await;
    let site = Site::at(&redis.url()).await;
    let people = People::of(&site).await;
    let replica = &site.replicas[0];
    let pid = replica.pid();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count();
    let before = rustix::process::getrlimit(Resource::Nofile);
    let limit = |current: Option<u64>| {
        let raw = rustix::process::Pid::from_raw(pid.cast_signed());
        let limit = Rlimit { current, ..before };
        rustix::process::prlimit(raw, Resource::Nofile, limit).unwrap();
    };
    limit(Some(open as u64 + 20));
    let mut crowd = Vec::new();
    for _ in 0..60 {
        crowd.push(Wire::to(replica.addr).await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (worked, begun) = (processor_time(pid), Instant::now());
    // The balancer serves new clients, and so does the replica itself.
    let newcomer = || Anonymous::at(replica.addr);
    for anyone in [&newcomer as &dyn Fn() -> Anonymous, &|| site.anyone()] {
        for _ in 0..30 {
            let answer = in_time(anyone().dashboard(&people.reader.token)).await;
            assert_eq!(answer.status, 200);
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let worked = processor_time(pid).saturating_sub(worked);
    let share = worked.as_secs_f64() / begun.elapsed().as_secs_f64();
    println!(
        "with {} connections and descriptors for 20 it took {:.1} % of a core",
        crowd.len(),
        share * 100.0
    );
    assert!(share < 0.5, "it does not wait, it spins: {share}");
    drop(crowd);
    site.all_ready().await;
    limit(before.current);
    people.see_all_well(&site).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i24_with_the_name_of_redis_gone_all_is_503_and_well_again_when_it_is_back() {
    let redis = Redis::start().await;
    let bad = BadHour::new();
    let port = redis.addr().port();
    let url = format!("redis://portcullis:{REDIS_PASSWORD}@redis.example:{port}");
    let mut variables: Variables = vec![("REDIS_URL", url)];
    variables.extend(bad.preloaded("BAD_NAMES"));
    let site = Site::begin([variables.clone(), variables.clone(), variables]).await;
    site.all_ready().await;
    let people = People::of(&site).await;
    bad.begin("");
    let _: u64 = redis
        .command(&["CLIENT", "KILL", "USER", "portcullis"])
        .await;
    site.wait("it is missed", async || people.look().await == 503)
        .await;
    let tally = people.ask_often(3).await;
    tally.check([503, 503, 503, 503, 503]);
    bad.end();
    people.see_all_well(&site).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i25_twenty_replicas_that_reconnect_at_once_are_ready_and_crowd_nobody_out() {
    const CROWD: usize = 20;
    let mut cluster = Cluster::of(CROWD).await;
    let user = cluster.user("alice").await;
    for round in 0..rounds(2, 10) {
        cluster.redis.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let asks = cluster.replicas.iter().map(async |replica| {
            let at = user.at.towards(replica);
            at.dashboard(&user.token).await.status
        });
        assert!(join_all(asks).await.iter().all(|status| *status == 503));
        cluster.redis.start_again().await;
        let back = Instant::now();
        let checks = cluster
            .replicas
            .iter()
            .map(|replica| user.dashboard_at(replica));
        let checks = join_all(checks).await;
        assert!(checks.iter().all(|status| *status == 200), "{checks:?}");
        let ready = back.elapsed();
        let clients: String = cluster.redis.command(&["INFO", "clients"]).await;
        let connected = clients
            .lines()
            .find_map(|line| line.strip_prefix("connected_clients:"));
        let connected: usize = connected.unwrap().trim().parse().unwrap();
        println!(
            "round {round}: all serve {ready:.1?} after Redis was back, over {connected} connections"
        );
        // One connection for the feed, and one or two for requests; never a full pool.
        assert!(connected <= CROWD * 5, "{connected} connections");
    }
}

/// Processor time that the threads of a process have used.
fn processor_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanos = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
