//! From what was written to what it means. All mistakes are collected before any is reported.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::secrets::secret;
use super::{
    Config, Given, HttpConfig, Mistakes, PasswordConfig, RedisConfig, RedisServer,
    RevocationConfig, Secret, Settings, SigningKey, Span, Switch, TelemetryConfig, TokenConfig,
};

/// The greatest freshness window: what a logout waits for where no replica has announced its own.
const MAX_WINDOW: Duration = Duration::from_secs(1);
/// The greatest lifetime of an access token; revocations of a user are kept for as long.
pub const MAX_ACCESS_TTL: Duration = Duration::from_hours(24);

impl Settings {
    /// Checks everything.
    ///
    /// # Errors
    /// All mistakes, each a sentence that names its setting.
    #[expect(clippy::too_many_lines, reason = "one line a setting")]
    pub fn check(self) -> Result<Config, Mistakes> {
        let mut report = Report::default();
        let listen = self.address(&mut report);
        let loopback = listen.ip().is_loopback();
        let redis_url = report.secret(secret("REDIS_URL", self.redis_url_file));
        let jwt_secret = report.secret(secret("JWT_SECRET", self.jwt_secret_file));
        let pepper = report.secret(secret("PASSWORD_PEPPER", self.password_pepper_file));
        if !loopback {
            report.needs_off_loopback("REDIS_URL", &redis_url);
            report.needs_off_loopback("JWT_SECRET", &jwt_secret);
        }
        let redis_url = report.redis_url(redis_url.ok().flatten());
        let alone = redis_url.is_none();
        let config = Config {
            http: HttpConfig {
                listen,
                management_listen: report
                    .value(
                        "MANAGEMENT_LISTEN",
                        "an address and a port, like 127.0.0.1:9090",
                        self.management_listen,
                    )
                    .unwrap_or(listen),
                trusted_proxies: report.networks(self.trusted_proxies),
                max_connections: report.within(
                    "MAX_CONNECTIONS",
                    self.max_connections,
                    1,
                    1_000_000,
                ),
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
                docs: report
                    .value("DOCS", "on or off", self.docs)
                    .is_some_and(|Switch(on)| on),
                readiness_grace: report.span(
                    "READINESS_GRACE",
                    self.readiness_grace,
                    Duration::ZERO,
                    Duration::from_hours(1),
                ),
            },
            redis: RedisConfig {
                prefix: report.prefix(self.redis_prefix),
                server: redis_url.map_or_else(
                    || RedisServer::Private(self.data_dir.join("redis")),
                    RedisServer::At,
                ),
            },
            revocation: RevocationConfig {
                window: report.span(
                    "REVOCATION_WINDOW",
                    self.revocation_window,
                    Duration::ZERO,
                    MAX_WINDOW,
                ),
                stale_if_error: report.span(
                    "REVOCATION_STALE_IF_ERROR",
                    self.revocation_stale_if_error,
                    Duration::ZERO,
                    MAX_ACCESS_TTL,
                ),
                alone,
            },
            tokens: TokenConfig {
                issuer: report.issuer(self.issuer),
                audience: report.text("AUDIENCE", self.audience),
                access_ttl: report.span(
                    "ACCESS_TTL",
                    self.access_ttl,
                    Duration::from_secs(1),
                    MAX_ACCESS_TTL,
                ),
                signing: report
                    .signing_key(jwt_secret.ok().flatten())
                    .unwrap_or_else(|| SigningKey::KeptIn(self.data_dir.join("jwt-secret"))),
            },
            passwords: PasswordConfig {
                min_length: report.within("PASSWORD_MIN_LENGTH", self.password_min_length, 8, 64),
                pepper: report.pepper(pepper.ok().flatten()),
                cost: report.cost(self.bcrypt_cost, loopback),
                threads: self
                    .hash_threads
                    .map(|given| report.within("HASH_THREADS", given, 1, 1024)),
                deadline: report.span(
                    "HASH_DEADLINE",
                    self.hash_deadline,
                    Duration::from_millis(1),
                    Duration::from_mins(1),
                ),
            },
            telemetry: TelemetryConfig {
                filter: report.filter(self.log),
                format: report
                    .value("LOG_FORMAT", "json or text", self.log_format)
                    .unwrap_or(super::LogFormat::Json),
                traces: super::environment::traces_wanted(),
            },
        };
        report.finish(config)
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

/// A secret is set but cannot be read; the report says so already.
struct Unreadable;

/// Collects the mistakes.
#[derive(Default)]
struct Report(Vec<String>);

impl Report {
    fn mistake(&mut self, setting: &str, what: &str) {
        self.0.push(format!("{setting}: {what}"));
    }

    fn finish<T>(self, value: T) -> Result<T, Mistakes> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(Mistakes(self.0))
        }
    }

    fn value<T>(&mut self, setting: &str, form: &str, given: Given<T>) -> Option<T> {
        let value = given.value();
        if value.is_none() {
            self.mistake(setting, &format!("must be {form}"));
        }
        value
    }

