//! Passwords and their hashing.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::errors::ErrorCollector;
use super::secrets::{Secret, secret};
use super::values::{HumanDuration, Parsed};

/// Options of this group, before they are checked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Passwords")]
pub(super) struct PasswordSettings {
    /// Minimum number of characters of a new password; 8 to 64. NIST asks for 15 if a password is the only factor
    #[arg(
        long,
        env = "PASSWORD_MIN_LENGTH",
        default_value = "8",
        value_name = "COUNT"
    )]
    password_min_length: Parsed<usize>,

    /// PASSWORD_PEPPER: a key mixed into every password before bcrypt and kept outside Redis, written id:key with a key of at
    /// least 32 bytes. A secret: set the variable PASSWORD_PEPPER, or name a file here. Losing it makes its hashes useless
    #[arg(long, env = "PASSWORD_PEPPER_FILE", value_name = "FILE")]
    password_pepper_file: Option<Parsed<PathBuf>>,

    /// bcrypt cost of new hashes; 10 to 15, and 4 to 9 on a loopback address for tests. One more doubles the work
    #[arg(long, env = "BCRYPT_COST", default_value = "12", value_name = "COST")]
    bcrypt_cost: Parsed<u32>,

    /// Threads that hash passwords; as many as cores unless set
    #[arg(long, env = "HASH_THREADS", value_name = "COUNT")]
    hash_threads: Option<Parsed<usize>>,

    /// Hashes that a thread computes in step; 1 to 8, and 5 unless set, which measured best
    #[arg(long, env = "HASH_LANES", value_name = "COUNT")]
    hash_lanes: Option<Parsed<usize>>,

    /// Maximum time that a password may wait for its hash; a request that would wait longer gets 503 at once
    #[arg(long, env = "HASH_DEADLINE", default_value = "2s", value_name = "TIME")]
    hash_deadline: Parsed<HumanDuration>,
}

/// Checked settings of the group.
#[derive(Debug, Clone)]
pub struct PasswordConfig {
    /// Minimum number of characters of a new password.
    pub min_length: usize,
    /// Id and key of the pepper.
    pub pepper: Option<(String, Secret)>,
    /// bcrypt cost of new hashes.
    pub cost: u32,
    /// Hashing threads; `None` for one per core.
    pub threads: Option<usize>,
    /// Hashes that a thread computes in step; `None` for the measured best.
    pub lanes: Option<usize>,
    /// Maximum time from the request for a hash until its end.
    pub deadline: Duration,
}

impl PasswordSettings {
    pub(super) fn check(self, errors: &mut ErrorCollector, loopback: bool) -> PasswordConfig {
        let pepper = errors.secret(secret("PASSWORD_PEPPER", self.password_pepper_file));
        PasswordConfig {
            min_length: errors.number_within(
                "PASSWORD_MIN_LENGTH",
                self.password_min_length,
                8,
                64,
            ),
            pepper: parse_pepper(errors, pepper.ok().flatten()),
            cost: cost(errors, self.bcrypt_cost, loopback),
            threads: self
                .hash_threads
                .map(|given| errors.number_within("HASH_THREADS", given, 1, 1024)),
            lanes: self
                .hash_lanes
                .map(|given| errors.number_within("HASH_LANES", given, 1, 8)),
            deadline: errors.duration_within(
                "HASH_DEADLINE",
                self.hash_deadline,
                Duration::from_millis(1),
                Duration::from_mins(1),
            ),
        }
    }
}

fn parse_pepper(errors: &mut ErrorCollector, secret: Option<Secret>) -> Option<(String, Secret)> {
    let secret = secret?;
    let parts = secret.expose().split_once(':');
    let id_fits = |id: &str| {
        (1..=16).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let Some((id, key)) = parts.filter(|(id, _)| id_fits(id)) else {
        errors.add(
            "PASSWORD_PEPPER",
            "must be id:key with an id of 1 to 16 letters and digits",
        );
        return None;
    };
    let key = Secret::new(key.to_owned());
    if let Some(weakness) = key.weakness() {
        errors.add(
            "PASSWORD_PEPPER",
            &format!("its key {weakness}; make one with: openssl rand -base64 48"),
        );
    }
    Some((id.to_owned(), key))
}

fn cost(errors: &mut ErrorCollector, given: Parsed<u32>, loopback: bool) -> u32 {
    let least = if loopback { 4 } else { 10 };
    match given.value() {
        Some(cost) if (least..=15).contains(&cost) => cost,
        _ => {
            errors.add(
                "BCRYPT_COST",
                "must be a number from 10 to 15 (from 4 if LISTEN is a loopback address)",
            );
            10
        }
    }
}
