//! The hashing threads: bcrypt behind a bounded queue.
//!
//! The queue is bounded by time, not by number: a job that would not be done within the deadline is refused at once, with an
//! estimate of when to come back. The threads run at a lower priority than the rest of the server, so that a storm of logins
//! does not slow down what needs no hash. A job whose client has gone away is not run.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::warn;
use zeroize::Zeroizing;

use super::super::Failure;
use super::work::{Done, Work};
use crate::domain::{Clock, Password, PasswordRule};

/// How much less urgent hashing is than the rest, as `nice` counts.
const NICENESS: i32 = 10;

/// How the pool is set up.
#[derive(Debug, Clone, Copy)]
pub struct PoolConfig {
    /// Threads; `None` for as many as cores.
    pub threads: Option<usize>,
    /// The longest that a job may take from its request to its end.
    pub deadline: Duration,
    /// The cost of most jobs, from which their time is estimated at the start.
    pub cost: u32,
}

/// The threads and their queue. They end when this is dropped.
#[derive(Debug)]
pub struct HashingPool {
    shared: Arc<Shared>,
    threads: usize,
    deadline: Duration,
}

/// What the pool has done and has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Jobs waiting for a thread.
    pub waiting: usize,
    /// bcrypt computations run since the start.
    pub hashes: u64,
    /// Jobs refused since the start.
    pub shed: u64,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    /// What one unit of work takes, in nanoseconds: a smoothed measurement. A unit is one round of bcrypt's key schedule.
    unit_nanos: AtomicU64,
    hashes: AtomicU64,
    shed: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// Units of work waiting and running.
    units: u64,
    closed: bool,
}

#[derive(Debug)]
struct Job {
    work: Work,
    answer: oneshot::Sender<Option<Done>>,
}

impl HashingPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// Where the operating system does not give them.
    pub fn start(config: &PoolConfig) -> std::io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = config.threads.unwrap_or(cores);
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            unit_nanos: AtomicU64::new(measure(config.cost)),
            hashes: AtomicU64::new(0),
            shed: AtomicU64::new(0),
        });
        for number in 0..threads {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("hashing-{number}"))
                .spawn(move || {
                    if number == 0 {
                        lower_priority_or_say_so();
                    } else {
                        lower_priority().ok();
                    }
                    shared.work();
                })?;
        }
        Ok(Self {
            shared,
            threads,
            deadline: config.deadline,
        })
    }

    /// Makes a bcrypt string of new salt.
    pub(super) async fn hash(
        &self,
        input: Zeroizing<Vec<u8>>,
        cost: u32,
    ) -> Result<String, Failure> {
        match self.run(Work::Hash { input, cost }).await? {
            Done::Hashed(hash) => Ok(hash),
            _ => Err(Failure::Internal(
                "a hash was asked for and something else came",
            )),
        }
    }

    /// Whether `input` has that bcrypt string.
    pub(super) async fn verify(
        &self,
        input: Zeroizing<Vec<u8>>,
        hash: &str,
    ) -> Result<bool, Failure> {
        let cost = hash
            .get(4..6)
            .and_then(|cost| cost.parse().ok())
            .unwrap_or(0);
        match self
            .run(Work::Verify {
                input,
                hash: hash.to_owned(),
                cost,
            })
            .await?
        {
            Done::Verified(right) => Ok(right),
            _ => Err(Failure::Internal(
                "a check was asked for and something else came",
            )),
        }
    }

    /// Works for as long as the difference between two costs.
    pub(super) async fn pad(&self, from: u32, to: u32) -> Result<(), Failure> {
        self.run(Work::Pad { from, to }).await.map(|_| ())
    }

    /// Which rule a new password breaks, if any.
    pub(super) async fn judge(
        &self,
        password: Password,
        min_length: usize,
        username: String,
    ) -> Result<Option<PasswordRule>, Failure> {
        let work = Work::Judge {
            password,
            min_length,
            username,
        };
        match self.run(work).await? {
            Done::Judged(broken) => Ok(broken),
            _ => Err(Failure::Internal(
                "a judgement was asked for and something else came",
            )),
        }
    }

    /// What happened since the start, and what waits now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            waiting: self.shared.lock().waiting.len(),
            hashes: self.shared.hashes.load(Ordering::Relaxed),
            shed: self.shared.shed.load(Ordering::Relaxed),
        }
    }

    async fn run(&self, work: Work) -> Result<Done, Failure> {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.shared.lock();
            // Who has gone away keeps nobody waiting.
            queue.drop_abandoned();
            let expected = self.expected(queue.units + work.units());
            if expected > self.deadline && queue.units > 0 {
                self.shared.shed.fetch_add(1, Ordering::Relaxed);
                let backlog = self.expected(queue.units).as_secs_f64().ceil();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a small positive number"
                )]
                return Err(Failure::Overloaded {
                    retry_after: (backlog as u64).max(1),
                });
            }
            queue.units += work.units();
            queue.waiting.push_back(Job { work, answer });
        }
        self.shared.filled.notify_one();
        answered.await.ok().flatten().ok_or(Failure::Internal(
            "a hash was refused by the library, or the pool has ended",
        ))
    }

    /// How long that much work takes all threads together.
    fn expected(&self, units: u64) -> Duration {
        let nanos = units.saturating_mul(self.shared.unit_nanos.load(Ordering::Relaxed))
            / self.threads.max(1) as u64;
        Duration::from_nanos(nanos)
    }
}

