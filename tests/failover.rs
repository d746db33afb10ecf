//! Failover of replicated Redis: the primary fails in every way that the authors know, while users log in, log out, register,
//! change their passwords and ask for the dashboard.

pub mod load;

use std::time::Duration;

use self::load::{Load, Toll};
use crate::harness::redis::admin_by_redis_cli;
use crate::harness::sentinel::{NAME, SERVERS, Watched};
use crate::harness::tools::repository;
use crate::harness::{Replica, Weather, acknowledged, report_zero, rounds};

/// Fault of the primary.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The primary is killed, and started again.
    Killed,
    /// The primary is paused for longer than its replacement takes, and continues.
    Paused,
    /// The operator demotes the primary to a replica, and promotes it again.
    Demoted,
    /// The primary's replicas and the Sentinels cannot reach it, while the service still can.
    CutOff,
    /// The operator runs `SENTINEL FAILOVER`.
    Replaced,
}

const EVENTS: [Event; 5] = [
    Event::Replaced,
    Event::Killed,
    Event::Paused,
    Event::CutOff,
    Event::Demoted,
];

#[tokio::test(flavor = "multi_thread")]
async fn i14_rule_10_with_all_replicas_acknowledging_no_failover_loses_anything() {
    let toll = fail_over(2).await;
    assert_eq!(toll.lost_registrations, 0, "{toll:?}");
    assert_eq!(toll.lost_passwords, 0, "{toll:?}");
    report_zero("registrations lost with n = 2 of 2", toll.registrations);
    report_zero("password changes lost with n = 2 of 2", toll.passwords);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_8_with_half_of_the_replicas_acknowledging_no_token_is_accepted_after_its_logout() {
    let toll = fail_over(1).await;
    println!(
        "observed with n = 1 of 2: {} of {} registrations and {} of {} password changes lost",
        toll.lost_registrations, toll.registrations, toll.lost_passwords, toll.passwords
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_handover_loses_nothing_also_where_half_of_the_replicas_acknowledge() {
    let watched = Watched::start().await;
    let replicas = Replica::serve_all(2, &acknowledged(&watched.url(), 1)).await;
    let load = Load::on(&replicas).await;
    for _ in 0..rounds(1, 5) {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = watched.primary().await;
        load.mark();
        let mut handover = tokio::process::Command::new(repository("deploy/switchover.sh"));
        handover.args(["sentinel", &watched.sentinel(), NAME]);
        handover.envs(admin_by_redis_cli());
        let output = handover.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}{complained}");
        watched.complete().await;
        load.recovered().await;
        assert_ne!(watched.primary().await, before);
        let outage = load.outage().as_secs_f64();
        println!("handed over, out for {outage:.1} s\n{said}");
    }
    let toll = load.finish().await;
    println!("{toll:?}");
    assert_eq!((toll.accepted, toll.forgotten_logouts), (0, 0), "{toll:?}");
    let lost = (toll.lost_registrations, toll.lost_passwords);
    assert_eq!(lost, (0, 0), "{toll:?}");
    report_zero(
        "registrations lost in a planned handover",
        toll.registrations,
    );
}

/// Runs every event under load. Returns the tally of losses.
async fn fail_over(acknowledgements: u32) -> Toll {
    let mut watched = Watched::start().await;
    let replicas = Replica::serve_all(2, &acknowledged(&watched.url(), acknowledgements)).await;
    let load = Load::on(&replicas).await;
    for _ in 0..rounds(1, 5) {
        for event in EVENTS {
            tokio::time::sleep(Duration::from_secs(1)).await;
            load.mark();
            strike(&mut watched, event).await;
            watched.complete().await;
            load.recovered().await;
            println!(
                "n = {acknowledgements}, {event:?}: out for {:.1} s",
                load.outage().as_secs_f64()
            );
        }
    }
    let toll = load.finish().await;
    println!("{toll:?}");
    assert_eq!(toll.accepted, 0, "{toll:?}");
    assert_eq!(toll.forgotten_logouts, 0, "{toll:?}");
    assert!(toll.logouts > 100, "too few to show anything: {toll:?}");
    report_zero(
        &format!("accepted after logout through failovers, n = {acknowledgements}"),
        toll.checks,
    );
    toll
}

async fn strike(watched: &mut Watched, event: Event) {
    let primary = watched.primary().await;
    match event {
        Event::Killed => {
            watched.servers[primary].kill();
            tokio::time::sleep(Duration::from_secs(4)).await;
            watched.servers[primary].start_again().await;
        }
        Event::Paused => {
            watched.servers[primary].pause();
            tokio::time::sleep(Duration::from_secs(6)).await;
            watched.servers[primary].resume();
        }
        Event::Demoted => {
            let other = watched.proxies[(primary + 1) % SERVERS].addr();
            let port = other.port().to_string();
            let server = &watched.servers[primary];
            let () = server.command(&["REPLICAOF", "127.0.0.1", &port]).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let () = server.command(&["REPLICAOF", "NO", "ONE"]).await;
        }
        Event::CutOff => {
            watched.proxies[primary].set(Weather {
                spare: Some("portcullis"),
                ..Weather::default()
            });
            // The proxy learns which connections are the service's only from what they send; the pause gives each of them
            // time to send.
            tokio::time::sleep(Duration::from_millis(500)).await;
            watched.proxies[primary].set(Weather {
                black_hole: true,
                spare: Some("portcullis"),
                ..Weather::default()
            });
            tokio::time::sleep(Duration::from_secs(6)).await;
            watched.proxies[primary].set(Weather::default());
            watched.proxies[primary].cut();
        }
        Event::Replaced => {
            let () = watched.ask(&["SENTINEL", "FAILOVER", NAME]).await.unwrap();
        }
    }
    // The Sentinels need a moment to begin the failover.
    tokio::time::sleep(Duration::from_secs(2)).await;
}
