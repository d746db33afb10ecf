//! Events worth a line in the log: who did what, from where, with which outcome. Each is counted too.

use std::sync::Arc;

use tracing::{Span, info};

use super::context::Context;
use super::problem::ApiError;
use crate::auth::Failure;
use crate::domain::{AccessClaims, UserId, Username};
use crate::telemetry::{AUDIT, Act, Metrics, trace_id};

/// Writes the lines and counts them.
#[derive(Debug, Clone)]
pub(super) struct Audit(Arc<Metrics>);

impl Audit {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self(metrics)
    }

    /// Takes note of an act that was refused because there were too many of its kind; a failure of another kind is none.
    pub(super) fn refused(
        &self,
        act: Act,
        username: Option<&Username>,
        failure: Failure,
    ) -> ApiError {
        if let Failure::Throttled { by, .. } = &failure {
            self.0.rate_limited(by.name());
            self.record(act, "throttled", None, username);
        }
        failure.into()
    }

    /// Takes note of an act. The username is what was asked for, where that is a possible name: anything else may be a
    /// password that was typed into the wrong field.
    pub(super) fn record(
        &self,
        act: Act,
        outcome: &'static str,
        user: Option<UserId>,
        username: Option<&Username>,
    ) {
        self.write(act, outcome, user, username, None);
    }

    /// Takes note of what an administrator has done, or tried to do, to the account of that name.
    pub(super) fn administered(
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
