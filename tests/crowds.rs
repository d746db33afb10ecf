//! Large numbers of connections: one network cannot take the place of the others, and the server closes thousands of
//! connections that do nothing, or little, while it serves all other clients.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::connections::answers;
use crate::harness::process::{Process, folder};
use crate::harness::{Cluster, Redis, Wire, patiently, report_zero, rounds};

const HALF: &str = "POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{";

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

#[tokio::test(flavor = "multi_thread")]
async fn b18_a_network_has_its_share_of_connections_and_a_trusted_proxy_more() {
    let cluster = Cluster::with(1, |_, config| {
        config.revocation.alone = true;
        config.http.max_connections = 12;
        config.http.max_connections_of_network = 3;
        config.http.trusted_proxies = vec!["127.0.0.9/32".parse().unwrap()];
    })
    .await;
    let addr = cluster.replicas[0].addr;
    let mut others = Wire::between(OTHER, addr).await;
    assert!(answers(&mut others).await);
    let mut wires = Vec::new();
    for number in 0..5 {
        let mut wire = Wire::between(ONE, addr).await;
        assert!(answers(&mut wire).await, "newcomer {number} is served");
        wires.push(wire);
    }
    // Five connections have come to three places: the first two are closed, and no others.
    for (number, wire) in wires.iter_mut().enumerate() {
        if number < 2 {
            let gone = wire.is_closed_within(Duration::from_secs(5)).await;
            assert!(gone, "{number}");
        } else {
            assert!(answers(wire).await, "{number}");
        }
    }
    assert!(answers(&mut others).await, "another network makes no room");
    // If all connections of a network have a request in progress, the server rejects a new one of that network and serves one
    // of another network.
    let mut at_work = wires.split_off(2);
    for wire in &mut at_work {
        wire.send(HALF).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..3 {
        let mut newcomer = Wire::between(ONE, addr).await;
        assert!(newcomer.is_closed_within(Duration::from_secs(5)).await);
    }
    let mut newcomer = Wire::between(OTHER, addr).await;
    assert!(answers(&mut newcomer).await);
    let mut proxied = Vec::new();
    for number in 0..6 {
        let mut wire = Wire::between(PROXY, addr).await;
        assert!(answers(&mut wire).await, "connection {number} of a proxy");
        proxied.push(wire);
    }
    for wire in &mut proxied {
        assert!(answers(wire).await);
    }
    // A closed connection does not count any more.
    for wire in &mut at_work {
        wire.send("}").await;
        assert_eq!(wire.answer().await.map(|answer| answer.status), Some(400));
    }
    drop(at_work);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut newcomer = Wire::between(ONE, addr).await;
    assert!(answers(&mut newcomer).await);
}

/// Resources of a replica: open descriptors, and memory in KiB.
pub fn held(replica: &Process) -> (usize, usize) {
    let folder = format!("/proc/{}", replica.pid());
    let descriptors = std::fs::read_dir(format!("{folder}/fd")).unwrap().count();
    let status = std::fs::read_to_string(format!("{folder}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let number = line.unwrap().split_whitespace().nth(1);
    (descriptors, number.unwrap().parse().unwrap())
}

/// Opens this number of connections, each from one of a hundred addresses, so that no network has more than its share.
async fn crowd(addr: std::net::SocketAddr, size: usize) -> Vec<Wire> {
    let mut wires = Vec::new();
    for number in 0..size {
        let last = u8::try_from(number % 100).unwrap() + 10;
        wires.push(Wire::between(Ipv4Addr::new(127, 0, 1, last), addr).await);
    }
    wires
}

#[tokio::test(flavor = "multi_thread")]
async fn b16_b18_thousands_of_slow_and_idle_connections_end_in_time_and_leave_nothing() {
    let (slow, idle) = (rounds(400, 2_000), rounds(800, 5_000));
    let (folder, redis) = (folder(), Redis::start().await);
    let settings = [
        ("REDIS_URL", redis.url()),
        ("JWT_SECRET", crate::harness::SECRET.to_owned()),
    ];
    let settings: Vec<_> = settings.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let mut replica = Process::serve(folder.path(), &settings).await;
    let at = replica.anonymous();
    let password = crate::harness::PASSWORD;
    patiently(async || at.register("alice", password).await).await;
    let login = patiently(async || at.login("alice", password).await).await;
    let token = login.json()["token"].as_str().unwrap().to_owned();
    for _ in 0..200 {
        at.dashboard(&token).await;
    }
    let before = held(&replica);

    let idlers = crowd(replica.addr, idle).await;
    let slow_ones = crowd(replica.addr, slow).await;
    let begun = Instant::now();
    let drip = async |mut wire: Wire| {
        wire.send("GET /dashboard HTTP/1.1\r\nHost: a\r\nX").await;
        while !wire.is_closed_within(Duration::from_secs(2)).await {
            wire.send("x").await;
        }
        (begun.elapsed(), wire.answers().await)
    };
    let ordinary = async {
        let (mut asked, mut failed) = (0, 0);
        while begun.elapsed() < Duration::from_secs(9) {
            failed += usize::from(at.dashboard(&token).await.status != 200);
            asked += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (asked, failed)
    };
    let (endings, (asked, failed)) =
        tokio::join!(join_all(slow_ones.into_iter().map(drip)), ordinary);
    let most = held(&replica);
    let latest = endings.iter().map(|(after, _)| *after).max().unwrap();
    for (_, answers) in &endings {
        assert_eq!(
            answers.iter().map(|it| it.status).collect::<Vec<_>>(),
            [408]
        );
    }
    assert!(latest < Duration::from_secs(20), "{latest:?}");
    assert_eq!(failed, 0);
    report_zero("ordinary requests that failed beside a crowd", asked);
    drop(endings);

    // A connection without a request has the time limit of a head, and is closed without an answer.
    let mut open = 0;
    for mut wire in idlers {
        open += usize::from(!wire.is_closed_within(Duration::from_secs(10)).await);
    }
    assert_eq!(open, 0, "of {idle}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = held(&replica);
    println!(
        "{slow} slow ended by {latest:?}, {idle} idle too; descriptors and KiB: {before:?}, {most:?}, {after:?}"
    );
    assert!(after.0 <= before.0 + 8, "descriptors: {before:?} {after:?}");
    // The allocator may keep a little of the memory that it was given.
    assert!(
        after.1 < before.1 + 24 * 1024,
        "memory: {before:?} {after:?}"
    );
    assert!(replica.stop().await.success());
}
