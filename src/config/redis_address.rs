//! Address of Redis, its certificates, and the number of replicas that must acknowledge a write.

use std::path::PathBuf;

use super::errors::ErrorCollector;
use super::secrets::Secret;

/// Error sentence that lists the valid forms of `REDIS_URL`.
pub const REDIS_URL_FORMS: &str = "must be like redis://user:password@host:6379/0, unix:///path, redis+sentinel://user:password@host:26379,host:26379/name or redis+cluster://user:password@host:6379,host:6379 (rediss… with TLS)";

/// Maximum value of `REDIS_ACK_REPLICAS`.
const MAX_ACK_REPLICAS: u32 = 100;

/// Kind of Redis deployment; it decides how the primaries are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisKind {
    /// One server.
    Standalone,
    /// Sentinels name the primary.
    Sentinel,
    /// The nodes of the Cluster name the primaries.
    Cluster,
}

/// Address of Redis, with credentials and certificates.
#[derive(Debug, Clone)]
pub struct RedisAddress {
    /// URL, which may hold a password.
    pub url: Secret,
    /// Certificates for TLS.
    pub tls: RedisTls,
    /// Password of the Sentinels.
    pub sentinel_password: Option<Secret>,
    /// Number of replicas that must acknowledge a write.
    pub acknowledgements: u32,
}

/// Certificates for TLS connections to Redis.
#[derive(Debug, Clone, Default)]
pub struct RedisTls {
    /// CA certificates for the servers, in PEM; those of the system if `None`.
    pub ca: Option<Vec<u8>>,
    /// Client certificate of this service.
    pub client: Option<ClientCertificate>,
}

/// Client certificate and its key.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// Certificate chain, in PEM.
    pub certificates: Vec<u8>,
    /// Private key, in PEM.
    pub key: Secret,
}

impl RedisAddress {
    /// Address of one server without replicas, from its URL alone.
    #[must_use]
    pub fn plain(url: Secret) -> Self {
        Self {
            url,
            tls: RedisTls::default(),
            sentinel_password: None,
            acknowledgements: 0,
        }
    }

    /// Kind of deployment by the URL's scheme; `None` if the scheme is unknown.
    #[must_use]
    pub fn kind(&self) -> Option<RedisKind> {
        let (scheme, _) = self.url.expose().split_once("://")?;
        match scheme {
            "redis" | "rediss" | "unix" => Some(RedisKind::Standalone),
            "redis+sentinel" | "rediss+sentinel" => Some(RedisKind::Sentinel),
            "redis+cluster" | "rediss+cluster" => Some(RedisKind::Cluster),
            _ => None,
        }
    }

    /// Returns `true` if the URL asks for TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.url.expose().starts_with("rediss")
    }
}

/// Settings of Redis besides its URL.
pub(super) struct RedisOptions {
    pub(super) acknowledgements: Option<u32>,
    pub(super) ca: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) sentinel_password: Option<Secret>,
}

impl RedisOptions {
    pub(super) fn check(
        self,
        errors: &mut ErrorCollector,
        url: Option<Secret>,
    ) -> Option<RedisAddress> {
        let Some(url) = url else {
            if self.acknowledgements.is_some_and(|wanted| wanted > 0) {
                errors.add(
                    "REDIS_ACK_REPLICAS",
                    "a private redis-server has no replicas: set REDIS_URL",
                );
            }
            return None;
        };
        let mut address = RedisAddress::plain(url);
        let Some(kind) = address.kind() else {
            errors.add("REDIS_URL", REDIS_URL_FORMS);
            return None;
        };
        if address.url.expose().contains('#') {
            // The client library takes the fragment `#insecure` as an order to verify no certificate.
            errors.add("REDIS_URL", "must not contain #");
        }
        address.acknowledgements = acknowledgements(errors, kind, self.acknowledgements);
        address.tls = self.tls(errors, address.is_encrypted());
        if self.sentinel_password.is_some() && kind != RedisKind::Sentinel {
            errors.add(
                "SENTINEL_PASSWORD",
                "is of no use without Sentinels: REDIS_URL must begin with redis+sentinel or rediss+sentinel",
            );
        }
        address.sentinel_password = self.sentinel_password;
        Some(address)
    }

    fn tls(&self, errors: &mut ErrorCollector, encrypted: bool) -> RedisTls {
        let files = [
            ("REDIS_CA", &self.ca),
            ("REDIS_CERT", &self.certificate),
            ("REDIS_KEY", &self.key),
        ];
        let given: Vec<_> = files.iter().filter(|(_, file)| file.is_some()).collect();
        if !encrypted {
            for (name, _) in &given {
                errors.add(name, "needs TLS: REDIS_URL must begin with rediss");
            }
            return RedisTls::default();
        }
        let mut read = |name: &'static str, file: &Option<PathBuf>| {
            let text = std::fs::read(file.as_ref()?);
            if let Err(error) = &text {
                let why = format!("the file cannot be read ({})", error.kind());
                errors.add(name, &why);
            }
            text.ok()
        };
        let (ca, certificates) = (
            read("REDIS_CA", &self.ca),
            read("REDIS_CERT", &self.certificate),
        );
        let key = read("REDIS_KEY", &self.key).and_then(|text| String::from_utf8(text).ok());
        if self.certificate.is_some() != self.key.is_some() {
            errors.add("REDIS_CERT", "goes with REDIS_KEY: set both or neither");
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

fn acknowledgements(errors: &mut ErrorCollector, kind: RedisKind, given: Option<u32>) -> u32 {
    let watched = kind != RedisKind::Standalone;
    let wanted = given.unwrap_or(u32::from(watched));
    if watched && wanted == 0 {
        errors.add(
            "REDIS_ACK_REPLICAS",
            "must be at least 1 with Sentinels or a Cluster: without it a primary that was replaced would be trusted",
        );
    }
    if wanted > MAX_ACK_REPLICAS {
        errors.add("REDIS_ACK_REPLICAS", "must be at most 100");
    }
    wanted
}
