//! Browser support: CORS for pages of other origins, and tokens in cookies ([`cookie_auth`]).
//!
//! Pages of another origin may call only if the settings name exactly that origin. Responses to other origins carry no CORS
//! headers, so that the browser keeps them from the page. The framework's own CORS layer is not used: it rejects every origin
//! that is not listed, and so also the pages of this service, whose public address only browsers know for sure.

use std::sync::Arc;

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response};

use super::cookie_auth;

/// Rules for browsers.
#[derive(Debug, Clone)]
pub struct BrowserRules {
    origins: Vec<String>,
    cookies: bool,
    own: String,
    tls: bool,
}

/// Middleware that answers CORS preflights and applies cookies.
pub(super) struct CorsAndCookies<E> {
    pub(super) inner: E,
    pub(super) rules: Arc<BrowserRules>,
}

impl<E: Endpoint<Output = Response>> Endpoint for CorsAndCookies<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        if is_preflight(&request) && self.rules.allowed_origin(request.headers()).is_some() {
            return Ok(preflight());
        }
        if self.rules.cookies {
            cookie_auth::apply_cookie_auth(&mut request, &self.rules.own)?;
        }
        self.inner.call(request).await
    }
}

impl BrowserRules {
    /// Creates rules from the allowed origins, the switch for tokens in cookies, and the URL of this service.
    #[must_use]
    pub fn new(origins: Vec<String>, cookies: bool, url: &str) -> Self {
        // An origin is the part of a URL before the path (RFC 6454).
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let host = rest.split('/').next().unwrap_or_default();
        Self {
            origins,
            cookies,
            own: format!("{scheme}://{host}"),
            tls: false,
        }
    }

    /// With `tls`, this service itself serves TLS, and tells browsers to use only TLS for a year (RFC 6797).
    #[must_use]
    pub fn over_tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// Value of `Strict-Transport-Security`.
    pub(super) fn strict_transport(&self) -> Option<HeaderValue> {
        let year = HeaderValue::from_static("max-age=31536000");
        self.tls.then_some(year)
    }

    /// Returns the origin of the page, if it is an allowed one.
    pub(super) fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.is_empty() {
            return None;
        }
        let origin = headers.get(header::ORIGIN)?;
        let allowed = self.origins.iter().any(|it| *origin == **it);
        allowed.then(|| origin.clone())
    }
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Response to a preflight, without the headers that every response to an allowed origin carries.
fn preflight() -> Response {
    Response::builder()
        .status(StatusCode::NO_CONTENT)
        .header(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, POST, PUT, PATCH, DELETE",
        )
        .header(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, x-request-id",
        )
        .header(header::ACCESS_CONTROL_MAX_AGE, "600")
        .finish()
        .into_response()
}

/// Lets a page of that origin read a response. Such pages never get cookies.
pub(super) fn add_cors_headers(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("www-authenticate, retry-after, x-request-id, etag"),
    );
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}
