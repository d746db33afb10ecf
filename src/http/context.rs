//! Request context: request id and client address, available to every response and log line.

use std::net::IpAddr;

use ipnet::IpNet;
use poem::Request;
use poem::http::{HeaderMap, HeaderName, header};
use poem::web::RemoteAddr;
use tokio::task::futures::TaskLocalFuture;
use uuid::Uuid;

use crate::domain::{ClientInfo, Network};

/// Header of the request id, in requests and responses.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Header in which a proxy names its client.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Context of the current request.
#[derive(Debug, Clone)]
pub struct Context {
    /// Request id, shared with other systems.
    pub request_id: String,
    /// Address of the client, as far as trusted proxies report it.
    pub client: Option<IpAddr>,
    /// Network of the client; `None` if a trusted proxy does not report the client.
    pub network: Option<Network>,
}

tokio::task_local! {
    static CONTEXT: Context;
}

impl Context {
    /// Reads the context from a request. A request id from outside is kept if it is short and plain.
    #[must_use]
    pub fn from_request(request: &Request, trusted: &[IpNet]) -> Self {
        let given = request
            .headers()
            .get(&REQUEST_ID)
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
        let RemoteAddr(peer) = request.remote_addr();
        let peer = peer.as_socket_addr().map(std::net::SocketAddr::ip);
        let client = peer.map(|peer| client_address(peer, request.headers(), trusted));
        let hidden = client.is_some_and(|client| is_trusted(client, trusted))
            && !request.headers().contains_key(FORWARDED_FOR);
        let network = client.filter(|_| !hidden).map(Network::from);
        Self {
            request_id,
            client,
            network,
        }
    }

    /// Runs `work` in this context.
    pub fn scope<F: Future>(self, work: F) -> TaskLocalFuture<Self, F> {
        CONTEXT.scope(self, work)
    }

    /// Context of the current request.
    #[must_use]
    pub fn current() -> Option<Self> {
        CONTEXT.try_with(Clone::clone).ok()
    }
}

/// Returns the id of the current request, or a new one if there is none, as for a request that could not be parsed.
#[must_use]
pub fn request_id() -> String {
    CONTEXT
        .try_with(|context| context.request_id.clone())
        .unwrap_or_else(|_| Uuid::now_v7().simple().to_string())
}

/// Returns the client network of the current request, if it is known.
#[must_use]
pub fn client_network() -> Option<Network> {
    CONTEXT.try_with(|context| context.network).ok().flatten()
}

/// Returns user agent and address of the client, to be stored with a new session.
#[must_use]
pub fn client_info(request: &Request) -> ClientInfo {
    let agent = request.headers().get(header::USER_AGENT);
    let agent = agent.map_or("", |agent| agent.to_str().unwrap_or(""));
    let client = CONTEXT.try_with(|context| context.client).ok().flatten();
    ClientInfo::new(agent, client)
}

pub(super) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// Returns the address of the client: that of the peer, unless the peer is a trusted proxy. Then it is the right-most address
/// in `X-Forwarded-For` that is not a trusted proxy: everything further left comes from an untrusted sender.
fn client_address(peer: IpAddr, forwarded: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut nearest = peer.to_canonical();
    if !is_trusted(nearest, trusted) {
        return nearest;
    }
    let values = forwarded.get_all(FORWARDED_FOR).iter();
    let hops: Vec<_> = values
        .flat_map(|value| value.to_str().unwrap_or("unreadable").split(','))
        .collect();
    for hop in hops.into_iter().rev() {
        // An unreadable entry comes from an untrusted sender: the last known hop counts.
        let Ok(address) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        nearest = address.to_canonical();
        if !is_trusted(nearest, trusted) {
            break;
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderName;

    use super::*;

    fn client(peer: &str, forwarded: &[&str], trusted: &str) -> String {
        let header = |value: &&str| {
            (
                HeaderName::from_static("x-forwarded-for"),
                value.parse().unwrap(),
            )
        };
        let mut headers = HeaderMap::new();
        headers.extend(forwarded.iter().map(header));
        let trusted: Vec<_> = trusted
            .split_whitespace()
            .map(|net| net.parse().unwrap())
            .collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_may_name_the_client() {
        assert_eq!(client("10.0.0.1", &["1.2.3.4"], ""), "10.0.0.1");
        assert_eq!(client("9.9.9.9", &["1.2.3.4"], "10.0.0.0/8"), "9.9.9.9");
    }

    #[test]
    fn the_right_most_untrusted_hop_counts() {
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6, 1.2.3.4"], "10.0.0.0/8"),
            "1.2.3.4"
        );
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6", "1.2.3.4, 10.0.0.2"], "10.0.0.0/8"),
            "1.2.3.4"
        );
        assert_eq!(
            client("10.0.0.1", &["1.2.3.4, unknown"], "10.0.0.0/8"),
            "10.0.0.1"
        );
        assert_eq!(client("10.0.0.1", &[], "10.0.0.0/8"), "10.0.0.1");
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(
            client("::ffff:10.0.0.1", &["::ffff:1.2.3.4"], "10.0.0.0/8"),
            "1.2.3.4"
        );
    }
}
