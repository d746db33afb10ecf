//! A replica of Portcullis: its knowledge and its operations.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis::auth::revocation::feed_state::FeedState;
use portcullis::auth::revocation::lock_bypass::LockBypass;
use portcullis::auth::revocation::window::Announcement;
use portcullis::domain::{Timestamp, Uptime};
use portcullis::store::{Entry, HistoryId, Page};

use super::clock::{Drift, Time};
use super::flaw::Flaw;
use super::requests::Waiting;
use portcullis::auth::revocation::lease::Lease;

/// Entries that a replica refuses. The product's denylist is made for millions, and has its own tests.
#[derive(Debug, Default)]
pub struct Denied(Vec<Entry>);

impl Denied {
    pub fn insert(&mut self, entry: &Entry) {
        if !self.0.contains(entry) {
            self.0.push(entry.clone());
        }
    }

    pub fn contains(&self, entry: &Entry) -> bool {
        self.0.contains(entry)
    }

    /// Entries that `self` has and `there` lacks.
    pub fn beyond(&self, there: &Self) -> Vec<Entry> {
        let missing = self.0.iter().filter(|entry| !there.contains(entry));
        missing.cloned().collect()
    }
}

/// Purpose of an operation.
#[derive(Debug)]
pub enum Doing {
    Connecting {
        server: usize,
    },
    Announcing {
        sent: Uptime,
        then_settle: Option<HistoryId>,
    },
    Reading {
        sent: Uptime,
    },
    Settling,
    Locking {
        left: Duration,
    },
    PuttingBack,
    /// Rests until the next read is due; `true` if a request ends the rest.
    Resting(bool),
    /// Waits until the next attempt to connect.
    BackingOff,
    Beating {
        sent: Uptime,
    },
    BetweenBeats,
    /// Appends a logout's entry.
    Appending {
        token: usize,
        attempt: u32,
    },
    /// Waits until a logout is in force at every replica.
    Holding {
        token: usize,
    },
}

/// Connection to one process of one server.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    pub server: usize,
    pub run: u64,
    pub since: Time,
}

pub struct Replica {
    pub clock: Drift,
    pub window: Duration,
    /// Number of the present life; `up` is true while the replica lives.
    pub life: u64,
    pub up: bool,
    pub paused_until: Time,
    pub slow_until: Time,
    pub cut_off_until: Time,
    /// Time at which the last pause, disconnection or slow phase ends.
    pub trouble_until: Time,
    pub lines: BTreeMap<u64, Doing>,
    pub denied: Denied,
    /// Time at which the read of the newest view was sent.
    pub view: Option<Uptime>,
    pub waiting: Vec<Waiting>,
    pub connection: Option<Connection>,
    /// Present operations of the feed consumer and of the heartbeat.
    pub following: Option<u64>,
    pub beating: Option<u64>,
    pub feed: FeedState,
    pub announcement: Announcement,
    pub lock_bypass: LockBypass,
    pub lease: Lease,
    pub in_feed: Denied,
    pub jitter: bool,
    /// Entries that a mutation puts back too late.
    pub owed: Vec<Entry>,
    naive: Naive,
}

/// State of a mutated reader, which does not count entries.
#[derive(Debug, Default)]
struct Naive {
    counted: u64,
    settled: Option<(HistoryId, Timestamp)>,
}

impl Replica {
    pub fn new(clock: Drift, window: Duration, flaw: Option<Flaw>) -> Self {
        Self {
            clock,
            window,
            life: 0,
            up: false,
            paused_until: 0,
            slow_until: 0,
            cut_off_until: 0,
            trouble_until: 0,
            lines: BTreeMap::new(),
            denied: Denied::default(),
            view: None,
            waiting: Vec::new(),
            connection: None,
            following: None,
            beating: None,
            feed: FeedState::new(flaw == Some(Flaw::NoSettling)),
            announcement: Announcement::default(),
            lock_bypass: LockBypass::default(),
            lease: Lease::default(),
            in_feed: Denied::default(),
            jitter: true,
            owed: Vec::new(),
            naive: Naive::default(),
        }
    }

    /// Replaces the replica by a successor that knows nothing.
    pub fn replace(&mut self, window: Duration, flaw: Option<Flaw>) {
        let life = self.life + 1;
        *self = Self {
            life,
            ..Self::new(self.clock, window, flaw)
        };
    }

    /// Changes a page to what a mutated reader makes of it.
    pub fn misread(&mut self, page: &mut Page, flaw: Option<Flaw>) {
        let trusts = flaw == Some(Flaw::TrustsTheHistory);
        if (!trusts && flaw != Some(Flaw::FullPageIsTheEnd)) || page.added.is_none() {
            return;
        }
        if trusts {
            match &self.naive.settled {
                Some((history, since)) if *history == page.history => page.settled = Some(*since),
                _ => self.naive.settled = page.settled.map(|since| (page.history.clone(), since)),
            }
        } else {
            page.at_end = true;
        }
        self.naive.counted += page.entries.len() as u64;
        page.added = Some(self.naive.counted);
    }
}
