//! The outermost layer: whatever happens inside, out comes an answer in our form, measured and, where it matters, logged.
//!
//! A panic becomes a 500, an error of the framework the problem that belongs to it. Fast successes leave no log line: what
//! changes something says so itself, and the rest is in the metrics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ipnet::IpNet;
use poem::error::{MethodNotAllowedError, NotFoundError, ParsePathError};
use poem::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response};
use tracing::{Instrument, Span, error, warn};

use super::browsers::{BrowserRules, share};
use super::context::{Context, REQUEST_ID};
use super::problem::{ApiError, ProblemCode};
use super::routes::{Route, Routes};
use crate::domain::Clock;
use crate::telemetry::{LogLimiter, Metrics, request_span, trace_id, traceparent};

/// How many headers an answer is given here, at most.
const HEADERS: usize = 10;
static RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A request that takes longer leaves a line in the log.
const SLOW: Duration = Duration::from_secs(1);

/// Wraps everything that answers clients.
pub(super) struct Observed<E> {
    pub(super) inner: E,
    pub(super) routes: Arc<Routes>,
    pub(super) trusted_proxies: Vec<IpNet>,
    /// Which pages may see answers.
    pub(super) rules: Arc<BrowserRules>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    /// What the log takes of requests that fail or are slow.
    pub(super) lines: LogLimiter,
}

impl<E: Endpoint<Output: IntoResponse>> Endpoint for Observed<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let begun = self.clock.uptime();
        let context = Context::of(&request, &self.trusted_proxies);
        let route = self.routes.find(request.uri().path());
        let method = method_label(request.method());
        let span = request_span(
            |name| request.headers().get(name)?.to_str().ok(),
            method,
            route.map_or("", |route| &route.pattern),
        );
        let id = HeaderValue::from_str(&context.request_id).ok();
        let origin = self.rules.allowed_origin(request.headers());
        let answered = context
            .clone()
            .scope(self.answer(request, route))
            .instrument(span.clone());
        let (mut response, cause) = answered.await;
        let took = self.clock.uptime().since(begun);
        Self::finish(&mut response, id, &span);
        if let Some(origin) = origin {
            share(response.headers_mut(), origin);
        }
        if let Some(strict) = self.rules.strict_transport() {
            response
                .headers_mut()
                .insert(header::STRICT_TRANSPORT_SECURITY, strict);
        }
        let pattern = route.map_or(&self.routes.unmatched, |route| &route.pattern);
        self.metrics
            .record_request(method, pattern, response.status().as_u16(), took);
        let line = Line {
            method,
            route: pattern,
            status: response.status(),
            took,
            cause: cause.as_deref(),
        };
        line.write(&context, &span, &self.lines);
        Ok(response)
    }
}

impl<E: Endpoint<Output: IntoResponse>> Observed<E> {
    /// The answer, and why it is a failure where that is known.
    async fn answer(&self, request: Request, route: Option<&Route>) -> (Response, Option<String>) {
        // Boxed once, here where it is largest: the layers around it would carry it on, each in a copy.
        let inner = Box::pin(self.inner.call(request));
        let error = match AssertUnwindSafe(inner).catch_unwind().await {
            Ok(Ok(response)) => return (response.into_response(), None),
            Ok(Err(error)) => translate(&error, route),
            // The hook has logged where; what was said may hold anything and is dropped.
            Err(_) => ApiError::new(ProblemCode::Internal).caused_by(&"a panic"),
        };
        let cause = error.cause().map(str::to_owned);
        (error.into_response(), cause)
    }

    fn finish(response: &mut Response, id: Option<HeaderValue>, span: &Span) {
        span.record("http.response.status_code", response.status().as_u16());
        if response.status().is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
        let headers = response.headers_mut();
        headers.reserve(HEADERS);
        if let Some(id) = id {
            headers.insert(&REQUEST_ID, id);
        }
        if let Some(value) = traceparent(span).and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert("traceparent", value);
        }
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            // An answer is no page: nothing in it may run, load, or be framed.
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; frame-ancestors 'none'",
            ),
            (header::REFERRER_POLICY, "no-referrer"),
            (RESOURCE_POLICY.clone(), "same-origin"),
        ] {
            headers
                .entry(name)
                .or_insert(HeaderValue::from_static(value));
        }
    }
}

/// The problem that belongs to an error, by its type; never by its text, which may repeat what was sent.
fn translate(error: &poem::Error, route: Option<&Route>) -> ApiError {
    if let Some(ours) = error.downcast_ref::<ApiError>() {
        return ours.clone();
    }
    if error.is::<NotFoundError>() || error.is::<ParsePathError>() {
        return ApiError::new(ProblemCode::NotFound);
    }
    if error.is::<MethodNotAllowedError>() {
        return match route {
            Some(route) => ApiError::method_not_allowed(route.allow.clone()),
            None => ApiError::new(ProblemCode::NotFound),
        };
    }
    match error.status() {
        StatusCode::NOT_FOUND => ApiError::new(ProblemCode::NotFound),
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(ProblemCode::PayloadTooLarge),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ApiError::new(ProblemCode::UnsupportedMediaType),
        status if status.is_client_error() => ApiError::new(ProblemCode::MalformedRequest),
        status => ApiError::new(ProblemCode::Internal)
            .caused_by(&format_args!("the framework answered {status}")),
    }
}

