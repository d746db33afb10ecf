//! Access tokens: who issues them, how long they live, which key signs them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::report::Report;
use super::secrets::{Secret, secret};
use super::values::{Given, Span};

/// The greatest lifetime of an access token; revocations of a user are kept for as long.
pub const MAX_ACCESS_TTL: Duration = Duration::from_hours(24);

/// As written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Tokens")]
pub(super) struct TokenSettings {
    /// Who issues the tokens: one URL for all replicas
    #[arg(
        long,
        env = "ISSUER",
        default_value = "http://localhost:8080",
        value_name = "URL"
    )]
    issuer: Given<String>,

    /// Whom the tokens are meant for
    #[arg(
        long,
        env = "AUDIENCE",
        default_value = "portcullis",
        value_name = "TEXT"
    )]
    audience: Given<String>,

    /// Lifetime of an access token; 1s to 24h
    #[arg(long, env = "ACCESS_TTL", default_value = "1h", value_name = "TIME")]
    access_ttl: Given<Span>,

    /// How long a session lasts without a refresh: the lifetime of a refresh token. At least ACCESS_TTL, at most SESSION_MAX_AGE
    #[arg(
        long,
        env = "SESSION_IDLE_TIMEOUT",
        default_value = "7d",
        value_name = "TIME"
    )]
    session_idle_timeout: Given<Span>,

    /// How long a session lasts at most, however often it is refreshed; up to 400 days
    #[arg(
        long,
        env = "SESSION_MAX_AGE",
        default_value = "30d",
        value_name = "TIME"
    )]
    session_max_age: Given<Span>,

    /// For how long after a refresh the token before is answered with the same successor: for tabs that refresh at once, and
    /// answers that got lost; up to 5m. Later it counts as stolen, and ends the session
    #[arg(
        long,
        env = "REFRESH_REUSE_INTERVAL",
        default_value = "30s",
        value_name = "TIME"
    )]
    refresh_reuse_interval: Given<Span>,

    /// REFRESH_SECRET: the keys of refresh tokens, at least 32 bytes each, separated by commas: the first makes tokens, all are
    /// recognised. A secret: set the variable REFRESH_SECRET, or name a file here. Without either it is derived from
    /// JWT_SECRET; what was made so is recognised for as long as that is set
    #[arg(long, env = "REFRESH_SECRET_FILE", value_name = "FILE")]
    refresh_secret_file: Option<Given<PathBuf>>,

    /// JWT_SECRET: the key that signs tokens (HS256), at least 32 bytes, for example from `openssl rand -base64 48`. A secret:
    /// set the variable JWT_SECRET, or name a file here. Without it and without JWT_KEYS_DIR, a replica on a loopback address makes
    /// one and keeps it in DATA_DIR
    #[arg(long, env = "JWT_SECRET_FILE", value_name = "FILE")]
    jwt_secret_file: Option<Given<PathBuf>>,

    /// Folder of private keys (Ed25519, P-256, RSA) in PEM: *.next.pem is published and does not sign yet, the greatest other
    /// name signs, the rest only verify. It is read anew when it changes. Beside JWT_SECRET, what that has signed is still
    /// accepted; without it, REFRESH_SECRET must be set
    #[arg(long, env = "JWT_KEYS_DIR", value_name = "FOLDER")]
    jwt_keys_dir: Option<Given<PathBuf>>,
}

/// Access tokens, refresh tokens and their keys.
#[derive(Debug, Clone)]
pub struct TokenConfig {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// Lifetime of an access token.
    pub access_ttl: Duration,
    /// Lifetime of a refresh token.
    pub session_idle_timeout: Duration,
    /// How long a session lasts at most.
    pub session_max_age: Duration,
    /// How long a traded refresh token still has the same successor.
    pub refresh_reuse_interval: Duration,
    /// The keys of refresh tokens, the first of which makes them; none where they come from the key that signs.
    pub refresh_secrets: Vec<Secret>,
    /// The secret that signs and verifies; `None` where only the folder does.
    pub signing: Option<SigningKey>,
    /// The folder of private keys.
    pub key_folder: Option<PathBuf>,
}

