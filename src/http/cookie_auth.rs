//! Tokens in a cookie for pages of this origin, if the settings enable that.
//!
//! A browser gets its tokens only in one cookie that scripts cannot read, and the access token in that cookie counts as a bearer
//! token. A request that changes state must come from a page of this origin: the browser states the origin of the page
//! (`Sec-Fetch-Site`, or `Origin` in old browsers), and a page of another origin cannot forge that.

use poem::Request;
use poem::http::{HeaderMap, HeaderValue, header};

use super::problem::{ApiError, ProblemCode};
use super::refresh::TokenResponse;
use crate::auth::sessions::TokenPair;

/// Name of the cookie. Its prefix makes browsers accept it only over TLS, for this host and all paths.
const COOKIE_NAME: &str = "__Host-portcullis";

/// Separator of access token and refresh token; neither contains it.
const SEPARATOR: char = '~';

/// Header in which a browser relates the origin of the page to that of the request.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Header in which a proxy that calls `/verify` names the method of the request that it checks.
const FORWARDED_METHOD: &str = "x-forwarded-method";

/// Extension that marks a request of a browser and holds the refresh token of its cookie.
#[derive(Clone)]
struct BrowserRequest {
    refresh: Option<String>,
}

/// Sets the bearer token from the cookie if the request has no `Authorization`. `own` is the origin of this service.
///
/// # Errors
/// If the request changes state and does not come from a page of this origin.
pub(super) fn apply_cookie_auth(request: &mut Request, own: &str) -> Result<(), ApiError> {
    let headers = request.headers();
    let tokens = token_cookie(headers).filter(|_| !headers.contains_key(header::AUTHORIZATION));
    if tokens.is_none() && !headers.contains_key(SEC_FETCH_SITE) {
        return Ok(());
    }
    let Some((access, refresh)) = tokens else {
        request
            .extensions_mut()
            .insert(BrowserRequest { refresh: None });
        return Ok(());
    };
    if is_state_changing(request) && !is_same_origin(headers, own) {
        return Err(ApiError::with_detail(
            ProblemCode::Forbidden,
            "A request with a cookie must come from a page of this origin.",
        ));
    }
    if let Ok(bearer) = HeaderValue::try_from(format!("Bearer {access}")) {
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
    }
    let refresh = Some(refresh);
    request.extensions_mut().insert(BrowserRequest { refresh });
    Ok(())
}

/// True if the request, or the one that a proxy checks, may change state.
fn is_state_changing(request: &Request) -> bool {
    let reads = |method: &[u8]| [&b"GET"[..], b"HEAD", b"OPTIONS"].contains(&method);
    let mut forwarded = request.headers().get_all(FORWARDED_METHOD).iter();
    !reads(request.method().as_str().as_bytes()) || forwarded.any(|it| !reads(it.as_bytes()))
}

/// Returns the refresh token of the cookie.
pub(super) fn refresh_token(request: &Request) -> Option<&str> {
    request
        .extensions()
        .get::<BrowserRequest>()?
        .refresh
        .as_deref()
}

/// Returns the body with new tokens; for a browser, an emptied body and the cookie with the tokens.
pub(super) fn token_response(
    request: &Request,
    mut session: TokenPair,
) -> (TokenResponse, Option<String>) {
    let is_browser = request.extensions().get::<BrowserRequest>().is_some();
    let cookie = is_browser.then(|| {
        let (access, refresh) = (
            std::mem::take(&mut session.token),
            std::mem::take(&mut session.refresh_token),
        );
        let value = format!("{access}{SEPARATOR}{refresh}");
        set_cookie_value(&value, session.refresh_expires_in)
    });
    (session.into(), cookie)
}

/// Returns the cookie header that deletes the cookie of a browser.
pub(super) fn clear_cookie(request: &Request) -> Option<String> {
    let browser = request.extensions().get::<BrowserRequest>();
    browser.map(|_| set_cookie_value("", 0))
}

fn set_cookie_value(value: &str, seconds: u64) -> String {
    format!("{COOKIE_NAME}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict")
}

fn is_same_origin(headers: &HeaderMap, own: &str) -> bool {
    match headers.get(SEC_FETCH_SITE) {
        Some(site) => site == "same-origin",
        None => headers
            .get(header::ORIGIN)
            .is_some_and(|origin| *origin == *own),
    }
}

/// Returns the tokens of the cookie; `None` if there are two cookies of this name.
fn token_cookie(headers: &HeaderMap) -> Option<(String, String)> {
    let all = headers.get_all(header::COOKIE).iter();
    let pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let mut values = pairs.filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE_NAME).then_some(value)
    });
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (access, refresh) = value.split_once(SEPARATOR)?;
    Some((access.to_owned(), refresh.to_owned()))
}
