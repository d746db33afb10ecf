//! Parser of `REDIS_URL`: one server, servers behind Sentinels, or a Cluster; and the client of each server.

use redis::{Client, ClientTlsConfig, IntoConnectionInfo as _, TlsCertificates};

use super::StoreError;
use crate::config::{REDIS_URL_FORMS, RedisAddress, RedisKind, Secret};

/// Kind of deployment, which says how the servers are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerDiscovery {
    /// One server.
    Standalone,
    /// Sentinels that know the primary of this name.
    Sentinel { sentinels: Vec<Host>, name: String },
    /// Servers of a Cluster, which know all others.
    Cluster { seeds: Vec<Host> },
}

/// Host as a URL names it, with its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Host(pub(super) String);

impl Host {
    /// Creates a host from the address that a server reports of another: a URL takes an IPv6 address in brackets.
    pub(super) fn new(name: &str, port: u16) -> Self {
        let bare = name.contains(':') && !name.starts_with('[');
        Self(if bare {
            format!("[{name}]:{port}")
        } else {
            format!("{name}:{port}")
        })
    }

    /// Returns the name without the port.
    pub(super) fn name(&self) -> &str {
        self.0.rsplit_once(':').map_or(&self.0, |(name, _)| name)
    }
}

/// Builder of clients, with the same user, password and certificates for all servers.
pub(super) struct Connector {
    url: Url,
    certificates: Option<TlsCertificates>,
    sentinel_password: Option<Secret>,
}

/// URL whose hosts can be exchanged for others.
enum Url {
    /// URL as it was written.
    Whole(String),
    /// Scheme, and `user:password@` or nothing.
    Parts(&'static str, String),
}

impl Connector {
    /// Parses the setting.
    ///
    /// # Errors
    /// A sentence that does not quote the setting, which may hold a password.
    pub(super) fn parse(address: &RedisAddress) -> Result<(Self, ServerDiscovery), StoreError> {
        let text = address.url.expose();
        let (url, discovery) = match address.kind() {
            None => return Err(wrong_url()),
            Some(RedisKind::Standalone) => {
                (Url::Whole(text.to_owned()), ServerDiscovery::Standalone)
            }
            Some(kind) => {
                let (scheme, rest) = text.split_once("://").ok_or_else(wrong_url)?;
                let scheme = if scheme.starts_with("rediss") {
                    "rediss"
                } else {
                    "redis"
                };
                let (credentials, rest) = match rest.rsplit_once('@') {
                    Some((credentials, rest)) => (format!("{credentials}@"), rest),
                    None => (String::new(), rest),
                };
                let (hosts, name) = rest.split_once('/').unwrap_or((rest, ""));
                let port = if kind == RedisKind::Sentinel {
                    26379
                } else {
                    6379
                };
                let hosts: Option<Vec<Host>> = hosts
                    .split(',')
                    .map(|host| parse_host(host, port))
                    .collect();
                let hosts = hosts.ok_or_else(wrong_url)?;
                let discovery = if kind == RedisKind::Sentinel {
                    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                        return Err(wrong_url());
                    }
                    ServerDiscovery::Sentinel {
                        sentinels: hosts,
                        name: name.to_owned(),
                    }
                } else {
                    if !name.is_empty() {
                        return Err(wrong_url());
                    }
                    ServerDiscovery::Cluster { seeds: hosts }
                };
                (Url::Parts(scheme, credentials), discovery)
            }
        };
        let tls = &address.tls;
        let connector = Self {
            url,
            certificates: address.is_encrypted().then(|| TlsCertificates {
                client_tls: tls.client.as_ref().map(|client| ClientTlsConfig {
                    client_cert: client.certificates.clone(),
                    client_key: client.key.expose().as_bytes().to_vec(),
                }),
                root_cert: tls.ca.clone(),
            }),
            sentinel_password: address.sentinel_password.clone(),
        };
        Ok((connector, discovery))
    }

    /// Returns the client of the only server.
    ///
    /// # Errors
    /// A sentence, without the URL, if the URL has no known form.
    pub(super) fn only(&self) -> Result<Client, StoreError> {
        match &self.url {
            Url::Whole(url) => self.client(url),
            Url::Parts(..) => Err(wrong_url()),
        }
    }

    /// Returns the client of a server that Sentinels or a Cluster have named.
    ///
    /// # Errors
    /// A sentence if `host` is not valid.
    pub(super) fn server(&self, host: &Host) -> Result<Client, StoreError> {
        match &self.url {
            Url::Whole(url) => self.client(url),
            Url::Parts(scheme, credentials) => {
                self.client(&format!("{scheme}://{credentials}{}", host.0))
            }
        }
    }

