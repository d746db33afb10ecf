//! Redis Cluster: users on all shards, the feed on one, slots that move, primaries that fail.

use std::collections::BTreeSet;
use std::time::Duration;

use portcullis::domain::UserId;
use portcullis::store::{NewUser, Registered, UserCursor};
use serde_json::json;

use crate::failover::load::Load;
use crate::harness::follower::store_of;
use crate::harness::redis::admin_by_redis_cli;
use crate::harness::shards::Shards;
use crate::harness::tools::{printed, repository};
use crate::harness::{Anonymous, PASSWORD, Replica, User, acknowledged, patiently, report_zero};

/// Key of the feed.
const FEED: &str = "portcullis:{feed}:revocations";

#[tokio::test(flavor = "multi_thread")]
async fn i15_i16_a_cluster_serves_the_whole_journey_while_slots_move_and_a_primary_fails() {
    let mut shards = Shards::start().await;
    let replicas = Replica::serve_all(2, &acknowledged(&shards.url(), 1)).await;
    journey(&replicas).await;
    let load = Load::on(&replicas).await;

    // Moves a user's slot to and fro, while clients use it.
    let user = user_key("visitor0");
    let here = shards.primary_of(&user).await;
    let other = other_primary(&shards, here).await;
    load.mark();
    for target in [other, here, other] {
        tokio::time::sleep(Duration::from_millis(500)).await;
        shards.move_slot(&user, target).await;
    }
    load.recovered().await;
    println!(
        "a user's slot moved: out for {:.1} s",
        load.outage().as_secs_f64()
    );
    let (slots, outage) = (shards.primary_of(&user).await, load.outage());
    assert_eq!(slots, other);
    assert!(
        outage < Duration::from_secs(3),
        "the feed did not move: {outage:?}"
    );

    // Moves the slot of the feed.
    let here = shards.primary_of(FEED).await;
    let other = other_primary(&shards, here).await;
    load.mark();
    shards.move_slot(FEED, other).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.recovered().await;
    println!(
        "the feed's slot moved: out for {:.1} s",
        load.outage().as_secs_f64()
    );
    assert_eq!(shards.primary_of(FEED).await, other);

    // The feed's replica takes over in a planned switchover.
    let replica = shards.replica_of(other).await;
    load.mark();
    let address = shards.servers[replica].addr().to_string();
    printed(
        std::process::Command::new(repository("deploy/switchover.sh"))
            .args(["cluster", &address])
            .envs(admin_by_redis_cli()),
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    shards.complete().await;
    load.recovered().await;
    println!(
        "the feed's primary handed over: out for {:.1} s",
        load.outage().as_secs_f64()
    );
    assert_eq!(shards.primary_of(FEED).await, replica);

    // The primary of the feed dies and comes back.
    let other = replica;
    load.mark();
    shards.servers[other].kill();
    tokio::time::sleep(Duration::from_secs(4)).await;
    shards.servers[other].start_again().await;
    shards.complete().await;
    load.recovered().await;
    println!(
        "the feed's primary killed: out for {:.1} s",
        load.outage().as_secs_f64()
    );
    assert_ne!(shards.primary_of(FEED).await, other);

    let toll = load.finish().await;
    println!("{toll:?}");
    assert_eq!((toll.accepted, toll.forgotten_logouts), (0, 0), "{toll:?}");
    assert_eq!(
        (toll.lost_registrations, toll.lost_passwords),
        (0, 0),
        "{toll:?}"
    );
    report_zero("accepted after logout in a Cluster", toll.checks);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_shard_of_a_user_loses_is_repaired_from_the_feed() {
    let shards = Shards::start().await;
    let replicas = Replica::serve_all(2, &acknowledged(&shards.url(), 1)).await;
    let at = replicas[0].anonymous();

    // A deletion.
    let mallory = User::register(&replicas[0], "mallory").await;
    let lost = Kept::of(&shards, &user_key("mallory")).await;
    let deleted = patiently(async || {
        let body = json!({"password": PASSWORD}).to_string();
        send(&at, "POST", "/me/delete", &mallory.token, &body).await
    });
    assert_eq!(deleted.await.status, 204);
    lost.restore(&shards).await;
    let back = patiently(async || at.login("mallory", PASSWORD).await).await;
    assert_eq!(back.status, 401, "a deleted account is back: {back:?}");
    lost.restore(&shards).await;
    let stranger = patiently(async || at.register("mallory", "a stranger comes in").await).await;
    assert_eq!(stranger.status, 201, "the name is locked: {stranger:?}");
    let old = patiently(async || at.dashboard(&mallory.token).await).await;
    assert_eq!(old.status, 401);

    // The end of all sessions, and with it a new version.
    let alice = User::register(&replicas[0], "alice").await;
    let lost = Kept::of(&shards, &user_key("alice")).await;
    let ended = patiently(async || at.logout_everywhere(&alice.token).await).await;
    assert_eq!(ended.status, 204);
    let version = version(&shards, &lost.key).await;
    lost.restore(&shards).await;
    let refreshed = patiently(async || at.refresh(&alice.refresh_token).await).await;
    assert_eq!(refreshed.status, 401, "a session that was ended goes on");
    let again = User::log_in(&at, "alice").await;
    assert_eq!(again.dashboard_at(&replicas[1]).await, 200, "locked out");
    let ended = patiently(async || at.logout_everywhere(&again.token).await).await;
    assert_eq!(ended.status, 204);
    let next = self::version(&shards, &lost.key).await;
    assert!(next > version, "version {next} after {version}");
    assert_eq!(again.dashboard_at(&replicas[1]).await, 401);

    // A new password: after the loss the old password may be valid again, but the sessions that the change ended stay ended.
    let bob = User::register(&replicas[0], "bob").await;
    let lost = Kept::of(&shards, &user_key("bob")).await;
    let body = json!({"current_password": PASSWORD, "new_password": "another staple of horses"});
    let changed =
        patiently(async || send(&at, "PUT", "/me/password", &bob.token, &body.to_string()).await);
    assert_eq!(changed.await.status, 200);
    lost.restore(&shards).await;
    assert_eq!(bob.dashboard_at(&replicas[1]).await, 401);
    let again = User::log_in(&at, "bob").await;
    assert_eq!(again.dashboard_at(&replicas[1]).await, 200, "locked out");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_in_bulk_are_spread_over_all_shards_and_each_is_listed_once() {
    let shards = Shards::start().await;
    let store = store_of(&acknowledged(&shards.url(), 1));
    let hash = "p1$$2b$04$abcdefghijklmnopqrstuu012345678901234567890123456789u";
    let new = |number: usize| NewUser {
        id: UserId::new(),
        username: format!("bulk{number}").parse().unwrap(),
        password: hash.parse().unwrap(),
        roles: Vec::new(),
        disabled: false,
        imported: Some("a mark".to_owned()),
    };
    // Redis replicas that have just joined acknowledge late; registering the same users again is allowed.
    let first: Vec<_> = (300..330).map(new).collect();
    while let Err(why) = store.register_users(&first).await {
        println!("not yet: {why}");
    }
    let new: Vec<_> = (0..300).map(new).collect();
    for registered in store.register_users(&new).await.unwrap() {
        assert!(
            matches!(registered, Registered::Created(..)),
            "{registered:?}"
        );
    }
    // A repetition reports that each user exists already, from the same import.
    for registered in store.register_users(&new).await.unwrap() {
        let again = matches!(registered, Registered::NameTaken { by_the_same: true });
        assert!(again, "{registered:?}");
    }
    let (mut from, mut listed) = (Some(UserCursor::default()), BTreeSet::new());
    while let Some(cursor) = from {
        let (next, users) = store.scan_users(cursor).await.unwrap();
        listed.extend(users.into_iter().map(|user| user.username.to_string()));
        from = next;
    }
    assert_eq!(listed.len(), 330);
    let mut used = BTreeSet::new();
    for name in &listed {
        used.insert(shards.primary_of(&user_key(name)).await);
    }
    assert_eq!(used.len(), 3, "all shards hold some");
}

/// Saved value of a key, to be restored later: this has the effect of a failover that loses later writes.
struct Kept {
    key: String,
    dump: Vec<u8>,
}

impl Kept {
    async fn of(shards: &Shards, key: &str) -> Self {
        let server = &shards.servers[shards.primary_of(key).await];
        Self {
            key: key.to_owned(),
            dump: server.command(&["DUMP", key]).await,
        }
    }

    async fn restore(&self, shards: &Shards) {
        let server = &shards.servers[shards.primary_of(&self.key).await];
        let client = redis::Client::open(server.admin_url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut restore = redis::cmd("RESTORE");
        restore
            .arg(&self.key)
            .arg(0)
            .arg(&self.dump[..])
            .arg("REPLACE");
        let () = restore.query_async(&mut connection).await.unwrap();
    }
}

async fn version(shards: &Shards, key: &str) -> u64 {
    let server = &shards.servers[shards.primary_of(key).await];
    server.command(&["HGET", key, "version"]).await
}

/// Key of a user. No response contains the hash tag, so the test computes it as the service does.
fn user_key(name: &str) -> String {
    let name: portcullis::domain::Username = name.parse().unwrap();
    format!("portcullis:user:{{{}}}:{name}", name.tag())
}

async fn other_primary(shards: &Shards, not: usize) -> usize {
    for slot_key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let primary = shards.primary_of(slot_key).await;
        if primary != not {
            return primary;
        }
    }
    panic!("all keys lie in one shard");
}

async fn journey(replicas: &[Replica]) {
    let names: Vec<String> = (0..12).map(|number| format!("traveller{number}")).collect();
    for name in &names {
        let user = User::register(&replicas[0], name).await;
        assert_eq!(user.dashboard_at(&replicas[1]).await, 200);
        let next = patiently(async || user.at.refresh(&user.refresh_token).await).await;
        assert_eq!(next.status, 200);
        let listed = patiently(async || user.at.sessions(&user.token).await).await;
        assert_eq!(listed.json()["items"].as_array().unwrap().len(), 1);
        assert_eq!(user.log_out_at(&replicas[1]).await, 204);
        for replica in replicas {
            assert_eq!(user.dashboard_at(replica).await, 401);
        }
    }
}

async fn send(
    at: &Anonymous,
    method: &str,
    path: &str,
    token: &str,
    body: &str,
) -> crate::harness::Answer {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    at.send(method, path, &headers, Some(body)).await
}
