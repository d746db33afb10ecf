//! Schedules: the faults and their times. A seed makes a schedule; a schedule and a mutation make one execution.

use std::time::Duration;

use super::clock::{MILLI, SECOND, Time};
use super::flaw::Flaw;
use super::incident::{Incident, Old};
use super::random::Random;

#[derive(Debug, Clone)]
pub struct Schedule {
    pub seed: u64,
    /// Number of copies that must acknowledge; if it is not zero, there are two copies.
    pub copies: usize,
    /// Window of each replica.
    pub windows: Vec<Duration>,
    /// True if the cluster has been at work for a while.
    pub settled: bool,
    pub tokens: usize,
    pub incidents: Vec<(Time, Incident)>,
    pub end: Time,
}

/// Duration without faults at the end, in which everything must recover.
const QUIET: Time = 9 * SECOND;

#[derive(Clone, Copy)]
enum Kind {
    Pause,
    Night,
    Replace,
    CutOff,
    Slow,
    FlushAll,
    Delete,
    Restart,
    PausePrimary,
    Failover,
}

const KINDS: [Kind; 10] = [
    Kind::Pause,
    Kind::Night,
    Kind::Replace,
    Kind::CutOff,
    Kind::Slow,
    Kind::FlushAll,
    Kind::Delete,
    Kind::Restart,
    Kind::PausePrimary,
    Kind::Failover,
];

impl Schedule {
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let copies = random.pick(&[0, 0, 0, 1, 2]);
        let replicas = random.pick(&[2, 3, 3, 4, 5]);
        let window = |random: &mut Random| Duration::from_millis(random.pick(&[0, 50, 250, 1000]));
        let common = window(&mut random);
        let alike = random.chance(50);
        let mut own = || if alike { common } else { window(&mut random) };
        let windows: Vec<_> = (0..replicas).map(|_| own()).collect();
        let settled = random.chance(80);
        let mut schedule = Self {
            seed,
            copies,
            windows,
            settled,
            tokens: 0,
            incidents: Vec::new(),
            end: 0,
        };
        for replica in 0..replicas {
            let late = if random.chance(10) {
                6 * SECOND
            } else {
                300 * MILLI
            };
            schedule.add(SECOND + random.below(late), Incident::Begin { replica });
        }
        // With few kinds of faults, two of them coincide more often than with many.
        let mut kinds: Vec<_> = KINDS.into_iter().filter(|_| random.chance(30)).collect();
        kinds.push(random.pick(&KINDS));
        if copies > 0 {
            kinds.push(Kind::Failover);
        }
        let mut at = SECOND + if settled { 900 * MILLI } else { 4200 * MILLI };
        for _ in 0..random.between(3, 9) {
            at += random.pick(&[2 * MILLI, 70 * MILLI, 1200 * MILLI, 4500 * MILLI])
                * random.below(1000)
                / 1000;
            if random.chance(45) {
                schedule.log_out(&mut random, at);
            } else {
                let kind = random.pick(&kinds);
                at += schedule.go_wrong(&mut random, at, kind);
            }
        }
        schedule.log_out(&mut random, at);
        schedule.end = at + QUIET + 8 * SECOND;
        for token in 0..schedule.tokens {
            schedule.add(
                schedule.end - SECOND - MILLI * token as u64,
                Incident::Ask { token },
            );
        }
        schedule
    }

    fn add(&mut self, at: Time, incident: Incident) {
        self.incidents.push((at, incident));
    }

    /// Adds one logout, or one at every replica at once.
    fn log_out(&mut self, random: &mut Random, at: Time) {
        let replicas = self.windows.len();
        let all = random.chance(20);
        for replica in 0..replicas {
            if !all && replica + 1 < replicas {
                continue;
            }
            let (token, replica) = (
                self.tokens,
                if all { replica } else { random.index(replicas) },
            );
            self.tokens += 1;
            if random.chance(70) {
                let before = random.pick(&[30 * MILLI, 300 * MILLI, 900 * MILLI]);
                self.add(
                    at.saturating_sub(random.below(before)),
                    Incident::Ask { token },
                );
            }
            let log_out = Incident::LogOut {
                replica,
                token,
                attempt: 0,
            };
            self.add(at + random.below(10 * MILLI), log_out);
        }
        if all && random.chance(30) {
            // No replica has read the other replicas' entries yet.
            let at = at + random.between(15 * MILLI, 300 * MILLI);
            let lost = random.pick(&[2, 4, 100]);
            let restart = Incident::Restart {
                takes: 20 * MILLI,
                lost,
            };
            self.add(
                at,
                if random.chance(50) {
                    restart
                } else {
                    Incident::FlushAll
                },
            );
        }
    }

    /// Pauses all replicas for minutes, possibly just when one of them has started.
    fn night(&mut self, random: &mut Random, at: Time, replica: usize) -> Time {
        let takes = random.between(280, 400) * SECOND;
        if random.chance(50) {
            let before = random.between(2 * MILLI, 25 * MILLI);
            let window = Duration::from_secs(1);
            self.add(
                at - before,
                Incident::Replace {
                    replica,
                    takes: MILLI,
                    window,
                },
            );
        }
        self.add(at, Incident::Night { takes });
        let after = at + takes + random.below(2 * SECOND);
        self.log_out(random, after);
        takes
    }

    /// Adds a fault of a kind. Returns the time by which it delays the next event.
    fn go_wrong(&mut self, random: &mut Random, at: Time, kind: Kind) -> Time {
        let replica = random.index(self.windows.len());
        let longest = random.pick(&[60 * MILLI, 1500 * MILLI, 7 * SECOND]);
        let takes = random.between(MILLI, longest);
        let incident = match kind {
            Kind::Pause => Incident::Pause { replica, takes },
            Kind::CutOff => Incident::CutOff { replica, takes },
            Kind::Slow => Incident::Slow { replica, takes },
            Kind::Night => {
                return self.night(random, at, replica);
            }
            Kind::Replace => {
                let window = if random.chance(50) {
                    self.windows[replica]
                } else {
                    random.pick(&self.windows)
                };
                let window = if random.chance(30) {
                    Duration::from_millis(50)
                } else {
                    window
                };
                Incident::Replace {
                    replica,
                    takes,
                    window,
                }
            }
            Kind::FlushAll => Incident::FlushAll,
            Kind::Delete => match random.below(3) {
                0 => Incident::DeleteFeed,
                1 => Incident::DeleteSettled,
                _ => Incident::DeleteWindows,
            },
            Kind::Restart => {
                let takes = random.between(5 * MILLI, 800 * MILLI);
                Incident::Restart {
                    takes,
                    lost: random.pick(&[0, 1, 2, 4, 100]),
                }
            }
            Kind::PausePrimary => Incident::PausePrimary { takes },
            Kind::Failover if self.copies == 0 => return 0,
            Kind::Failover => {
                return self.fail_over(random, at, replica);
            }
        };
        self.add(at, incident);
        if random.chance(30) {
            random.below(takes)
        } else {
            0
        }
    }
}

