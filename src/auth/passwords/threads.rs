//! What the hashing threads do: they advance their lanes, turn by turn, and fill each that has become free from the queue.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::courtesy::Courtesy;
use super::lanes::{Computation, Lanes};
use super::queue::{Job, Queue};
use super::throughput::{Iteration, RecentWork, Throughput};
use super::work::{Done, Next, Work};
use crate::domain::Clock;

/// How much less urgent hashing is than the rest, as `nice` counts.
const NICENESS: i32 = 10;

/// Turns between two looks whether clients are still there.
const LOOK: u32 = 64;

/// What the threads and those who ask share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    pub(super) filled: Condvar,
    pub(super) lanes: usize,
    pub(super) throughput: Throughput,
    pub(super) busy: AtomicUsize,
    pub(super) hashes: AtomicU64,
    pub(super) shed: AtomicU64,
    pub(super) waited_nanos: AtomicU64,
}

/// A job in a lane.
struct Running {
    job: Job,
    padding: bool,
}

impl Shared {
    pub(super) fn new(threads: usize, lanes: usize) -> Self {
        Self {
            queue: Mutex::default(),
            filled: Condvar::new(),
            lanes,
            throughput: Throughput::new(threads, (1..=lanes).map(measure)),
            busy: AtomicUsize::new(0),
            hashes: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            waited_nanos: AtomicU64::new(0),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does until the pool ends.
    pub(super) fn work_in_lanes(&self, worker: usize) {
        let (clock, mut recent) = (Clock::machine(), RecentWork::new(worker));
        let mut lanes = Lanes::new(self.lanes);
        let mut finished = Vec::with_capacity(self.lanes);
        let mut turns = 0_u32;
        let mut courtesy = Courtesy::new(Clock::machine());
        loop {
            while lanes.have_room() {
                match self.next(lanes.busy() == 0) {
                    Taken::Job(job) => self.begin(job, &mut lanes),
                    Taken::Nothing => break,
                    Taken::End => return,
                }
            }
            let (busy, begun) = (lanes.busy(), clock.uptime());
            let mut resumed = begun;
            lanes.turn_with_a_rest(
                || resumed = courtesy.make_way(resumed),
                |running, digest| finished.push((running, digest)),
            );
            for (running, digest) in finished.drain(..) {
                self.finish(running, &digest, &mut lanes);
            }
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(LOOK) {
                lanes.give_up(
                    |running| running.job.is_abandoned(),
                    |running| self.end(&running.job),
                );
            }
            let resumed = courtesy.make_way(resumed);
            let elapsed = resumed.since(begun);
            let iteration = Iteration {
                busy,
                elapsed,
                worked: elapsed.saturating_sub(courtesy.take_offered()),
            };
            self.throughput.observe(&mut recent, iteration, resumed);
        }
    }

    fn begin(&self, job: Job, lanes: &mut Lanes<Running>) {
        let Some(computation) = job.work.computation() else {
            let done = run(&job.work, Work::judge);
            self.lock().ended(job.work.units());
            job.finish(done);
            return;
        };
        self.busy.fetch_add(1, Ordering::Relaxed);
        let running = Running {
            job,
            padding: false,
        };
        // There is room: it was asked for.
        lanes.begin(&computation, running).ok();
    }

    fn finish(&self, running: Running, digest: &[u8; 24], lanes: &mut Lanes<Running>) {
        let next = if running.padding {
            Next::Done(Work::after_padding())
        } else {
            self.hashes.fetch_add(1, Ordering::Relaxed);
            running.job.work.after(digest)
        };
        match next {
            Next::Done(done) => {
                self.end(&running.job);
                running.job.finish(Some(done));
            }
            Next::Pad(computation) => {
                let running = Running {
                    padding: true,
                    ..running
                };
                // In the lane that has just become free.
                lanes.begin(&computation, running).ok();
            }
        }
    }

    /// Takes note that a job has left its lane.
    fn end(&self, job: &Job) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
        self.lock().ended(job.work.units());
    }

    /// What a thread does until the pool ends, where the crate computes.
    pub(super) fn work_by_crate(&self, worker: usize) {
        let (clock, mut recent) = (Clock::machine(), RecentWork::new(worker));
        while let Taken::Job(job) = self.next(true) {
            let (units, begun) = (job.work.units(), clock.uptime());
            self.busy.fetch_add(1, Ordering::Relaxed);
            let done = run(&job.work, Work::run_by_crate);
            self.busy.fetch_sub(1, Ordering::Relaxed);
            if !matches!(done, Some(Done::Judged(_))) {
                let ended = clock.uptime();
                let elapsed = ended.since(begun) / u32::try_from(units).unwrap_or(u32::MAX).max(1);
                let iteration = Iteration {
                    busy: 1,
                    elapsed,
                    worked: elapsed,
                };
                self.throughput.observe(&mut recent, iteration, ended);
                self.hashes.fetch_add(1, Ordering::Relaxed);
            }
            self.lock().ended(units);
            job.finish(done);
        }
    }

    fn next(&self, wait: bool) -> Taken {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return Taken::End;
            }
            if let Some(mut job) = queue.take() {
                job.trace.begin();
                let waited = Clock::machine().uptime().since(job.queued).as_nanos();
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

/// Runs work in one go. A panic in a library must not take the thread, and with it all later logins.
fn run(work: &Work, how: impl Fn(&Work) -> Option<Done>) -> Option<Done> {
    let run = std::panic::AssertUnwindSafe(|| how(work));
    std::panic::catch_unwind(run).ok().flatten()
}

/// What there is for a thread to do.
enum Taken {
    Job(Job),
    Nothing,
    End,
}

/// Duration of an iteration with so many busy lanes: the shortest of a few, so that one in which the thread had to wait for its
/// core does not count. All of it takes at most a few milliseconds on a quiet machine.
fn measure(busy: usize) -> Duration {
    const SAMPLES: u32 = 8;
    let clock = Clock::machine();
    let mut lanes = Lanes::new(busy);
    for _ in 0..busy {
        let computation = Computation::new(b"measure", [0; 16], u64::from(SAMPLES) + 1);
        lanes.begin(&computation, ()).ok();
    }
    let samples = (0..SAMPLES).map(|_| {
        let begun = clock.uptime();
        lanes.turn(|(), _| {});
        clock.uptime().since(begun)
    });
    samples.min().unwrap_or(Duration::MAX)
}

pub(super) fn lower_priority_or_say_so() {
    if let Err(error) = lower_priority() {
        warn!(event = "hashing_priority", %error, "the system does not let hashing threads run at a lower priority");
    }
}

/// On Linux this affects the calling thread only.
pub(super) fn lower_priority() -> rustix::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS)?;
    Ok(())
}
