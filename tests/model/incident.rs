//! Faults from outside: replicas and servers pause, die and start, data are lost, primaries are replaced.

use std::time::Duration;

use super::clock::{MILLI, SECOND, Time};
use super::redis::Data;
use super::world::{Event, World};

/// One event from outside.
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
    /// All replicas pause for minutes.
    Night {
        takes: Time,
    },
    /// A replica ends, and another starts in its place, possibly with another window.
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
    /// The primary restarts without its last writes.
    Restart {
        takes: Time,
        lost: usize,
    },
    PausePrimary {
        takes: Time,
    },
    /// A copy becomes the primary; `old` says what the old primary does meanwhile.
    Failover {
        old: Old,
    },
    /// A server restarts.
    Start {
        server: usize,
        lost: usize,
    },
    /// A server becomes a copy of the primary.
    Follow {
        copy: usize,
    },
}

/// Behaviour of a primary that is replaced.
#[derive(Debug, Clone, Copy)]
pub enum Old {
    Killed,
    Paused(Time),
    /// It does not notice that it has been replaced.
    LivesOn,
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
                who.cut_off_until = now + takes;
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
        self.servers[number].start(&mut next, lost, self.now);
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
            // A server that was paused learns a little later that it has been replaced.
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
                self.follow_later(copy, longest + if copy == former { 6 * SECOND } else { 0 });
            }
        }
    }
}
