//! Feed consumer: reads the feed on a connection of its own in a loop, and publishes the view.
//!
//! [`FeedState`] interprets the pages. This module decides when to read: several times a window while requests come, once a second
//! when none do, at once when a request waits. It also reconnects when Redis does not answer, and logs every change of phase.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Revocations;
use super::denylist::Denylist;
use super::feed_state::{Action, FeedState};
use super::lease::HEARTBEAT_INTERVAL;
use super::lease_renewer::SharedLease;
use super::lock_bypass::{LockBypass, MAX_BYPASS_BATCH};
use super::server_monitor::ServerMonitor;
use super::view::{Phase, View};
use super::window::Announcement;
use crate::config::RevocationConfig;
use crate::domain::{Clock, SessionId, Uptime};
use crate::store::{DEADLINE, Entry, HistoryId, Page, Redis, StoreError};

/// Interval between two reads without requests.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Time after the last request in which reads go on at full rate.
const BUSY_PERIOD: Duration = Duration::from_secs(10);
/// Number of reads in one window under traffic.
const READS_PER_WINDOW: u32 = 3;
/// Interval between two inspections of the server.
const INSPECT_INTERVAL: Duration = Duration::from_secs(5);
/// Interval between two evictions of expired entries from a part of the denylist.
const EVICT_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of missing entries in one append.
const MAX_BATCH: usize = 5000;
/// Expiry of the repair lock if it is not renewed.
const LOCK_TTL: Duration = Duration::from_secs(1);
/// Maximum pause between two attempts to reach Redis.
const MAX_PAUSE: Duration = Duration::from_millis(250);

/// Feed consumer of one replica.
pub(super) struct FeedConsumer {
    redis: Redis,
    config: RevocationConfig,
    clock: Clock,
    denylist: Arc<Denylist>,
    view: Arc<View>,
    lease: Arc<SharedLease>,
    reappended: Arc<AtomicU64>,
    feed: FeedState,
    announcement: Announcement,
    lock_bypass: LockBypass,
    /// Entries that the feed has; `Some` while the feed is read from its start to compare it with the denylist.
    in_feed: Option<Denylist>,
    /// This replica's name as holder of the repair lock.
    name: String,
    monitor: ServerMonitor,
}

impl FeedConsumer {
    pub(super) fn new(of: &Revocations) -> Self {
        Self {
            redis: of.redis.clone(),
            config: of.config,
            clock: of.clock.clone(),
            denylist: Arc::clone(&of.denylist),
            view: Arc::clone(&of.view),
            lease: Arc::clone(&of.lease),
            reappended: Arc::clone(&of.reappended),
            feed: FeedState::new(of.config.alone),
            announcement: Announcement::default(),
            lock_bypass: LockBypass::default(),
            in_feed: None,
            name: SessionId::random().to_string(),
            monitor: ServerMonitor::default(),
        }
    }

