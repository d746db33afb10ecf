//! Backup of a working Redis and the restore from it: the steps of the runbook.

use crate::harness::tools::printed;
use crate::harness::{Cluster, PASSWORD, User, patiently};

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_brings_back_what_the_backup_had_and_replicas_put_later_revocations_back() {
    let mut cluster = Cluster::alone().await;
    let at = cluster.anonymous();
    let kept = cluster.user("alice").await;
    let out_before = cluster.user("bob").await;
    assert_eq!(at.logout(&out_before.token).await.status, 204);
    let out_after = User::log_in(&at, "alice").await;

    let stop: String = cluster
        .redis
        .command(&["CONFIG", "SET", "auto-aof-rewrite-percentage", "0"])
        .await;
    assert_eq!(stop, "OK");
    let info: String = cluster.redis.command(&["INFO", "persistence"]).await;
    assert!(
        info.contains("aof_enabled:1") && info.contains("aof_rewrite_in_progress:0"),
        "{info}"
    );
    let backup = tempfile::tempdir().unwrap();
    let live = cluster.redis.folder().join("appendonlydir");
    let copy = backup.path().join("appendonlydir");
    printed(
        std::process::Command::new("cp")
            .arg("-a")
            .args([&live, &copy]),
    );

    assert_eq!(at.register("carol", PASSWORD).await.status, 201);
    assert_eq!(at.logout(&out_after.token).await.status, 204);

    cluster.redis.kill();
    std::fs::remove_dir_all(&live).unwrap();
    printed(
        std::process::Command::new("cp")
            .arg("-a")
            .args([&copy, &live]),
    );
    cluster.redis.start_again().await;

    let dashboard = async |token: &str| patiently(async || at.dashboard(token).await).await.status;
    assert_eq!(dashboard(&kept.token).await, 200, "a session of the backup");
    assert_eq!(
        dashboard(&out_before.token).await,
        401,
        "a revocation of the backup"
    );
    assert_eq!(
        dashboard(&out_after.token).await,
        401,
        "a revocation after it, which the replica knew"
    );
    let login = async |name: &str| {
        patiently(async || at.login(name, PASSWORD).await)
            .await
            .status
    };
    assert_eq!(login("alice").await, 200, "an account of the backup");
    assert_eq!(login("carol").await, 401, "an account after it is lost");

    // The revocation is not only in that replica's memory: a new replica learns it from the feed.
    let fresh = crate::harness::Replica::start(crate::harness::config(&cluster.redis.url())).await;
    fresh.ready().await;
    let at = fresh.anonymous();
    let dashboard = async |token: &str| patiently(async || at.dashboard(token).await).await.status;
    assert_eq!(dashboard(&kept.token).await, 200);
    assert_eq!(
        dashboard(&out_after.token).await,
        401,
        "put back into the feed"
    );
    fresh.stop().await;
}
