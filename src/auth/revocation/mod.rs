//! The revocation feed: why a logout that has answered holds on every replica, and why checking a token costs no round trip.
//!
//! Every replica holds the whole [denylist] in memory and follows one Redis stream, the *feed*, by reading on from where it
//! is, a few times per freshness window `W` (50 ms by default).
//!
//! * **Revoke**: the user's script decides it and puts the entry into the user's outbox; the entry is appended to the feed;
//!   one window passes; the caller is answered.
//! * **Check**: a request that arrived at `s` is answered from a [view] whose read was sent at `t0 ≥ s − W`. If there is
//!   none, it waits for one.
//!
//! # Why it is strict
//!
//! A logout that answered at `r` had its append completed at `a ≤ r − W`. A request that arrives at `s ≥ r` is answered from
//! a view with `t0 ≥ s − W ≥ r − W ≥ a`, and a read that was sent after an append completed sees it. Nothing in this depends
//! on two machines' clocks showing the same: `W` is a duration on each. What it does depend on, and how that is held:
//!
//! 1. *One snapshot.* `s` is taken before the look-up and `t0` before the command is sent. The entries of a read are stored
//!    before its date is published, and a check loads the date before it looks at the entries. A read counts only if it
//!    reached the end of the feed in the same reply: a full page hides what follows it.
//! 2. *Clocks run at the same rate*, or nearly: a logout waits a hundredth longer. Ages are measured by a clock that goes on
//!    while a machine sleeps.
//! 3. *Everybody waits for the slowest.* Replicas may have different windows, as during a rolling change of the setting.
//!    Each announces its own before its view first counts; an append returns the largest, and the logout waits for that.
//!    Announcements can be lost like everything else: they are made again in every history, and until it has settled the
//!    logout waits for the largest window that is allowed ([window]).
//! 4. *Nothing is missed.* Every read tells which history it belongs to and how many entries that has ever had. What does not
//!    fit together is read again as a whole, and what was lost is put back ([reader]).
//! 5. *The primary is the primary.* One that was replaced still answers. Where it can be replaced, a read counts only under
//!    a [lease] that the replicas of Redis renew each second, and a new history only when it has settled for longer than any
//!    lease under the old one: nobody begins that before he holds a lease in it. Until then the new primary takes logouts while
//!    others may hold a lease on the old one, which does not have them: such a logout waits for as long as a settling.
//!
//! # Limits
//!
//! A request that was checked just before the logout answered may still be under way: it overlaps the logout. A hypervisor
//! that pauses a whole machine stops its clocks too. A revocation that Redis lost and that no living replica knows, or none
//! could put back within the settling time, is lost. Redis replicates without waiting: with fewer acknowledgements than it
//! has replicas, a failover may lose what was acknowledged.

mod backlog;
mod canaries;
mod decision;
pub mod denylist;
mod follower;
mod following;
mod heart;
pub mod lease;
pub mod reader;
mod server;
mod session_table;
mod telling;
mod trimmer;
pub mod turn;
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

use self::backlog::Backlog;
use self::denylist::Denylist;
pub use self::following::Following;
use self::heart::Held;
pub use self::telling::Ended;
use self::view::{Phase, View};
use super::{Failure, Unavailable};
use crate::config::RevocationConfig;
use crate::domain::{Clock, SessionId, Uptime, UserId};
use crate::store::{Entry, Redis, RevocationFloor, User, UserEntry};

/// How long a request may wait for Redis in all, not counting the freshness window.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How many acknowledged revocations a replica remembers.
const ACKNOWLEDGED: usize = 16_384;

/// What this replica knows of revocations, and how it makes new ones.
#[derive(Debug)]
pub struct Revocations {
    redis: Redis,
    config: RevocationConfig,
    clock: Clock,
    denylist: Arc<Denylist>,
    view: Arc<View>,
    held: Arc<Held>,
    reappended: Arc<AtomicU64>,
    backlog: Backlog,
    /// Sessions whose revocation was acknowledged here. Forgetting one costs an entry in the feed.
    acknowledged: Cache<SessionId, ()>,
    /// Tells the trimmer that there is a longer feed.
    appended: Arc<Notify>,
    /// Revocations under way, which go on when their callers have gone.
    under_way: TaskTracker,
}

