//! The hashing threads: bcrypt in lanes, behind a queue.
//!
//! Each thread advances several computations in step ([`lanes`](super::lanes)), and fills a lane that has become free from
//! the [queue](super::queue) at once. The threads run at a lower priority than the rest of the server, so that a storm of
//! logins does not slow down what needs no hash. A job whose client has gone away is not run, or not run to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::super::Failure;
use super::lanes::DEFAULT_LANES;
use super::queue::{Full, Job, Trace};
use super::threads::{Shared, lower_priority, lower_priority_or_say_so};
use super::work::{Done, Work};
use crate::config::HashEngine;
use crate::domain::{Clock, Guess, Password, PasswordRule};

/// How the pool is set up.
#[derive(Debug, Clone, Copy)]
pub struct PoolConfig {
    /// Threads; `None` for as many as cores.
    pub threads: Option<usize>,
    /// Lanes of a thread; `None` for as many as pay.
    pub lanes: Option<usize>,
    /// Who computes.
    pub engine: HashEngine,
    /// The longest that a job may take from its request to its end.
    pub deadline: Duration,
}

/// The threads and their queue. They end when this is dropped.
#[derive(Debug)]
pub struct HashingPool {
    shared: Arc<Shared>,
    deadline: Duration,
}

/// What the pool has done and has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Jobs waiting for a lane.
    pub waiting: usize,
    /// Lanes at work.
    pub busy: usize,
    /// bcrypt computations run since the start.
    pub hashes: u64,
    /// Jobs refused since the start.
    pub shed: u64,
    /// What all jobs since the start have waited for a lane.
    pub waited: Duration,
}

impl HashingPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// Where the operating system does not give them.
    pub fn start(config: &PoolConfig) -> std::io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = config.threads.unwrap_or(cores);
        let lanes = match config.engine {
            HashEngine::Lanes => config.lanes.unwrap_or(DEFAULT_LANES),
            HashEngine::Crate => 1,
        };
        let shared = Arc::new(Shared::new(threads, lanes));
        for number in 0..threads {
            let (shared, engine) = (Arc::clone(&shared), config.engine);
            thread::Builder::new()
                .name(format!("hashing-{number}"))
                .spawn(move || {
                    if number == 0 {
                        lower_priority_or_say_so();
                    } else {
                        lower_priority().ok();
                    }
                    match engine {
                        HashEngine::Lanes => shared.work_in_lanes(number),
                        HashEngine::Crate => shared.work_by_crate(number),
                    }
                })?;
        }
        Ok(Self {
            shared,
            deadline: config.deadline,
        })
    }

    /// Makes a bcrypt string of that salt.
    pub(super) async fn hash(
        &self,
        asker: Guess,
        input: Zeroizing<Vec<u8>>,
        salt: [u8; 16],
        cost: u32,
    ) -> Result<String, Failure> {
        match self.run(asker, Work::Hash { input, salt, cost }).await? {
            Done::Hashed(hash) => Ok(hash),
            _ => Err(Failure::Internal(
                "a hash was asked for and something else came",
            )),
        }
    }

    /// Whether `input` has that bcrypt string. A refusal takes as long as one of the cost `padded_to`.
    pub(super) async fn verify(
        &self,
        asker: Guess,
        input: Zeroizing<Vec<u8>>,
        hash: &str,
        padded_to: u32,
    ) -> Result<bool, Failure> {
        let work = Work::Verify {
            input,
            hash: hash.to_owned(),
            padded_to,
        };
        match self.run(asker, work).await? {
            Done::Verified(right) => Ok(right),
            _ => Err(Failure::Internal(
                "a check was asked for and something else came",
            )),
        }
    }

    /// Which rule a new password breaks, if any.
    pub(super) async fn judge(
        &self,
        asker: Guess,
        password: Password,
        min_length: usize,
        username: String,
    ) -> Result<Option<PasswordRule>, Failure> {
        let work = Work::Judge {
            password,
            min_length,
            username,
        };
        match self.run(asker, work).await? {
            Done::Judged(broken) => Ok(broken),
            _ => Err(Failure::Internal(
                "a judgement was asked for and something else came",
            )),
        }
    }

    /// What happened since the start, and what waits now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        Counts {
            waiting: shared.lock().waiting(),
            busy: shared.busy.load(Ordering::Relaxed),
            hashes: shared.hashes.load(Ordering::Relaxed),
            shed: shared.shed.load(Ordering::Relaxed),
            waited: Duration::from_nanos(shared.waited_nanos.load(Ordering::Relaxed)),
        }
    }

    async fn run(&self, asker: Guess, work: Work) -> Result<Done, Failure> {
        let (answer, answered) = oneshot::channel();
        let now = Clock::machine().uptime();
        let job = Job {
            work,
            asker,
            queued: now,
            trace: Trace::waiting(),
            answer,
        };
        let estimate = self.shared.throughput.estimate(now);
        let put = self.shared.lock().put(job, &estimate, self.deadline);
        if let Err(Full { retry_after }) = put {
            self.shared.shed.fetch_add(1, Ordering::Relaxed);
            let seconds = retry_after.as_millis().div_ceil(1000).max(1);
            return Err(Failure::Overloaded {
                retry_after: u64::try_from(seconds).unwrap_or(u64::MAX),
            });
        }
        self.shared.filled.notify_one();
        answered.await.ok().flatten().ok_or(Failure::Internal(
            "a hash was refused by the library, or the pool has ended",
        ))
    }
}

