//! How often passwords may be guessed and accounts registered.

use clap::Args;

use super::report::Report;
use super::values::{Given, Switch};
use crate::domain::Rate;

/// As written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rate limits")]
pub(super) struct RateLimitSettings {
    /// Limits wrong passwords and registrations: on, or off for load tests
    #[arg(long, env = "RATE_LIMIT", default_value = "on", value_name = "on|off")]
    rate_limit: Given<Switch>,

    /// Wrong passwords for one account: so many at once, and one more each time. A place from which the account has logged in
    /// during the last 30 days has a limit of its own, of the same size: what others do to the account does not count there
    #[arg(
        long,
        env = "RATE_LIMIT_ACCOUNT",
        default_value = "10@1m",
        value_name = "COUNT@TIME"
    )]
    rate_limit_account: Given<Rate>,

    /// Wrong passwords from one network: an IPv4 address or an IPv6 /64
    #[arg(
        long,
        env = "RATE_LIMIT_NETWORK",
        default_value = "20@6s",
        value_name = "COUNT@TIME"
    )]
    rate_limit_network: Given<Rate>,

    /// Registrations from one network
    #[arg(
        long,
        env = "RATE_LIMIT_REGISTRATION",
        default_value = "20@3m",
        value_name = "COUNT@TIME"
    )]
    rate_limit_registration: Given<Rate>,
}

/// How often passwords may be guessed and accounts registered.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitConfig {
    /// Wrong passwords for one account, and from one place that it knows.
    pub account: Rate,
    /// Wrong passwords from one network.
    pub network: Rate,
    /// Registrations from one network.
    pub registration: Rate,
}

impl RateLimitSettings {
    pub(super) fn check(self, report: &mut Report) -> Option<RateLimitConfig> {
        let on = report.value("RATE_LIMIT", "on or off", self.rate_limit);
        let account = rate(report, "RATE_LIMIT_ACCOUNT", self.rate_limit_account);
        let network = rate(report, "RATE_LIMIT_NETWORK", self.rate_limit_network);
        let registration = rate(
            report,
            "RATE_LIMIT_REGISTRATION",
            self.rate_limit_registration,
        );
        let config = RateLimitConfig {
            account: account?,
            network: network?,
            registration: registration?,
        };
        on.is_some_and(|Switch(on)| on).then_some(config)
    }
}

fn rate(report: &mut Report, setting: &str, given: Given<Rate>) -> Option<Rate> {
    let form = "a count from 1 to 1000000 and a time from 1ms to 24h, like 10@1m";
    report.value(setting, form, given)
}