/// Methods are many to those who invent them; metrics know the real ones.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "_OTHER",
    }
}

/// What the log says of a request, where it says anything.
struct Line<'a> {
    method: &'a str,
    route: &'a str,
    status: StatusCode,
    took: Duration,
    cause: Option<&'a str>,
}

impl Line<'_> {
    /// What is wrong, where something is.
    fn complaint(&self) -> Option<&'static str> {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            Some("a fault of the service")
        } else if self.status.is_server_error() {
            Some("a request has failed")
        } else {
            (self.took > SLOW).then_some("a request was slow")
        }
    }

    fn write(&self, context: &Context, span: &Span, lines: &LogLimiter) {
        let Some(complaint) = self.complaint() else {
            return;
        };
        let Some(left_out) = lines.try_acquire() else {
            return;
        };
        let left_out = (left_out > 0).then_some(left_out);
        let request_id = context.request_id.as_str();
        let trace_id = trace_id(span);
        let (method, route, status) = (self.method, self.route, self.status.as_u16());
        let millis = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        let why = self.cause;
        // The level of an event is fixed where it is written.
        macro_rules! write {
            ($level:ident) => {
                $level!(
                    event = "request",
                    method,
                    route,
                    status,
                    millis,
                    why,
                    request_id,
                    trace_id,
                    left_out,
                    "{complaint}"
                )
            };
        }
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            write!(error);
        } else {
            write!(warn);
        }
    }
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderMap;

    use super::*;
    use crate::config::Exports;

    const SAID: &str = "S3cret-Planted-Value";

    /// An endpoint behind the layer, as everything that clients reach is.
    fn observed<E>(inner: E) -> Observed<E> {
        Observed {
            inner,
            routes: Arc::new(Routes::new(&serde_json::json!({}), &["/"])),
            trusted_proxies: Vec::new(),
            rules: Arc::new(BrowserRules::new(Vec::new(), false, "")),
            metrics: Arc::new(Metrics::new(Exports::default()).unwrap()),
            clock: Clock::machine(),
            lines: LogLimiter::new(Clock::machine()),
        }
    }

    async fn answer<E: Endpoint<Output: IntoResponse>>(
        inner: E,
    ) -> (StatusCode, HeaderMap, String) {
        let request = Request::builder().uri_str("/").header(&REQUEST_ID, "given");
        let mut response = observed(inner).get_response(request.finish()).await;
        let body = response.take_body().into_string().await.unwrap();
        (response.status(), response.headers().clone(), body)
    }

    /// Bare poem closes the connection without an answer.
    #[tokio::test]
    async fn b27_a_panic_is_a_500_that_does_not_repeat_what_was_said() {
        let panics = poem::endpoint::make_sync(|_| -> Response { panic!("{SAID}") });
        let fails = poem::endpoint::make_sync(|_| {
            Err::<Response, _>(poem::Error::from_string(SAID, StatusCode::BAD_GATEWAY))
        });
        for (status, headers, body) in [answer(panics).await, answer(fails).await] {
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(headers["content-type"], "application/problem+json");
            assert_eq!(headers[&REQUEST_ID], "given");
            let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(problem["code"], "internal");
            assert_eq!(problem["request_id"], "given");
            assert!(!body.contains(SAID), "{body}");
        }
    }

    #[tokio::test]
    async fn an_error_of_the_framework_is_the_problem_that_belongs_to_its_status() {
        for (status, code) in [
            (StatusCode::BAD_REQUEST, "malformed_request"),
            (StatusCode::NOT_FOUND, "not_found"),
            (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            (StatusCode::IM_A_TEAPOT, "malformed_request"),
        ] {
            let fails = poem::endpoint::make_sync(move |_| {
                Err::<Response, _>(poem::Error::from_string(SAID, status))
            });
            let (_, _, body) = answer(fails).await;
            let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(problem["code"], code);
            assert!(!body.contains(SAID), "{body}");
        }
    }

    #[tokio::test]
    async fn after_a_panic_the_next_request_is_answered() {
        let turns = std::sync::atomic::AtomicBool::new(true);
        let once = observed(poem::endpoint::make_sync(move |_| {
            assert!(!turns.swap(false, std::sync::atomic::Ordering::Relaxed));
            "fine"
        }));
        let status = async || once.get_response(Request::default()).await.status();
        assert_eq!(status().await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status().await, StatusCode::OK);
    }
}
