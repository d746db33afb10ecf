//! Rate limits: buckets that all replicas share, on Redis' time.
//!
//! A bucket is one string: the time at which it is empty (the generic cell rate algorithm, GCRA). An attempt adds its
//! interval to that time. If this would fill the bucket beyond its burst, the attempt is refused with the time to wait.
//! An empty bucket has no key, so no bucket outlives its own period.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::connection::{Redis, StoreError};
use crate::domain::{AttemptedName, Network, Rate};

/// Time for which a network stays known to an account that has logged in from there.
const KNOWN_NETWORK_TTL: Duration = Duration::from_hours(30 * 24);

/// Bucket in which attempts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// Registrations from a network.
    Registrations(Network),
    /// Passwords from a network.
    Passwords(Network),
    /// Passwords for an account. Attempts from a network known to the account are counted apart, so that attackers
    /// cannot lock the owner out.
    Account(AttemptedName, Option<Network>),
}

/// Outcome of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// The attempt is reserved.
    Yes(Reservation),
    /// The attempt is refused; one is possible after this time.
    Limited(Duration),
}

/// Reserved attempt, which counts unless it is refunded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    bucket: Bucket,
    in_known_network: bool,
    rate: Rate,
}

static RESERVE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/rate_limit_reserve.lua")));
static REFUND: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/rate_limit_refund.lua")));

impl Redis {
    /// Reserves an attempt.
    ///
    /// # Errors
    /// If the store cannot answer. The attempt may count nevertheless, for its interval.
    pub async fn reserve(&self, bucket: Bucket, rate: Rate) -> Result<Reserved, StoreError> {
        let keys = match bucket {
            Bucket::Registrations(_) | Bucket::Passwords(_) | Bucket::Account(_, None) => {
                vec![self.keys().rate_limit(&bucket)]
            }
            Bucket::Account(name, Some(network)) => vec![
                self.keys().rate_limit(&bucket),
                self.keys().rate_limit_network(name, network),
                self.keys().rate_limit_known(name, network),
            ],
        };
        let args = [
            rate.burst.to_string(),
            rate.interval.as_millis().to_string(),
        ];
        let answer: Vec<u64> = self.script(&RESERVE, &keys, &args).await?;
        match answer[..] {
            [1, place] => Ok(Reserved::Yes(Reservation {
                bucket,
                in_known_network: place == 1,
                rate,
            })),
            [0, _, wait] => Ok(Reserved::Limited(Duration::from_millis(wait))),
            _ => Err(StoreError::unexpected("rate_limit_reserve")),
        }
    }

    /// Refunds an attempt. With `known` the network becomes known to the account.
    ///
    /// # Errors
    /// If the store cannot answer. The attempt may count then.
    pub async fn refund(&self, reservation: &Reservation, known: bool) -> Result<(), StoreError> {
        let Reservation {
            bucket,
            in_known_network,
            rate,
        } = *reservation;
        let mut keys = vec![self.keys().rate_limit(&bucket)];
        if let Bucket::Account(name, Some(network)) = bucket {
            if in_known_network {
                keys = vec![self.keys().rate_limit_network(name, network)];
            }
            if known {
                keys.push(self.keys().rate_limit_known(name, network));
            }
        }
        let args = [
            rate.interval.as_millis().to_string(),
            KNOWN_NETWORK_TTL.as_millis().to_string(),
        ];
        self.script(&REFUND, &keys, &args).await
    }
}
