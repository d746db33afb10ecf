//! Addresses, connection limits, TLS and browser access.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::errors::ErrorCollector;
use super::values::{HumanDuration, OnOff, Parsed};

/// Options of this group, before they are checked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(super) struct NetworkSettings {
    /// Address and port that clients connect to
    #[arg(
        long,
        env = "LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS:PORT"
    )]
    listen: Parsed<SocketAddr>,

    /// Port that clients connect to; replaces the port of LISTEN
    #[arg(long, env = "PORT", value_name = "PORT")]
    port: Option<Parsed<u16>>,

    /// Address and port of /livez, /readyz and /metrics; never expose it to clients
    #[arg(
        long,
        env = "MANAGEMENT_LISTEN",
        default_value = "127.0.0.1:9090",
        value_name = "ADDRESS:PORT"
    )]
    management_listen: Parsed<SocketAddr>,

    /// Proxies whose X-Forwarded-For is trusted, as comma-separated CIDRs; without any, the peer's own address counts
    #[arg(long, env = "TRUSTED_PROXIES", value_name = "CIDR,…")]
    trusted_proxies: Option<Parsed<String>>,

    /// Maximum number of client connections; at the maximum, the longest idle one is closed
    #[arg(
        long,
        env = "MAX_CONNECTIONS",
        default_value = "10000",
        value_name = "COUNT"
    )]
    max_connections: Parsed<usize>,

    /// Maximum number of client connections of one network, an IPv4 address or a /64 of IPv6; TRUSTED_PROXIES are exempt. Half
    /// of MAX_CONNECTIONS unless set
    #[arg(long, env = "MAX_CONNECTIONS_PER_NETWORK", value_name = "COUNT")]
    max_connections_per_network: Option<Parsed<usize>>,

    /// Certificate chain in PEM, without the root; together with TLS_KEY, clients are served over TLS only. Read again when it
    /// changes
    #[arg(long, env = "TLS_CERT", value_name = "FILE")]
    tls_cert: Option<Parsed<PathBuf>>,

    /// Private key of TLS_CERT in PEM
    #[arg(long, env = "TLS_KEY", value_name = "FILE")]
    tls_key: Option<Parsed<PathBuf>>,

    /// Time that the server goes on serving after SIGTERM while readiness fails, so that load balancers notice
    #[arg(long, env = "DRAIN_DELAY", default_value = "2s", value_name = "TIME")]
    drain_delay: Parsed<HumanDuration>,

    /// Time that requests in flight get to finish, after DRAIN_DELAY
    #[arg(
        long,
        env = "DRAIN_TIMEOUT",
        default_value = "25s",
        value_name = "TIME"
    )]
    drain_timeout: Parsed<HumanDuration>,

    /// Origins that may call the API from a browser (CORS), as comma-separated https://host; without any, only this origin
    #[arg(long, env = "CORS_ORIGINS", value_name = "ORIGIN,…")]
    cors_origins: Option<Parsed<String>>,

    /// Give browsers their tokens in cookies that no script can read, and nowhere else: on or off. Needs TLS, here or at a proxy
    #[arg(long, env = "COOKIES", default_value = "off", value_name = "on|off")]
    cookies: Parsed<OnOff>,

    /// Serve the OpenAPI document and Swagger UI: on or off
    #[arg(long, env = "DOCS", default_value = "on", value_name = "on|off")]
    docs: Parsed<OnOff>,
}

/// Files of the certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain without the root, the server's own certificate first.
    pub certificate: PathBuf,
    /// Private key of the certificate.
    pub key: PathBuf,
}

/// Checked settings of the group.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Address for clients; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Address of `/livez`, `/readyz` and `/metrics`.
    pub management_listen: SocketAddr,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Maximum number of client connections.
    pub max_connections: usize,
    /// Maximum number of connections of one network that is not a trusted proxy.
    pub max_connections_of_network: usize,
    /// Certificate and key for TLS.
    pub tls: Option<TlsFiles>,
    /// Time between failing readiness and closing the listener.
    pub drain_delay: Duration,
    /// Time for requests in flight to finish, after `drain_delay`.
    pub drain_timeout: Duration,
    /// Origins that may call from a browser (CORS).
    pub cors_origins: Vec<String>,
    /// `true` if browsers get their tokens in cookies.
    pub cookies: bool,
    /// `true` if `/docs` and `/openapi.json` are served.
    pub docs: bool,
}

