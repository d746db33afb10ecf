//! Rate limits of wrong passwords and registrations.

use clap::Args;

use super::errors::ErrorCollector;
use super::values::{OnOff, Parsed};
use crate::domain::Rate;

/// Options of this group, before they are checked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rate limits")]
#[expect(
    clippy::struct_field_names,
    reason = "clap names the options after the fields"
)]
pub(super) struct RateLimitSettings {
    /// Limits wrong passwords and registrations: on, or off for load tests
    #[arg(long, env = "RATE_LIMIT", default_value = "on", value_name = "on|off")]
    rate_limit: Parsed<OnOff>,

    /// Wrong passwords for one account: COUNT at once, then one more each TIME. A network from which the account has logged in
    /// during the last 30 days has a limit of its own, of the same size: attempts from other networks do not count there
    #[arg(
        long,
        env = "RATE_LIMIT_ACCOUNT",
        default_value = "10@1m",
        value_name = "COUNT@TIME"
    )]
    rate_limit_account: Parsed<Rate>,

    /// Wrong passwords from one network: an IPv4 address or an IPv6 /64
    #[arg(
        long,
        env = "RATE_LIMIT_NETWORK",
        default_value = "20@6s",
        value_name = "COUNT@TIME"
    )]
    rate_limit_network: Parsed<Rate>,

    /// Registrations from one network
    #[arg(
        long,
        env = "RATE_LIMIT_REGISTRATION",
        default_value = "20@3m",
        value_name = "COUNT@TIME"
    )]
    rate_limit_registration: Parsed<Rate>,
}

/// Checked settings of the group.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitConfig {
    /// Wrong passwords for one account, and for one account from one known network.
    pub account: Rate,
    /// Wrong passwords from one network.
    pub network: Rate,
    /// Registrations from one network.
    pub registration: Rate,
}

impl RateLimitSettings {
    pub(super) fn check(self, errors: &mut ErrorCollector) -> Option<RateLimitConfig> {
        let on = errors.require("RATE_LIMIT", "on or off", self.rate_limit);
        let account = rate(errors, "RATE_LIMIT_ACCOUNT", self.rate_limit_account);
        let network = rate(errors, "RATE_LIMIT_NETWORK", self.rate_limit_network);
        let registration = rate(
            errors,
            "RATE_LIMIT_REGISTRATION",
            self.rate_limit_registration,
        );
        let config = RateLimitConfig {
            account: account?,
            network: network?,
            registration: registration?,
        };
        on.is_some_and(|OnOff(on)| on).then_some(config)
    }
}

fn rate(errors: &mut ErrorCollector, setting: &str, given: Parsed<Rate>) -> Option<Rate> {
    let form = "a count from 1 to 1000000 and a time from 1ms to 24h, like 10@1m";
    errors.require(setting, form, given)
}
