//! A replica of Portcullis: what it knows, and what it is doing.

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

/// What a replica refuses. The product's denylist is made for millions, and has tests of its own.
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

    /// What is here and not there.
    pub fn beyond(&self, there: &Self) -> Vec<Entry> {
        let missing = self.0.iter().filter(|entry| !there.contains(entry));
        missing.cloned().collect()
    }
}

/// What an operation is for.
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
    /// Until the next read is due; `true` where somebody who asks ends it.
    Resting(bool),
    /// Until the next attempt to connect.
    BackingOff,
    Beating {
        sent: Uptime,
    },
    BetweenBeats,
    /// A logout's append.
    Appending {
        token: usize,
        attempt: u32,
    },
    /// A logout that waits until it holds everywhere.
    Holding {
        token: usize,
    },
}

/// A connection to one process of one server.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    pub server: usize,
    pub run: u64,
    pub since: Time,
}

pub struct Replica {
    pub clock: Drift,
    pub window: Duration,
    /// Which life it is in, and whether it lives.
    pub life: u64,
    pub up: bool,
    pub paused_until: Time,
    pub slow_until: Time,
    pub cut_off_until: Time,
    /// Until when it was not quite well.
    pub trouble_until: Time,
    pub lines: BTreeMap<u64, Doing>,
    pub denied: Denied,
    /// When the read of the newest view was sent.
    pub view: Option<Uptime>,
    pub waiting: Vec<Waiting>,
    pub connection: Option<Connection>,
    /// The follower's and the beat's present operation.
    pub following: Option<u64>,
    pub beating: Option<u64>,
    pub feed: FeedState,
    pub announcement: Announcement,
    pub lock_bypass: LockBypass,
    pub lease: Lease,
    pub in_feed: Denied,
    pub jitter: bool,
    /// For the flaw of putting entries back too late.
    pub owed: Vec<Entry>,
    naive: Naive,
}

/// What a reader that does not count believes.
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

    /// Dies; its successor knows nothing.
    pub fn replace(&mut self, window: Duration, flaw: Option<Flaw>) {
        let life = self.life + 1;
        *self = Self {
            life,
            ..Self::new(self.clock, window, flaw)
        };
    }

    /// What a reader with a flaw makes of a page.
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
