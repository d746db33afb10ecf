//! History of operations, each with its invocation, its answer and its outcome.

use std::fmt;
use std::sync::Mutex;
use std::time::Instant;

/// Session of a user, numbered by the order in which logins were answered.
pub type Session = usize;

/// Operation that a client asked for. Names and passwords are numbers here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Register {
        name: usize,
        password: usize,
    },
    /// The session is known if the login succeeded.
    LogIn {
        name: usize,
        password: usize,
        session: Option<Session>,
    },
    Check {
        session: Session,
    },
    LogOut {
        session: Session,
    },
    /// The request carries the token of this session.
    LogOutEverywhere {
        session: Session,
    },
}

/// Outcome of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Done,
    /// Answered with 401 or 409.
    Refused,
    /// Answered with 503, or not at all: the operation may have happened, or may yet happen.
    Unknown,
}

/// One operation at one replica. Times are nanoseconds of one clock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    pub what: What,
    pub replica: usize,
    pub invoked: u64,
    pub answered: u64,
    pub outcome: Outcome,
}

impl Operation {
    /// Latest time at which the operation may take effect.
    pub fn over(&self) -> u64 {
        match self.outcome {
            Outcome::Unknown => u64::MAX,
            Outcome::Done | Outcome::Refused => self.answered,
        }
    }

    /// Returns true if the operation has, or may have, an effect.
    pub fn may_count(&self) -> bool {
        self.outcome != Outcome::Refused
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.invoked, self.answered].map(|at| at as f64 / 1e9);
        write!(
            f,
            "{from:.4}..{to:.4} at {}: {:?} {:?}",
            self.replica, self.what, self.outcome
        )
    }
}

/// Recorder of operations.
pub struct Recorder {
    begun: Instant,
    operations: Mutex<Vec<Operation>>,
}

impl Recorder {
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            operations: Mutex::default(),
        }
    }

    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap()
    }

    pub fn record(&self, operation: Operation) {
        self.operations.lock().unwrap().push(operation);
    }

    pub fn len(&self) -> usize {
        self.operations.lock().unwrap().len()
    }

    pub fn into_history(self) -> Vec<Operation> {
        self.operations.into_inner().unwrap()
    }
}
