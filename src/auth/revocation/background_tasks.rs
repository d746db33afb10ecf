//! Background tasks of [`Revocations`]: the feed consumer, the lease renewer, the worker of the retry queue, the trimmer, and
//! the canaries.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Revocations;
use super::canaries::keep_canaries;
use super::feed_consumer::FeedConsumer;
use super::lease_renewer::LeaseRenewer;
use super::retry_queue::Worker;
use super::trimmer::Trimmer;
use crate::store::Redis;

/// Background tasks of one [`Revocations`].
pub struct BackgroundTasks {
    consumer: FeedConsumer,
    renewer: LeaseRenewer,
    worker: Worker,
    trimmer: Trimmer,
    redis: Redis,
}

impl BackgroundTasks {
    pub(super) fn new(this: &Revocations, worker: Worker) -> Self {
        Self {
            consumer: FeedConsumer::new(this),
            renewer: LeaseRenewer {
                redis: this.redis.clone(),
                clock: this.clock.clone(),
                lease: Arc::clone(&this.lease),
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
            self.consumer.run(stop.clone()),
            self.renewer.run(stop.clone()),
            self.worker.run(self.redis.clone(), stop.clone()),
            self.trimmer.run(stop.clone()),
            keep_canaries(self.redis, stop)
        );
    }
}