    fn within<T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        setting: &str,
        given: Given<T>,
        least: T,
        most: T,
    ) -> T {
        match given.value() {
            Some(value) if value >= least && value <= most => value,
            _ => {
                self.mistake(setting, &format!("must be a number from {least} to {most}"));
                least
            }
        }
    }

    fn span(
        &mut self,
        setting: &str,
        given: Given<Span>,
        least: Duration,
        most: Duration,
    ) -> Duration {
        match given.value() {
            Some(Span(value)) if value >= least && value <= most => value,
            _ => {
                let (least, most) = (
                    humantime::format_duration(least),
                    humantime::format_duration(most),
                );
                self.mistake(
                    setting,
                    &format!(
                        "must be a time with its unit, like 50ms or 15m, from {least} to {most}"
                    ),
                );
                Duration::ZERO
            }
        }
    }

    fn text(&mut self, setting: &str, given: Given<String>) -> String {
        let text = given.value().unwrap_or_default();
        if text.is_empty() || text.len() > 256 {
            self.mistake(setting, "must be a text of 1 to 256 bytes");
        }
        text
    }

    fn secret(
        &mut self,
        found: Result<Option<Secret>, String>,
    ) -> Result<Option<Secret>, Unreadable> {
        found.map_err(|mistake| {
            self.0.push(mistake);
            Unreadable
        })
    }

    fn needs_off_loopback(&mut self, setting: &str, found: &Result<Option<Secret>, Unreadable>) {
        if matches!(found, Ok(None)) {
            self.mistake(
                setting,
                "must be set, because LISTEN is not a loopback address (or set its file variant)",
            );
        }
    }

    fn networks(&mut self, given: Option<Given<String>>) -> Vec<IpNet> {
        let list = given.and_then(Given::value).unwrap_or_default();
        let parts = list
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        // A bare address means that one address.
        let network = |part: &str| {
            part.parse::<IpNet>()
                .or_else(|_| part.parse::<IpAddr>().map(IpNet::from))
        };
        let networks: Result<Vec<_>, _> = parts.map(network).collect();
        networks.unwrap_or_else(|_| {
            self.mistake(
                "TRUSTED_PROXIES",
                "must be networks separated by commas, like 10.0.0.0/8,127.0.0.1",
            );
            Vec::new()
        })
    }

    fn prefix(&mut self, given: Given<String>) -> String {
        let prefix = given.value().unwrap_or_default();
        // A brace would move the hash tag, and with it a user's keys to other slots of a Cluster.
        if prefix.len() > 64
            || prefix.contains(['{', '}'])
            || !prefix.bytes().all(|byte| byte.is_ascii_graphic())
        {
            self.mistake(
                "REDIS_PREFIX",
                "must be at most 64 visible ASCII characters without braces",
            );
        }
        prefix
    }

    /// The scheme alone: what else a URL may hold is the store's to know.
    fn redis_url(&mut self, url: Option<Secret>) -> Option<Secret> {
        let known = |url: &Secret| {
            ["redis://", "unix://"]
                .iter()
                .any(|scheme| url.expose().starts_with(scheme))
        };
        if url.as_ref().is_some_and(|url| !known(url)) {
            self.mistake(
                "REDIS_URL",
                "must be like redis://user:password@host:6379/0 or unix:///path",
            );
        }
        url
    }

    fn issuer(&mut self, given: Given<String>) -> String {
        let issuer = given.value().unwrap_or_default();
        let rest = issuer
            .strip_prefix("https://")
            .or_else(|| issuer.strip_prefix("http://"));
        if !rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['?', '#', ' ']))
            || issuer.len() > 256
        {
            self.mistake(
                "ISSUER",
                "must be an http or https URL without query and fragment, of at most 256 bytes",
            );
        }
        issuer
    }

    fn signing_key(&mut self, secret: Option<Secret>) -> Option<SigningKey> {
        let secret = secret?;
        if let Some(weakness) = secret.weakness() {
            self.mistake(
                "JWT_SECRET",
                &format!("{weakness}; make one with: openssl rand -base64 48"),
            );
        }
        Some(SigningKey::Secret(secret))
    }

    fn pepper(&mut self, secret: Option<Secret>) -> Option<(String, Secret)> {
        let secret = secret?;
        let parts = secret.expose().split_once(':');
        let id_fits = |id: &str| {
            (1..=16).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let Some((id, key)) = parts.filter(|(id, _)| id_fits(id)) else {
            self.mistake(
                "PASSWORD_PEPPER",
                "must be id:key with an id of 1 to 16 letters and digits",
            );
            return None;
        };
        let key = Secret::new(key.to_owned());
        if let Some(weakness) = key.weakness() {
            self.mistake(
                "PASSWORD_PEPPER",
                &format!("its key {weakness}; make one with: openssl rand -base64 48"),
            );
        }
        Some((id.to_owned(), key))
    }

    fn cost(&mut self, given: Given<u32>, loopback: bool) -> u32 {
        let least = if loopback { 4 } else { 10 };
        match given.value() {
            Some(cost) if (least..=15).contains(&cost) => cost,
            _ => {
                self.mistake(
                    "BCRYPT_COST",
                    "must be a number from 10 to 15 (from 4 where LISTEN is a loopback address)",
                );
                10
            }
        }
    }

    fn filter(&mut self, given: Given<String>) -> String {
        let filter = given.value().unwrap_or_default();
        if filter
            .parse::<tracing_subscriber::filter::Targets>()
            .is_err()
        {
            self.mistake(
                "LOG",
                "must be a filter like info, or info,portcullis::store=debug",
            );
        }
        filter
    }
}
