//! Revocation feed: freshness window, and behaviour while Redis cannot be reached.

use std::time::Duration;

use clap::Args;

use super::MAX_ACCESS_TTL;
use super::errors::ErrorCollector;
use super::values::{HumanDuration, Parsed};

/// Maximum freshness window. A logout waits this long if no replica has announced its own window.
pub const MAX_WINDOW: Duration = Duration::from_secs(1);

/// Options of this group, before they are checked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Revocation")]
pub(super) struct RevocationSettings {
    /// Freshness window: the maximum age of the view of the revocations from which a replica answers, and the time that a logout
    /// waits; 0 to 1s. Replicas may differ
    #[arg(
        long,
        env = "REVOCATION_WINDOW",
        default_value = "50ms",
        value_name = "TIME"
    )]
    revocation_window: Parsed<HumanDuration>,

    /// Time that a replica that cannot reach Redis goes on answering from memory. In that time it accepts tokens that were
    /// logged out on other replicas; 0 answers 503 instead
    #[arg(
        long,
        env = "REVOCATION_STALE_IF_ERROR",
        default_value = "0s",
        value_name = "TIME"
    )]
    revocation_stale_if_error: Parsed<HumanDuration>,

    /// Time that the view of the revocations may be unusable before readiness fails; longer than a failover
    #[arg(
        long,
        env = "READINESS_GRACE",
        default_value = "10s",
        value_name = "TIME"
    )]
    readiness_grace: Parsed<HumanDuration>,
}

/// Checked settings of the group.
#[derive(Debug, Clone, Copy)]
pub struct RevocationConfig {
    /// The freshness window `W`.
    pub window: Duration,
    /// Maximum age of the view while Redis cannot be reached.
    pub stale_if_error: Duration,
    /// Time that the view may be unusable before readiness fails.
    pub readiness_grace: Duration,
    /// `true` if no other replica can use this Redis; after a restart there is then no replica to wait for.
    pub alone: bool,
}

impl RevocationSettings {
    pub(super) fn check(self, errors: &mut ErrorCollector, alone: bool) -> RevocationConfig {
        RevocationConfig {
            window: errors.duration_within(
                "REVOCATION_WINDOW",
                self.revocation_window,
                Duration::ZERO,
                MAX_WINDOW,
            ),
            stale_if_error: errors.duration_within(
                "REVOCATION_STALE_IF_ERROR",
                self.revocation_stale_if_error,
                Duration::ZERO,
                MAX_ACCESS_TTL,
            ),
            readiness_grace: errors.duration_within(
                "READINESS_GRACE",
                self.readiness_grace,
                Duration::ZERO,
                Duration::from_hours(1),
            ),
            alone,
        }
    }
}
