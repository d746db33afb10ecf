//! How often passwords may be guessed and accounts registered.

use clap::Args;

use super::report::Report;
use super::values::{Given, Switch};
use crate::domain::Rate;

/// As written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Throttles")]
pub(super) struct ThrottleSettings {
    /// Whether guesses at passwords and registrations are throttled: on, or off for load tests
    #[arg(long, env = "THROTTLE", default_value = "on", value_name = "on|off")]
    throttle: Given<Switch>,

    /// Wrong passwords for one account: so many at once, and one more each time. A place from which the account has logged in
    /// during the last 30 days has a limit of its own, of the same size: what others do to the account does not count there
    #[arg(
        long,
        env = "THROTTLE_ACCOUNT",
        default_value = "10@1m",
        value_name = "COUNT@TIME"
    )]
    throttle_account: Given<Rate>,

    /// Wrong passwords from one network: an IPv4 address or an IPv6 /64
    #[arg(
        long,
        env = "THROTTLE_NETWORK",
        default_value = "20@6s",
        value_name = "COUNT@TIME"
    )]
    throttle_network: Given<Rate>,

    /// Registrations from one network
    #[arg(
        long,
        env = "THROTTLE_REGISTRATION",
        default_value = "20@3m",
        value_name = "COUNT@TIME"
    )]
    throttle_registration: Given<Rate>,
}

/// How often passwords may be guessed and accounts registered.
#[derive(Debug, Clone, Copy)]
pub struct ThrottleConfig {
    /// Wrong passwords for one account, and from one place that it knows.
    pub account: Rate,
    /// Wrong passwords from one network.
    pub network: Rate,
    /// Registrations from one network.
    pub registration: Rate,
}

impl ThrottleSettings {
    pub(super) fn check(self, report: &mut Report) -> Option<ThrottleConfig> {
        let on = report.value("THROTTLE", "on or off", self.throttle);
        let account = rate(report, "THROTTLE_ACCOUNT", self.throttle_account);
        let network = rate(report, "THROTTLE_NETWORK", self.throttle_network);
        let registration = rate(report, "THROTTLE_REGISTRATION", self.throttle_registration);
        let config = ThrottleConfig {
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
