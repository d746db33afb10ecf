//! Tokens in a cookie, for pages of this origin, where the settings want that.
//!
//! What a browser is told of tokens it is told in one cookie that no script can read, and nowhere else; what it sends in it
//! counts as a bearer. A request that would change something must come from a page of this origin: the browser says so
//! (`Sec-Fetch-Site`, or `Origin` in old ones), and another page cannot make it lie.

use poem::Request;
use poem::http::{HeaderMap, HeaderValue, header};

use super::problem::{ApiError, ProblemCode};
use super::refresh::TokenBody;
use crate::auth::sessions::TokenPair;

/// Its name makes browsers take it only over TLS, for this host and all paths.
const NAME: &str = "__Host-portcullis";

/// Stands between the access and the refresh token; neither has it in it.
const BETWEEN: char = '~';

/// Where a browser says which page it asks for.
const SITE: &str = "sec-fetch-site";

/// Where a proxy that asks `/verify` says by which method it was asked itself.
const FORWARDED_METHOD: &str = "x-forwarded-method";

/// Marks the request of a browser, and keeps the refresh token of its cookie.
#[derive(Clone)]
struct Browser {
    refresh: Option<String>,
}

/// Makes a bearer of the cookie, where no other is sent. `own` is the origin of this service.
///
/// # Errors
/// Where the request would change something and does not come from a page of this origin.
pub(super) fn open(request: &mut Request, own: &str) -> Result<(), ApiError> {
    let headers = request.headers();
    let tokens = cookie(headers).filter(|_| !headers.contains_key(header::AUTHORIZATION));
    if tokens.is_none() && !headers.contains_key(SITE) {
        return Ok(());
    }
    let Some((access, refresh)) = tokens else {
        request.extensions_mut().insert(Browser { refresh: None });
        return Ok(());
    };
    if changes_something(request) && !is_own_page(headers, own) {
        return Err(ApiError::because(
            ProblemCode::Forbidden,
            "A request with a cookie must come from a page of this origin.",
        ));
    }
    if let Ok(bearer) = HeaderValue::try_from(format!("Bearer {access}")) {
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
    }
    let refresh = Some(refresh);
    request.extensions_mut().insert(Browser { refresh });
    Ok(())
}

/// Whether the request, or the one that a proxy asks about, may change something.
fn changes_something(request: &Request) -> bool {
    let reads = |method: &[u8]| [&b"GET"[..], b"HEAD", b"OPTIONS"].contains(&method);
    let mut forwarded = request.headers().get_all(FORWARDED_METHOD).iter();
    !reads(request.method().as_str().as_bytes()) || forwarded.any(|it| !reads(it.as_bytes()))
}

/// The refresh token of the cookie.
pub(super) fn refresh_token(request: &Request) -> Option<&str> {
    request.extensions().get::<Browser>()?.refresh.as_deref()
}

/// What is answered of new tokens: the body, and for a browser the cookie that holds them in its place.
pub(super) fn hand_out(request: &Request, mut session: TokenPair) -> (TokenBody, Option<String>) {
    let is_browser = request.extensions().get::<Browser>().is_some();
    let cookie = is_browser.then(|| {
        let (access, refresh) = (
            std::mem::take(&mut session.token),
            std::mem::take(&mut session.refresh_token),
        );
        let value = format!("{access}{BETWEEN}{refresh}");
        written(&value, session.refresh_expires_in)
    });
    (session.into(), cookie)
}

/// Takes the cookie away from a browser whose session has ended.
pub(super) fn clear(request: &Request) -> Option<String> {
    let browser = request.extensions().get::<Browser>();
    browser.map(|_| written("", 0))
}

fn written(value: &str, seconds: u64) -> String {
    format!("{NAME}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict")
}

fn is_own_page(headers: &HeaderMap, own: &str) -> bool {
    match headers.get(SITE) {
        Some(site) => site == "same-origin",
        None => headers
            .get(header::ORIGIN)
            .is_some_and(|origin| *origin == *own),
    }
}

/// The tokens in the one cookie of our name; none where there are two.
fn cookie(headers: &HeaderMap) -> Option<(String, String)> {
    let all = headers.get_all(header::COOKIE).iter();
    let pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let mut values = pairs.filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == NAME).then_some(value)
    });
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (access, refresh) = value.split_once(BETWEEN)?;
    Some((access.to_owned(), refresh.to_owned()))
}
