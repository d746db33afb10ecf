//! The revocation feed: a logout that was answered is in effect on every replica, and checking a token costs no round trip.
//!
//! Every replica holds the whole [denylist] in memory and consumes one Redis stream, the *feed*: it reads the new entries a
//! few times per freshness window `W` (50 ms by default).
//!
//! * **Revoke**: a script in the user's slot commits the revocation and puts its entry into the user's outbox; the entry is
//!   appended to the feed; one window passes; the caller is answered.
//! * **Check**: a request that arrived at `s` is answered from a [view] whose read was sent at `t0 ≥ s − W`. If there is
//!   none, the request waits for one.
//!
//! # Why the guarantee is strict
//!
//! A logout that was answered at `r` had its append completed at `a ≤ r − W`. A request that arrives at `s ≥ r` is answered
//! from a view with `t0 ≥ s − W ≥ r − W ≥ a`, and a read that was sent after an append completed sees the entry. The argument
//! does not need synchronized clocks: `W` is a duration on each machine. It needs the background_tasks:
//!
//! 1. *One snapshot.* `s` is taken before the lookup and `t0` before the command is sent. The entries of a read are stored
//!    before its date is published, and a check loads the date before it looks up the entries. A read counts only if it
//!    reached the end of the feed in the same reply: a full page hides the entries after it.
//! 2. *Clocks run at nearly the same rate*: a logout waits one percent longer. Ages are measured by a clock that does not stop
//!    while a machine sleeps.
//! 3. *A logout waits for the slowest replica.* Replicas may have different windows, as during a rolling change of the setting.
//!    Each announces its own before its view first counts; an append returns the largest, and the logout waits for that one.
//!    Announcements can be lost like all data in Redis: they are repeated in every history, and until a history has settled
//!    the logout waits for the largest window that is allowed ([window]).
//! 4. *No entry is missed.* Every read returns its history and the number of entries which that history has ever had. On a
//!    mismatch the whole feed is read again, and lost entries are appended again ([feed_state]).
//! 5. *The primary is current.* A primary that was replaced still answers reads. If failover is possible, a read counts only
//!    under a [lease] that the replicas of Redis renew each second. A new history counts only after it has settled for longer
//!    than any lease under the old one, and no replica starts to settle it before it holds a lease in it. Until then the new
//!    primary takes logouts while other replicas may hold a lease on the old one, which does not have these logouts: each of
//!    them therefore waits for as long as a settling.
//!
//! # Limits
//!
//! A request that was checked just before the logout was answered may still run: it overlaps the logout. A hypervisor that
//! pauses a whole machine stops its clocks too. A revocation that Redis lost is lost for good if no living replica has it, or
//! none could append it again within the settling time. Redis replicates asynchronously: if it is asked for fewer
//! acknowledgements than it has replicas, a failover may lose acknowledged writes.

mod background_tasks;
mod canaries;
mod command;
pub mod denylist;
mod feed_consumer;
pub mod feed_state;
pub mod lease;
mod lease_renewer;
pub mod lock_bypass;
mod publisher;
mod retry_queue;
mod server_monitor;
mod session_table;
mod trimmer;
mod user_table;
pub mod view;
pub mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use self::background_tasks::BackgroundTasks;
use self::denylist::Denylist;
use self::lease_renewer::SharedLease;
pub use self::publisher::Ended;
use self::retry_queue::RetryQueue;
use self::view::{Phase, View};
use super::{ServiceError, Unavailable};
use crate::config::RevocationConfig;
use crate::domain::{Clock, SessionId, Uptime, UserId};
use crate::store::{Entry, Redis, RevocationFloor, User, UserEntry};

/// Maximum total time that a request waits for Redis, not counting the freshness window.
pub const REDIS_BUDGET: Duration = Duration::from_secs(1);

/// Capacity of the cache of acknowledged revocations.
const MAX_ACKNOWLEDGED: usize = 16_384;

/// Revocations known to this replica, and the functions that make new ones.
#[derive(Debug)]
pub struct Revocations {
    redis: Redis,
    config: RevocationConfig,
    clock: Clock,
    denylist: Arc<Denylist>,
    view: Arc<View>,
    lease: Arc<SharedLease>,
    reappended: Arc<AtomicU64>,
    retry_queue: RetryQueue,
    /// Sessions whose revocation was acknowledged here. An eviction costs at most one more entry in the feed.
    acknowledged: Cache<SessionId, ()>,
    /// Wakes the trimmer after an append.
    appended: Arc<Notify>,
    /// Running revocations, which continue if their callers disconnect.
    under_way: TaskTracker,
}

