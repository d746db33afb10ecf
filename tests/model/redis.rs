//! The feed's data in Redis, and the effect of the scripts on them. Each command here has the semantics of the script of the
//! same name in `src/store/scripts`.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis::domain::Timestamp;
use portcullis::store::{Entry, HistoryId, Page, SETTLING};

/// Number of entries of a page. It is small, so that a handful of logouts makes several pages.
pub const PAGE: usize = 3;

/// Lifetime of an announced window.
const REMEMBERED: Duration = Duration::from_mins(5);
/// Greatest window allowed.
const GREATEST: Duration = Duration::from_secs(1);
/// Lifetime of the lock of the replica that puts entries back, unless the replica renews it.
const LOCK: Duration = Duration::from_secs(1);

/// Command of a replica.
#[derive(Debug, Clone)]
pub enum Command {
    Connect,
    Announce(Duration),
    Read {
        last: String,
    },
    Settle(HistoryId),
    Lock {
        replica: usize,
    },
    /// Puts entries back.
    PutBack(Vec<Entry>),
    /// Appends for a logout, and waits until `copies` copies have the entries.
    Append {
        entries: Vec<Entry>,
        copies: usize,
    },
    /// Writes, and waits until `copies` copies have the write.
    Beat {
        copies: usize,
    },
}

/// Answer to a command.
#[derive(Debug, Clone)]
pub enum Reply {
    Done,
    Page(Box<Page>),
    Locked(bool),
    /// The greatest window that a replica may have, and true if this history has settled.
    Appended {
        window: Duration,
        settled: bool,
    },
    Beaten(HistoryId),
    /// The server is no primary, or the connection is lost.
    Failed,
}

impl Command {
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Connect | Self::Read { .. })
    }

    /// Number of copies that must have the command's write before the server answers.
    pub fn copies(&self) -> usize {
        match self {
            Self::Append { copies, .. } | Self::Beat { copies } => *copies,
            _ => 0,
        }
    }
}

/// Server and time at which a command is executed.
pub struct Here<'a> {
    pub history: &'a HistoryId,
    pub date: Timestamp,
    /// True if this process started a moment ago.
    pub just_started: bool,
    /// Settling time of a history that a restart began.
    pub after_restart: Duration,
    /// Mutation: an append reports windows that were announced in any history.
    pub windows_of_any_history: bool,
}

/// Keys of the feed.
#[derive(Debug, Clone, Default)]
pub struct Data {
    feed: Option<Feed>,
    settled: Option<(HistoryId, Timestamp)>,
    windows: Option<BTreeMap<Duration, Timestamp>>,
    lock: Option<(usize, Timestamp)>,
}

#[derive(Debug, Clone, Default)]
struct Feed {
    entries: Vec<(u64, Entry)>,
    last: u64,
    added: u64,
}

impl Data {
    /// Data of a cluster that has been at work for a while.
    pub fn long_settled(history: HistoryId) -> Self {
        Self {
            feed: Some(Feed::default()),
            settled: Some((history, Timestamp::from_millis(1))),
            windows: Some(BTreeMap::new()),
            lock: None,
        }
    }

    pub fn settled(&self) -> Option<&(HistoryId, Timestamp)> {
        self.settled.as_ref()
    }

    pub fn has(&self, entry: &Entry) -> bool {
        let feed = self.feed.iter().flat_map(|feed| &feed.entries);
        feed.map(|(_, entry)| entry).any(|there| there == entry)
    }

    pub fn delete_feed(&mut self) {
        self.feed = None;
    }

    pub fn delete_settled(&mut self) {
        self.settled = None;
    }

    pub fn delete_windows(&mut self) {
        self.windows = None;
    }

    pub fn execute(&mut self, command: Command, here: &Here) -> Reply {
        match command {
            Command::Connect => {}
            Command::Announce(window) => self.announce(window, here.date),
            Command::Read { last } => return self.read(&last, here),
            Command::Settle(history) => self.settle(history, here),
            Command::Lock { replica } => return Reply::Locked(self.take_lock(replica, here.date)),
            Command::PutBack(entries) => {
                self.append(entries, here);
            }
            Command::Append { entries, .. } => {
                self.append(entries, here);
                let settled = self.has_settled(here);
                let told = settled || here.windows_of_any_history;
                let window = self.windows(here.date).filter(|_| told);
                return Reply::Appended {
                    window: window.unwrap_or(GREATEST),
                    settled,
                };
            }
            Command::Beat { .. } => return Reply::Beaten(here.history.clone()),
        }
        Reply::Done
    }

    fn announce(&mut self, window: Duration, now: Timestamp) {
        if self.windows.is_none() {
            self.settled = None;
        }
        let windows = self.windows.get_or_insert_default();
        windows.insert(window, now);
        windows.retain(|_, announced| now.since(*announced) <= REMEMBERED);
    }

    fn windows(&self, now: Timestamp) -> Option<Duration> {
        let announced = self.windows.iter().flatten();
        let counted = announced.filter(|(_, announced)| now.since(**announced) <= REMEMBERED);
        counted.map(|(window, _)| *window).max()
    }

    fn append(&mut self, entries: Vec<Entry>, here: &Here) {
        if self.feed.is_none() {
            self.settled = None;
        }
        let feed = self.feed.get_or_insert_default();
        for entry in entries {
            // Entry IDs are dates: after a loss they do not go backwards.
            feed.last = here.date.as_millis().max(feed.last + 1);
            feed.added += 1;
            feed.entries.push((feed.last, entry));
        }
    }

    fn has_settled(&self, here: &Here) -> bool {
        self.settled
            .as_ref()
            .is_some_and(|(history, from)| history == here.history && here.date >= *from)
    }

    fn settle(&mut self, seen: HistoryId, here: &Here) {
        let done = self
            .settled
            .as_ref()
            .is_some_and(|(history, _)| *history == seen);
        if done && self.feed.is_some() {
            return;
        }
        self.feed.get_or_insert_default();
        // In a deployment without failover only a restart begins another history.
        let restarted = here.just_started || self.settled.is_some() && !done;
        let settling = if restarted {
            here.after_restart
        } else {
            SETTLING
        };
        self.settled = Some((seen, here.date.plus(settling)));
    }

    fn take_lock(&mut self, replica: usize, now: Timestamp) -> bool {
        let taken = self
            .lock
            .is_some_and(|(holder, until)| holder != replica && now < until);
        if !taken {
            self.lock = Some((replica, now.plus(LOCK)));
        }
        !taken
    }

    fn read(&self, last: &str, here: &Here) -> Reply {
        let after: u64 = last.split('-').next().unwrap().parse().unwrap();
        let feed = self.feed.as_ref();
        let settled = self
            .settled
            .as_ref()
            .filter(|(history, _)| history == here.history);
        let page: Vec<_> = feed
            .iter()
            .flat_map(|feed| &feed.entries)
            .filter(|(id, _)| *id > after)
            .take(PAGE)
            .collect();
        Reply::Page(Box::new(Page {
            history: here.history.clone(),
            time: here.date,
            added: feed.map(|feed| feed.added),
            settled: settled.filter(|_| feed.is_some()).map(|(_, from)| *from),
            // Safety must not depend on the lock, so in this model no replica waits for the holder of the lock.
            reappending: false,
            last: page
                .last()
                .map_or_else(|| last.to_owned(), |(id, _)| format!("{id}-0")),
            at_end: page.len() < PAGE,
            entries: page.into_iter().map(|(_, entry)| entry.clone()).collect(),
        }))
    }
}
