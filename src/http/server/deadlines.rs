//! Deadlines of one connection.
//!
//! A head must be complete within `header` of the accept or of its first byte. Between requests the client has `idle`. A
//! response that the client does not read is aborted after `stall`. A running request has no deadline here.
//! hyper's own `header_read_timeout` is not used: it starts when the last response ends, so it also closes idle
//! keep-alive connections, which breaks the connection pools of proxies.

use std::time::Duration;

use poem::http::StatusCode;
use tokio::time::Instant;

use super::{
    Limits,
    activity::{Activity, ConnPhase, Inbound},
};

/// Bytes of a response that a client must read in each `stall`: it cannot read a byte at a time for ever.
const MIN_STALL_PROGRESS: u64 = 16 * 1024;

/// Action on a connection on which hyper has nothing to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Poll again at this time, or when the connection makes progress.
    Wait(Option<Instant>),
    /// Close it without a response.
    Close,
    /// Respond with this status and close it.
    Reject(StatusCode),
}

/// Deadlines of a connection, from the time at which its phase last changed.
#[derive(Debug)]
pub(super) struct Deadlines {
    limits: Limits,
    started: Instant,
    phase: (ConnPhase, u64),
    since: Instant,
    /// Bytes sent, and the time, when the client last made enough progress; `None` if writes are not blocked.
    blocked: Option<(u64, Instant)>,
}

impl Deadlines {
    /// Deadlines of a connection accepted at `accepted` by a server whose clock started at `started`.
    pub(super) fn new(limits: Limits, started: Instant, accepted: Instant) -> Self {
        Self {
            limits,
            started,
            phase: (ConnPhase::Waiting, 0),
            since: accepted,
            blocked: None,
        }
    }

    /// Returns the action on a connection on which hyper has nothing to do at `now`.
    pub(super) fn poll(&mut self, activity: &Activity, now: Instant) -> Action {
        let phase = activity.phase();
        if phase != ConnPhase::Request
            && let Some(status) = activity.rejection()
        {
            return Action::Reject(status);
        }

        let requests = activity.requests();
        if self.phase != (phase, requests) {
            self.phase = (phase, requests);
            // The deadline of the first head counts from the accept.
            if requests > 0 {
                self.since = now;
                if phase == ConnPhase::Waiting {
                    activity.mark_idle(micros(self.started, now));
                }
            }
        }
        let deadline = match phase {
            ConnPhase::Request => None,
            ConnPhase::Waiting if requests > 0 => Some(self.since + self.limits.idle),
            ConnPhase::Waiting | ConnPhase::Head => Some(self.since + self.limits.header),
        };
        if deadline.is_some_and(|deadline| deadline <= now) {
            // No 408 to a client that has sent nothing: it would take that for the response to a request that is on its
            // way (RFC 9110 §15.5.9 asks for a 408 only while a request is being sent).
            return match activity.inbound() {
                Inbound::Head => Action::Reject(StatusCode::REQUEST_TIMEOUT),
                _ => Action::Close,
            };
        }

        match self.stall_deadline(activity, now) {
            Some(stall_deadline) if stall_deadline <= now => Action::Close,
            stall_deadline => Action::Wait(deadline.into_iter().chain(stall_deadline).min()),
        }
    }

    /// Time at which a response that the client does not read is aborted.
    fn stall_deadline(&mut self, activity: &Activity, now: Instant) -> Option<Instant> {
        if !activity.is_write_blocked() {
            self.blocked = None;
            return None;
        }
        let sent = activity.sent();
        let (sent_then, since) = *self.blocked.get_or_insert((sent, now));
        let deadline = since + self.limits.stall;
        if deadline <= now && sent.wrapping_sub(sent_then) >= MIN_STALL_PROGRESS {
            self.blocked = Some((sent, now));
            return Some(now + self.limits.stall);
        }
        Some(deadline)
    }
}

/// Microseconds from `started` to `now`.
pub(super) fn micros(started: Instant, now: Instant) -> u64 {
    let passed: Duration = now.saturating_duration_since(started);
    u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
}
