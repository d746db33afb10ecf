//! How urgent hashing is beside everything else that the server does.
//!
//! A thread of the ordinary policy keeps its slice of the processor for a millisecond and more while a request waits for it,
//! however nice it is; one of the idle policy makes way at once. So hashing is idle work, as long as logins do not wait for
//! long. Where they do, because the rest takes all there is, it gets an ordinary share of a small weight, and logins go on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

/// How much less urgent hashing is than the rest where it has an ordinary share, as `nice` counts.
const NICENESS: i32 = 10;

/// How long the oldest job may wait before hashing takes an ordinary share.
const PATIENCE: Duration = Duration::from_millis(700);

/// What hashing is to the system at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It runs where nothing else wants to.
    Idle,
    /// It has an ordinary share.
    Ordinary,
}

impl Urgency {
    /// What it should be where the oldest job has waited for so long.
    fn of(waited: Duration) -> Self {
        if waited > PATIENCE {
            Self::Ordinary
        } else {
            Self::Idle
        }
    }
}

/// The hashing threads, all of which are equally urgent.
#[derive(Debug)]
pub(super) struct Crew(Mutex<State>);

#[derive(Debug)]
struct State {
    urgency: Urgency,
    threads: Vec<Thread>,
}

impl Crew {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            urgency: Urgency::Idle,
            threads: Vec::new(),
        }))
    }

    /// Takes the calling thread in, until what is returned is dropped. What the system does not permit is said once.
    pub(super) fn join(&self) -> Member<'_> {
        let mut state = self.lock();
        let thread = Thread::current();
        if let Err(why) = thread.become_as(state.urgency)
            && state.threads.is_empty()
        {
            warn!(event = "hashing_priority", %why, "the system does not let hashing threads make way for the rest");
        }
        let number = thread.number;
        state.threads.push(thread);
        Member { crew: self, number }
    }

    /// Makes all threads as urgent as they should be where the oldest job has waited for so long. Not their own work alone: a
    /// thread that gets no time cannot ask for more.
    pub(super) fn adapt(&self, waited: Duration) {
        let urgency = Urgency::of(waited);
        let mut state = self.lock();
        if state.urgency != urgency {
            state.urgency = urgency;
            for thread in &state.threads {
                // What is not permitted was said at the start.
                thread.become_as(urgency).ok();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread of the crew. Dropped, it has left: nobody may touch the handle of a thread that has ended.
#[derive(Debug)]
pub(super) struct Member<'a> {
    crew: &'a Crew,
    number: Number,
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        let number = self.number;
        self.crew.lock().threads.retain(|it| it.number != number);
    }
}

/// How the system counts threads.
#[cfg(target_os = "linux")]
type Number = rustix::thread::Pid;
#[cfg(not(target_os = "linux"))]
type Number = ();

/// A thread, as the system knows it.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Thread {
    handle: thread_priority::ThreadId,
    number: Number,
}

#[cfg(target_os = "linux")]
impl Thread {
    fn current() -> Self {
        Self {
            handle: thread_priority::thread_native_id(),
            number: rustix::thread::gettid(),
        }
    }

    fn become_as(&self, urgency: Urgency) -> Result<(), String> {
        use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
        let policy = match urgency {
            Urgency::Idle => NormalThreadSchedulePolicy::Idle,
            Urgency::Ordinary => NormalThreadSchedulePolicy::Other,
        };
        thread_priority::set_thread_priority_and_policy(
            self.handle,
            ThreadPriority::Min,
            ThreadSchedulePolicy::Normal(policy),
        )
        .map_err(|error| format!("{error:?}"))?;
        // The library has its own idea of the least.
        rustix::process::setpriority_process(Some(self.number), NICENESS)
            .map_err(|error| error.to_string())
    }
}

/// Elsewhere hashing is as urgent as the rest.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Thread {
    number: Number,
}

#[cfg(not(target_os = "linux"))]
impl Thread {
    fn current() -> Self {
        Self { number: () }
    }

    fn become_as(&self, _: Urgency) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn hashing_makes_way_until_somebody_has_waited_for_long() {
        assert_eq!(Urgency::of(Duration::ZERO), Urgency::Idle);
        assert_eq!(Urgency::of(PATIENCE), Urgency::Idle);
        assert_eq!(Urgency::of(PATIENCE * 2), Urgency::Ordinary);
    }

    /// proc(5): the policy is field 41 and the niceness field 19; what stands before the state is left out here.
    #[cfg(target_os = "linux")]
    fn policy_and_niceness() -> (i32, i32) {
        let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = text.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        (fields[38].parse().unwrap(), fields[16].parse().unwrap())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn others_make_a_thread_ordinary_and_idle_again() {
        let crew = Arc::new(Crew::new());
        let (look, looks) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let member = Arc::clone(&crew);
        let thread = std::thread::spawn(move || {
            let _member = member.join();
            tell.send(policy_and_niceness()).unwrap();
            while looks.recv().is_ok() {
                tell.send(policy_and_niceness()).unwrap();
            }
        });
        let (idle, ordinary) = (5, 0);
        assert_eq!(told.recv().unwrap().0, idle);
        for (waited, expected) in [(PATIENCE * 2, ordinary), (Duration::ZERO, idle)] {
            crew.adapt(waited);
            look.send(()).unwrap();
            let (policy, niceness) = told.recv().unwrap();
            assert_eq!((policy, niceness), (expected, NICENESS));
        }
        drop(look);
        thread.join().unwrap();
        assert_eq!(crew.lock().threads.len(), 0, "who has ended has left");
    }
}
