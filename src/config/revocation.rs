//! The revocation feed: how strict, and how long one puts up with its absence.

use std::time::Duration;

use clap::Args;

use super::MAX_ACCESS_TTL;
use super::report::Report;
use super::values::{Given, Span};

/// The greatest freshness window: what a logout waits for where no replica has announced its own.
pub const MAX_WINDOW: Duration = Duration::from_secs(1);

/// As written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Revocation")]
pub(super) struct RevocationSettings {
    /// Freshness window: how old a replica's view of the revocations may be when it answers from it, and how long a logout
    /// waits; 0 to 1s. Replicas may differ
    #[arg(
        long,
        env = "REVOCATION_WINDOW",
        default_value = "50ms",
        value_name = "TIME"
    )]
    revocation_window: Given<Span>,

    /// For how long a replica that cannot reach Redis goes on answering from memory, at the price of accepting tokens that
    /// were logged out elsewhere meanwhile; 0 answers 503 instead
    #[arg(
        long,
        env = "REVOCATION_STALE_IF_ERROR",
        default_value = "0s",
        value_name = "TIME"
    )]
    revocation_stale_if_error: Given<Span>,

    /// How long the view of the revocations may be unusable before readiness fails; longer than a failover
    #[arg(
        long,
        env = "READINESS_GRACE",
        default_value = "10s",
        value_name = "TIME"
    )]
    readiness_grace: Given<Span>,
}

/// The revocation feed.
#[derive(Debug, Clone, Copy)]
pub struct RevocationConfig {
    /// The freshness window `W`.
    pub window: Duration,
    /// How old a view may be that answers while Redis cannot be reached.
    pub stale_if_error: Duration,
    /// How long the view may be unusable before readiness fails.
    pub readiness_grace: Duration,
    /// Whether no other replica can know this Redis, so that there is nobody to wait for after a restart.
    pub alone: bool,
}

impl RevocationSettings {
    pub(super) fn check(self, report: &mut Report, alone: bool) -> RevocationConfig {
        RevocationConfig {
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
            readiness_grace: report.span(
                "READINESS_GRACE",
                self.readiness_grace,
                Duration::ZERO,
                Duration::from_hours(1),
            ),
            alone,
        }
    }
}