    /// Returns the client of a Sentinel, which has a password of its own or none.
    ///
    /// # Errors
    /// A sentence if `host` is not valid.
    pub(super) fn sentinel(&self, host: &Host) -> Result<Client, StoreError> {
        let Url::Parts(scheme, _) = &self.url else {
            return Err(wrong_url());
        };
        let client = self.client(&format!("{scheme}://{}", host.0))?;
        let Some(password) = &self.sentinel_password else {
            return Ok(client);
        };
        let info = client.get_connection_info().clone();
        let settings = info
            .redis_settings()
            .clone()
            .set_password(password.expose());
        Client::open(info.set_redis_settings(settings)).map_err(|_| wrong_url())
    }

    fn client(&self, url: &str) -> Result<Client, StoreError> {
        let wrong = |_| wrong_url();
        let info = url.into_connection_info().map_err(wrong)?;
        // A library name is of no use, and Redis 7.0 does not know the command.
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        let info = info.set_redis_settings(settings);
        let Some(certificates) = &self.certificates else {
            return Client::open(info).map_err(wrong);
        };
        Client::build_with_tls(info, certificates.clone()).map_err(|_| {
            StoreError::refused(
                "REDIS_CA, REDIS_CERT, REDIS_KEY: must be certificates and a private key in PEM",
            )
        })
    }
}

fn wrong_url() -> StoreError {
    StoreError::refused(format!("REDIS_URL: {REDIS_URL_FORMS}"))
}

/// `host`, `host:port`, `[2001:db8::1]` or `[2001:db8::1]:port`.
fn parse_host(text: &str, port: u16) -> Option<Host> {
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let (name, given) = if text.starts_with('[') {
        let (name, rest) = text.split_once(']')?;
        name[1..].parse::<std::net::Ipv6Addr>().ok()?;
        (format!("{name}]"), rest.strip_prefix(':'))
    } else {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        if name.is_empty() || !name.bytes().all(named) {
            return None;
        }
        (name.to_owned(), port)
    };
    let port = match given {
        Some(given) => given.parse().ok()?,
        None => port,
    };
    Some(Host(format!("{name}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discovery(url: &str) -> Option<ServerDiscovery> {
        let address = RedisAddress::plain(Secret::new(url.to_owned()));
        Connector::parse(&address)
            .ok()
            .map(|(_, discovery)| discovery)
    }

    fn hosts(hosts: &[&str]) -> Vec<Host> {
        hosts.iter().map(|&host| Host(host.to_owned())).collect()
    }

    #[test]
    fn one_server_sentinels_and_a_cluster_are_told_apart() {
        assert_eq!(
            discovery("redis://alice:pw@redis:6379/1"),
            Some(ServerDiscovery::Standalone)
        );
        assert_eq!(
            discovery("unix:///run/redis.sock"),
            Some(ServerDiscovery::Standalone)
        );
        assert_eq!(
            discovery("redis+sentinel://u:p@ss@s1,s2:26380,[2001:db8::1]/mymaster"),
            Some(ServerDiscovery::Sentinel {
                sentinels: hosts(&["s1:26379", "s2:26380", "[2001:db8::1]:26379"]),
                name: "mymaster".to_owned()
            })
        );
        assert_eq!(
            discovery("rediss+cluster://n1:7000,n2"),
            Some(ServerDiscovery::Cluster {
                seeds: hosts(&["n1:7000", "n2:6379"])
            })
        );
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for url in [
            "redis+sentinel://s1:26379",
            "redis+sentinel://s1:26379/",
            "redis+sentinel:///mymaster",
            "redis+sentinel://s1:port/mymaster",
            "redis+sentinel://[s1]/mymaster",
            "redis+cluster://n1/2",
            "redis+cluster://",
            "http://planted-secret",
        ] {
            let address = RedisAddress::plain(Secret::new(url.to_owned()));
            let error = Connector::parse(&address).err().unwrap().to_string();
            assert!(!error.contains("planted"), "{error}");
        }
    }

    #[test]
    fn the_password_of_sentinels_is_their_own() {
        let mut address =
            RedisAddress::plain(Secret::new("redis+sentinel://u:p@s1/mymaster".to_owned()));
        address.sentinel_password = Some(Secret::new("q/@".to_owned()));
        let (connector, _) = Connector::parse(&address).ok().unwrap();
        let host = Host("s1:26379".to_owned());
        let (sentinel, server) = (
            connector.sentinel(&host).unwrap(),
            connector.server(&host).unwrap(),
        );
        let password = |client: &Client| {
            let settings = client.get_connection_info().redis_settings().clone();
            settings.password().map(str::to_owned)
        };
        assert_eq!(password(&sentinel).as_deref(), Some("q/@"));
        assert_eq!(password(&server).as_deref(), Some("p"));
    }
}
