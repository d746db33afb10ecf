//! Passwords and their hashing.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::report::Report;
use super::secrets::{Secret, secret};
use super::values::{Given, Span};

/// As written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Passwords")]
pub(super) struct PasswordSettings {
    /// Fewest characters of a new password; 8 to 64. NIST asks for 15 where a password is the only factor
    #[arg(
        long,
        env = "PASSWORD_MIN_LENGTH",
        default_value = "8",
        value_name = "COUNT"
    )]
    password_min_length: Given<usize>,

    /// PASSWORD_PEPPER: a key mixed into every password before bcrypt and kept outside Redis, written id:key with a key of at
    /// least 32 bytes. A secret: set the variable PASSWORD_PEPPER, or name a file here. Losing it makes its hashes useless
    #[arg(long, env = "PASSWORD_PEPPER_FILE", value_name = "FILE")]
    password_pepper_file: Option<Given<PathBuf>>,

    /// bcrypt cost of new hashes; 10 to 15, and 4 to 9 on a loopback address for tests. One more doubles the work
    #[arg(long, env = "BCRYPT_COST", default_value = "12", value_name = "COST")]
    bcrypt_cost: Given<u32>,

    /// Threads that hash passwords; as many as cores unless set
    #[arg(long, env = "HASH_THREADS", value_name = "COUNT")]
    hash_threads: Option<Given<usize>>,

    /// Hashes that a thread computes in step; 1 to 8, and 5 unless set, which was the best of all where it was measured
    #[arg(long, env = "HASH_LANES", value_name = "COUNT")]
    hash_lanes: Option<Given<usize>>,

    /// How long a password may wait for its hash; what would wait longer is refused at once with 503
    #[arg(long, env = "HASH_DEADLINE", default_value = "2s", value_name = "TIME")]
    hash_deadline: Given<Span>,
}

/// Passwords and their hashing.
#[derive(Debug, Clone)]
pub struct PasswordConfig {
    /// Fewest characters of a new password.
    pub min_length: usize,
    /// The pepper's id and key.
    pub pepper: Option<(String, Secret)>,
    /// bcrypt cost of new hashes.
    pub cost: u32,
    /// Threads that hash; `None` for as many as cores.
    pub threads: Option<usize>,
    /// Hashes that a thread computes in step; `None` for as many as pay.
    pub lanes: Option<usize>,
    /// Longest wait for a hash to begin and end.
    pub deadline: Duration,
}

impl PasswordSettings {
    pub(super) fn check(self, report: &mut Report, loopback: bool) -> PasswordConfig {
        let pepper = report.secret(secret("PASSWORD_PEPPER", self.password_pepper_file));
        PasswordConfig {
            min_length: report.within("PASSWORD_MIN_LENGTH", self.password_min_length, 8, 64),
            pepper: peppered(report, pepper.ok().flatten()),
            cost: cost(report, self.bcrypt_cost, loopback),
            threads: self
                .hash_threads
                .map(|given| report.within("HASH_THREADS", given, 1, 1024)),
            lanes: self
                .hash_lanes
                .map(|given| report.within("HASH_LANES", given, 1, 8)),
            deadline: report.span(
                "HASH_DEADLINE",
                self.hash_deadline,
                Duration::from_millis(1),
                Duration::from_mins(1),
            ),
        }
    }
}

fn peppered(report: &mut Report, secret: Option<Secret>) -> Option<(String, Secret)> {
    let secret = secret?;
    let parts = secret.expose().split_once(':');
    let id_fits = |id: &str| {
        (1..=16).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let Some((id, key)) = parts.filter(|(id, _)| id_fits(id)) else {
        report.mistake(
            "PASSWORD_PEPPER",
            "must be id:key with an id of 1 to 16 letters and digits",
        );
        return None;
    };
    let key = Secret::new(key.to_owned());
    if let Some(weakness) = key.weakness() {
        report.mistake(
            "PASSWORD_PEPPER",
            &format!("its key {weakness}; make one with: openssl rand -base64 48"),
        );
    }
    Some((id.to_owned(), key))
}

fn cost(report: &mut Report, given: Given<u32>, loopback: bool) -> u32 {
    let least = if loopback { 4 } else { 10 };
    match given.value() {
        Some(cost) if (least..=15).contains(&cost) => cost,
        _ => {
            report.mistake(
                "BCRYPT_COST",
                "must be a number from 10 to 15 (from 4 where LISTEN is a loopback address)",
            );
            10
        }
    }
}