/// A secret that signs access tokens.
#[derive(Debug, Clone)]
pub enum SigningKey {
    /// From the settings.
    Secret(Secret),
    /// Made at the first start on a loopback address, and kept in this file.
    KeptIn(PathBuf),
}

impl TokenSettings {
    pub(super) fn key_folder(&self) -> Option<PathBuf> {
        let folder = self.jwt_keys_dir.clone().and_then(Given::value);
        folder.filter(|folder| !folder.as_os_str().is_empty())
    }

    pub(super) fn check(self, report: &mut Report, loopback: bool, data_dir: &Path) -> TokenConfig {
        let key_folder = self.key_folder();
        let refresh = report.secret(secret("REFRESH_SECRET", self.refresh_secret_file));
        let secret = report.secret(secret("JWT_SECRET", self.jwt_secret_file));
        if !loopback && key_folder.is_none() {
            report.needs_off_loopback("JWT_SECRET", &secret);
        }
        if key_folder.is_some() && matches!((&secret, &refresh), (Ok(None), Ok(None))) {
            report.mistake(
                "REFRESH_SECRET",
                "must be set beside JWT_KEYS_DIR where JWT_SECRET is not: signing keys retire long before refresh tokens do",
            );
        }
        let second = Duration::from_secs(1);
        let issuer = issuer(report, self.issuer);
        let audience = report.text("AUDIENCE", self.audience);
        let access_ttl = report.span("ACCESS_TTL", self.access_ttl, second, MAX_ACCESS_TTL);
        let refresh_reuse_interval = report.span(
            "REFRESH_REUSE_INTERVAL",
            self.refresh_reuse_interval,
            Duration::ZERO,
            Duration::from_mins(5),
        );
        let session_max_age = report.span(
            "SESSION_MAX_AGE",
            self.session_max_age,
            access_ttl,
            Duration::from_hours(24 * 400),
        );
        TokenConfig {
            issuer,
            audience,
            access_ttl,
            session_idle_timeout: report.span(
                "SESSION_IDLE_TIMEOUT",
                self.session_idle_timeout,
                access_ttl,
                session_max_age.max(access_ttl),
            ),
            session_max_age,
            refresh_reuse_interval,
            refresh_secrets: refresh_secrets(report, refresh.ok().flatten()),
            signing: signing_key(report, secret.ok().flatten()).or_else(|| {
                let makes_one = key_folder.is_none();
                makes_one.then(|| SigningKey::KeptIn(data_dir.join("jwt-secret")))
            }),
            key_folder,
        }
    }
}

fn issuer(report: &mut Report, given: Given<String>) -> String {
    let issuer = given.value().unwrap_or_default();
    let rest = issuer
        .strip_prefix("https://")
        .or_else(|| issuer.strip_prefix("http://"));
    if !rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['?', '#', ' ']))
        || issuer.len() > 256
    {
        report.mistake(
            "ISSUER",
            "must be an http or https URL without query and fragment, of at most 256 bytes",
        );
    }
    issuer
}

fn refresh_secrets(report: &mut Report, given: Option<Secret>) -> Vec<Secret> {
    let Some(given) = given else {
        return Vec::new();
    };
    let secrets = given.expose().split(',').map(str::trim);
    let secrets: Vec<_> = secrets.map(|text| Secret::new(text.to_owned())).collect();
    if let Some(weakness) = secrets.iter().find_map(Secret::weakness) {
        report.mistake(
            "REFRESH_SECRET",
            &format!("one of its keys {weakness}; make one with: openssl rand -base64 48"),
        );
    }
    secrets
}

fn signing_key(report: &mut Report, secret: Option<Secret>) -> Option<SigningKey> {
    let secret = secret?;
    if let Some(weakness) = secret.weakness() {
        report.mistake(
            "JWT_SECRET",
            &format!("{weakness}; make one with: openssl rand -base64 48"),
        );
    }
    Some(SigningKey::Secret(secret))
}