/// Revocation status of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenStatus {
    /// The token is not revoked.
    Active,
    /// The token's session is revoked.
    Revoked,
}

impl Revocations {
    /// Creates an empty state, and the background tasks that must run to keep it current.
    #[must_use]
    pub fn new(redis: Redis, config: RevocationConfig, clock: Clock) -> (Self, BackgroundTasks) {
        let (retry_queue, worker) = retry_queue::retry_queue();
        let this = Self {
            config,
            denylist: Arc::default(),
            view: Arc::default(),
            lease: Arc::default(),
            reappended: Arc::default(),
            retry_queue,
            acknowledged: Cache::new(MAX_ACKNOWLEDGED),
            appended: Arc::default(),
            under_way: TaskTracker::new(),
            redis,
            clock,
        };
        let background_tasks = BackgroundTasks::new(&this, worker);
        (this, background_tasks)
    }

    /// Returns the status of a token with this session, user and version. No round trip, unless the view is too old.
    ///
    /// # Errors
    /// [`Unavailable::StaleView`] if no fresh view came in time.
    pub async fn token_status(
        &self,
        sid: SessionId,
        user: UserId,
        version: u64,
    ) -> Result<TokenStatus, Unavailable> {
        let arrived = self.clock.uptime();
        if !self.view.is_fresh(arrived, self.config.window) {
            self.wait_for_view(arrived).await?;
        }
        // After the freshness check, never before it: see [`View::is_fresh`].
        let refused = self.denylist.refuses(sid, user, version);
        Ok(if refused {
            TokenStatus::Revoked
        } else {
            TokenStatus::Active
        })
    }

    /// Returns the minimum versions of a user that the feed requires.
    #[must_use]
    pub fn known(&self, user: UserId) -> RevocationFloor {
        let known = |entry: &UserEntry| RevocationFloor {
            version: entry.version,
            min_session_version: entry.min_session_version,
        };
        self.denylist
            .user(user)
            .map_or_else(RevocationFloor::default, |entry| known(&entry))
    }

    /// Repeats changes to a user that the feed has and the user's shard has lost in a failover. Returns whether there were any:
    /// then the caller must read the user again.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn repair(&self, user: &User) -> Result<bool, ServiceError> {
        let lost = |entry: &UserEntry| {
            entry.deleted
                || user.version < entry.version
                || user.min_session_version < entry.min_session_version
        };
        let Some(entry) = self.denylist.user(user.id).filter(|entry| lost(entry)) else {
            return Ok(false);
        };
        let deleted = entry.deleted;
        warn!(event = "user_repaired", username = %user.username, deleted, "Redis had lost changes to a user that the feed has; they are applied again");
        self.redis
            .repair(&[Entry::User(UserEntry::clone(&entry))])
            .await?;
        Ok(true)
    }

    #[cold]
    async fn wait_for_view(&self, arrived: Uptime) -> Result<(), Unavailable> {
        // False before the first view, which has no age.
        let tolerated = || {
            let age = self.view.age(self.clock.uptime());
            age.is_some_and(|age| age <= self.config.stale_if_error)
        };
        if tolerated() && self.view.is_failing() {
            return Ok(());
        }
        let needed = arrived.minus(self.config.window);
        if self.view.wait(needed, REDIS_BUDGET).await || tolerated() {
            Ok(())
        } else {
            Err(Unavailable::StaleView)
        }
    }

    /// Returns the reason why the data in Redis must not be used, if a restart of Redis has lost some.
    #[must_use]
    pub fn damage(&self) -> Option<&'static str> {
        self.redis.damage()
    }

    /// Returns the phase of the feed consumer.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.view.phase()
    }

    /// Returns the age of the view; `None` before the first.
    #[must_use]
    pub fn view_age(&self) -> Option<Duration> {
        self.view.age(self.clock.uptime())
    }

    /// Returns whether the lease on the primary is held; `None` if no acknowledgements are required.
    #[must_use]
    pub fn lease_held(&self) -> Option<bool> {
        let wanted = self.redis.acknowledgements() > 0;
        wanted.then(|| self.lease.is_held(self.clock.uptime()))
    }

    /// Returns the age that the newest revocation had when this replica last read one; `None` before the first.
    #[must_use]
    pub fn propagation(&self) -> Option<Duration> {
        self.view.propagation()
    }

    /// Returns the number of entries in the denylist.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.denylist.len()
    }

    /// Returns the number of lost entries that this replica has appended to the feed again.
    #[must_use]
    pub fn reappended(&self) -> u64 {
        self.reappended.load(Ordering::Relaxed)
    }
}