impl Drop for HashingPool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AttemptedName;

    fn input() -> Zeroizing<Vec<u8>> {
        Zeroizing::new(b"input".to_vec())
    }

    fn asker(number: usize) -> Guess {
        Guess {
            name: AttemptedName::of(&number.to_string()),
            from: None,
        }
    }

    fn pool(engine: HashEngine, threads: usize, deadline: Duration) -> HashingPool {
        HashingPool::start(&PoolConfig {
            threads: Some(threads),
            lanes: Some(3),
            engine,
            deadline,
        })
        .unwrap()
    }

    #[tokio::test]
    async fn what_would_wait_beyond_the_deadline_is_refused_at_once_with_an_estimate() {
        for engine in [HashEngine::Lanes, HashEngine::Crate] {
            let pool = Arc::new(pool(engine, 1, Duration::from_millis(500)));
            let jobs: Vec<_> = (0..100)
                .map(|number| {
                    tokio::spawn({
                        let pool = Arc::clone(&pool);
                        async move { pool.hash(asker(number), input(), [1; 16], 10).await }
                    })
                })
                .collect();
            let mut refused = 0;
            for job in jobs {
                match job.await.unwrap() {
                    Ok(_) => {}
                    Err(Failure::Overloaded { retry_after }) => {
                        assert!(retry_after >= 1);
                        refused += 1;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            assert!(refused > 20, "{refused} of 100 refused");
            let counts = pool.counts();
            assert_eq!((counts.waiting, counts.busy), (0, 0));
            assert_eq!((counts.shed, counts.hashes + counts.shed), (refused, 100));
        }
    }

    #[tokio::test]
    async fn a_job_whose_client_has_gone_is_not_run_or_not_to_its_end() {
        let pool = pool(HashEngine::Lanes, 1, Duration::from_mins(10));
        for number in 0..20 {
            // Polled once, which queues it, and then dropped.
            let mut job = Box::pin(pool.hash(asker(number), input(), [1; 16], 15));
            std::future::poll_fn(|context| {
                let _ = job.as_mut().poll(context);
                std::task::Poll::Ready(())
            })
            .await;
        }
        pool.hash(asker(20), input(), [1; 16], 4).await.unwrap();
        assert_eq!(pool.counts().hashes, 1);
    }

    #[tokio::test]
    async fn lanes_of_mixed_costs_answer_each_what_is_his() {
        let pool = Arc::new(pool(HashEngine::Lanes, 2, Duration::from_mins(10)));
        let jobs: Vec<_> = (0..60_u8)
            .map(|number| {
                let pool = Arc::clone(&pool);
                let cost = 4 + u32::from(number % 5);
                tokio::spawn(async move {
                    let input = Zeroizing::new(vec![number; 10]);
                    let hash = pool
                        .hash(asker(number.into()), input, [number; 16], cost)
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
    async fn a_pool_that_ends_leaves_no_thread_behind() {
        let pool = pool(HashEngine::Lanes, 2, Duration::from_mins(10));
        let shared = Arc::downgrade(&pool.shared);
        let mut job = Box::pin(pool.hash(asker(1), input(), [1; 16], 14));
        std::future::poll_fn(|context| {
            let _ = job.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
        drop(job);
        drop(pool);
        while shared.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
