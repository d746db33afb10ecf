//! How Redis is reached: its address, what vouches for it, and how many of its replicas must have what is acknowledged.

use std::path::PathBuf;

use super::report::Report;
use super::secrets::Secret;

/// What the forms of `REDIS_URL` look like.
pub const REDIS_URL_FORMS: &str = "must be like redis://user:password@host:6379/0, unix:///path, redis+sentinel://user:password@host:26379,host:26379/name or redis+cluster://user:password@host:6379,host:6379 (rediss… with TLS)";

/// The most replicas whose acknowledgement may be asked for.
const MOST_REPLICAS: u32 = 100;

/// How the servers of an address are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisKind {
    /// There is one.
    One,
    /// Sentinels know.
    Sentinel,
    /// The servers of a Cluster know each other.
    Cluster,
}

/// Where Redis is, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct RedisAddress {
    /// The URL, which may hold a password.
    pub url: Secret,
    /// Certificates, where the connections are encrypted.
    pub tls: RedisTls,
    /// The password of the Sentinels.
    pub sentinel_password: Option<Secret>,
    /// How many replicas must have what is acknowledged.
    pub acknowledgements: u32,
}

/// What vouches for whom on encrypted connections to Redis.
#[derive(Debug, Clone, Default)]
pub struct RedisTls {
    /// Certificates of the authority that vouches for the servers, in PEM; those of the system if `None`.
    pub ca: Option<Vec<u8>>,
    /// How this service shows itself.
    pub client: Option<ClientCertificate>,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The certificate and those that lead to its authority, in PEM.
    pub certificates: Vec<u8>,
    /// Its private key, in PEM.
    pub key: Secret,
}

impl RedisAddress {
    /// One server without replicas, whose URL says all.
    #[must_use]
    pub fn plain(url: Secret) -> Self {
        Self {
            url,
            tls: RedisTls::default(),
            sentinel_password: None,
            acknowledgements: 0,
        }
    }

    /// How the servers are found; `None` where the URL is of no known form.
    #[must_use]
    pub fn kind(&self) -> Option<RedisKind> {
        let (scheme, _) = self.url.expose().split_once("://")?;
        match scheme {
            "redis" | "rediss" | "unix" => Some(RedisKind::One),
            "redis+sentinel" | "rediss+sentinel" => Some(RedisKind::Sentinel),
            "redis+cluster" | "rediss+cluster" => Some(RedisKind::Cluster),
            _ => None,
        }
    }

    /// Whether the connections are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.url.expose().starts_with("rediss")
    }
}

/// What was written beside the URL.
pub(super) struct Written {
    pub(super) acknowledgements: Option<u32>,
    pub(super) ca: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) sentinel_password: Option<Secret>,
}

impl Written {
    pub(super) fn check(self, report: &mut Report, url: Option<Secret>) -> Option<RedisAddress> {
        let Some(url) = url else {
            if self.acknowledgements.is_some_and(|wanted| wanted > 0) {
                report.mistake(
                    "REDIS_ACK_REPLICAS",
                    "a private redis-server has no replicas: set REDIS_URL",
                );
            }
            return None;
        };
        let mut address = RedisAddress::plain(url);
        let Some(kind) = address.kind() else {
            report.mistake("REDIS_URL", REDIS_URL_FORMS);
            return None;
        };
        if address.url.expose().contains('#') {
            // The client would take it as a wish to verify nothing.
            report.mistake("REDIS_URL", "must not contain #");
        }
        address.acknowledgements = acknowledgements(report, kind, self.acknowledgements);
        address.tls = self.tls(report, address.is_encrypted());
        if self.sentinel_password.is_some() && kind != RedisKind::Sentinel {
            report.mistake(
                "SENTINEL_PASSWORD",
                "is of no use without Sentinels: REDIS_URL must begin with redis+sentinel or rediss+sentinel",
            );
        }
        address.sentinel_password = self.sentinel_password;
        Some(address)
    }

    fn tls(&self, report: &mut Report, encrypted: bool) -> RedisTls {
        let files = [
            ("REDIS_CA", &self.ca),
            ("REDIS_CERT", &self.certificate),
            ("REDIS_KEY", &self.key),
        ];
        let given: Vec<_> = files.iter().filter(|(_, file)| file.is_some()).collect();
        if !encrypted {
            for (name, _) in &given {
                report.mistake(name, "needs TLS: REDIS_URL must begin with rediss");
            }
            return RedisTls::default();
        }
        let mut read = |name: &'static str, file: &Option<PathBuf>| {
            let text = std::fs::read(file.as_ref()?);
            if let Err(error) = &text {
                let why = format!("the file cannot be read ({})", error.kind());
                report.mistake(name, &why);
            }
            text.ok()
        };
        let (ca, certificates) = (
            read("REDIS_CA", &self.ca),
            read("REDIS_CERT", &self.certificate),
        );
        let key = read("REDIS_KEY", &self.key).and_then(|text| String::from_utf8(text).ok());
        if self.certificate.is_some() != self.key.is_some() {
            report.mistake("REDIS_CERT", "goes with REDIS_KEY: set both or neither");
        }
        let client = certificates.zip(key);
        RedisTls {
            ca,
            client: client.map(|(certificates, key)| ClientCertificate {
                certificates,
                key: Secret::new(key),
            }),
        }
    }
}

fn acknowledgements(report: &mut Report, kind: RedisKind, given: Option<u32>) -> u32 {
    let watched = kind != RedisKind::One;
    let wanted = given.unwrap_or(u32::from(watched));
    if watched && wanted == 0 {
        report.mistake(
            "REDIS_ACK_REPLICAS",
            "must be at least 1 with Sentinels or a Cluster: without it a primary that was replaced would be trusted",
        );
    }
    if wanted > MOST_REPLICAS {
        report.mistake("REDIS_ACK_REPLICAS", "must be at most 100");
    }
    wanted
}
