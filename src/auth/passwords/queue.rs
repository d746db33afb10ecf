//! Queue before the hashing threads: bounded by time, not by number, and shared fairly.
//!
//! A job for which a lane is free is always taken: it does not wait, and no estimate, however wrong, can refuse it. Any other job
//! is refused at once if it is expected to end after the deadline, with an estimate of when to come back. No client may fill
//! the queue for the others: the jobs that wait for one account, or from one network, may take a part of the deadline only. Jobs
//! whose clients have gone leave.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{Span, info_span};

use super::hash_job::{HashJob, HashResult};
use super::throughput::Estimate;
use crate::domain::{Guess, Uptime};

/// Part of the deadline that waiting jobs from one network may take: a half.
const NETWORK_SHARE: u32 = 2;
/// Part of the deadline that waiting jobs for one account may take: a quarter.
const ACCOUNT_SHARE: u32 = 4;

/// A job, the login attempt that it belongs to, and the request that waits for its result.
#[derive(Debug)]
pub(super) struct QueuedJob {
    pub(super) job: HashJob,
    pub(super) attempt: Guess,
    pub(super) queued_at: Uptime,
    pub(super) trace: Trace,
    pub(super) answer: oneshot::Sender<Option<HashResult>>,
}

impl QueuedJob {
    /// Returns true if its client has gone away.
    pub(super) fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    /// Sends the result to the request; `None` if there is none.
    pub(super) fn finish(self, result: Option<HashResult>) {
        // Its span ends first: the span of the request may end as soon as it has the result.
        drop(self.trace);
        self.answer.send(result).ok();
    }
}

/// Spans of a job in the trace of its request: one while it waits, one while it is computed.
#[derive(Debug)]
pub(super) struct Trace {
    request: Span,
    stage: Span,
}

impl Trace {
    /// Span of a job that waits, within the current span.
    pub(super) fn waiting() -> Self {
        let request = Span::current();
        let stage = if request.is_none() {
            Span::none()
        } else {
            info_span!(target: "portcullis::trace", "password wait")
        };
        Self { request, stage }
    }

    /// Begins the span of the computation. It ends when this is dropped.
    pub(super) fn begin(&mut self) {
        // A span ends when it is dropped: this one before the next begins.
        self.stage = Span::none();
        if !self.request.is_none() {
            self.stage =
                info_span!(target: "portcullis::trace", parent: &self.request, "password hash");
        }
    }
}

/// Jobs that wait, and totals of those that run.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<QueuedJob>,
    /// Number of jobs that were taken from the queue and have not ended.
    running: usize,
    /// Iterations of all jobs that wait or run.
    iterations: u64,
    pub(super) closed: bool,
}

/// Rejection of a job: the queue is full for its client, which may try again after a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull {
    pub(super) retry_after: Duration,
}

impl Queue {
    /// Takes a job if a lane is free for it, or if it is expected to end within the deadline and leaves the others their part.
    pub(super) fn put(
        &mut self,
        queued: QueuedJob,
        estimate: &Estimate,
        deadline: Duration,
    ) -> Result<(), QueueFull> {
        self.drop_abandoned();
        let iterations = queued.job.iterations();
        if self.waiting.len() + self.running < estimate.lanes {
            self.iterations += iterations;
            self.waiting.push_back(queued);
            return Ok(());
        }
        let backlog = estimate.shared(self.iterations);
        let own = estimate.single(iterations, self.iterations > 0);
        let late = self.iterations > 0 && backlog + own > deadline;
        let crowded = |share: u32, belongs: &dyn Fn(&Guess) -> bool| {
            let others = self.waiting.iter().filter(|other| belongs(&other.attempt));
            let waiting: u64 = others.map(|other| other.job.iterations()).sum();
            let wait = estimate.shared(waiting);
            (waiting > 0 && wait + estimate.shared(iterations) > deadline / share).then_some(wait)
        };
        let attempt = queued.attempt;
        let by_account = crowded(ACCOUNT_SHARE, &|other| other.name == attempt.name);
        let by_network = crowded(NETWORK_SHARE, &|other| {
            attempt.from.is_some() && other.from == attempt.from
        });
        if let Some(retry_after) = by_account.max(by_network).max(late.then_some(backlog)) {
            return Err(QueueFull { retry_after });
        }
        self.iterations += iterations;
        self.waiting.push_back(queued);
        Ok(())
    }

    /// Next job whose client is still there.
    pub(super) fn take(&mut self) -> Option<QueuedJob> {
        self.drop_abandoned();
        let job = self.waiting.pop_front()?;
        self.running += 1;
        Some(job)
    }

    /// Takes note that a job which was taken from the queue has ended.
    pub(super) fn ended(&mut self, iterations: u64) {
        self.running = self.running.saturating_sub(1);
        self.iterations = self.iterations.saturating_sub(iterations);
    }

