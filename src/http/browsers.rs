//! What browsers want before anything else looks at a request: whether a page of another origin may call (CORS), and the
//! tokens in their [`cookies`].
//!
//! Other origins may call from a page only where the settings name them, exactly. What is answered to others carries none of
//! the headers that a browser wants to see, so that it keeps the answer from the page. The framework's own layer would refuse
//! whoever names another origin, and so also the pages of this one, whose address only browsers know for sure.

use std::sync::Arc;

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response};

use super::cookies;

/// What browsers may do.
#[derive(Debug, Clone)]
pub struct BrowserRules {
    origins: Vec<String>,
    cookies: bool,
    own: String,
    tls: bool,
}

/// Speaks with browsers as they want it.
pub(super) struct Browsers<E> {
    pub(super) inner: E,
    pub(super) rules: Arc<BrowserRules>,
}

impl<E: Endpoint<Output = Response>> Endpoint for Browsers<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        if is_preflight(&request) && self.rules.allowed_origin(request.headers()).is_some() {
            return Ok(preflight());
        }
        if self.rules.cookies {
            cookies::open(&mut request, &self.rules.own)?;
        }
        self.inner.call(request).await
    }
}

impl BrowserRules {
    /// Origins of pages that may call from elsewhere, whether tokens are kept in cookies, and the URL of this service.
    #[must_use]
    pub fn new(origins: Vec<String>, cookies: bool, url: &str) -> Self {
        // An origin is all before the path (RFC 6454).
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let host = rest.split('/').next().unwrap_or_default();
        Self {
            origins,
            cookies,
            own: format!("{scheme}://{host}"),
            tls: false,
        }
    }

    /// The same, where browsers reach this service itself over TLS: they are to do so for a year to come (RFC 6797).
    #[must_use]
    pub fn over_tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// What tells browsers to come over TLS only.
    pub(super) fn strict_transport(&self) -> Option<HeaderValue> {
        let year = HeaderValue::from_static("max-age=31536000");
        self.tls.then_some(year)
    }

    /// The origin of the page, where it may call from elsewhere.
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

/// What a browser is told before it lets a page call, beside what every answer to it carries.
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

/// Lets a page of that origin see an answer. Cookies are never for such pages.
pub(super) fn share(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("www-authenticate, retry-after, x-request-id, etag"),
    );
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}
