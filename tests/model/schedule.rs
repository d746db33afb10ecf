//! Schedules: what goes wrong when. A seed makes a schedule; a schedule and a flaw make one execution.

use std::time::Duration;

use super::clock::{MILLI, SECOND, Time};
use super::flaw::Flaw;
use super::random::Random;
use super::redis::Data;
use super::world::{Event, World};

/// Something that happens from outside.
#[derive(Debug, Clone)]
pub enum Incident {
    Begin {
        replica: usize,
    },
    LogOut {
        replica: usize,
        token: usize,
        attempt: u32,
    },
    /// Requests at all replicas, so that their views are young.
    Ask {
        token: usize,
    },
    Pause {
        replica: usize,
        takes: Time,
    },
    /// All replicas stand still for minutes.
    Night {
        takes: Time,
    },
    /// A replica ends, and another begins in its place, perhaps with another window.
    Replace {
        replica: usize,
        takes: Time,
        window: Duration,
    },
    CutOff {
        replica: usize,
        takes: Time,
    },
    Slow {
        replica: usize,
        takes: Time,
    },
    FlushAll,
    DeleteFeed,
    DeleteSettled,
    DeleteWindows,
    /// The primary ends and begins again without its last writes.
    Restart {
        takes: Time,
        lost: usize,
    },
    PausePrimary {
        takes: Time,
    },
    /// A copy becomes the primary, while the old one does something.
    Failover {
        old: Old,
    },
    /// A server begins again.
    Start {
        server: usize,
        lost: usize,
    },
    /// A server is made a copy of the primary.
    Follow {
        copy: usize,
    },
}

/// What becomes of a primary that is replaced.
#[derive(Debug, Clone, Copy)]
pub enum Old {
    Killed,
    Paused(Time),
    /// It knows nothing of it.
    LivesOn,
}

#[derive(Debug, Clone)]
pub struct Schedule {
    pub seed: u64,
    /// How many copies must acknowledge; with any, there are two.
    pub copies: usize,
    /// One replica's window each.
    pub windows: Vec<Duration>,
    /// Whether the cluster has been at work for a while.
    pub settled: bool,
    pub tokens: usize,
    pub incidents: Vec<(Time, Incident)>,
    pub end: Time,
}

