//! The oracle: it observes everything, changes nothing, and decides if the guarantee was kept.
//!
//!
//! The guarantee: once a logout has answered, no request that arrives later at any replica is answered 200. A loss in Redis is
//! excused only if no living replica that knew the entry could put it back within the settling time: no replica that knew it
//! was connected to that primary, without trouble, from [`REACH`] before the end of the settling on ([`REACH_AFTER_RESTART`]).

use std::fmt;

use portcullis::domain::{SessionId, Timestamp, UserTag};
use portcullis::store::{Entry, HistoryId, SessionEntry};

use super::clock::{MILLI, Time};
use super::world::World;

/// Time before the end of the settling at which a replica must have reached Redis to put back in time the entries that it
/// knows: it may have read just before the loss and read once a second, and another replica may hold the lock.
const REACH: Time = 2400 * MILLI;
/// The same time after a restart of Redis: a replica that connects again reads at once.
const REACH_AFTER_RESTART: Time = 1000 * MILLI;

/// A request that was answered 200 after its token's logout had answered.
#[derive(Debug, Clone)]
pub struct Violation {
    pub token: usize,
    pub replica: usize,
    pub logged_out: Time,
    pub arrived: Time,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            token,
            replica,
            logged_out,
            arrived,
        } = self;
        let after = arrived - logged_out;
        write!(
            f,
            "replica {replica} accepted token {token} in a request that came {after} us after its logout had answered"
        )
    }
}

pub struct Judge {
    pub violation: Option<Violation>,
    /// Number of requests refused after their token's logout; `unanswered` counts those that no replica could answer in time.
    pub refused: usize,
    pub unanswered: usize,
    /// Number of histories that have settled; `excused` counts the losses that were excused.
    pub settled: usize,
    pub excused: usize,
    /// If nothing settles, the oracle learns only later that a loss is excused.
    pub patient: bool,
    accused: Vec<Violation>,
    tokens: Vec<Token>,
    /// Time at which the settling of each server's history last began, and the share of it that a replica needs to put entries
    /// back.
    marked: [(Time, Time); 3],
}

struct Token {
    entry: SessionEntry,
    /// Time from which each replica has known that the token is revoked.
    known: Vec<Option<Time>>,
    /// True once a client has asked for the token's logout.
    begun: bool,
    logged_out: Option<Time>,
    excused: bool,
}

impl Judge {
    pub fn new(tokens: usize, replicas: usize) -> Self {
        let token = |number: usize| Token {
            entry: SessionEntry {
                tag: UserTag::from_bits(7),
                sid: SessionId::from_bits(number as u128),
                until: Timestamp::from_secs(4_000_000_000),
            },
            known: vec![None; replicas],
            begun: false,
            logged_out: None,
            excused: false,
        };
        Self {
            violation: None,
            refused: 0,
            unanswered: 0,
            settled: 0,
            excused: 0,
            patient: false,
            accused: Vec::new(),
            tokens: (0..tokens).map(token).collect(),
            marked: [(0, 0); 3],
        }
    }

    pub fn entry(&self, token: usize) -> Entry {
        Entry::Session(self.tokens[token].entry)
    }

    pub fn is_out(&self, token: usize) -> bool {
        self.tokens[token].logged_out.is_some()
    }

    pub fn logged_out_count(&self) -> usize {
        self.tokens
            .iter()
            .filter(|token| token.logged_out.is_some())
            .count()
    }

    pub fn learned(&mut self, replica: usize, entries: &[Entry], now: Time) {
        for entry in entries {
            let of = |token: &&mut Token| Entry::Session(token.entry) == *entry;
            if let Some(token) = self.tokens.iter_mut().find(of) {
                token.known[replica].get_or_insert(now);
                token.begun = true;
            }
        }
    }

    /// Records that a replica has died and has lost all its knowledge.
    pub fn forgot(&mut self, replica: usize) {
        for token in &mut self.tokens {
            token.known[replica] = None;
        }
    }

    pub fn logged_out(&mut self, token: usize, now: Time) {
        self.tokens[token].logged_out.get_or_insert(now);
    }

    /// Records that a replica began the settling of a history.
    pub fn marked(&mut self, server: usize, now: Time, settles: Time) {
        let reach = if settles < REACH {
            REACH_AFTER_RESTART
        } else {
            REACH
        };
        self.marked[server] = (now, reach);
    }

    /// Records the answer to a request. Returns true if the answer breaks the guarantee.
    pub fn answered(&mut self, token: usize, replica: usize, arrived: Time, refused: bool) -> bool {
        let Some(logged_out) = self.tokens[token].logged_out.filter(|out| arrived > *out) else {
            return false;
        };
        if refused || self.tokens[token].excused {
            self.refused += usize::from(refused);
            return false;
        }
        let violation = Violation {
            token,
            replica,
            logged_out,
            arrived,
        };
        if self.patient {
            self.accused.push(violation);
        } else {
            self.violation = Some(violation);
        }
        true
    }

    /// Selects the first violation that was recorded while nothing settled and was not excused in the end.
    pub fn convict(&mut self) {
        let guilty = |accused: &&Violation| !self.tokens[accused.token].excused;
        let guilty = self.accused.iter().find(guilty).cloned();
        self.violation = self.violation.take().or(guilty);
    }
}

impl World {
    /// Judges a server whose settling is over: each entry that the server lacked was put back, or no replica could put it back,
    /// or the protocol is wrong.
    pub fn judge_settled(&mut self, number: usize, mark: &(HistoryId, Timestamp)) {
        let (server, now) = (&self.servers[number], self.now);
        if !server.up || server.data.settled() != Some(mark) {
            return;
        }
        self.judge.settled += 1;
        let (began, reach) = self.judge.marked[number];
        let (began, replicas) = (began.max(server.trouble_until), &self.replicas);
        for token in &mut self.judge.tokens {
            if server.data.has(&Entry::Session(token.entry)) {
                continue;
            }
            let reached = replicas.iter().zip(&token.known).any(|(replica, known)| {
                let since = replica.connection.filter(|connection| {
                    replica.up && connection.server == number && connection.run == server.run()
                });
                let since = since.zip(*known).map(|(connection, known)| {
                    connection
                        .since
                        .max(known)
                        .max(began)
                        .max(replica.trouble_until)
                });
                since.is_some_and(|since| since + reach <= now)
            });
            if !reached && !token.excused && token.begun {
                token.excused = true;
                self.judge.excused += 1;
            }
        }
    }
}
