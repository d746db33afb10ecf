//! Pool of hashing threads: bcrypt in lanes, behind a queue.
//!
//! Each thread advances several computations in step ([`bcrypt_lanes`]), and fills a lane that has become free from the
//! [queue](super::queue) at once. The threads run at a lower priority than the rest of the server, so that a spike of
//! logins does not slow down requests that need no hash. The job of a client that has gone away is not started, or not run to
//! its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use bcrypt_lanes::DEFAULT_LANES;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::super::ServiceError;
use super::hash_job::{HashJob, HashResult};
use super::queue::{QueueFull, QueuedJob, Trace};
use super::worker::{PoolState, lower_priority, lower_priority_or_warn};
use crate::domain::{Clock, Guess, Password, PasswordRule};

/// Settings of the pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolConfig {
    /// Number of threads; `None` for that of the cores.
    pub threads: Option<usize>,
    /// Lanes of each thread; `None` for the number that yields the most hashes.
    pub lanes: Option<usize>,
    /// Longest time that a job may take from its request to its end.
    pub deadline: Duration,
}

/// Hashing threads and their queue. The threads end when this is dropped.
#[derive(Debug)]
pub struct HashingPool {
    state: Arc<PoolState>,
    deadline: Duration,
}

/// Work that the pool has done, and work that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Jobs waiting for a lane.
    pub waiting: usize,
    /// Busy lanes.
    pub busy: usize,
    /// bcrypt computations since the start.
    pub hashes: u64,
    /// Jobs refused since the start because the queue was full.
    pub rejected: u64,
    /// Time that all jobs since the start have waited for a lane.
    pub waited: Duration,
}

impl HashingPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// An error of the operating system if it cannot start a thread.
    pub fn start(config: &PoolConfig) -> std::io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = config.threads.unwrap_or(cores);
        let lanes = config.lanes.unwrap_or(DEFAULT_LANES);
        let state = Arc::new(PoolState::new(threads, lanes));
        for number in 0..threads {
            let state = Arc::clone(&state);
            thread::Builder::new()
                .name(format!("hashing-{number}"))
                .spawn(move || {
                    if number == 0 {
                        lower_priority_or_warn();
                    } else {
                        lower_priority().ok();
                    }
                    state.work(number);
                })?;
        }
        Ok(Self {
            state,
            deadline: config.deadline,
        })
    }

    /// Makes a bcrypt string with this salt.
    pub(super) async fn hash(
        &self,
        attempt: Guess,
        input: Zeroizing<Vec<u8>>,
        salt: [u8; 16],
        cost: u32,
    ) -> Result<String, ServiceError> {
        match self
            .run(attempt, HashJob::Hash { input, salt, cost })
            .await?
        {
            HashResult::Hashed(hash) => Ok(hash),
            _ => Err(ServiceError::Internal(
                "a hash returned the result of another job",
            )),
        }
    }

    /// Checks whether `input` has this bcrypt string. A refusal takes as long as a hash of the cost `padded_to`.
    pub(super) async fn verify(
        &self,
        attempt: Guess,
        input: Zeroizing<Vec<u8>>,
        hash: &str,
        padded_to: u32,
    ) -> Result<bool, ServiceError> {
        let job = HashJob::Verify {
            input,
            hash: hash.to_owned(),
            padded_to,
        };
        match self.run(attempt, job).await? {
            HashResult::Verified(right) => Ok(right),
            _ => Err(ServiceError::Internal(
                "a verification returned the result of another job",
            )),
        }
    }

    /// Rule that a new password breaks, if any.
    pub(super) async fn check_strength(
        &self,
        attempt: Guess,
        password: Password,
        min_length: usize,
        username: String,
    ) -> Result<Option<PasswordRule>, ServiceError> {
        let job = HashJob::StrengthCheck {
            password,
            min_length,
            username,
        };
        match self.run(attempt, job).await? {
            HashResult::StrengthChecked(broken) => Ok(broken),
            _ => Err(ServiceError::Internal(
                "a strength check returned the result of another job",
            )),
        }
    }

    /// Counts for metrics.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = &self.state;
        Counts {
            waiting: state.lock().waiting(),
            busy: state.busy.load(Ordering::Relaxed),
            hashes: state.hashes.load(Ordering::Relaxed),
            rejected: state.rejected.load(Ordering::Relaxed),
            waited: Duration::from_nanos(state.waited_nanos.load(Ordering::Relaxed)),
        }
    }

    async fn run(&self, attempt: Guess, job: HashJob) -> Result<HashResult, ServiceError> {
        let (answer, answered) = oneshot::channel();
        let now = Clock::machine().uptime();
        let queued = QueuedJob {
            job,
            attempt,
            queued_at: now,
            trace: Trace::waiting(),
            answer,
        };
        let estimate = self.state.throughput.estimate(now);
        let put = self.state.lock().put(queued, &estimate, self.deadline);
        if let Err(QueueFull { retry_after }) = put {
            self.state.rejected.fetch_add(1, Ordering::Relaxed);
            let seconds = retry_after.as_millis().div_ceil(1000).max(1);
            return Err(ServiceError::Overloaded {
                retry_after: u64::try_from(seconds).unwrap_or(u64::MAX),
            });
        }
        self.state.filled.notify_one();
        answered.await.ok().flatten().ok_or(ServiceError::Internal(
            "a hash was refused by the library, or the pool has ended",
        ))
    }
}

