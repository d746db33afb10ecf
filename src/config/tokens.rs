//! Tokens: issuer, audience, lifetimes and keys.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::errors::ErrorCollector;
use super::secrets::{Secret, secret};
use super::values::{HumanDuration, Parsed};

/// Maximum lifetime of an access token; revocations of a user are kept for as long.
pub const MAX_ACCESS_TTL: Duration = Duration::from_hours(24);

/// Options of this group, before they are checked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Tokens")]
pub(super) struct TokenSettings {
    /// Issuer of the tokens (`iss`): one URL for all replicas
    #[arg(
        long,
        env = "ISSUER",
        default_value = "http://localhost:8080",
        value_name = "URL"
    )]
    issuer: Parsed<String>,

    /// Audience of the tokens (`aud`)
    #[arg(
        long,
        env = "AUDIENCE",
        default_value = "portcullis",
        value_name = "TEXT"
    )]
    audience: Parsed<String>,

    /// Lifetime of an access token; 1s to 24h
    #[arg(long, env = "ACCESS_TTL", default_value = "1h", value_name = "TIME")]
    access_ttl: Parsed<HumanDuration>,

    /// Time that a session lasts without a refresh: the lifetime of a refresh token. At least ACCESS_TTL, at most
    /// SESSION_MAX_AGE
    #[arg(
        long,
        env = "SESSION_IDLE_TIMEOUT",
        default_value = "7d",
        value_name = "TIME"
    )]
    session_idle_timeout: Parsed<HumanDuration>,

    /// Maximum age of a session, even if it is refreshed; up to 400 days
    #[arg(
        long,
        env = "SESSION_MAX_AGE",
        default_value = "30d",
        value_name = "TIME"
    )]
    session_max_age: Parsed<HumanDuration>,

    /// Time after a refresh in which the same refresh token gets the same new token again: for tabs that refresh at once, and
    /// answers that got lost; up to 5m. Later it counts as stolen and ends the session
    #[arg(
        long,
        env = "REFRESH_REUSE_INTERVAL",
        default_value = "30s",
        value_name = "TIME"
    )]
    refresh_reuse_interval: Parsed<HumanDuration>,

    /// REFRESH_SECRET: the keys of refresh tokens, at least 32 bytes each, separated by commas: the first signs, all verify. A
    /// secret: set the variable REFRESH_SECRET, or name a file here. Without either, the key is derived from JWT_SECRET; tokens
    /// signed by the derived key stay valid as long as JWT_SECRET is set
    #[arg(long, env = "REFRESH_SECRET_FILE", value_name = "FILE")]
    refresh_secret_file: Option<Parsed<PathBuf>>,

    /// JWT_SECRET: the key that signs tokens (HS256), at least 32 bytes, for example from `openssl rand -base64 48`. A secret:
    /// set the variable JWT_SECRET, or name a file here. Without it and without JWT_KEYS_DIR, a replica on a loopback address
    /// generates one and keeps it in DATA_DIR
    #[arg(long, env = "JWT_SECRET_FILE", value_name = "FILE")]
    jwt_secret_file: Option<Parsed<PathBuf>>,

    /// Folder of private keys (Ed25519, P-256, RSA) in PEM: *.next.pem is published and does not sign yet; of the others, the
    /// greatest name signs and the rest only verify. Read again when it changes. If JWT_SECRET is set too, tokens signed by it
    /// are still accepted; otherwise REFRESH_SECRET must be set
    #[arg(long, env = "JWT_KEYS_DIR", value_name = "FOLDER")]
    jwt_keys_dir: Option<Parsed<PathBuf>>,
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
    /// Lifetime of a refresh token: a session that is not refreshed ends after it.
    pub session_idle_timeout: Duration,
    /// Maximum age of a session.
    pub session_max_age: Duration,
    /// Time in which a used refresh token still gets the same new token.
    pub refresh_reuse_interval: Duration,
    /// Keys of refresh tokens; the first signs. Empty if the key is derived from `JWT_SECRET`.
    pub refresh_secrets: Vec<Secret>,
    /// Secret that signs and verifies access tokens; `None` if only the key folder does.
    pub signing: Option<SigningKey>,
    /// Folder of private keys.
    pub key_folder: Option<PathBuf>,
}

