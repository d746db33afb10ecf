//! The deadlines of one connection.
//!
//! A head has `header` from the accept or from its first byte to be complete; between requests the client has `idle`;
//! a response that the client does not read is given up after `stall`. A running request has no deadline here.
//! hyper's own `header_read_timeout` is not used: it starts when the last response ends, so it also closes idle
//! keep-alive connections, which breaks the connection pools of proxies.

use std::time::Duration;

use poem::http::StatusCode;
use tokio::time::Instant;

use super::{
    Limits,
    activity::{Activity, Inbound, Phase},
};

/// What a client must take of a response in each `stall`, in bytes, so that it cannot go on by the byte for ever.
const STALL_PROGRESS: u64 = 16 * 1024;

/// What is to be done with a connection on which nothing can be done right now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again at this time, or when something happens.
    Wait(Option<Instant>),
    /// Close it without a word.
    Close,
    /// Answer this and close it.
    Refuse(StatusCode),
}

/// Remembers since when a connection has been as it is.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Limits,
    started: Instant,
    phase: (Phase, u64),
    since: Instant,
    /// How much had been sent, and when, as the client last kept up.
    blocked: Option<(u64, Instant)>,
}

impl Watch {
    /// A watch over a connection accepted at `accepted` by a server whose clock started at `started`.
    pub(super) fn new(limits: Limits, started: Instant, accepted: Instant) -> Self {
        Self {
            limits,
            started,
            phase: (Phase::Waiting, 0),
            since: accepted,
            blocked: None,
        }
    }

    /// Judges a connection on which nothing can be done at `now`.
    pub(super) fn look(&mut self, activity: &Activity, now: Instant) -> Verdict {
        let phase = activity.phase();
        if phase != Phase::Request
            && let Some(status) = activity.refusal()
        {
            return Verdict::Refuse(status);
        }

        let requests = activity.requests();
        if self.phase != (phase, requests) {
            self.phase = (phase, requests);
            // The first head has had its time since the accept.
            if requests > 0 {
                self.since = now;
                if phase == Phase::Waiting {
                    activity.rest(micros(self.started, now));
                }
            }
        }
        let deadline = match phase {
            Phase::Request => None,
            Phase::Waiting if requests > 0 => Some(self.since + self.limits.idle),
            Phase::Waiting | Phase::Head => Some(self.since + self.limits.header),
        };
        if deadline.is_some_and(|deadline| deadline <= now) {
            // Who has sent nothing has asked for nothing; a 408 would be read as the answer to a request that is on
            // its way (RFC 9110 §15.5.9 asks for one only while a request is being sent).
            return match activity.inbound() {
                Inbound::Head => Verdict::Refuse(StatusCode::REQUEST_TIMEOUT),
                _ => Verdict::Close,
            };
        }

        match self.stall(activity, now) {
            Some(stall) if stall <= now => Verdict::Close,
            stall => Verdict::Wait(deadline.into_iter().chain(stall).min()),
        }
    }

    /// When the client is given up that does not read its response.
    fn stall(&mut self, activity: &Activity, now: Instant) -> Option<Instant> {
        if !activity.is_write_blocked() {
            self.blocked = None;
            return None;
        }
        let sent = activity.sent();
        let (sent_then, since) = *self.blocked.get_or_insert((sent, now));
        let deadline = since + self.limits.stall;
        if deadline <= now && sent.wrapping_sub(sent_then) >= STALL_PROGRESS {
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