    /// Number of jobs that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn drop_abandoned(&mut self) {
        let iterations = &mut self.iterations;
        self.waiting.retain(|queued| {
            let wanted = !queued.is_abandoned();
            if !wanted {
                *iterations = iterations.saturating_sub(queued.job.iterations());
            }
            wanted
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use zeroize::Zeroizing;

    use super::*;
    use crate::domain::AttemptedName;

    /// Ten lanes, each of which takes 100 ms for a hash of cost 10: a hundred a second.
    const ESTIMATE: Estimate = Estimate {
        lanes: 10,
        one_lane: Duration::from_micros(80),
        all_lanes: Duration::from_nanos(100_000_000 / 1024),
    };
    const DEADLINE: Duration = Duration::from_secs(2);

    type Answer = oneshot::Receiver<Option<HashResult>>;

    fn job(name: &str, network: u8) -> (QueuedJob, Answer) {
        let (answer, answered) = oneshot::channel();
        let hash = HashJob::Hash {
            input: Zeroizing::new(Vec::new()),
            salt: [0; 16],
            cost: 10,
        };
        let attempt = Guess {
            name: AttemptedName::of(name),
            from: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, network)).into()),
        };
        let job = QueuedJob {
            job: hash,
            attempt,
            queued_at: Uptime::from_nanos(0),
            trace: Trace::waiting(),
            answer,
        };
        (job, answered)
    }

    /// Puts jobs until one is refused. Returns the number of those that were taken, and the refusal.
    fn fill(
        queue: &mut Queue,
        answers: &mut Vec<Answer>,
        account_and_network: impl Fn(u8) -> (String, u8),
    ) -> (usize, QueueFull) {
        for number in 0..=255 {
            let (name, network) = account_and_network(number);
            let (job, answer) = job(&name, network);
            if let Err(full) = queue.put(job, &ESTIMATE, DEADLINE) {
                return (usize::from(number), full);
            }
            answers.push(answer);
        }
        panic!("nothing was refused");
    }

    #[test]
    fn a_job_that_would_end_after_the_deadline_is_refused() {
        let (mut queue, mut answers) = (Queue::default(), Vec::new());
        let (taken, full) = fill(&mut queue, &mut answers, |number| {
            (number.to_string(), number)
        });
        // Each adds 10 ms to the wait, and takes 100 ms itself.
        assert!((188..=192).contains(&taken), "{taken} taken");
        assert!(
            (1.85..1.95).contains(&full.retry_after.as_secs_f64()),
            "{full:?}"
        );
    }

    #[test]
    fn a_network_may_take_half_of_the_deadline_and_an_account_a_quarter() {
        let (mut queue, mut answers) = (Queue::default(), Vec::new());
        let (one_account, _) = fill(&mut queue, &mut answers, |number| {
            ("alice".to_owned(), number)
        });
        assert!((48..=51).contains(&one_account), "{one_account} taken");
        let (mut queue, mut answers) = (Queue::default(), Vec::new());
        let (one_network, _) = fill(&mut queue, &mut answers, |number| (number.to_string(), 1));
        assert!((98..=101).contains(&one_network), "{one_network} taken");
        // Another network has the rest.
        let (others, _) = fill(&mut queue, &mut answers, |number| {
            (format!("other-{number}"), 2)
        });
        assert!(others > 80, "{others} taken");
    }

    #[test]
    fn jobs_of_clients_that_have_gone_leave_the_queue() {
        let (mut queue, mut answers) = (Queue::default(), Vec::new());
        fill(&mut queue, &mut answers, |number| {
            (number.to_string(), number)
        });
        answers.truncate(1);
        let (late, answer) = job("late", 255);
        assert_eq!(queue.put(late, &ESTIMATE, DEADLINE), Ok(()));
        assert_eq!(queue.waiting(), 2);
        drop(answer);
        assert!(queue.take().is_some() && queue.take().is_none());
    }

    #[test]
    fn a_job_for_a_free_lane_is_taken_whatever_the_estimate_says() {
        const WRONG: Estimate = Estimate {
            lanes: 3,
            one_lane: Duration::from_hours(1),
            all_lanes: Duration::from_hours(5),
        };
        let mut queue = Queue::default();
        let (mut jobs, _answers): (VecDeque<_>, Vec<_>) = (0..9).map(|_| job("alice", 1)).unzip();
        let mut put = |queue: &mut Queue| queue.put(jobs.pop_front().unwrap(), &WRONG, DEADLINE);
        assert_eq!(put(&mut queue), Ok(()));
        let first = queue.take().unwrap();
        assert_eq!((put(&mut queue), put(&mut queue)), (Ok(()), Ok(())));
        assert!(put(&mut queue).is_err(), "three lanes, and three jobs");
        assert!(queue.take().is_some() && queue.take().is_some());
        assert!(put(&mut queue).is_err(), "three jobs are running");
        queue.ended(first.job.iterations());
        assert_eq!(put(&mut queue), Ok(()));
        assert!(
            put(&mut queue).is_err(),
            "the lane that became free is taken"
        );
    }
}
