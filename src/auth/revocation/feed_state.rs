//! State machine of the feed protocol: the conclusions that a replica may draw from a page, without any I/O.
//!
//! A page carries its history and the number of entries that this history has ever had. As long as the history stays the same
//! and the count grows by exactly the entries received, none is missing. Anything else is a *discontinuity*: a restart, a
//! failover, a `FLUSHALL`, a deleted key. Then the whole feed is read again, the entries that this replica has and the feed
//! has lost are appended again, and all replicas get time to do the same before a view counts again.
//!
//! ```text
//!            settle                    entries missing          settling time not over
//!  start ──► Reading ──── at the end ──► Reappending ── none ──► Settling ──── over ────► Fresh ─┐
//!              ▲                                                                                 │
//!              └───────────────────── discontinuity, from any state ─────────────────────────────┘
//! ```

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use super::denylist::Subject;
use crate::domain::Timestamp;
use crate::store::{Entry, HistoryId, Page};

/// State of this replica's reading of the feed.
#[derive(Debug)]
pub struct FeedState {
    /// True if no other replica can use this Redis: then a history counts without settling.
    single_replica: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Reads the whole feed, from its start.
    Reading(Option<Position>),
    /// Has read the whole feed; follows new entries.
    Following {
        position: Position,
        /// Entries that this replica has and the feed has lost.
        missing: HashMap<Subject, Entry>,
    },
}

/// Position in a history.
#[derive(Debug, Clone)]
struct Position {
    history: HistoryId,
    settled: Timestamp,
    /// The last entry received.
    last: String,
    /// Number of entries that the history had ever had at `last`.
    counted: u64,
}

/// Action that a page requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The feed is read to its end and no entry is missing: publish the view, dated by when this page was requested.
    Fresh,
    /// More entries follow: read on at once.
    More,
    /// Discontinuity: read the whole feed again, from its start.
    Restart,
    /// No replica has started to settle this history: start it, then read on.
    Settle(HistoryId),
    /// The whole feed has been read. Call [`FeedState::record_missing`] with the entries that it has lost.
    Compare,
    /// Append the missing entries again, then read on.
    Reappend {
        /// Rest of the settling time.
        left: Duration,
    },
    /// Read on until the settling time is over.
    Settling,
}

impl FeedState {
    /// Creates the state before the first read. With `single_replica`, no other replica can use this Redis, and no settling is needed.
    #[must_use]
    pub fn new(single_replica: bool) -> Self {
        Self {
            single_replica,
            state: State::Reading(None),
        }
    }

    /// Returns the id of the last entry: the next read starts after it.
    #[must_use]
    pub fn last(&self) -> &str {
        match &self.state {
            State::Reading(None) => "0-0",
            State::Reading(Some(position)) | State::Following { position, .. } => &position.last,
        }
    }

    /// Returns whether the whole feed is being read.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    /// Returns the missing entries, to append after [`Action::Reappend`].
    pub fn missing(&self) -> impl Iterator<Item = &Entry> {
        let missing = match &self.state {
            State::Following { missing, .. } => Some(missing.values()),
            State::Reading(_) => None,
        };
        missing.into_iter().flatten()
    }

    /// Returns up to `count` of the missing entries: the latest revocations, which other replicas may not have read.
    #[must_use]
    pub fn latest_missing(&self, count: usize) -> Vec<Entry> {
        let mut latest: Vec<_> = self.missing().collect();
        latest.sort_unstable_by_key(|entry| Reverse(entry.until()));
        latest.into_iter().take(count).cloned().collect()
    }

    /// Records the entries that this replica has and the feed has lost, after [`Action::Compare`]. The read that found the end
    /// does not count as a view; the next one may.
    pub fn record_missing(&mut self, entries: impl Iterator<Item = Entry>) {
        if let State::Following { missing, .. } = &mut self.state {
            missing.extend(entries.map(|entry| (Subject::of(&entry), entry)));
        }
    }

    /// Processes the next page, whose entries must be stored already.
    pub fn take(&mut self, page: &Page) -> Action {
        let Some((added, settled)) = page.added.zip(page.settled) else {
            self.state = State::Reading(None);
            return Action::Settle(page.history.clone());
        };
        let received = page.entries.len() as u64;
        let here = |counted| Position {
            history: page.history.clone(),
            settled,
            last: page.last.clone(),
            counted,
        };
        match &mut self.state {
            State::Reading(position) => {
                // Before the end of the feed the count is no check: the feed's head may have been trimmed.
                let fits =
                    |before: &Position| before.continues(page, settled) && added >= before.counted;
                if !position.as_ref().is_none_or(fits) {
                    self.state = State::Reading(None);
                    Action::Restart
                } else if page.at_end {
                    self.state = State::Following {
                        position: here(added),
                        missing: HashMap::new(),
                    };
                    Action::Compare
                } else {
                    *position = Some(here(added));
                    Action::More
                }
            }
            State::Following { position, missing } => {
                let counted = position.counted + received;
                let complete = if page.at_end {
                    added == counted
                } else {
                    added >= counted
                };
                if !position.continues(page, settled) || !complete {
                    self.state = State::Reading(None);
                    return Action::Restart;
                }
                *position = here(counted);
                for entry in &page.entries {
                    missing.remove(&Subject::of(entry));
                }
                let left = if self.single_replica {
                    Duration::ZERO
                } else {
                    settled.since(page.time)
                };
                if !page.at_end {
                    Action::More
                } else if !missing.is_empty() {
                    Action::Reappend { left }
                } else if page.reappending || !left.is_zero() {
                    // No replica may answer before all entries are appended again, however long that takes.
                    Action::Settling
                } else {
                    Action::Fresh
                }
            }
        }
    }
}

impl Position {
    fn continues(&self, page: &Page, settled: Timestamp) -> bool {
        self.history == page.history && self.settled == settled
    }
}
