//! The view: the age of a replica's denylist, and the wait of a request for a younger one.
//!
//! A view is dated by when its read was *sent* ([`Uptime`]), never by when the reply arrived: an entry that was appended
//! between the two may be missing in it. On the path of a request there is one load of that date. Only a request that finds
//! the view too old asks the feed consumer for another read, and shares that read with all other waiting requests.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::window::is_fresh_at;
use crate::domain::Uptime;

/// Precision of [`View::last_asked`].
const ASKED_PRECISION: Duration = Duration::from_millis(100);

/// Phase of the feed consumer, which is the reason why a view may not be fresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has been read yet.
    Unknown,
    /// Redis does not answer or must not be used, for the reason given. The consumer retries in a moment.
    Waiting(String),
    /// The whole feed is being read.
    Reading,
    /// Entries that the feed has lost are being appended again.
    Reappending,
    /// All replicas get time to append the entries that the feed has lost.
    Settling,
    /// The view counts.
    Fresh,
}

impl Phase {
    /// Returns the label for logs and probes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Waiting(_) => "waiting",
            Self::Reading => "reading",
            Self::Reappending => "reappending",
            Self::Settling => "settling",
            Self::Fresh => "fresh",
        }
    }
}

/// Published date of the newest complete read, and the requests that wait for a newer one.
#[derive(Debug)]
pub struct View {
    /// Send time of the newest complete read, in nanoseconds of [`Uptime`]; 0 before the first.
    read_sent: AtomicU64,
    /// Latest date that a request waits for.
    wanted: AtomicU64,
    /// Arrival of the latest request, rounded to [`ASKED_PRECISION`].
    asked: AtomicU64,
    /// True while no view can count: Redis does not answer, or its history has changed.
    failing: AtomicBool,
    /// Age of the newest entry when it was read, in milliseconds plus one; 0 before the first.
    propagation: AtomicU64,
    newer: watch::Sender<u64>,
    demand: Notify,
    phase: Mutex<Phase>,
}

impl View {
    /// Creates a view before the first read.
    #[must_use]
    pub fn new() -> Self {
        Self {
            read_sent: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            propagation: AtomicU64::new(0),
            newer: watch::Sender::new(0),
            demand: Notify::new(),
            phase: Mutex::new(Phase::Unknown),
        }
    }

    /// Returns whether a request that arrived at `arrived` may be answered from this view. Look up the denylist after this call,
    /// never before: the entries of a view are stored there before the view is published.
    #[must_use]
    pub fn is_fresh(&self, arrived: Uptime, window: Duration) -> bool {
        // An approximate date is enough, and avoids a write to a shared cache line on every request.
        if arrived.since(self.last_asked()) > ASKED_PRECISION {
            self.asked.store(arrived.as_nanos(), Ordering::Relaxed);
        }
        is_fresh_at(self.read_sent(), arrived, window)
    }

    /// Returns the send time of the newest complete read; `None` before the first.
    fn read_sent(&self) -> Option<Uptime> {
        let sent = self.read_sent.load(Ordering::Acquire);
        (sent != 0).then(|| Uptime::from_nanos(sent))
    }

    /// Waits for a view whose read was sent at `needed` or later. One read serves all waiting requests. Returns `false` after
    /// `patience`.
    pub async fn wait(&self, needed: Uptime, patience: Duration) -> bool {
        let mut newer = self.newer.subscribe();
        self.wanted.fetch_max(needed.as_nanos(), Ordering::AcqRel);
        self.demand.notify_one();
        let come = newer.wait_for(|sent| *sent >= needed.as_nanos() && *sent != 0);
        matches!(tokio::time::timeout(patience, come).await, Ok(Ok(_)))
    }

    /// Publishes the date of a complete read. Its entries must be stored before.
    pub(super) fn publish(&self, sent: Uptime) {
        self.failing.store(false, Ordering::Relaxed);
        self.read_sent.store(sent.as_nanos(), Ordering::Release);
        self.newer.send_replace(sent.as_nanos());
    }

    /// Resolves when a request waits for a view younger than the present one.
    pub(super) async fn demanded(&self) {
        while self.wanted.load(Ordering::Acquire) <= self.read_sent.load(Ordering::Acquire) {
            self.demand.notified().await;
        }
    }

    /// Returns the arrival of the latest request.
    pub(super) fn last_asked(&self) -> Uptime {
        Uptime::from_nanos(self.asked.load(Ordering::Relaxed))
    }

    /// Returns the age of the view; `None` before the first.
    #[must_use]
    pub fn age(&self, now: Uptime) -> Option<Duration> {
        self.read_sent().map(|sent| now.since(sent))
    }

    /// Records the age of an entry when it was read.
    pub(super) fn record_propagation(&self, age: Duration) {
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.propagation
            .store(millis.saturating_add(1), Ordering::Relaxed);
    }

    /// Returns the age that the newest entry had when it was read; `None` before the first.
    #[must_use]
    pub fn propagation(&self) -> Option<Duration> {
        let kept = self.propagation.load(Ordering::Relaxed);
        kept.checked_sub(1).map(Duration::from_millis)
    }

    /// Returns whether no view can count at present: Redis does not answer, or its history has changed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Returns the phase of the feed consumer.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sets the phase of the feed consumer. Returns whether it has changed.
    pub(super) fn enter(&self, phase: Phase) -> bool {
        self.failing.store(phase != Phase::Fresh, Ordering::Relaxed);
        let mut present = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let news = present.name() != phase.name();
        *present = phase;
        news
    }
}

impl Default for View {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: Duration = Duration::from_millis(50);

    fn at(millis: u64) -> Uptime {
        Uptime::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn nothing_read_is_never_fresh() {
        assert!(!View::new().is_fresh(at(10), W));
        assert!(!View::new().is_fresh(at(0), W));
    }

    #[test]
    fn a_view_serves_requests_up_to_one_window_after_its_read_was_sent() {
        let view = View::new();
        view.publish(at(1000));
        assert!(view.is_fresh(at(1000), W) && view.is_fresh(at(1050), W));
        assert!(!view.is_fresh(at(1051), W));
    }

    #[tokio::test]
    async fn one_read_serves_every_request_that_it_is_young_enough_for() {
        let view = std::sync::Arc::new(View::new());
        let waiting: Vec<_> = [at(1000), at(1000), at(2000)]
            .into_iter()
            .map(|needed| {
                let view = std::sync::Arc::clone(&view);
                tokio::spawn(async move { view.wait(needed, Duration::from_millis(300)).await })
            })
            .collect();
        view.demanded().await;
        view.publish(at(1500));
        let mut served = Vec::new();
        for waiter in waiting {
            served.push(waiter.await.unwrap());
        }
        assert_eq!(served, [true, true, false]);
    }
}