/// Source of the secret that signs access tokens.
#[derive(Debug, Clone)]
pub enum SigningKey {
    /// The secret from the settings.
    Secret(Secret),
    /// File of the secret that the first start on a loopback address generates.
    File(PathBuf),
}

impl TokenSettings {
    pub(super) fn key_folder(&self) -> Option<PathBuf> {
        let folder = self.jwt_keys_dir.clone().and_then(Parsed::value);
        folder.filter(|folder| !folder.as_os_str().is_empty())
    }

    pub(super) fn check(
        self,
        errors: &mut ErrorCollector,
        loopback: bool,
        data_dir: &Path,
    ) -> TokenConfig {
        let key_folder = self.key_folder();
        let refresh = errors.secret(secret("REFRESH_SECRET", self.refresh_secret_file));
        let secret = errors.secret(secret("JWT_SECRET", self.jwt_secret_file));
        if !loopback && key_folder.is_none() {
            errors.require_off_loopback("JWT_SECRET", &secret);
        }
        if key_folder.is_some() && matches!((&secret, &refresh), (Ok(None), Ok(None))) {
            errors.add(
                "REFRESH_SECRET",
                "must be set with JWT_KEYS_DIR if JWT_SECRET is not: signing keys are retired long before refresh tokens expire",
            );
        }
        let second = Duration::from_secs(1);
        let issuer = issuer(errors, self.issuer);
        let audience = errors.text("AUDIENCE", self.audience);
        let access_ttl =
            errors.duration_within("ACCESS_TTL", self.access_ttl, second, MAX_ACCESS_TTL);
        let refresh_reuse_interval = errors.duration_within(
            "REFRESH_REUSE_INTERVAL",
            self.refresh_reuse_interval,
            Duration::ZERO,
            Duration::from_mins(5),
        );
        let session_max_age = errors.duration_within(
            "SESSION_MAX_AGE",
            self.session_max_age,
            access_ttl,
            Duration::from_hours(24 * 400),
        );
        TokenConfig {
            issuer,
            audience,
            access_ttl,
            session_idle_timeout: errors.duration_within(
                "SESSION_IDLE_TIMEOUT",
                self.session_idle_timeout,
                access_ttl,
                session_max_age.max(access_ttl),
            ),
            session_max_age,
            refresh_reuse_interval,
            refresh_secrets: refresh_secrets(errors, refresh.ok().flatten()),
            signing: signing_key(errors, secret.ok().flatten()).or_else(|| {
                let makes_one = key_folder.is_none();
                makes_one.then(|| SigningKey::File(data_dir.join("jwt-secret")))
            }),
            key_folder,
        }
    }
}

fn issuer(errors: &mut ErrorCollector, given: Parsed<String>) -> String {
    let issuer = given.value().unwrap_or_default();
    let rest = issuer
        .strip_prefix("https://")
        .or_else(|| issuer.strip_prefix("http://"));
    if !rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['?', '#', ' ']))
        || issuer.len() > 256
    {
        errors.add(
            "ISSUER",
            "must be an http or https URL without query and fragment, of at most 256 bytes",
        );
    }
    issuer
}

fn refresh_secrets(errors: &mut ErrorCollector, given: Option<Secret>) -> Vec<Secret> {
    let Some(given) = given else {
        return Vec::new();
    };
    let secrets = given.expose().split(',').map(str::trim);
    let secrets: Vec<_> = secrets.map(|text| Secret::new(text.to_owned())).collect();
    if let Some(weakness) = secrets.iter().find_map(Secret::weakness) {
        errors.add(
            "REFRESH_SECRET",
            &format!("one of its keys {weakness}; make one with: openssl rand -base64 48"),
        );
    }
    secrets
}

fn signing_key(errors: &mut ErrorCollector, secret: Option<Secret>) -> Option<SigningKey> {
    let secret = secret?;
    if let Some(weakness) = secret.weakness() {
        errors.add(
            "JWT_SECRET",
            &format!("{weakness}; make one with: openssl rand -base64 48"),
        );
    }
    Some(SigningKey::Secret(secret))
}
