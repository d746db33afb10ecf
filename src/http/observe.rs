//! Outermost middleware: turns every outcome into a response, measures it, and logs failures and slow requests.
//!
//! A panic becomes a 500, and an error of the framework becomes the matching problem. Fast successes leave no log line:
//! changes are in the audit log, and metrics count the rest.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ipnet::IpNet;
use poem::error::{MethodNotAllowedError, NotFoundError, ParsePathError};
use poem::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response};
use tracing::{Instrument, Span, error, warn};

use super::context::{Context, REQUEST_ID};
use super::cors::{BrowserRules, add_cors_headers};
use super::problem::{ApiError, ProblemCode};
use super::routes::{Route, Routes};
use crate::domain::Clock;
use crate::telemetry::{LogLimiter, Metrics, request_span, trace_id, traceparent};

/// Maximum number of headers that are added here to a response.
const MAX_ADDED_HEADERS: usize = 10;
static RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Duration above which a request is logged as slow.
const SLOW_REQUEST: Duration = Duration::from_secs(1);

/// Middleware around the public endpoint.
pub(super) struct RequestTelemetry<E> {
    pub(super) inner: E,
    pub(super) routes: Arc<Routes>,
    pub(super) trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may read responses.
    pub(super) rules: Arc<BrowserRules>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    /// Limit on log lines about failed and slow requests.
    pub(super) lines: LogLimiter,
}

impl<E: Endpoint<Output: IntoResponse>> Endpoint for RequestTelemetry<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let begun = self.clock.uptime();
        let context = Context::from_request(&request, &self.trusted_proxies);
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
            add_cors_headers(response.headers_mut(), origin);
        }
        if let Some(strict) = self.rules.strict_transport() {
            response
                .headers_mut()
                .insert(header::STRICT_TRANSPORT_SECURITY, strict);
        }
        let pattern = route.map_or(&self.routes.unmatched, |route| &route.pattern);
        self.metrics
            .record_request(method, pattern, response.status().as_u16(), took);
        let line = RequestLog {
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

impl<E: Endpoint<Output: IntoResponse>> RequestTelemetry<E> {
    /// Returns the response, and the cause of a failure if it is known.
    async fn answer(&self, request: Request, route: Option<&Route>) -> (Response, Option<String>) {
        // Boxed here, where the future is largest: otherwise every outer layer would contain a copy of its size.
        let inner = Box::pin(self.inner.call(request));
        let error = match AssertUnwindSafe(inner).catch_unwind().await {
            Ok(Ok(response)) => return (response.into_response(), None),
            Ok(Err(error)) => translate(&error, route),
            // The panic hook has logged the location. The panic message may contain secrets and is dropped.
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
        headers.reserve(MAX_ADDED_HEADERS);
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
            // A response of the API is no page: nothing in it may run, load, or be framed.
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

/// Maps an error to a problem by its type; never by its text, which may repeat the request.
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

/// Label of a method in metrics. Clients can invent methods, so all others share one label.
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

/// Log line of a request that failed or was slow.
struct RequestLog<'a> {
    method: &'a str,
    route: &'a str,
    status: StatusCode,
    took: Duration,
    cause: Option<&'a str>,
}

impl RequestLog<'_> {
    /// Returns the message, or `None` if the request is not logged.
    fn message(&self) -> Option<&'static str> {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            Some("a request failed by a fault of the service")
        } else if self.status.is_server_error() {
            Some("a request failed")
        } else {
            (self.took > SLOW_REQUEST).then_some("a request was slow")
        }
    }

    fn write(&self, context: &Context, span: &Span, lines: &LogLimiter) {
        let Some(message) = self.message() else {
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
        // tracing needs the level of an event at compile time.
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
                    "{message}"
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

    /// Wraps an endpoint in the middleware.
    fn with_telemetry<E>(inner: E) -> RequestTelemetry<E> {
        RequestTelemetry {
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
        let mut response = with_telemetry(inner).get_response(request.finish()).await;
        let body = response.take_body().into_string().await.unwrap();
        (response.status(), response.headers().clone(), body)
    }

    /// poem alone closes the connection without a response.
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
    async fn an_error_of_the_framework_becomes_the_problem_of_its_status() {
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
        let once = with_telemetry(poem::endpoint::make_sync(move |_| {
            assert!(!turns.swap(false, std::sync::atomic::Ordering::Relaxed));
            "fine"
        }));
        let status = async || once.get_response(Request::default()).await.status();
        assert_eq!(status().await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status().await, StatusCode::OK);
    }
}
