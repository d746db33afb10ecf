//! Where and how clients are served.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::report::Report;
use super::values::{Given, Span, Switch};

/// As written.
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
    listen: Given<SocketAddr>,

    /// Port that clients connect to; replaces the port of LISTEN
    #[arg(long, env = "PORT", value_name = "PORT")]
    port: Option<Given<u16>>,

    /// Address and port of /livez, /readyz and /metrics; never expose it to clients
    #[arg(
        long,
        env = "MANAGEMENT_LISTEN",
        default_value = "127.0.0.1:9090",
        value_name = "ADDRESS:PORT"
    )]
    management_listen: Given<SocketAddr>,

    /// Proxies whose X-Forwarded-For is believed, as comma-separated CIDRs; none: the peer's own address counts
    #[arg(long, env = "TRUSTED_PROXIES", value_name = "CIDR,…")]
    trusted_proxies: Option<Given<String>>,

    /// Greatest number of client connections; at the cap the longest idle one is closed
    #[arg(
        long,
        env = "MAX_CONNECTIONS",
        default_value = "10000",
        value_name = "COUNT"
    )]
    max_connections: Given<usize>,

    /// Greatest number of client connections of one network, an IPv4 address or a /64 of IPv6, but for TRUSTED_PROXIES; half of
    /// MAX_CONNECTIONS where not set
    #[arg(long, env = "MAX_CONNECTIONS_PER_NETWORK", value_name = "COUNT")]
    max_connections_per_network: Option<Given<usize>>,

    /// Certificate in PEM, with those of the authorities between it and the root; with TLS_KEY clients are served over TLS and
    /// in no other way. Read again when it changes
    #[arg(long, env = "TLS_CERT", value_name = "FILE")]
    tls_cert: Option<Given<PathBuf>>,

    /// Private key of TLS_CERT in PEM
    #[arg(long, env = "TLS_KEY", value_name = "FILE")]
    tls_key: Option<Given<PathBuf>>,

    /// How long the server goes on serving after SIGTERM while readiness fails, for balancers to notice
    #[arg(long, env = "DRAIN_DELAY", default_value = "2s", value_name = "TIME")]
    drain_delay: Given<Span>,

    /// How long requests in flight may take to finish after that
    #[arg(
        long,
        env = "DRAIN_TIMEOUT",
        default_value = "25s",
        value_name = "TIME"
    )]
    drain_timeout: Given<Span>,

    /// Origins of pages that may call from elsewhere (CORS), as comma-separated https://host; none: only pages of this origin
    #[arg(long, env = "CORS_ORIGINS", value_name = "ORIGIN,…")]
    cors_origins: Option<Given<String>>,

    /// Whether browsers get their tokens in cookies that no script can read, and nowhere else: on or off. Needs TLS before or in
    /// this service
    #[arg(long, env = "COOKIES", default_value = "off", value_name = "on|off")]
    cookies: Given<Switch>,

    /// Whether the OpenAPI document and Swagger UI are served: on or off
    #[arg(long, env = "DOCS", default_value = "on", value_name = "on|off")]
    docs: Given<Switch>,
}

/// Where the certificate and its key are, in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, followed by those of the authorities between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where and how clients are served.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// The public address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The address of `/livez`, `/readyz` and `/metrics`.
    pub management_listen: SocketAddr,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The connection cap.
    pub max_connections: usize,
    /// The cap for one network that is no trusted proxy.
    pub max_connections_of_network: usize,
    /// Certificate and key for TLS.
    pub tls: Option<TlsFiles>,
    /// Between failing readiness and closing the door.
    pub drain_delay: Duration,
    /// For requests in flight after that.
    pub drain_timeout: Duration,
    /// Origins of pages that may call from elsewhere.
    pub cors_origins: Vec<String>,
    /// Whether browsers get their tokens in cookies.
    pub cookies: bool,
    /// Whether `/docs` and `/openapi.json` are served.
    pub docs: bool,
}