impl Drop for HashingPool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does until the pool ends.
    fn work(&self) {
        let clock = Clock::machine();
        while let Some(job) = self.next() {
            let units = job.work.units();
            let begun = clock.uptime();
            // A panic in the library must not take the thread, and with it all later logins.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.work.run()))
                .ok()
                .flatten();
            if !matches!(job.work, Work::Judge { .. }) {
                self.learn(units, clock.uptime().since(begun));
                self.hashes.fetch_add(1, Ordering::Relaxed);
            }
            self.lock().units -= units;
            job.answer.send(done).ok();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            queue.drop_abandoned();
            if let Some(job) = queue.waiting.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self
                .filled
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Moves the estimate an eighth of the way to what was measured.
    fn learn(&self, units: u64, took: Duration) {
        let measured = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / units.max(1);
        let before = self.unit_nanos.load(Ordering::Relaxed);
        self.unit_nanos.store(
            (before.saturating_mul(7).saturating_add(measured) / 8).max(1),
            Ordering::Relaxed,
        );
    }
}

impl Queue {
    fn drop_abandoned(&mut self) {
        let units = &mut self.units;
        self.waiting.retain(|job| {
            let wanted = !job.answer.is_closed();
            if !wanted {
                *units -= job.work.units();
            }
            wanted
        });
    }
}

/// What a unit of work takes, from one hash of lower cost; at most a few milliseconds.
fn measure(cost: u32) -> u64 {
    let clock = Clock::machine();
    let cost = cost.min(6);
    let begun = clock.uptime();
    bcrypt::bcrypt(cost, [0; 16], b"measure");
    let nanos = u64::try_from(clock.uptime().since(begun).as_nanos()).unwrap_or(u64::MAX);
    (nanos >> cost).max(1)
}

fn lower_priority_or_say_so() {
    if let Err(error) = lower_priority() {
        warn!(event = "hashing_priority", %error, "the system does not let hashing threads run at a lower priority");
    }
}

/// On Linux this affects the calling thread only.
fn lower_priority() -> rustix::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> Zeroizing<Vec<u8>> {
        Zeroizing::new(b"input".to_vec())
    }

    #[tokio::test]
    async fn what_would_wait_beyond_the_deadline_is_refused_at_once_with_an_estimate() {
        let config = PoolConfig {
            threads: Some(1),
            deadline: Duration::from_millis(200),
            cost: 10,
        };
        let pool = Arc::new(HashingPool::start(&config).unwrap());
        let jobs: Vec<_> = (0..50)
            .map(|_| {
                tokio::spawn({
                    let pool = Arc::clone(&pool);
                    async move { pool.hash(input(), 10).await }
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
        assert!(refused > 25, "{refused} of 50 refused");
        let Counts {
            waiting,
            hashes,
            shed,
        } = pool.counts();
        assert_eq!((waiting, shed, hashes + shed), (0, refused, 50));
    }

    #[tokio::test]
    async fn a_job_whose_client_has_gone_is_not_run() {
        let config = PoolConfig {
            threads: Some(1),
            deadline: Duration::from_mins(1),
            cost: 10,
        };
        let pool = HashingPool::start(&config).unwrap();
        for _ in 0..20 {
            // Polled once, which queues it, and then dropped.
            let mut job = Box::pin(pool.hash(input(), 10));
            std::future::poll_fn(|context| {
                let _ = job.as_mut().poll(context);
                std::task::Poll::Ready(())
            })
            .await;
        }
        pool.hash(input(), 4).await.unwrap();
        let run = pool.counts().hashes;
        assert!(run <= 3, "{run} hashes were run");
    }
}