/// How long it is quiet at the end, so that everything must have recovered.
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
        let replicas = random.index(3) + 2;
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
        // Few kinds at a time meet more often than many.
        let mut kinds: Vec<_> = KINDS.into_iter().filter(|_| random.chance(30)).collect();
        kinds.push(random.pick(&KINDS));
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

    /// One logout, or one at every replica at once.
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
            self.add(
                at + random.below(10 * MILLI),
                Incident::LogOut {
                    replica,
                    token,
                    attempt: 0,
                },
            );
        }
    }

    /// Something of a kind. Returns how much later it is afterwards.
    fn go_wrong(&mut self, random: &mut Random, at: Time, kind: Kind) -> Time {
        let replica = random.index(self.windows.len());
        let longest = random.pick(&[60 * MILLI, 1500 * MILLI, 7 * SECOND]);
        let takes = random.between(MILLI, longest);
        let incident = match kind {
            Kind::Pause => Incident::Pause { replica, takes },
            Kind::CutOff => Incident::CutOff { replica, takes },
            Kind::Slow => Incident::Slow { replica, takes },
            Kind::Night => {
                let takes = random.between(280, 400) * SECOND;
                self.add(at, Incident::Night { takes });
                return takes;
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
                let old = random.pick(&[Old::Killed, Old::Paused(takes), Old::LivesOn]);
                Incident::Failover { old }
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

impl World {
    pub fn happen(&mut self, incident: Incident) {
        if !matches!(incident, Incident::Ask { .. }) {
            self.note(|| format!("== {incident:?}"));
        }
        let (now, primary) = (self.now, self.primary);
        match incident {
            Incident::Begin { replica } => {
                self.replicas[replica].up = true;
                self.connect(replica);
            }
            Incident::LogOut {
                replica,
                token,
                attempt,
            } => {
                let until = self.replicas[replica].paused_until;
                if until > now {
                    return self.at(until, Event::Incident(incident));
                }
                self.log_out(replica, token, attempt);
            }
            Incident::Ask { token } => {
                for replica in 0..self.replicas.len() {
                    self.at(
                        now,
                        Event::Check {
                            replica,
                            token,
                            since: now,
                        },
                    );
                }
            }
            Incident::Pause { replica, takes } => self.stop_replica(replica, takes),
            Incident::Night { takes } => {
                for replica in 0..self.replicas.len() {
                    let longer = self.random.below(500 * MILLI);
                    self.stop_replica(replica, takes + longer);
                }
            }
            Incident::Replace {
                replica,
                takes,
                window,
            } => {
                let who = &mut self.replicas[replica];
                who.replace(window, self.flaw);
                self.judge.forgot(replica);
                self.at(now + takes, Event::Incident(Incident::Begin { replica }));
            }
            Incident::CutOff { replica, takes } => {
                let who = &mut self.replicas[replica];
                who.cut_off_until = [now + takes; 3];
                who.trouble_until = who.trouble_until.max(now + takes);
            }
            Incident::Slow { replica, takes } => {
                let who = &mut self.replicas[replica];
                who.slow_until = now + takes;
                who.trouble_until = who.trouble_until.max(now + takes);
            }
            Incident::FlushAll => self.lose(|data| *data = Data::default()),
            Incident::DeleteFeed => self.lose(Data::delete_feed),
            Incident::DeleteSettled => self.lose(Data::delete_settled),
            Incident::DeleteWindows => self.lose(Data::delete_windows),
            Incident::Restart { takes, lost } => {
                self.servers[primary].stop();
                self.at(
                    now + takes,
                    Event::Incident(Incident::Start {
                        server: primary,
                        lost,
                    }),
                );
            }
            Incident::Start { server, lost } => self.start_server(server, lost),
            Incident::PausePrimary { takes } => self.pause_server(primary, takes),
            Incident::Failover { old } => self.fail_over(old),
            Incident::Follow { copy } => self.follow_primary(copy),
        }
    }

    fn stop_replica(&mut self, replica: usize, takes: Time) {
        let who = &mut self.replicas[replica];
        who.paused_until = who.paused_until.max(self.now + takes);
        who.trouble_until = who.trouble_until.max(who.paused_until);
    }

    fn pause_server(&mut self, server: usize, takes: Time) {
        let server = &mut self.servers[server];
        server.paused_until = server.paused_until.max(self.now + takes);
        server.trouble_until = server.trouble_until.max(server.paused_until);
    }

    fn lose(&mut self, how: impl FnOnce(&mut Data)) {
        how(&mut self.servers[self.primary].data);
        self.copy_out(self.primary);
    }

    fn start_server(&mut self, number: usize, lost: usize) {
        if self.servers[number].up || self.primary != number {
            return;
        }
        let (run, replication) = (self.number(), self.number());
        let mut numbers = [replication, run].into_iter();
        let mut next = || numbers.next_back().unwrap();
        self.servers[number].start(&mut next, lost);
        for copy in 0..self.servers.len() {
            if copy != number {
                self.follow_later(copy, SECOND);
            }
        }
    }

    fn follow_later(&mut self, copy: usize, longest: Time) {
        let at = self.now + self.random.below(longest);
        self.at(at, Event::Incident(Incident::Follow { copy }));
    }

    fn follow_primary(&mut self, copy: usize) {
        let until = self.servers[copy].paused_until;
        if until > self.now {
            // One that stood still learns a little later what has become of it.
            let at = until + self.random.below(400 * MILLI);
            return self.at(at, Event::Incident(Incident::Follow { copy }));
        }
        if copy != self.primary && self.servers[self.primary].up {
            self.attach(copy, self.primary);
        }
    }

    fn fail_over(&mut self, old: Old) {
        let former = self.primary;
        let candidates = self.servers.iter().enumerate();
        let candidates: Vec<_> = candidates
            .filter(|(_, server)| server.up && server.follows.is_some_and(|(of, _)| of == former))
            .map(|(number, _)| number)
            .collect();
        if candidates.is_empty() {
            return;
        }
        let new = self.random.pick(&candidates);
        let history = self.number();
        self.servers[former]
            .copies
            .retain(|(copy, _, _)| *copy != new);
        self.servers[new].promote(history);
        self.primary = new;
        match old {
            Old::Killed => self.servers[former].stop(),
            Old::Paused(takes) => self.pause_server(former, takes),
            Old::LivesOn => {}
        }
        for copy in 0..self.servers.len() {
            let longest = self.random.pick(&[100 * MILLI, 2 * SECOND, 6 * SECOND]);
            if copy != new {
                self.follow_later(copy, longest + if copy == former { 2 * SECOND } else { 0 });
            }
        }
    }
}

/// What a flaw needs to show at all.
pub fn concerns(flaw: Option<Flaw>, schedule: &Schedule) -> bool {
    match flaw {
        Some(
            Flaw::NoLease
            | Flaw::LeaseFromArrival
            | Flaw::SettlesWithoutLease
            | Flaw::AnswersBeforeSettled,
        ) => schedule.copies > 0,
        Some(Flaw::JoinsAReadUnderWay) => schedule.windows.iter().any(Duration::is_zero),
        _ => true,
    }
}