impl NetworkSettings {
    pub(super) fn check(self, report: &mut Report) -> HttpConfig {
        let listen = self.address(report);
        let max_connections = report.within("MAX_CONNECTIONS", self.max_connections, 1, 1_000_000);
        let of_network = self
            .max_connections_per_network
            .map(|given| report.within("MAX_CONNECTIONS_PER_NETWORK", given, 1, 1_000_000));
        HttpConfig {
            listen,
            management_listen: report
                .value(
                    "MANAGEMENT_LISTEN",
                    "an address and a port, like 127.0.0.1:9090",
                    self.management_listen,
                )
                .unwrap_or(listen),
            trusted_proxies: networks(report, self.trusted_proxies),
            max_connections,
            max_connections_of_network: of_network.unwrap_or(max_connections.div_ceil(2)),
            tls: tls(report, self.tls_cert, self.tls_key),
            drain_delay: report.span(
                "DRAIN_DELAY",
                self.drain_delay,
                Duration::ZERO,
                Duration::from_mins(5),
            ),
            drain_timeout: report.span(
                "DRAIN_TIMEOUT",
                self.drain_timeout,
                Duration::ZERO,
                Duration::from_mins(10),
            ),
            cors_origins: origins(report, self.cors_origins),
            cookies: report
                .value("COOKIES", "on or off", self.cookies)
                .is_some_and(|Switch(on)| on),
            docs: report
                .value("DOCS", "on or off", self.docs)
                .is_some_and(|Switch(on)| on),
        }
    }

    /// `LISTEN`, with the port of `PORT` where that is set.
    fn address(&self, report: &mut Report) -> SocketAddr {
        let listen = report.value(
            "LISTEN",
            "an address and a port, like 127.0.0.1:8080",
            self.listen.clone(),
        );
        let port = self
            .port
            .clone()
            .map(|port| report.value("PORT", "a port from 0 to 65535", port));
        // Where LISTEN is bad the rest is still checked, as for a loopback address.
        let mut address = listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
        if let Some(Some(port)) = port {
            address.set_port(port);
        }
        address
    }
}

/// Both files or neither.
fn tls(
    report: &mut Report,
    certificate: Option<Given<PathBuf>>,
    key: Option<Given<PathBuf>>,
) -> Option<TlsFiles> {
    let certificate = certificate.and_then(Given::value);
    let key = key.and_then(Given::value);
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            report.mistake("TLS_KEY", "must be set beside TLS_CERT");
            None
        }
        (None, Some(_)) => {
            report.mistake("TLS_CERT", "must be set beside TLS_KEY");
            None
        }
    }
}

fn networks(report: &mut Report, given: Option<Given<String>>) -> Vec<IpNet> {
    let list = given.and_then(Given::value).unwrap_or_default();
    // A bare address means that one address.
    let network = |part: &str| {
        part.parse::<IpNet>()
            .or_else(|_| part.parse::<IpAddr>().map(IpNet::from))
    };
    let networks: Result<Vec<_>, _> = parts(&list).map(network).collect();
    networks.unwrap_or_else(|_| {
        report.mistake(
            "TRUSTED_PROXIES",
            "must be networks separated by commas, like 10.0.0.0/8,127.0.0.1",
        );
        Vec::new()
    })
}

/// What stands between commas.
fn parts(list: &str) -> impl Iterator<Item = &str> {
    let parts = list.split(',').map(str::trim);
    parts.filter(|part| !part.is_empty())
}

/// Origins as browsers write them (RFC 6454): scheme, host and a port that is not the usual one; in lower case, without a path.
fn origins(report: &mut Report, given: Option<Given<String>>) -> Vec<String> {
    let list = given.and_then(Given::value).unwrap_or_default();
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
        report.mistake(
            "CORS_ORIGINS",
            "must be origins separated by commas, like https://app.example.com: in lower case, without a path, and no wildcard",
        );
    }
    origins
}
