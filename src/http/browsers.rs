//! Browsers: pages of other origins (CORS), and tokens in cookies.
//!
//! **Other origins** may call from a page only where the settings name them, exactly. What is answered to others carries none
//! of the headers that a browser wants to see, so that it keeps the answer from the page.
//!
//! **Cookies** are for pages of this origin, where they are switched on. What a browser is told of tokens it is told in
//! cookies that no script can read, and nowhere else; what it sends in them counts as a bearer. A request that would change
//! something must come from a page of this origin: the browser says so (`Sec-Fetch-Site`, or `Origin` in old ones), and
//! another page cannot make it lie.

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response};
use serde_json::Value;

use super::problem::{ApiError, ProblemCode};
use super::refresh::GivenByCookie;

/// The cookie of the access token. Its name makes browsers take it only over TLS, for this host and all paths.
const ACCESS: &str = "__Host-portcullis";
/// The cookie of the refresh token.
const REFRESH: &str = "__Host-portcullis-refresh";

/// Where a browser says which page it asks for.
const SITE: &str = "sec-fetch-site";

/// The greatest body that tells of tokens.
const MAX_BYTES: usize = 64 * 1024;

/// Answers that tell of tokens, by their paths.
const HAND_OUT: [&str; 3] = ["/login", "/refresh", "/me/password"];
/// What ends the session at hand, by its method and path.
const END: [(Method, &str); 3] = [
    (Method::POST, "/logout"),
    (Method::DELETE, "/sessions"),
    (Method::POST, "/me/delete"),
];

/// What browsers may do.
#[derive(Debug, Clone)]
pub struct BrowserRules {
    /// Origins of pages that may call from elsewhere.
    pub origins: Vec<String>,
    /// Whether tokens are kept in cookies.
    pub cookies: bool,
    /// The origin of this service.
    pub own: String,
}

/// Speaks with browsers as they want it, before anything else looks at a request.
pub(super) struct Browsers<E> {
    pub(super) inner: E,
    pub(super) rules: BrowserRules,
}

impl<E: Endpoint<Output: IntoResponse>> Endpoint for Browsers<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        if is_preflight(&request)
            && allowed_origin(&self.rules.origins, request.headers()).is_some()
        {
            return Ok(preflight());
        }
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let keeps = request.uri().query().is_some_and(|query| !query.is_empty());
        let browser = self.rules.cookies && request.headers().contains_key(SITE);
        if self.rules.cookies {
            self.open_cookies(&mut request)?;
        }
        let mut response = self.inner.call(request).await?.into_response();
        if browser && response.status() == StatusCode::OK && HAND_OUT.contains(&path.as_str()) {
            response = in_cookies(response).await;
        }
        let ends = END
            .iter()
            .any(|end| (&end.0, end.1) == (&method, path.as_str()));
        if self.rules.cookies && ends && !keeps && response.status() == StatusCode::NO_CONTENT {
            for name in [ACCESS, REFRESH] {
                set_cookie(&mut response, name, "", 0);
            }
        }
        Ok(response)
    }
}

impl<E> Browsers<E> {
    /// Makes a bearer of a cookie, where no other is sent.
    fn open_cookies(&self, request: &mut Request) -> Result<(), ApiError> {
        let headers = request.headers();
        let (access, refresh) = (cookie(headers, ACCESS), cookie(headers, REFRESH));
        if headers.contains_key(header::AUTHORIZATION) || (access.is_none() && refresh.is_none()) {
            return Ok(());
        }
        let changes = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        if changes && !self.is_own_page(headers) {
            return Err(ApiError::because(
                ProblemCode::Forbidden,
                "A request with a cookie must come from a page of this origin.",
            ));
        }
        if let Some(refresh) = refresh {
            request.extensions_mut().insert(GivenByCookie(refresh));
        }
        let bearer = access.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
        if let Some(bearer) = bearer {
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
        }
        Ok(())
    }

    fn is_own_page(&self, headers: &HeaderMap) -> bool {
        match headers.get(SITE) {
            Some(site) => site == "same-origin",
            None => headers
                .get(header::ORIGIN)
                .is_some_and(|origin| *origin == self.rules.own),
        }
    }
}

/// The origin of the page, where it may call from elsewhere.
pub(super) fn allowed_origin(allowed: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    allowed
        .iter()
        .any(|it| *origin == **it)
        .then(|| origin.clone())
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
}

/// Lets a page of another origin see an answer. Cookies are never for such pages.
pub(super) fn share(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("www-authenticate, retry-after, x-request-id, etag"),
        );
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// Moves the tokens of an answer into cookies.
async fn in_cookies(mut response: Response) -> Response {
    let read = response.take_body().into_bytes_limit(MAX_BYTES).await;
    let body = read
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let Some(mut body) = body else {
        return ApiError::new(ProblemCode::Internal).into_response();
    };
    for (name, token, expires) in [
        (ACCESS, "token", "expires_in"),
        (REFRESH, "refresh_token", "refresh_expires_in"),
    ] {
        let seconds = body[expires].as_u64().unwrap_or_default();
        if let Some(text) = body[token].as_str() {
            set_cookie(&mut response, name, text, seconds);
        }
        body[token] = Value::String(String::new());
    }
    response.set_body(body.to_string());
    response
}

fn set_cookie(response: &mut Response, name: &str, value: &str, seconds: u64) {
    let text =
        format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict");
    if let Ok(value) = HeaderValue::try_from(text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// The value of the one cookie of that name; none where there are two.
fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter();
    let pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let mut values = pairs.filter_map(|pair| {
        let (its, value) = pair.trim().split_once('=')?;
        (its == name).then_some(value)
    });
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    (!value.is_empty()).then(|| value.to_owned())
}