impl Schedule {
    /// Adds a failover, other faults beside it, and logouts at the moment when the replicas begin to trust the new primary.
    fn fail_over(&mut self, random: &mut Random, at: Time, replica: usize) -> Time {
        let takes = random.between(2 * SECOND, 8 * SECOND);
        let old = random.pick(&[Old::Killed, Old::Paused(takes), Old::LivesOn]);
        let mut later = random.between(3 * SECOND, 8 * SECOND);
        if random.chance(40) {
            later = takes - SECOND + random.below(2 * SECOND);
            // The replica runs on the machine of the old primary, or is as far from the new one, after a time of slow messages.
            let takes = takes + random.below(20 * MILLI);
            let slow = Incident::Slow {
                replica,
                takes: SECOND,
            };
            self.add(at - SECOND, slow);
            self.add(
                at - random.below(20 * MILLI),
                Incident::Pause { replica, takes },
            );
        }
        self.add(at, Incident::Failover { old });
        if random.chance(50) {
            // A replica that starts meanwhile knows the new primary only.
            let at = at + random.below(SECOND);
            let replica = random.index(self.windows.len());
            let window = self.windows[replica];
            self.add(
                at,
                Incident::Replace {
                    replica,
                    takes: 10 * MILLI,
                    window,
                },
            );
        }
        self.log_out(random, at + later);
        let next = at + later + random.below(SECOND);
        self.log_out(random, next);
        random.pick(&[0, later])
    }
}

/// Returns true if a mutation can have an effect in a schedule.
pub fn concerns(flaw: Flaw, schedule: &Schedule) -> bool {
    let has = |which: fn(&Incident) -> bool| {
        schedule
            .incidents
            .iter()
            .any(|(_, incident)| which(incident))
    };
    match flaw {
        Flaw::NoLease | Flaw::SettlesWithoutLease | Flaw::ForgetsOldLeases => {
            schedule.copies == 1 && has(|incident| matches!(incident, Incident::Failover { .. }))
        }
        Flaw::LeaseFromArrival => {
            schedule.copies == 1
                && has(|incident| matches!(incident, Incident::Failover { .. }))
                && has(|incident| matches!(incident, Incident::Pause { .. }))
        }
        Flaw::AnnouncementFromArrival => has(|incident| matches!(incident, Incident::Night { .. })),
        Flaw::JoinsAReadUnderWay => schedule.windows.iter().any(Duration::is_zero),
        _ => true,
    }
}