impl NetworkSettings {
    pub(super) fn check(self, errors: &mut ErrorCollector) -> HttpConfig {
        let listen = self.address(errors);
        let max_connections =
            errors.number_within("MAX_CONNECTIONS", self.max_connections, 1, 1_000_000);
        let of_network = self
            .max_connections_per_network
            .map(|given| errors.number_within("MAX_CONNECTIONS_PER_NETWORK", given, 1, 1_000_000));
        HttpConfig {
            listen,
            management_listen: errors
                .require(
                    "MANAGEMENT_LISTEN",
                    "an address and a port, like 127.0.0.1:9090",
                    self.management_listen,
                )
                .unwrap_or(listen),
            trusted_proxies: networks(errors, self.trusted_proxies),
            max_connections,
            max_connections_of_network: of_network.unwrap_or(max_connections.div_ceil(2)),
            tls: tls(errors, self.tls_cert, self.tls_key),
            drain_delay: errors.duration_within(
                "DRAIN_DELAY",
                self.drain_delay,
                Duration::ZERO,
                Duration::from_mins(5),
            ),
            drain_timeout: errors.duration_within(
                "DRAIN_TIMEOUT",
                self.drain_timeout,
                Duration::ZERO,
                Duration::from_mins(10),
            ),
            cors_origins: origins(errors, self.cors_origins),
            cookies: errors
                .require("COOKIES", "on or off", self.cookies)
                .is_some_and(|OnOff(on)| on),
            docs: errors
                .require("DOCS", "on or off", self.docs)
                .is_some_and(|OnOff(on)| on),
        }
    }

    /// `LISTEN`, with the port of `PORT` if that is set.
    fn address(&self, errors: &mut ErrorCollector) -> SocketAddr {
        let listen = errors.require(
            "LISTEN",
            "an address and a port, like 127.0.0.1:8080",
            self.listen.clone(),
        );
        let port = self
            .port
            .clone()
            .map(|port| errors.require("PORT", "a port from 0 to 65535", port));
        // If LISTEN is invalid, the other settings are checked as for a loopback address.
        let mut address = listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
        if let Some(Some(port)) = port {
            address.set_port(port);
        }
        address
    }
}

/// Requires both files or neither.
fn tls(
    errors: &mut ErrorCollector,
    certificate: Option<Parsed<PathBuf>>,
    key: Option<Parsed<PathBuf>>,
) -> Option<TlsFiles> {
    let certificate = certificate.and_then(Parsed::value);
    let key = key.and_then(Parsed::value);
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            errors.add("TLS_KEY", "must be set beside TLS_CERT");
            None
        }
        (None, Some(_)) => {
            errors.add("TLS_CERT", "must be set beside TLS_KEY");
            None
        }
    }
}

fn networks(errors: &mut ErrorCollector, given: Option<Parsed<String>>) -> Vec<IpNet> {
    let list = given.and_then(Parsed::value).unwrap_or_default();
    // A bare address means that one address.
    let network = |part: &str| {
        part.parse::<IpNet>()
            .or_else(|_| part.parse::<IpAddr>().map(IpNet::from))
    };
    let networks: Result<Vec<_>, _> = parts(&list).map(network).collect();
    networks.unwrap_or_else(|_| {
        errors.add(
            "TRUSTED_PROXIES",
            "must be networks separated by commas, like 10.0.0.0/8,127.0.0.1",
        );
        Vec::new()
    })
}

/// Parts between commas, trimmed, without empty ones.
fn parts(list: &str) -> impl Iterator<Item = &str> {
    let parts = list.split(',').map(str::trim);
    parts.filter(|part| !part.is_empty())
}

/// Origins as browsers write them (RFC 6454): scheme, host and a port that is not the usual one; in lower case, without a path.
fn origins(errors: &mut ErrorCollector, given: Option<Parsed<String>>) -> Vec<String> {
    let list = given.and_then(Parsed::value).unwrap_or_default();
    let origins: Vec<String> = parts(&list).map(str::to_owned).collect();
    let is_origin = |origin: &String| {
        let host = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://"));
        host.is_some_and(|host| {
            let plain = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:[]".contains(&byte)
            };
            !host.is_empty() && host.bytes().all(plain)
        })
    };
    if !origins.iter().all(is_origin) {
        errors.add(
            "CORS_ORIGINS",
            "must be origins separated by commas, like https://app.example.com: in lower case, without a path, and no wildcard",
        );
    }
    origins
}
