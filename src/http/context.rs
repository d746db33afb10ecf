//! Who is asking: the request's id and the client's address, at hand wherever an answer or a log line is made.

use std::net::IpAddr;

use ipnet::IpNet;
use poem::Request;
use poem::web::RemoteAddr;
use uuid::Uuid;

/// The header that carries request ids in and out.
pub const REQUEST_ID: &str = "x-request-id";

/// What is known of the request under way.
#[derive(Debug, Clone)]
pub struct Context {
    /// Identifies it, here and in the systems around.
    pub request_id: String,
    /// Where it comes from, as far as proxies can be believed.
    pub client: Option<IpAddr>,
}

tokio::task_local! {
    static CONTEXT: Context;
}

impl Context {
    /// Reads it from a request. An id from outside is kept if it is short and plain.
    #[must_use]
    pub fn of(request: &Request, trusted: &[IpNet]) -> Self {
        let given = request
            .headers()
            .get(REQUEST_ID)
            .and_then(|id| id.to_str().ok());
        let plain = |id: &&str| {
            (1..=64).contains(&id.len())
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let request_id = given
            .filter(plain)
            .map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned);
        Self {
            request_id,
            client: client_address(request, trusted),
        }
    }

    /// Runs `work` with this at hand.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CONTEXT.scope(self, work).await
    }

    /// What is known of the request under way.
    #[must_use]
    pub fn current() -> Option<Self> {
        CONTEXT.try_with(Clone::clone).ok()
    }
}

/// The id of the request under way; a new one where there is none, as for a request that could not be parsed.
#[must_use]
pub fn request_id() -> String {
    CONTEXT
        .try_with(|context| context.request_id.clone())
        .unwrap_or_else(|_| Uuid::now_v7().simple().to_string())
}

/// The address of the client: the peer's own, unless that is a trusted proxy. Then it is the right-most address in
/// `X-Forwarded-For` that is not a trusted proxy: whatever stands further left was written by somebody who is not trusted.
fn client_address(request: &Request, trusted: &[IpNet]) -> Option<IpAddr> {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let RemoteAddr(peer) = request.remote_addr();
    let peer = peer.as_socket_addr()?.ip().to_canonical();
    if trusted.is_empty() || !is_trusted(&peer) {
        return Some(peer);
    }
    let mut forwarded = Vec::new();
    for value in request.headers().get_all("x-forwarded-for") {
        forwarded.extend(
            value
                .to_str()
                .unwrap_or("unreadable")
                .split(',')
                .map(str::trim),
        );
    }
    let mut nearest = peer;
    for hop in forwarded.into_iter().rev() {
        // What cannot be read was written by somebody who is not trusted; the last known hop counts.
        let Ok(address) = hop.parse::<IpAddr>() else {
            return Some(nearest);
        };
        nearest = address.to_canonical();
        if !is_trusted(&nearest) {
            break;
        }
    }
    Some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(peer: &str, forwarded: &[&str]) -> Request {
        let peer: std::net::SocketAddr = format!("{peer}:1234").parse().unwrap();
        let mut request = poem::http::Request::builder().uri("/");
        for value in forwarded {
            request = request.header("x-forwarded-for", *value);
        }
        let parts = (
            poem::web::LocalAddr::default(),
            RemoteAddr(poem::Addr::SocketAddr(peer)),
            poem::http::uri::Scheme::HTTP,
        );
        let _ = parts;
        Request::from(request.body(()).unwrap().map(|()| poem::Body::empty()))
    }

    #[test]
    fn a_request_without_a_peer_has_no_client() {
        assert_eq!(
            client_address(&request("10.0.0.1", &["1.2.3.4"]), &[]),
            None
        );
    }
}
