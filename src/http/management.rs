//! `/livez`, `/readyz` and `/metrics`, on an address of their own that clients cannot reach.
//!
//! Liveness means that the process runs. Readiness means that it can answer: it has a key, its view of the revocations has
//! not been unusable for longer than the grace period, and it is not draining. Liveness never depends on Redis: restarting
//! all replicas does not bring Redis back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use poem::http::{StatusCode, header};
use poem::{Endpoint, EndpointExt, IntoResponse, Response, Route, get};
use serde_json::json;

use super::problem::{ApiError, ProblemCode};
use crate::auth::revocation::Revocations;
use crate::auth::revocation::view::Phase;
use crate::telemetry::Metrics;

/// Longest time between two reads of an idle feed, including the time of one read.
const IDLE_READ: Duration = Duration::from_millis(1250);

/// State that the probes report.
#[derive(Debug)]
pub struct Health {
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) grace: Duration,
    pub(crate) draining: AtomicBool,
}

impl Health {
    /// Returns `None` if the replica is ready, otherwise the reason why it is not.
    #[must_use]
    pub fn not_ready_reason(&self) -> Option<String> {
        if self.draining.load(Ordering::Relaxed) {
            return Some("draining".to_owned());
        }
        // Without the grace period: after Redis has lost data, a replica must not serve from an old view.
        if let Some(damage) = self.revocations.damage() {
            return Some(damage.to_owned());
        }
        let age = self.revocations.view_age();
        if age.is_some_and(|age| age <= self.grace + IDLE_READ) {
            return None;
        }
        Some(match self.revocations.phase() {
            Phase::Waiting(why) => format!("no view of the revocations: {why}"),
            Phase::Fresh => "the view of the revocations is too old".to_owned(),
            phase => format!("no view of the revocations: {}", phase.name()),
        })
    }
}

/// Routes of the management address.
pub fn routes(health: Arc<Health>, metrics: Arc<Metrics>) -> impl Endpoint<Output = Response> {
    let livez =
        poem::endpoint::make_sync(|_| json_response(StatusCode::OK, &json!({"status": "live"})));
    let readyz = poem::endpoint::make_sync(move |_| match health.not_ready_reason() {
        None => json_response(StatusCode::OK, &json!({"status": "ready"})),
        Some(why) => json_response(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"status": "not ready", "reason": why}),
        ),
    });
    let metrics = poem::endpoint::make_sync(move |_| {
        Response::builder()
            .content_type("text/plain; version=0.0.4; charset=utf-8")
            .body(metrics.render())
    });
    Route::new()
        .at("/livez", get(livez))
        .at("/readyz", get(readyz))
        .at("/metrics", get(metrics))
        .catch_all_error(async |error: poem::Error| match error.status() {
            StatusCode::METHOD_NOT_ALLOWED => {
                ApiError::method_not_allowed(header::HeaderValue::from_static("GET, HEAD"))
                    .into_response()
            }
            _ => ApiError::new(ProblemCode::NotFound).into_response(),
        })
}

fn json_response(status: StatusCode, body: &serde_json::Value) -> Response {
    let builder = Response::builder()
        .status(status)
        .content_type("application/json");
    builder
        .header(header::CACHE_CONTROL, "no-store")
        .body(body.to_string())
}
