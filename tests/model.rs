//! A model of the revocation protocol, explored by seeded random schedules.
//!
//!
//! The model has several replicas with their own windows and clocks, and one Redis or a primary with two copies. Messages are
//! late or lost; replicas and primaries pause, die and come back; primaries lose their last writes and are replaced; keys are
//! deleted. [`judge`] states the guarantee, and the losses that are excused. The replicas decide with the product's own code:
//! how to read pages, when a view answers, how long a logout waits, when to announce a window, which replica puts lost entries
//! back, and the denylist itself. Modelled are Redis and its scripts ([`redis`]), the order of the feed consumer's steps
//! ([`replica`]) and the lease.
//!
//!
//! The model must also detect each mutation of the protocol, which breaks one rule ([`flaw`]): a model that never finds
//! anything wrong proves nothing.

mod clock;
mod flaw;
mod follower;
mod incident;
mod judge;
mod network;
mod random;
mod redis;
mod replica;
mod requests;
mod schedule;
mod server;
mod world;

use self::flaw::Flaw;
use self::schedule::{Schedule, concerns};
use self::world::World;
use crate::harness::{report_zero, rounds};

fn run(schedule: &Schedule, flaw: Option<Flaw>, traced: bool) -> World {
    let mut world = World::run(schedule, flaw, traced);
    world.judge.convict();
    world
}

/// Removes the incidents that the violation does not need.
fn shrink(mut schedule: Schedule, flaw: Option<Flaw>) -> Schedule {
    let mut index = 0;
    while index < schedule.incidents.len() {
        let mut smaller = schedule.clone();
        smaller.incidents.remove(index);
        if run(&smaller, flaw, false).judge.violation.is_some() {
            schedule = smaller;
        } else {
            index += 1;
        }
    }
    schedule
}

/// Report of a violation: the violation, the schedule, and the actions of Redis and the replicas.
fn tell(schedule: &Schedule, flaw: Option<Flaw>) -> String {
    let schedule = shrink(schedule.clone(), flaw);
    let world = run(&schedule, flaw, true);
    let violation = world.judge.violation.unwrap();
    let trace = world.trace.unwrap_or_default().join("\n");
    format!(
        "seed {}: {violation}\n{schedule:#?}\n{trace}",
        schedule.seed
    )
}

#[test]
fn the_design_keeps_its_promise_in_every_schedule() {
    let schedules = rounds(6000, 100_000);
    let (mut logouts, mut refused, mut unanswered, mut settled, mut excused) = (0, 0, 0, 0, 0);
    for seed in 0..schedules as u64 {
        let schedule = Schedule::from_seed(seed);
        let world = run(&schedule, None, false);
        let (stuck, judge) = (world.stuck(), world.judge);
        assert!(judge.violation.is_none(), "{}", tell(&schedule, None));
        assert!(
            stuck.is_empty(),
            "replicas {stuck:?} cannot answer in the end: {schedule:#?}"
        );
        logouts += judge.logged_out_count();
        refused += judge.refused;
        unanswered += judge.unanswered;
        settled += judge.settled;
        excused += judge.excused;
    }
    println!(
        "{logouts} logouts, {refused} later requests refused, {unanswered} not answered; {settled} settlings, {excused} losses excused"
    );
    report_zero(
        "schedules in which a token was accepted after its logout",
        schedules,
    );
}

#[test]
fn the_same_seed_makes_the_same_execution() {
    for seed in 0..30 {
        let once = || run(&Schedule::from_seed(seed), None, true).trace;
        assert!(once() == once(), "seed {seed} makes two executions");
    }
}

/// Finds the first schedule that reveals a mutation.
fn found_out(flaw: Flaw, within: u64) {
    let schedules = (0..).map(Schedule::from_seed);
    let mut concerned = schedules.filter(|schedule| concerns(flaw, schedule));
    for tried in 1..=within {
        let schedule = concerned.next().unwrap();
        if run(&schedule, Some(flaw), false).judge.violation.is_some() {
            println!(
                "{flaw:?} is found out by schedule {tried} (seed {})",
                schedule.seed
            );
            return;
        }
    }
    panic!("{flaw:?} is not found out by {within} schedules");
}

#[test]
fn a_logout_that_does_not_wait_is_found_out() {
    found_out(Flaw::NoWait, 2000);
}

#[test]
fn a_view_dated_by_its_answer_is_found_out() {
    found_out(Flaw::AgeFromArrival, 2000);
}

#[test]
fn a_full_page_taken_for_the_end_is_found_out() {
    found_out(Flaw::FullPageIsTheEnd, 2000);
}

#[test]
fn a_replica_without_a_lease_is_found_out() {
    found_out(Flaw::NoLease, 2000);
}

#[test]
fn a_lease_dated_by_its_acknowledgement_is_found_out() {
    found_out(Flaw::LeaseFromArrival, 6000);
}

#[test]
fn a_history_settled_without_a_lease_is_found_out() {
    found_out(Flaw::SettlesWithoutLease, 2000);
}

#[test]
fn a_logout_that_does_not_wait_for_leases_on_the_former_primary_is_found_out() {
    found_out(Flaw::ForgetsOldLeases, 2000);
}

#[test]
fn a_history_that_does_not_settle_is_found_out() {
    found_out(Flaw::NoSettling, 2000);
}

#[test]
fn lost_entries_put_back_when_the_view_counts_again_is_found_out() {
    found_out(Flaw::ReappendsWhenFresh, 2000);
}

#[test]
fn lost_entries_put_back_only_with_the_lock_is_found_out() {
    found_out(Flaw::WaitsForTheLock, 2000);
}

#[test]
fn a_logout_that_waits_for_its_own_window_only_is_found_out() {
    found_out(Flaw::OwnWindowOnly, 2000);
}

#[test]
fn windows_told_from_a_history_that_is_lost_is_found_out() {
    found_out(Flaw::WindowsOfAnyHistory, 2000);
}

#[test]
fn a_window_not_announced_again_after_a_loss_is_found_out() {
    found_out(Flaw::AnnouncesOncePerConnection, 2000);
}

#[test]
fn a_view_that_counts_before_its_window_is_announced_is_found_out() {
    found_out(Flaw::CountsBeforeAnnouncing, 2000);
}

#[test]
fn an_announcement_dated_by_its_answer_is_found_out() {
    found_out(Flaw::AnnouncementFromArrival, 2000);
}

#[test]
fn a_request_that_joins_a_read_under_way_is_found_out() {
    found_out(Flaw::JoinsAReadUnderWay, 2000);
}

#[test]
fn a_flush_and_an_append_that_nobody_notices_is_found_out() {
    found_out(Flaw::TrustsTheHistory, 2000);
}

#[test]
fn a_wait_without_a_margin_for_the_clocks_is_found_out() {
    found_out(Flaw::NoMargin, 2000);
}