/// Whether a token still stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing refuses it.
    Stands,
    /// Its session was revoked.
    Revoked,
}

impl Revocations {
    /// Prepares to know of revocations; what is returned beside it must be run for that.
    #[must_use]
    pub fn new(redis: Redis, config: RevocationConfig, clock: Clock) -> (Self, Following) {
        let (backlog, worker) = backlog::backlog();
        let this = Self {
            config,
            denylist: Arc::default(),
            view: Arc::default(),
            held: Arc::default(),
            reappended: Arc::default(),
            backlog,
            acknowledged: Cache::new(ACKNOWLEDGED),
            appended: Arc::default(),
            under_way: TaskTracker::new(),
            redis,
            clock,
        };
        let following = Following::of(&this, worker);
        (this, following)
    }

    /// Whether a token of that session, user and version still stands. No round trip, unless the view is too old.
    ///
    /// # Errors
    /// [`Unavailable::StaleView`] where no view that is fresh enough came in time.
    pub async fn standing(
        &self,
        sid: SessionId,
        user: UserId,
        version: u64,
    ) -> Result<Standing, Unavailable> {
        let arrived = self.clock.uptime();
        if !self.view.is_fresh(arrived, self.config.window) {
            self.wait_for_view(arrived).await?;
        }
        // After the view, never before it: see [`View::is_fresh`].
        let refused = self.denylist.refuses(sid, user, version);
        Ok(if refused {
            Standing::Revoked
        } else {
            Standing::Stands
        })
    }

    /// What the feed has said of a user.
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

    /// Makes changes to a user again that the feed knows and his shard has lost in a failover. Returns whether there were any:
    /// then look at him again.
    ///
    /// # Errors
    /// Where the store could not answer.
    pub async fn repair(&self, user: &User) -> Result<bool, Failure> {
        let lost = |entry: &UserEntry| {
            entry.deleted
                || user.version < entry.version
                || user.min_session_version < entry.min_session_version
        };
        let Some(entry) = self.denylist.user(user.id).filter(|entry| lost(entry)) else {
            return Ok(false);
        };
        let deleted = entry.deleted;
        warn!(event = "user_repaired", username = %user.username, deleted, "Redis had lost changes to a user that the feed knows; they are made again");
        self.redis
            .repair(&[Entry::User(UserEntry::clone(&entry))])
            .await?;
        Ok(true)
    }

    #[cold]
    async fn wait_for_view(&self, arrived: Uptime) -> Result<(), Unavailable> {
        // Never from a first view: where there is none, it has no age.
        let tolerated = || {
            let age = self.view.age(self.clock.uptime());
            age.is_some_and(|age| age <= self.config.stale_if_error)
        };
        if tolerated() && self.view.is_failing() {
            return Ok(());
        }
        let needed = arrived.minus(self.config.window);
        if self.view.wait(needed, PATIENCE).await || tolerated() {
            Ok(())
        } else {
            Err(Unavailable::StaleView)
        }
    }

    /// Why the data in Redis must not be used, if a restart of Redis has lost some.
    #[must_use]
    pub fn damage(&self) -> Option<&'static str> {
        self.redis.damage()
    }

    /// What the follower is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.view.phase()
    }

    /// How old the view is; `None` before the first.
    #[must_use]
    pub fn view_age(&self) -> Option<Duration> {
        self.view.age(self.clock.uptime())
    }

    /// Whether the primary is vouched for by replicas of Redis; `None` where none are asked for.
    #[must_use]
    pub fn lease_held(&self) -> Option<bool> {
        let wanted = self.redis.acknowledgements() > 0;
        wanted.then(|| self.held.is_held(self.clock.uptime()))
    }

    /// How old the newest revocation was when this replica last read one; `None` before the first.
    #[must_use]
    pub fn propagation(&self) -> Option<Duration> {
        self.view.propagation()
    }

    /// Entries held.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.denylist.len()
    }

    /// Entries that this replica has put back into a feed that had lost them.
    #[must_use]
    pub fn reappended(&self) -> u64 {
        self.reappended.load(Ordering::Relaxed)
    }
}
