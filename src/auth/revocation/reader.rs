//! What a replica may conclude from the pages it reads: the protocol's state machine, without any input or output.
//!
//! A page tells which history it belongs to and how many entries that history has ever had. As long as the history stays the
//! same and the count grows by exactly what was received, nothing is missing. Anything else is a *discontinuity*: a restart,
//! a failover, a `FLUSHALL`, a deleted key. Then the whole feed is read again, what this replica knows and the feed lacks is
//! put back, and everybody is given time to do the same, before a view counts again.
//!
//! ```text
//!            settle                    lacks entries            younger than the delay
//!  start ──► Reading ──── at the end ──► Reappending ── none ──► Settling ── old enough ──► Fresh ─┐
//!              ▲                                                                                   │
//!              └────────────── discontinuity, from wherever ───────────────────────────────────────┘
//! ```

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use super::denylist::Subject;
use crate::domain::Timestamp;
use crate::store::{Entry, HistoryId, Page};

/// Follows the feed page by page.
#[derive(Debug)]
pub struct Reader {
    /// Whether no other replica can know this Redis: then a history counts without having settled.
    alone: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Reads everything, from the start.
    Reading(Option<Position>),
    /// Has read everything; follows what comes.
    Following {
        position: Position,
        /// What this replica knows and the feed lacks.
        lacking: HashMap<Subject, Entry>,
    },
}

/// Where in which history.
#[derive(Debug, Clone)]
struct Position {
    history: HistoryId,
    settled: Timestamp,
    /// The last entry received.
    last: String,
    /// How many entries the history had when the last of them was received.
    counted: u64,
}

/// What to do after a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing follows this page, and nothing is missing: the view is as of when this page was asked for.
    Fresh,
    /// More follows: read on at once.
    More,
    /// The pages so far do not fit together: everything is read again, from the start.
    Restart,
    /// Nobody has settled this history: begin that, then read on.
    Settle(HistoryId),
    /// Everything has been read. Say which of what is known the feed lacks, by [`Reader::lacks`].
    Compare,
    /// Put back what is lacking, then read on.
    Reappend {
        /// How long the history still settles.
        left: Duration,
    },
    /// Read on until the history has been settled long enough.
    Settling,
}

impl Reader {
    /// A reader that has read nothing. A Redis that no other replica can know needs no settling.
    #[must_use]
    pub fn new(alone: bool) -> Self {
        Self {
            alone,
            state: State::Reading(None),
        }
    }

    /// The id after which to read.
    #[must_use]
    pub fn last(&self) -> &str {
        match &self.state {
            State::Reading(None) => "0-0",
            State::Reading(Some(position)) | State::Following { position, .. } => &position.last,
        }
    }

    /// Whether everything is being read, from the start.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    /// What is to be put back, after [`Next::Reappend`].
    pub fn lacking(&self) -> impl Iterator<Item = &Entry> {
        let lacking = match &self.state {
            State::Following { lacking, .. } => Some(lacking.values()),
            State::Reading(_) => None,
        };
        lacking.into_iter().flatten()
    }

    /// Of what is to be put back, the latest revocations: others may not have read them yet.
    #[must_use]
    pub fn latest_lacking(&self, count: usize) -> Vec<Entry> {
        let mut latest: Vec<_> = self.lacking().collect();
        latest.sort_unstable_by_key(|entry| Reverse(entry.until()));
        latest.into_iter().take(count).cloned().collect()
    }

    /// Tells what this replica knows and the feed lacks, after [`Next::Compare`]. The read that found the end does not count
    /// as a view; the next one may.
    pub fn lacks(&mut self, entries: impl Iterator<Item = Entry>) {
        if let State::Following { lacking, .. } = &mut self.state {
            lacking.extend(entries.map(|entry| (Subject::of(&entry), entry)));
        }
    }

    /// Takes the next page. Its entries have been stored already.
    pub fn take(&mut self, page: &Page) -> Next {
        let Some((added, settled)) = page.added.zip(page.settled) else {
            self.state = State::Reading(None);
            return Next::Settle(page.history.clone());
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
                // Before the end the count says nothing: the head of the feed may have been trimmed.
                let fits =
                    |before: &Position| before.continues(page, settled) && added >= before.counted;
                if !position.as_ref().is_none_or(fits) {
                    self.state = State::Reading(None);
                    Next::Restart
                } else if page.at_end {
                    self.state = State::Following {
                        position: here(added),
                        lacking: HashMap::new(),
                    };
                    Next::Compare
                } else {
                    *position = Some(here(added));
                    Next::More
                }
            }
            State::Following { position, lacking } => {
                let counted = position.counted + received;
                let complete = if page.at_end {
                    added == counted
                } else {
                    added >= counted
                };
                if !position.continues(page, settled) || !complete {
                    self.state = State::Reading(None);
                    return Next::Restart;
                }
                *position = here(counted);
                for entry in &page.entries {
                    lacking.remove(&Subject::of(entry));
                }
                let left = if self.alone {
                    Duration::ZERO
                } else {
                    settled.since(page.time)
                };
                if !page.at_end {
                    Next::More
                } else if !lacking.is_empty() {
                    Next::Reappend { left }
                } else if page.reappending || !left.is_zero() {
                    // However long it takes to put everything back: nobody answers before it is done.
                    Next::Settling
                } else {
                    Next::Fresh
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
