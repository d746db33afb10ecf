//! A Redis server: its process, its copies, and the writes that its copies have acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use portcullis::store::HistoryId;

use super::clock::{Drift, SECOND, Time};
use super::redis::{Data, Reply};
use super::world::Line;

/// Number of earlier states to which a restart may reset the server.
const PAST: usize = 6;

/// Redis server.
pub struct Server {
    pub up: bool,
    pub paused_until: Time,
    /// Time at which the last pause ends.
    pub trouble_until: Time,
    pub primary: bool,
    /// Primary of this server, and the number of the connection to it.
    pub follows: Option<(usize, u64)>,
    /// Copies of this server, each with the number of its connection and the arrival time of the last message on it.
    pub copies: Vec<(usize, u64, Time)>,
    run: u64,
    /// Start of the present process.
    started: Time,
    replication: u64,
    pub data: Data,
    /// Number of writes that the server has executed.
    pub offset: u64,
    acknowledged: BTreeMap<usize, u64>,
    waiting: Vec<Waiting>,
    past: VecDeque<Data>,
    pub clock: Drift,
}

/// A write that waits for copies to acknowledge it.
struct Waiting {
    line: Line,
    offset: u64,
    copies: usize,
    reply: Reply,
}

impl Server {
    pub fn new(number: u64, clock: Drift) -> Self {
        Self {
            up: true,
            paused_until: 0,
            trouble_until: 0,
            primary: number == 0,
            follows: None,
            copies: Vec::new(),
            run: number,
            started: 0,
            replication: 0,
            data: Data::default(),
            offset: 0,
            acknowledged: BTreeMap::new(),
            waiting: Vec::new(),
            past: VecDeque::new(),
            clock,
        }
    }

    pub fn history(&self) -> HistoryId {
        HistoryId::new(
            format!("run{}", self.run),
            format!("history{}", self.replication),
        )
    }

    /// ID of the process to which a connection leads.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Keeps the present state for a later restart, before the data change.
    pub fn remember(&mut self) {
        self.past.push_back(self.data.clone());
        if self.past.len() > PAST {
            self.past.pop_front();
        }
    }

    /// Uptime of the process, in whole seconds.
    pub fn uptime(&self, now: Time) -> u64 {
        (now - self.started) / SECOND
    }

    /// Starts a process whose state lacks the last `lost` writes.
    pub fn start(&mut self, numbers: &mut impl FnMut() -> u64, lost: usize, now: Time) {
        for _ in 0..lost {
            self.data = self.past.pop_back().unwrap_or_default();
        }
        (self.up, self.run, self.replication) = (true, numbers(), numbers());
        self.started = now;
    }

    pub fn stop(&mut self) {
        self.up = false;
        self.copies.clear();
        self.acknowledged.clear();
        self.waiting.clear();
    }

    /// Becomes the primary, with a new history.
    pub fn promote(&mut self, history: u64) {
        (self.primary, self.follows, self.replication) = (true, None, history);
    }

    /// Becomes a copy of another server in its present state.
    pub fn copy(&mut self, of: usize, connection: u64, data: Data, offset: u64) {
        self.stop();
        (self.up, self.primary, self.follows) = (true, false, Some((of, connection)));
        (self.data, self.offset) = (data, offset);
        self.past.clear();
    }

    pub fn receive(&mut self, data: &Rc<Data>, offset: u64) {
        self.remember();
        (self.data, self.offset) = (Data::clone(data), offset);
    }

    pub fn wait(&mut self, line: Line, copies: usize, reply: Reply) {
        let offset = self.offset;
        self.waiting.push(Waiting {
            line,
            offset,
            copies,
            reply,
        });
    }

    /// Receives an acknowledgement. Returns the writes that can be answered now.
    pub fn acknowledge(&mut self, copy: usize, offset: u64) -> Vec<(Line, Reply)> {
        let seen = self.acknowledged.entry(copy).or_default();
        *seen = offset.max(*seen);
        let enough = |waiting: &mut Waiting| {
            let have = self
                .acknowledged
                .values()
                .filter(|seen| **seen >= waiting.offset);
            have.count() >= waiting.copies
        };
        let done = self.waiting.extract_if(.., enough);
        done.map(|waiting| (waiting.line, waiting.reply)).collect()
    }
}
