//! Logout holds on every replica once it is answered: no replica accepts the token. A check of a token costs no Redis round
//! trip.

use crate::harness::{Cluster, User, report_zero, rounds};

#[tokio::test(flavor = "multi_thread")]
async fn c5_a_token_is_refused_by_all_replicas_the_moment_its_logout_has_answered() {
    let cluster = Cluster::of(3).await;
    let logouts = rounds(1000, 10_000);
    cluster.user("alice").await;
    let mut accepted = 0;
    for batch in 0..logouts / 20 {
        let one = async |number: usize| {
            let user = User::log_in(&cluster.replicas[number % 3].anonymous(), "alice").await;
            for replica in &cluster.replicas {
                assert_eq!(
                    user.dashboard_at(replica).await,
                    200,
                    "good before its logout"
                );
            }
            let at = &cluster.replicas[(number / 3) % 3];
            assert_eq!(user.log_out_at(at).await, 204);
            let [a, b, c] = [0, 1, 2].map(|replica| user.dashboard_at(&cluster.replicas[replica]));
            let (a, b, c) = tokio::join!(a, b, c);
            [a, b, c]
                .into_iter()
                .filter(|&status| status != 401)
                .count()
        };
        let batch: Vec<_> = (0..20).map(|number| one(batch * 20 + number)).collect();
        accepted += futures_util::future::join_all(batch)
            .await
            .into_iter()
            .sum::<usize>();
    }
    assert_eq!(accepted, 0);
    report_zero("tokens accepted after their logout answered", logouts * 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_dashboard_requests_cost_no_redis_command_but_the_feeds_own_reads() {
    let cluster = Cluster::of(1).await;
    let user = cluster.user("alice").await;
    user.dashboard_at(&cluster.replicas[0]).await;
    cluster.redis.command::<()>(&["CONFIG", "RESETSTAT"]).await;
    let begun = std::time::Instant::now();
    for _ in 0..1000 {
        assert_eq!(user.dashboard_at(&cluster.replicas[0]).await, 200);
    }
    let took = begun.elapsed();
    let counts = cluster.redis.command_counts().await;
    // Commands of the read script; of the server inspection, the announcement and the canary, which run every few seconds;
    // and of this test itself.
    let feed = [
        "acl|dryrun",
        "role",
        "set",
        "evalsha",
        "exists",
        "xinfo|stream",
        "xrange",
        "get",
        "info",
        "time",
        "config|get",
    ];
    let ours = [
        "auth",
        "config|resetstat",
        "ping",
        "client|setinfo",
        "hello",
        "select",
    ];
    for (command, calls) in &counts {
        assert!(
            feed.contains(&command.as_str()) || ours.contains(&command.as_str()),
            "{command} was run {calls} times"
        );
    }
    let reads = counts
        .iter()
        .find(|(command, _)| command == "evalsha")
        .map_or(0, |(_, calls)| *calls);
    println!("1000 dashboard requests in {took:?}: {reads} reads of the feed, nothing else");
    // Three reads for each window of 50 ms, whatever the number of requests.
    assert!(
        reads as f64 <= took.as_secs_f64() * 60.0 * 1.5 + 5.0,
        "{reads} reads in {took:?}"
    );
}
