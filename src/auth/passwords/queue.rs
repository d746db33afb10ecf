//! The queue before the hashing threads: bounded by time, not by number, and shared fairly.
//!
//! A job for which a lane is free is always taken: it does not wait, and no estimate, however wrong, can refuse it. Any other job
//! is refused at once if it is expected to end after the deadline, with an estimate of when to come back. No client may fill
//! the queue for the others: the jobs that wait for one account, or from one network, may take a part of the deadline only. Jobs
//! whose clients have gone leave.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{Span, info_span};

use super::throughput::Estimate;
use super::work::{Done, Work};
use crate::domain::{Guess, Uptime};

/// The part of the deadline that waiting work from one network may take: a half.
const NETWORK_SHARE: u32 = 2;
/// The part of the deadline that waiting work for one account may take: a quarter.
const ACCOUNT_SHARE: u32 = 4;

/// Work, whom it is for, and who waits for what comes of it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) asker: Guess,
    pub(super) queued: Uptime,
    pub(super) trace: Trace,
    pub(super) answer: oneshot::Sender<Option<Done>>,
}

impl Job {
    /// Whether nobody waits for it any longer.
    pub(super) fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    /// Tells whoever waits for it what came of it; `None` where nothing did.
    pub(super) fn finish(self, done: Option<Done>) {
        // Its trace ends first: that of the request may end as soon as this has been told.
        drop(self.trace);
        self.answer.send(done).ok();
    }
}

/// What a job is at, in the trace of its request: waiting, and then being computed.
#[derive(Debug)]
pub(super) struct Trace {
    request: Span,
    stage: Span,
}

impl Trace {
    /// It waits, for the request under way.
    pub(super) fn waiting() -> Self {
        let request = Span::current();
        let stage = if request.is_none() {
            Span::none()
        } else {
            info_span!(target: "portcullis::trace", "password wait")
        };
        Self { request, stage }
    }

    /// It is being computed, until it is dropped.
    pub(super) fn begin(&mut self) {
        // Before the next one begins: a span ends when it is dropped.
        self.stage = Span::none();
        if !self.request.is_none() {
            self.stage =
                info_span!(target: "portcullis::trace", parent: &self.request, "password hash");
        }
    }
}

/// What waits and what runs.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Job>,
    /// Number of jobs that were taken from the queue and have not ended.
    running: usize,
    /// Turns waiting and running.
    units: u64,
    pub(super) closed: bool,
}

/// The queue is full for whoever asks; it is worth coming back after so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) retry_after: Duration,
}

impl Queue {
    /// Takes a job if a lane is free for it, or if it is expected to end within the deadline and leaves the others their part.
    pub(super) fn put(
        &mut self,
        job: Job,
        estimate: &Estimate,
        deadline: Duration,
    ) -> Result<(), Full> {
        self.drop_abandoned();
        let units = job.work.units();
        if self.waiting.len() + self.running < estimate.lanes {
            self.units += units;
            self.waiting.push_back(job);
            return Ok(());
        }
        let backlog = estimate.shared(self.units);
        let own = estimate.single(units, self.units > 0);
        let late = self.units > 0 && backlog + own > deadline;
        let crowded = |share: u32, is_his: &dyn Fn(&Guess) -> bool| {
            let his = self.waiting.iter().filter(|other| is_his(&other.asker));
            let his: u64 = his.map(|other| other.work.units()).sum();
            let wait = estimate.shared(his);
            (his > 0 && wait + estimate.shared(units) > deadline / share).then_some(wait)
        };
        let asker = job.asker;
        let his = crowded(ACCOUNT_SHARE, &|other| other.name == asker.name);
        let theirs = crowded(NETWORK_SHARE, &|other| {
            asker.from.is_some() && other.from == asker.from
        });
        if let Some(retry_after) = his.max(theirs).max(late.then_some(backlog)) {
            return Err(Full { retry_after });
        }
        self.units += units;
        self.waiting.push_back(job);
        Ok(())
    }

    /// The next job that somebody still waits for.
    pub(super) fn take(&mut self) -> Option<Job> {
        self.drop_abandoned();
        let job = self.waiting.pop_front()?;
        self.running += 1;
        Some(job)
    }

    /// Takes note that a job which was taken from the queue has ended.
    pub(super) fn ended(&mut self, units: u64) {
        self.running = self.running.saturating_sub(1);
        self.units = self.units.saturating_sub(units);
    }

    /// Jobs that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn drop_abandoned(&mut self) {
        let units = &mut self.units;
        self.waiting.retain(|job| {
            let wanted = !job.is_abandoned();
            if !wanted {
                *units = units.saturating_sub(job.work.units());
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

    /// Ten lanes, of which each takes 100 ms for a hash of cost 10: a hundred a second.
    const ESTIMATE: Estimate = Estimate {
        lanes: 10,
        one_lane: Duration::from_micros(80),
        all_lanes: Duration::from_nanos(100_000_000 / 1024),
    };
    const DEADLINE: Duration = Duration::from_secs(2);

    type Answer = oneshot::Receiver<Option<Done>>;

    fn job(name: &str, network: u8) -> (Job, Answer) {
        let (answer, answered) = oneshot::channel();
        let work = Work::Hash {
            input: Zeroizing::new(Vec::new()),
            salt: [0; 16],
            cost: 10,
        };
        let asker = Guess {
            name: AttemptedName::of(name),
            from: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, network)).into()),
        };
        let queued = Uptime::from_nanos(0);
        let job = Job {
            work,
            asker,
            queued,
            trace: Trace::waiting(),
            answer,
        };
        (job, answered)
    }

    /// Puts jobs until one is refused; tells how many were taken, and the refusal.
    fn fill(
        queue: &mut Queue,
        answers: &mut Vec<Answer>,
        asker: impl Fn(u8) -> (String, u8),
    ) -> (usize, Full) {
        for number in 0..=255 {
            let (name, network) = asker(number);
            let (job, answer) = job(&name, network);
            if let Err(full) = queue.put(job, &ESTIMATE, DEADLINE) {
                return (usize::from(number), full);
            }
            answers.push(answer);
        }
        panic!("nothing was refused");
    }

    #[test]
    fn what_would_end_after_the_deadline_is_refused_with_the_time_that_the_others_take() {
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
    fn one_network_may_take_half_of_the_deadline_and_one_account_a_quarter() {
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
    fn whoever_has_gone_away_keeps_nobody_waiting() {
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
        queue.ended(first.work.units());
        assert_eq!(put(&mut queue), Ok(()));
        assert!(
            put(&mut queue).is_err(),
            "the lane that became free is taken"
        );
    }
}
