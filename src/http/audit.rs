//! Audit events: actor, action, client address and outcome. Each is logged and counted.

use std::sync::Arc;

use tracing::{Span, info};

use super::context::Context;
use super::problem::ApiError;
use crate::auth::ServiceError;
use crate::domain::{AccessClaims, UserId, Username};
use crate::telemetry::{AUDIT, Act, Metrics, trace_id};

/// Logs audit events and counts them.
#[derive(Debug, Clone)]
pub(super) struct Audit(Arc<Metrics>);

impl Audit {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self(metrics)
    }

    /// Converts a failure into an error, and records an act that the rate limit has rejected. Other failures are no audit
    /// events.
    pub(super) fn record_failure(
        &self,
        act: Act,
        username: Option<&Username>,
        failure: ServiceError,
    ) -> ApiError {
        if let ServiceError::RateLimited { by, .. } = &failure {
            self.0.rate_limited(by.name());
            self.record(act, "throttled", None, username);
        }
        failure.into()
    }

    /// Records an act. `username` is the requested name, if it is a valid one: any other text may be a password that was
    /// typed into the wrong field.
    pub(super) fn record(
        &self,
        act: Act,
        outcome: &'static str,
        user: Option<UserId>,
        username: Option<&Username>,
    ) {
        self.write(act, outcome, user, username, None);
    }

    /// Records an act of an administrator on the account `target`, successful or not.
    pub(super) fn record_administration(
        &self,
        act: Act,
        outcome: &'static str,
        administrator: &AccessClaims,
        target: &Username,
    ) {
        let (user, username) = (administrator.sub, &administrator.username);
        self.write(act, outcome, Some(user), Some(username), Some(target));
    }

    fn write(
        &self,
        act: Act,
        outcome: &'static str,
        user: Option<UserId>,
        username: Option<&Username>,
        target: Option<&Username>,
    ) {
        self.0.count_action(act, outcome);
        let context = Context::current();
        let client = context
            .as_ref()
            .and_then(|context| context.client)
            .map(|address| address.to_string());
        info!(
            target: AUDIT,
            event = "audit",
            act = act.name(),
            outcome,
            user = user.map(|id| id.to_string()),
            username = username.map(Username::as_str),
            target_username = target.map(Username::as_str),
            client,
            request_id = context.as_ref().map(|context| context.request_id.as_str()),
            trace_id = trace_id(&Span::current()),
            "audit"
        );
    }
}
