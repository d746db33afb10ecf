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

    /// JWT_SECRET: the key that signs tokens (HS256), at least 32 bytes, for example from `openssl rand -base64 48`. A secret:
    /// set the variable JWT_SECRET, or name a file here. Without either, a replica on a loopback address makes one and keeps
    /// it in DATA_DIR
    #[arg(long, env = "JWT_SECRET_FILE", value_name = "FILE")]
    jwt_secret_file: Option<Given<PathBuf>>,
}

/// Access tokens and their key.
#[derive(Debug, Clone)]
pub struct TokenConfig {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// Lifetime of an access token.
    pub access_ttl: Duration,
    /// The key that signs.
    pub signing: SigningKey,
}

/// The key that signs access tokens.
#[derive(Debug, Clone)]
pub enum SigningKey {
    /// From the settings.
    Secret(Secret),
    /// Made at the first start on a loopback address, and kept in this file.
    KeptIn(PathBuf),
}

impl TokenSettings {
    pub(super) fn check(self, report: &mut Report, loopback: bool, data_dir: &Path) -> TokenConfig {
        let secret = report.secret(secret("JWT_SECRET", self.jwt_secret_file));
        if !loopback {
            report.needs_off_loopback("JWT_SECRET", &secret);
        }
        TokenConfig {
            issuer: issuer(report, self.issuer),
            audience: report.text("AUDIENCE", self.audience),
            access_ttl: report.span(
                "ACCESS_TTL",
                self.access_ttl,
                Duration::from_secs(1),
                MAX_ACCESS_TTL,
            ),
            signing: signing_key(report, secret.ok().flatten())
                .unwrap_or_else(|| SigningKey::KeptIn(data_dir.join("jwt-secret"))),
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
