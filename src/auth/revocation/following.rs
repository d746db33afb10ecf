//! Background tasks of [`Revocations`]: the feed consumer, the lease renewer, the worker of the retry queue, the trimmer, and
//! the canaries.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Revocations;
use super::backlog::Worker;
use super::canaries::keep_canaries;
use super::follower::Follower;
use super::heart::Heart;
use super::trimmer::Trimmer;
use crate::store::Redis;

/// Background tasks of one [`Revocations`].
pub struct Following {
    follower: Follower,
    heart: Heart,
    worker: Worker,
    trimmer: Trimmer,
    redis: Redis,
}

impl Following {
    pub(super) fn of(this: &Revocations, worker: Worker) -> Self {
        Self {
            follower: Follower::new(this),
            heart: Heart {
                redis: this.redis.clone(),
                clock: this.clock.clone(),
                held: Arc::clone(&this.held),
            },
            worker,
            trimmer: Trimmer {
                redis: this.redis.clone(),
                clock: this.clock.clone(),
                appended: Arc::clone(&this.appended),
            },
            redis: this.redis.clone(),
        }
    }

    /// Runs all tasks until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(
            self.follower.run(stop.clone()),
            self.heart.run(stop.clone()),
            self.worker.run(self.redis.clone(), stop.clone()),
            self.trimmer.run(stop.clone()),
            keep_canaries(self.redis, stop)
        );
    }
}