    /// Consumes the feed until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut pause = Duration::from_millis(10);
        loop {
            let since = self.clock.uptime();
            let error = tokio::select! {
                () = stop.cancelled() => return,
                Err(error) = self.consume() => error,
            };
            self.enter(Phase::Waiting(error.to_string()));
            // A connection that worked for a while was not a failed attempt: start again with the short pause.
            if self.clock.uptime().since(since) > Duration::from_secs(1) {
                pause = Duration::from_millis(10);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(jittered(pause)) => {}
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Consumes the feed on one connection until it fails.
    async fn consume(&mut self) -> Result<Infallible, StoreError> {
        let (mut feed, inspection) = self.redis.open_feed().await?;
        self.monitor.check(&inspection, &self.redis)?;
        // The previous connection may have led to another server.
        self.announcement.lost();
        let now = self.clock.uptime();
        let (mut inspected, mut evicted) = (now, now);
        let (mut jitter, mut unleased) = (true, None);
        loop {
            let sent = self.clock.uptime();
            if self.announcement.is_due(sent) {
                // Before the view counts: from now on every logout waits for a window at least as long as this one.
                feed.announce(self.config.window).await?;
                self.announcement.made(sent);
                continue;
            }
            let page = feed.read(self.feed.last()).await?;
            if self.clock.uptime().since(sent) > DEADLINE {
                // The machine or this process stood still in the meantime. Such a page would set the clock wrong by half of the
                // pause, and by a wrong clock unexpired entries could be evicted.
                continue;
            }
            self.monitor
                .check_clock(self.clock.correct(page.time, sent));
            self.store(&page.entries);
            // While the whole feed is read, its entries are old. Their age is a propagation delay only after that.
            if !self.feed.is_reading()
                && let Some(age) = page.propagation()
            {
                self.view.record_propagation(age);
            }
            match self.feed.take(&page) {
                Action::Fresh | Action::Settle(_) if !self.may_count(&page, sent) => {
                    self.wait_for_lease(&page.history, sent, &mut unleased)
                        .await?;
                }
                Action::Fresh => {
                    unleased = None;
                    self.view.publish(sent);
                    self.enter(Phase::Fresh);
                    self.pause(sent).await;
                }
                Action::More => {}
                Action::Restart => {
                    self.enter(Phase::Reading);
                    self.start_comparing();
                    self.announcement.lost();
                    jitter = true;
                }
                Action::Settle(history) => {
                    self.enter(Phase::Reading);
                    self.start_comparing();
                    jitter = true;
                    // Announce first: an announcement in a history without any would end a settling that has just started.
                    feed.announce(self.config.window).await?;
                    feed.settle(&history).await?;
                }
                Action::Compare => {
                    self.compare();
                    // An announcement counts only in the history in which it was made.
                    self.announcement.lost();
                }
                Action::Reappend { left } => {
                    self.enter(Phase::Reappending);
                    self.append_missing(std::mem::take(&mut jitter), left)
                        .await?;
                }
                Action::Settling => {
                    self.enter(Phase::Settling);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            let now = self.clock.uptime();
            if now.since(inspected) >= INSPECT_INTERVAL {
                self.monitor.check(&feed.inspect().await?, &self.redis)?;
                inspected = now;
            }
            if now.since(evicted) >= EVICT_INTERVAL {
                self.denylist.evict_expired(self.clock.now());
                evicted = now;
            }
        }
    }

    /// Waits until the next read is due or a request demands it.
    async fn pause(&self, sent: Uptime) {
        let now = self.clock.uptime();
        let busy = now.since(self.view.last_asked()) < BUSY_PERIOD;
        let every = if busy && !self.config.window.is_zero() {
            self.config.window / READS_PER_WINDOW
        } else {
            IDLE_INTERVAL
        };
        let left = every.saturating_sub(now.since(sent));
        // A timeout and a demand both lead to the next read.
        tokio::time::timeout(left, self.view.demanded()).await.ok();
    }

    /// Starts to collect the feed's entries, to compare them with the denylist.
    fn start_comparing(&mut self) {
        self.in_feed = (!self.denylist.is_empty()).then(Denylist::default);
    }

    /// Finds the entries that the denylist has and the feed has lost.
    fn compare(&mut self) {
        let now = self.clock.now();
        // The denylist was empty: there is nothing to compare.
        let Some(in_feed) = self.in_feed.take() else {
            return;
        };
        self.feed.record_missing(
            self.denylist
                .entries(now)
                .filter(|entry| !in_feed.subsumes(entry)),
        );
        let lost = self.feed.missing().count();
        if lost > 0 {
            warn!(
                event = "feed_lost_entries",
                lost,
                "the feed has lost revocations that this replica has; they are appended again"
            );
        }
    }

    /// Appends a batch of missing entries if this replica holds the repair lock or must bypass it; otherwise gives the holder some
    /// time.
    async fn append_missing(&mut self, jitter: bool, left: Duration) -> Result<(), StoreError> {
        if jitter {
            // The feed is read to its end once more after this: by then another replica may have appended the entries.
            tokio::time::sleep(Duration::from_millis(200).mul_f64(fraction())).await;
            return Ok(());
        }
        let batch: Vec<_> = if self.redis.lock_reappending(&self.name, LOCK_TTL).await? {
            self.feed.missing().take(MAX_BATCH).cloned().collect()
        } else {
            let (missing, now) = (self.feed.missing().count(), self.clock.uptime());
            if !self.lock_bypass.should_bypass(missing, left, now) {
                tokio::time::sleep(Duration::from_millis(20)).await;
                return Ok(());
            }
            self.feed.latest_missing(MAX_BYPASS_BATCH)
        };
        self.redis.repair(&batch).await?;
        self.redis.append(&batch).await?;
        self.reappended
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether a read of the page's history counts, or may start its settling. Both require the lease.
    fn may_count(&self, page: &Page, sent: Uptime) -> bool {
        self.redis.acknowledgements() == 0 || self.lease.covers_read(&page.history, sent)
    }

    /// Waits for the lease. Fails if the wait gets long or the lease is held in another history: then the caller reconnects, which
    /// looks up the primary again.
    async fn wait_for_lease(
        &self,
        history: &HistoryId,
        sent: Uptime,
        since: &mut Option<Uptime>,
    ) -> Result<(), StoreError> {
        let error = StoreError::no_lease(self.redis.acknowledgements());
        self.enter(Phase::Waiting(error.to_string()));
        let long = sent.since(*since.get_or_insert(sent)) > HEARTBEAT_INTERVAL;
        if long
            || self
                .lease
                .held_by_other_primary(history, self.clock.uptime())
        {
            return Err(error);
        }
        tokio::time::timeout(Duration::from_millis(20), self.lease.renewed())
            .await
            .ok();
        Ok(())
    }

    fn enter(&self, phase: Phase) {
        let waiting = if let Phase::Waiting(why) = &phase {
            Some(why.clone())
        } else {
            None
        };
        let name = phase.name();
        if !self.view.enter(phase) {
            return;
        }
        if let Some(why) = waiting {
            warn!(event = "feed", phase = name, %why, "feed cannot be read from Redis: the view of the revocations goes stale; retrying");
        } else {
            let entries = self.denylist.len();
            info!(
                event = "feed",
                phase = name,
                entries,
                "feed consumer entered another phase"
            );
        }
    }

    fn store(&self, entries: &[Entry]) {
        let now = self.clock.now();
        for entry in entries {
            self.denylist.insert(entry, now);
            if let Some(in_feed) = &self.in_feed {
                in_feed.insert(entry, now);
            }
        }
    }
}

/// Returns a random share of `pause`, at least half of it: replicas that failed together must not retry together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + 0.5 * fraction())
}

/// Returns a random number from 0 to 1. Not for secrets.
fn fraction() -> f64 {
    let bits = SessionId::random().to_bits() & 0xFFFF;
    f64::from(u16::try_from(bits).unwrap_or(0)) / f64::from(u16::MAX)
}
