//! The lease: how a replica knows that the primary it reads from is still the primary.
//!
//! A primary that was paused or cut off and has been replaced still answers reads. What it cannot do is have a write
//! acknowledged by those who follow another by now. So each second a beat is written and waited for, and a read counts only
//! if a beat that was **sent** a short time before it was acknowledged, in the history that the read shows. What counts is
//! not when the acknowledgement came: it may have lain in the socket of a primary that stood still.

use std::time::Duration;

use portcullis::domain::Uptime;
use portcullis::store::HistoryId;

/// How often a beat is sent.
pub const BEAT: Duration = Duration::from_secs(1);

/// For how long after it was sent an acknowledged beat lets reads count.
pub const LEASE: Duration = Duration::from_secs(2);

/// The newest beat that was acknowledged.
#[derive(Debug, Default)]
pub struct Lease(Option<Beat>);

#[derive(Debug)]
struct Beat {
    history: HistoryId,
    sent: Uptime,
}

impl Lease {
    /// Takes note of a beat that `history` has acknowledged.
    pub fn acknowledged(&mut self, history: HistoryId, sent: Uptime) {
        self.0 = Some(Beat { history, sent });
    }

    /// Whether a read sent at `read_sent` that shows `history` may count.
    pub fn holds(&self, history: &HistoryId, read_sent: Uptime) -> bool {
        self.0
            .as_ref()
            .is_some_and(|beat| beat.history == *history && read_sent.since(beat.sent) <= LEASE)
    }
}