impl Drop for HashingPool {
    fn drop(&mut self) {
        self.state.lock().closed = true;
        self.state.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AttemptedName;

    fn input() -> Zeroizing<Vec<u8>> {
        Zeroizing::new(b"input".to_vec())
    }

    fn attempt(number: usize) -> Guess {
        Guess {
            name: AttemptedName::of(&number.to_string()),
            from: None,
        }
    }

    fn pool(threads: usize, deadline: Duration) -> HashingPool {
        HashingPool::start(&PoolConfig {
            threads: Some(threads),
            lanes: Some(3),
            deadline,
        })
        .unwrap()
    }

    #[tokio::test]
    async fn jobs_that_would_wait_beyond_the_deadline_are_refused_at_once() {
        let pool = Arc::new(pool(1, Duration::from_millis(500)));
        let jobs: Vec<_> = (0..100)
            .map(|number| {
                tokio::spawn({
                    let pool = Arc::clone(&pool);
                    async move { pool.hash(attempt(number), input(), [1; 16], 10).await }
                })
            })
            .collect();
        let mut refused = 0;
        for job in jobs {
            match job.await.unwrap() {
                Ok(_) => {}
                Err(ServiceError::Overloaded { retry_after }) => {
                    assert!(retry_after >= 1);
                    refused += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(refused > 20, "{refused} of 100 refused");
        let counts = pool.counts();
        assert_eq!((counts.waiting, counts.busy), (0, 0));
        assert_eq!(
            (counts.rejected, counts.hashes + counts.rejected),
            (refused, 100)
        );
    }

    #[tokio::test]
    async fn jobs_of_clients_that_have_gone_are_not_run_to_their_ends() {
        let pool = pool(1, Duration::from_mins(10));
        for number in 0..20 {
            // Polled once, which queues it, and then dropped.
            let mut job = Box::pin(pool.hash(attempt(number), input(), [1; 16], 15));
            std::future::poll_fn(|context| {
                let _ = job.as_mut().poll(context);
                std::task::Poll::Ready(())
            })
            .await;
        }
        pool.hash(attempt(20), input(), [1; 16], 4).await.unwrap();
        assert_eq!(pool.counts().hashes, 1);
    }

    #[tokio::test]
    async fn jobs_of_mixed_costs_get_their_own_results() {
        let pool = Arc::new(pool(2, Duration::from_mins(10)));
        let jobs: Vec<_> = (0..60_u8)
            .map(|number| {
                let pool = Arc::clone(&pool);
                let cost = 4 + u32::from(number % 5);
                tokio::spawn(async move {
                    let input = Zeroizing::new(vec![number; 10]);
                    let hash = pool
                        .hash(attempt(number.into()), input, [number; 16], cost)
                        .await;
                    (number, cost, hash.unwrap())
                })
            })
            .collect();
        for job in jobs {
            let (number, cost, hash) = job.await.unwrap();
            let by_crate = bcrypt::hash_with_salt([number; 10], cost, [number; 16]);
            assert_eq!(hash, by_crate.unwrap().to_string());
        }
    }

    #[tokio::test]
    async fn a_dropped_pool_leaves_no_thread_behind() {
        let pool = pool(2, Duration::from_mins(10));
        let state = Arc::downgrade(&pool.state);
        let mut job = Box::pin(pool.hash(attempt(1), input(), [1; 16], 14));
        std::future::poll_fn(|context| {
            let _ = job.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
        drop(job);
        drop(pool);
        while state.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
