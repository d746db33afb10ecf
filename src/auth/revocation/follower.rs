//! The follower: reads the feed on a connection of its own, again and again, and publishes what it saw.
//!
//! It decides nothing by itself: what a page means is [`Reader`]'s business. Here is when to read (several times a window
//! while requests come, once a second when none do, at once when somebody waits), what to do when Redis does not answer,
//! and one log line whenever the state changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Revocations;
use super::denylist::Denylist;
use super::heart::Held;
use super::lease::BEAT;
use super::reader::{Next, Reader};
use super::server::Server;
use super::turn::{Turn, WITHOUT_LOCK};
use super::view::{Phase, View};
use super::window::Announcement;
use crate::config::RevocationConfig;
use crate::domain::{Clock, SessionId, Uptime};
use crate::store::{DEADLINE, Entry, HistoryId, Page, Redis, StoreError};

/// How often the feed is read when nobody asks.
const IDLE: Duration = Duration::from_secs(1);
/// For how long after the last request reads go on at full pace.
const BUSY: Duration = Duration::from_secs(10);
/// Reads in one window under traffic.
const READS_PER_WINDOW: u32 = 3;
/// How often the server is asked what it is.
const INSPECT: Duration = Duration::from_secs(5);
/// How often a part of the denylist is rid of what has expired.
const TEND: Duration = Duration::from_secs(1);
/// Entries put back at once.
const BATCH: usize = 5000;
/// How long the lock of those who put entries back is held without being renewed.
const LOCK: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to reach Redis.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Follows the feed for one replica.
pub(super) struct Follower {
    redis: Redis,
    config: RevocationConfig,
    clock: Clock,
    denylist: Arc<Denylist>,
    view: Arc<View>,
    held: Arc<Held>,
    reappended: Arc<AtomicU64>,
    reader: Reader,
    announcement: Announcement,
    turn: Turn,
    /// What the feed has, while it is read from the start beside what is known.
    in_feed: Option<Denylist>,
    /// This replica's name among those who put entries back.
    name: String,
    server: Server,
}

impl Follower {
    pub(super) fn new(of: &Revocations) -> Self {
        Self {
            redis: of.redis.clone(),
            config: of.config,
            clock: of.clock.clone(),
            denylist: Arc::clone(&of.denylist),
            view: Arc::clone(&of.view),
            held: Arc::clone(&of.held),
            reappended: Arc::clone(&of.reappended),
            reader: Reader::new(of.config.alone),
            announcement: Announcement::default(),
            turn: Turn::default(),
            in_feed: None,
            name: SessionId::random().to_string(),
            server: Server::default(),
        }
    }

