//! Requests of clients: checks of a token, and logouts.

use std::time::Duration;

use portcullis::auth::revocation::window::{is_fresh_at, propagation_wait};
use portcullis::domain::Uptime;
use portcullis::store::SETTLING;

use super::clock::{MILLI, SECOND, Time};
use super::flaw::Flaw;
use super::incident::Incident;
use super::redis::{Command, Reply};
use super::replica::Doing;
use super::world::{Event, World};

/// Greatest time that a request waits for a view.
const PATIENCE: Duration = Duration::from_secs(1);
/// Number of times that a client repeats a logout that was not acknowledged.
const ATTEMPTS: u32 = 4;

/// A request that waits for a view that is fresh enough.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    request: u64,
    token: usize,
    /// Arrival at the replica, by the replica's clock; `since` is the true time.
    arrived: Uptime,
    since: Time,
}

impl World {
    pub fn check(&mut self, replica: usize, token: usize, since: Time) {
        let request = self.number();
        let who = &mut self.replicas[replica];
        if !who.up {
            return;
        }
        let arrived = who.clock.uptime(self.now);
        let waiting = Waiting {
            request,
            token,
            arrived,
            since,
        };
        if is_fresh_at(who.view, arrived, who.window) {
            return self.answer(replica, waiting);
        }
        who.waiting.push(waiting);
        let (life, at) = (who.life, self.now + who.clock.takes(PATIENCE));
        self.at(
            at,
            Event::GiveUp {
                replica,
                life,
                request,
            },
        );
        self.demand(replica);
    }

    pub fn give_up(&mut self, replica: usize, life: u64, request: u64) {
        let who = &mut self.replicas[replica];
        let before = who.waiting.len();
        who.waiting.retain(|waiting| waiting.request != request);
        if who.life == life && who.waiting.len() < before {
            self.judge.unanswered += 1;
        }
    }

    /// Publishes a view, once its entries are stored, and answers the requests for which it is fresh enough.
    pub fn publish(&mut self, replica: usize, dated: Uptime) {
        let joins = self.has(Flaw::JoinsAReadUnderWay);
        let who = &mut self.replicas[replica];
        who.view = Some(dated);
        let window = who.window;
        let served = |waiting: &mut Waiting| {
            is_fresh_at(Some(dated), waiting.arrived, window) || (joins && window.is_zero())
        };
        for waiting in who.waiting.extract_if(.., served).collect::<Vec<_>>() {
            self.answer(replica, waiting);
        }
    }

    fn answer(&mut self, replica: usize, waiting: Waiting) {
        let Waiting { token, since, .. } = waiting;
        let who = &self.replicas[replica];
        let refused = who.denied.contains(&self.judge.entry(token));
        if self.judge.answered(token, replica, since, refused) {
            self.note(|| {
                format!(
                    "replica {replica} ACCEPTS token {token} in a request that came at {since} us"
                )
            });
        }
    }

    /// Asks a replica to log a token out.
    pub fn log_out(&mut self, replica: usize, token: usize, attempt: u32) {
        if !self.replicas[replica].up || self.judge.is_out(token) {
            return;
        }
        let entry = self.judge.entry(token);
        let (now, copies) = (self.now, self.copies);
        self.replicas[replica].denied.insert(&entry);
        self.judge
            .learned(replica, std::slice::from_ref(&entry), now);
        let server = self.resolve();
        let run = self.servers[server].run();
        let entries = vec![entry];
        let doing = Doing::Appending { token, attempt };
        self.send(
            replica,
            server,
            run,
            Command::Append { entries, copies },
            doing,
        );
    }

    /// Continues a logout after one of its operations has ended.
    pub fn log_out_on(&mut self, replica: usize, doing: Doing, reply: Option<Reply>) {
        match (doing, reply) {
            (Doing::Appending { token, .. }, Some(Reply::Appended { window, settled })) => {
                let outlasts_leases =
                    settled || self.copies == 0 || self.has(Flaw::ForgetsOldLeases);
                let window = if outlasts_leases { window } else { SETTLING };
                let own = self.replicas[replica].window;
                let wait = match self.flaw {
                    Some(Flaw::NoWait) => Duration::ZERO,
                    Some(Flaw::OwnWindowOnly) => propagation_wait(own, own),
                    Some(Flaw::NoMargin) => window.max(own),
                    _ => propagation_wait(window, own),
                };
                self.note(|| {
                    format!("replica {replica} waits {wait:?} with the logout of token {token}")
                });
                self.rest(replica, wait, Doing::Holding { token });
            }
            (Doing::Appending { token, attempt }, _) if attempt < ATTEMPTS => {
                let at = self.now + self.random.between(20 * MILLI, 2 * SECOND);
                let replica = self.random.index(self.replicas.len());
                let again = Incident::LogOut {
                    replica,
                    token,
                    attempt: attempt + 1,
                };
                self.at(at, Event::Incident(again));
            }
            (Doing::Holding { token }, _) => self.logged_out(replica, token),
            _ => {}
        }
    }

    /// Answers a logout. From now on every replica must refuse the token.
    fn logged_out(&mut self, replica: usize, token: usize) {
        self.note(|| format!("replica {replica} ANSWERS the logout of token {token}"));
        self.judge.logged_out(token, self.now);
        for replica in 0..self.replicas.len() {
            for latest in [1, 60 * MILLI, 1200 * MILLI, 6 * SECOND] {
                let at = self.now + 1 + self.random.below(latest);
                self.at(
                    at,
                    Event::Check {
                        replica,
                        token,
                        since: at,
                    },
                );
            }
        }
    }
}
