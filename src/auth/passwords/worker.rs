//! Hashing threads: each advances its lanes, iteration by iteration, and fills every free lane from the queue.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bcrypt_lanes::{Computation, Digest, Lanes};
use tracing::warn;

use super::hash_job::{HashJob, Next};
use super::queue::{Queue, QueuedJob};
use super::throughput::{Iteration, RecentWork, Throughput};
use super::yield_budget::YieldBudget;
use crate::domain::Clock;

/// Priority of hashing threads, as `nice` counts: 0 is that of the rest of the server, 19 the lowest.
const NICENESS: i32 = 10;

/// Iterations between two checks whether clients are still waiting.
const ABANDONED_CHECK_INTERVAL: u32 = 64;

/// State that hashing threads share with the requests which ask for hashes.
#[derive(Debug)]
pub(super) struct PoolState {
    pub(super) queue: Mutex<Queue>,
    pub(super) filled: Condvar,
    /// Lanes of each thread.
    pub(super) lanes: usize,
    pub(super) throughput: Throughput,
    pub(super) busy: AtomicUsize,
    pub(super) hashes: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) waited_nanos: AtomicU64,
}

/// A job in a lane.
struct RunningJob {
    queued: QueuedJob,
    padding: bool,
}

impl PoolState {
    pub(super) fn new(threads: usize, lanes: usize) -> Self {
        Self {
            queue: Mutex::default(),
            filled: Condvar::new(),
            lanes,
            throughput: Throughput::new(threads, (1..=lanes).map(measure)),
            busy: AtomicUsize::new(0),
            hashes: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            waited_nanos: AtomicU64::new(0),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs jobs until the pool is dropped. `worker` is the number of the calling thread.
    pub(super) fn work(&self, worker: usize) {
        let clock = Clock::machine();
        let mut recent = RecentWork::new(worker);
        let mut lanes = Lanes::new(self.lanes);
        let mut finished = Vec::with_capacity(self.lanes);
        let mut iterations = 0_u32;
        let mut yield_budget = YieldBudget::new(Clock::machine());
        loop {
            while lanes.has_free_lane() {
                match self.next(lanes.busy() == 0) {
                    Taken::Job(job) => self.start(job, &mut lanes),
                    Taken::Nothing => break,
                    Taken::End => return,
                }
            }
            let busy = lanes.busy();
            let begun = clock.uptime();
            let mut resumed = begun;
            lanes.iterate_with_pause(
                || resumed = yield_budget.maybe_yield(resumed),
                |running, digest| finished.push((running, digest)),
            );
            for (running, digest) in finished.drain(..) {
                self.finish(running, &digest, &mut lanes);
            }
            iterations = iterations.wrapping_add(1);
            if iterations.is_multiple_of(ABANDONED_CHECK_INTERVAL) {
                lanes.cancel(
                    |running| running.queued.is_abandoned(),
                    |running| self.end(&running.queued),
                );
            }
            let ended = yield_budget.maybe_yield(resumed);
            let elapsed = ended.since(begun);
            let iteration = Iteration {
                busy,
                elapsed,
                worked: elapsed.saturating_sub(yield_budget.take_yielded()),
            };
            self.throughput.observe(&mut recent, iteration, ended);
        }
    }

    fn start(&self, queued: QueuedJob, lanes: &mut Lanes<RunningJob>) {
        let Some(computation) = queued.job.computation() else {
            // A panic in a library must not end the thread, and with it all later logins.
            let check = std::panic::AssertUnwindSafe(|| queued.job.check_strength());
            let result = std::panic::catch_unwind(check).ok().flatten();
            self.lock().ended(queued.job.iterations());
            queued.finish(result);
            return;
        };
        self.busy.fetch_add(1, Ordering::Relaxed);
        let running = RunningJob {
            queued,
            padding: false,
        };
        // The caller has found a free lane.
        lanes.start(&computation, running).ok();
    }

    fn finish(&self, running: RunningJob, digest: &Digest, lanes: &mut Lanes<RunningJob>) {
        let next = if running.padding {
            Next::Done(HashJob::result_after_padding())
        } else {
            self.hashes.fetch_add(1, Ordering::Relaxed);
            running.queued.job.continue_after(digest)
        };
        match next {
            Next::Done(result) => {
                self.end(&running.queued);
                running.queued.finish(Some(result));
            }
            Next::Pad(computation) => {
                let running = RunningJob {
                    padding: true,
                    ..running
                };
                // The lane of the job has just become free.
                lanes.start(&computation, running).ok();
            }
        }
    }

    /// Takes note that a job has left its lane.
    fn end(&self, queued: &QueuedJob) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
        self.lock().ended(queued.job.iterations());
    }

    fn next(&self, wait: bool) -> Taken {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return Taken::End;
            }
            if let Some(mut job) = queue.take() {
                job.trace.begin();
                let waited = Clock::machine().uptime().since(job.queued_at).as_nanos();
                self.waited_nanos
                    .fetch_add(u64::try_from(waited).unwrap_or(0), Ordering::Relaxed);
                return Taken::Job(job);
            }
            if !wait {
                return Taken::Nothing;
            }
            queue = self
                .filled
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Answer to a thread that asks for work.
enum Taken {
    Job(QueuedJob),
    Nothing,
    End,
}

/// Duration of an iteration with this number of busy lanes: the shortest of a few, so that one in which the thread had to wait for
/// its core does not count. All of it takes at most a few milliseconds on a quiet machine.
fn measure(busy: usize) -> Duration {
    const SAMPLES: u32 = 8;
    let clock = Clock::machine();
    let mut lanes = Lanes::new(busy);
    let computation = Computation::with_iterations(b"measurement", [0; 16], u64::from(SAMPLES) + 1);
    for _ in 0..busy {
        lanes.start(&computation, ()).ok();
    }
    let samples = (0..SAMPLES).map(|_| {
        let begun = clock.uptime();
        lanes.iterate(|(), _| {});
        clock.uptime().since(begun)
    });
    samples.min().unwrap_or(Duration::MAX)
}

/// Lowers the priority of the calling thread, and warns if the system does not allow it.
pub(super) fn lower_priority_or_warn() {
    if let Err(error) = lower_priority() {
        warn!(event = "hashing_priority", %error, "the system does not let hashing threads run at a lower priority");
    }
}

/// Lowers the priority of the calling thread. Does nothing on systems other than Linux, where it would change the whole process.
pub(super) fn lower_priority() -> rustix::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS)?;
    Ok(())
}
