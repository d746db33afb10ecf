//! What `REDIS_URL` names: one server, servers that Sentinels watch, or a Cluster; and how each server is connected to.

use redis::{Client, ClientTlsConfig, IntoConnectionInfo as _, TlsCertificates};

use super::StoreError;
use crate::config::{REDIS_URL_FORMS, RedisAddress, RedisKind, Secret};

/// How the servers are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topology {
    /// There is one.
    One,
    /// These Sentinels know the primary of this name.
    Sentinel { sentinels: Vec<Host>, name: String },
    /// These servers of a Cluster know all others.
    Cluster { seeds: Vec<Host> },
}

/// A host as a URL names it, with its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Host(pub(super) String);

impl Host {
    /// From what a server tells of another: an address of version 6 stands in brackets in a URL.
    pub(super) fn new(name: &str, port: u16) -> Self {
        let bare = name.contains(':') && !name.starts_with('[');
        Self(if bare {
            format!("[{name}]:{port}")
        } else {
            format!("{name}:{port}")
        })
    }

    /// The name without the port.
    pub(super) fn name(&self) -> &str {
        self.0.rsplit_once(':').map_or(&self.0, |(name, _)| name)
    }
}

/// How to connect to a server, wherever it is: the same user, password and certificates for all.
pub(super) struct Access {
    url: Url,
    certificates: Option<TlsCertificates>,
    sentinel_password: Option<Secret>,
}

/// A URL whose hosts can be exchanged for others.
enum Url {
    /// As it was written.
    Whole(String),
    /// Scheme, and `user:password@` or nothing.
    Of(&'static str, String),
}

impl Access {
    /// Takes a setting apart.
    ///
    /// # Errors
    /// A sentence that repeats nothing of the setting, which may hold a password.
    pub(super) fn parse(address: &RedisAddress) -> Result<(Self, Topology), StoreError> {
        let text = address.url.expose();
        let (url, topology) = match address.kind() {
            None => return Err(wrong_url()),
            Some(RedisKind::Standalone) => (Url::Whole(text.to_owned()), Topology::One),
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
                let topology = if kind == RedisKind::Sentinel {
                    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                        return Err(wrong_url());
                    }
                    Topology::Sentinel {
                        sentinels: hosts,
                        name: name.to_owned(),
                    }
                } else {
                    if !name.is_empty() {
                        return Err(wrong_url());
                    }
                    Topology::Cluster { seeds: hosts }
                };
                (Url::Of(scheme, credentials), topology)
            }
        };
        let tls = &address.tls;
        let access = Self {
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
        Ok((access, topology))
    }

    /// For the only server.
    ///
    /// # Errors
    /// A sentence, without the URL, where it is not of a known form.
    pub(super) fn only(&self) -> Result<Client, StoreError> {
        match &self.url {
            Url::Whole(url) => self.client(url),
            Url::Of(..) => Err(wrong_url()),
        }
    }

    /// For a server that others have named.
    ///
    /// # Errors
    /// A sentence where that is no host.
    pub(super) fn server(&self, host: &Host) -> Result<Client, StoreError> {
        match &self.url {
            Url::Whole(url) => self.client(url),
            Url::Of(scheme, credentials) => {
                self.client(&format!("{scheme}://{credentials}{}", host.0))
            }
        }
    }

    /// For a Sentinel, which has a password of its own or none.
    ///
    /// # Errors
    /// A sentence where that is no host.
    pub(super) fn sentinel(&self, host: &Host) -> Result<Client, StoreError> {
        let Url::Of(scheme, _) = &self.url else {
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
        // A name for this library is of no use, and Redis 7.0 does not know the command.
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

    fn topology(url: &str) -> Option<Topology> {
        let address = RedisAddress::plain(Secret::new(url.to_owned()));
        Access::parse(&address).ok().map(|(_, topology)| topology)
    }

    fn hosts(hosts: &[&str]) -> Vec<Host> {
        hosts.iter().map(|&host| Host(host.to_owned())).collect()
    }

    #[test]
    fn one_server_sentinels_and_a_cluster_are_told_apart() {
        assert_eq!(
            topology("redis://alice:pw@redis:6379/1"),
            Some(Topology::One)
        );
        assert_eq!(topology("unix:///run/redis.sock"), Some(Topology::One));
        assert_eq!(
            topology("redis+sentinel://u:p@ss@s1,s2:26380,[2001:db8::1]/mymaster"),
            Some(Topology::Sentinel {
                sentinels: hosts(&["s1:26379", "s2:26380", "[2001:db8::1]:26379"]),
                name: "mymaster".to_owned()
            })
        );
        assert_eq!(
            topology("rediss+cluster://n1:7000,n2"),
            Some(Topology::Cluster {
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
            let error = Access::parse(&address).err().unwrap().to_string();
            assert!(!error.contains("planted"), "{error}");
        }
    }

    #[test]
    fn the_password_of_sentinels_is_their_own() {
        let mut address =
            RedisAddress::plain(Secret::new("redis+sentinel://u:p@s1/mymaster".to_owned()));
        address.sentinel_password = Some(Secret::new("q/@".to_owned()));
        let (access, _) = Access::parse(&address).ok().unwrap();
        let host = Host("s1:26379".to_owned());
        let (sentinel, server) = (
            access.sentinel(&host).unwrap(),
            access.server(&host).unwrap(),
        );
        let password = |client: &Client| {
            let settings = client.get_connection_info().redis_settings().clone();
            settings.password().map(str::to_owned)
        };
        assert_eq!(password(&sentinel).as_deref(), Some("q/@"));
        assert_eq!(password(&server).as_deref(), Some("p"));
    }
}