    /// Follows until told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut pause = Duration::from_millis(10);
        loop {
            let since = self.clock.uptime();
            let error = tokio::select! {
                () = stop.cancelled() => return,
                Err(error) = self.follow() => error,
            };
            self.enter(Phase::Waiting(error.to_string()));
            // A connection that has served for a while was no failed attempt.
            if self.clock.uptime().since(since) > Duration::from_secs(1) {
                pause = Duration::from_millis(10);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(jittered(pause)) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Follows on one connection until that fails.
    async fn follow(&mut self) -> Result<Infallible, StoreError> {
        let (mut feed, inspection) = self.redis.open_feed().await?;
        self.server.judge(&inspection, &self.redis)?;
        // What the connection led to before may have been another server.
        self.announcement.lost();
        let now = self.clock.uptime();
        let (mut inspected, mut tended) = (now, now);
        let (mut jitter, mut unleased) = (true, None);
        loop {
            let sent = self.clock.uptime();
            if self.announcement.is_due(sent) {
                // Before the view counts: from now on every logout waits for a window as long as ours.
                feed.announce(self.config.window).await?;
                self.announcement.made(sent);
                continue;
            }
            let page = feed.read(self.reader.last()).await?;
            if self.clock.uptime().since(sent) > DEADLINE {
                // The machine or this process stood still meanwhile. Such a page would set our date wrong by half of that, and
                // entries that have expired only by a wrong date would be forgotten.
                continue;
            }
            self.server.watch_clock(self.clock.correct(page.time, sent));
            self.store(&page.entries);
            // A replica that reads everything meets old entries; how late they come is of interest only when it follows.
            if !self.reader.is_reading()
                && let Some(age) = page.propagation()
            {
                self.view.saw_entry_of_age(age);
            }
            match self.reader.take(&page) {
                Next::Fresh | Next::Settle(_) if !self.may_count(&page, sent) => {
                    self.wait_for_lease(&page.history, sent, &mut unleased)
                        .await?;
                }
                Next::Fresh => {
                    unleased = None;
                    self.view.publish(sent);
                    self.enter(Phase::Fresh);
                    self.pause(sent).await;
                }
                Next::More => {}
                Next::Restart => {
                    self.enter(Phase::Reading);
                    self.begin_comparing();
                    self.announcement.lost();
                    jitter = true;
                }
                Next::Settle(history) => {
                    self.enter(Phase::Reading);
                    self.begin_comparing();
                    jitter = true;
                    // First: to announce where nobody has would end the settling that has just begun.
                    feed.announce(self.config.window).await?;
                    feed.settle(&history).await?;
                }
                Next::Compare => {
                    self.compare();
                    // It counts for this history only if it was made in it.
                    self.announcement.lost();
                }
                Next::Reappend { left } => {
                    self.enter(Phase::Reappending);
                    self.put_back(std::mem::take(&mut jitter), left).await?;
                }
                Next::Settling => {
                    self.enter(Phase::Settling);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            let now = self.clock.uptime();
            if now.since(inspected) >= INSPECT {
                self.server.judge(&feed.inspect().await?, &self.redis)?;
                inspected = now;
            }
            if now.since(tended) >= TEND {
                self.denylist.tend(self.clock.now());
                tended = now;
            }
        }
    }

    /// Until the next read is due, or somebody waits for it.
    async fn pause(&self, sent: Uptime) {
        let now = self.clock.uptime();
        let busy = now.since(self.view.last_asked()) < BUSY;
        let every = if busy && !self.config.window.is_zero() {
            self.config.window / READS_PER_WINDOW
        } else {
            IDLE
        };
        let left = every.saturating_sub(now.since(sent));
        // Running out is as good as being asked.
        tokio::time::timeout(left, self.view.demanded()).await.ok();
    }

    /// From here on the feed is read from its start, beside what is known.
    fn begin_comparing(&mut self) {
        self.in_feed = (!self.denylist.is_empty()).then(Denylist::default);
    }

    /// Looks for what is known here and was not in the feed.
    fn compare(&mut self) {
        let now = self.clock.now();
        // Where nothing was known there is nothing to compare.
        let Some(in_feed) = self.in_feed.take() else {
            return;
        };
        self.reader.lacks(
            self.denylist
                .entries(now)
                .filter(|entry| !in_feed.covers(entry)),
        );
        let lost = self.reader.lacking().count();
        if lost > 0 {
            warn!(
                event = "feed_lost_entries",
                lost, "the feed has lost revocations that this replica knows; they are put back"
            );
        }
    }

    /// Puts a batch back, if it is this replica's turn or there is no time to wait for that; otherwise gives the one whose
    /// turn it is some time.
    async fn put_back(&mut self, jitter: bool, left: Duration) -> Result<(), StoreError> {
        if jitter {
            // Then the feed is read to its end once more: by then another replica may have done it.
            tokio::time::sleep(Duration::from_millis(200).mul_f64(fraction())).await;
            return Ok(());
        }
        let batch: Vec<_> = if self.redis.lock_reappending(&self.name, LOCK).await? {
            self.reader.lacking().take(BATCH).cloned().collect()
        } else {
            let (lacking, now) = (self.reader.lacking().count(), self.clock.uptime());
            if !self.turn.cannot_wait(lacking, left, now) {
                tokio::time::sleep(Duration::from_millis(20)).await;
                return Ok(());
            }
            self.reader.latest_lacking(WITHOUT_LOCK)
        };
        self.redis.repair(&batch).await?;
        self.redis.append(&batch).await?;
        self.reappended
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a read of that history counts, or may begin its settling: only under a lease.
    fn may_count(&self, page: &Page, sent: Uptime) -> bool {
        self.redis.acknowledgements() == 0 || self.held.lets_count(&page.history, sent)
    }

    /// Nothing vouches for this primary, or not for long enough. After a while it is found out anew which is the primary.
    async fn wait_for_lease(
        &self,
        history: &HistoryId,
        sent: Uptime,
        since: &mut Option<Uptime>,
    ) -> Result<(), StoreError> {
        let error = StoreError::no_lease(self.redis.acknowledgements());
        self.enter(Phase::Waiting(error.to_string()));
        let long = sent.since(*since.get_or_insert(sent)) > BEAT;
        if long || self.held.is_elsewhere(history, self.clock.uptime()) {
            return Err(error);
        }
        tokio::time::timeout(Duration::from_millis(20), self.held.beaten())
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
            warn!(event = "feed", phase = name, %why, "no view of the revocations: Redis cannot be read");
        } else {
            let entries = self.denylist.len();
            info!(
                event = "feed",
                phase = name,
                entries,
                "view of the revocations"
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

/// A random share of `pause`, at least half of it: replicas that failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + 0.5 * fraction())
}

/// A random number from 0 to 1. Not for secrets.
fn fraction() -> f64 {
    let bits = SessionId::random().to_bits() & 0xFFFF;
    f64::from(u16::try_from(bits).unwrap_or(0)) / f64::from(u16::MAX)
}
