//! Throttles: buckets that all replicas share, on Redis' time.
//!
//! A bucket is one string, the date until which it is full (the generic cell rate algorithm, GCRA). Whoever wants an
//! attempt adds its interval to that date; where this would fill the bucket beyond its burst he is told how long to wait. A
//! bucket that has emptied is no key at all, so no bucket outlives its own period.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::connection::{Redis, StoreError};
use crate::domain::{AttemptedName, Network, Rate};

/// How long an account knows a place from which it has logged in.
const KNOWN_FOR: Duration = Duration::from_hours(30 * 24);

/// Whose attempts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throttled {
    /// Registrations from a network.
    Registrations(Network),
    /// Passwords from a network.
    Passwords(Network),
    /// Passwords for an account; from a place that it knows they are counted apart, so that nobody is locked out by what
    /// others do in his name.
    Account(AttemptedName, Option<Network>),
}

/// What became of asking for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// It is reserved.
    Yes(Reservation),
    /// It is not: so long until it would be.
    Wait(Duration),
}

/// An attempt that counts, unless it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    of: Throttled,
    in_known_place: bool,
    rate: Rate,
}

static RESERVE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/throttle_reserve.lua")));
static RETURN: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/throttle_return.lua")));

impl Redis {
    /// Reserves an attempt.
    ///
    /// # Errors
    /// Where the store cannot answer; an attempt may be reserved then, for its interval.
    pub async fn reserve(&self, of: Throttled, rate: Rate) -> Result<Reserved, StoreError> {
        let keys = match of {
            Throttled::Registrations(_) | Throttled::Passwords(_) | Throttled::Account(_, None) => {
                vec![self.keys().throttle(&of)]
            }
            Throttled::Account(name, Some(network)) => vec![
                self.keys().throttle(&of),
                self.keys().throttle_place(name, network),
                self.keys().throttle_known(name, network),
            ],
        };
        let args = [
            rate.burst.to_string(),
            rate.interval.as_millis().to_string(),
        ];
        let answer: Vec<u64> = self.script(&RESERVE, &keys, &args).await?;
        match answer[..] {
            [1, place] => Ok(Reserved::Yes(Reservation {
                of,
                in_known_place: place == 1,
                rate,
            })),
            [0, _, wait] => Ok(Reserved::Wait(Duration::from_millis(wait))),
            _ => Err(StoreError::unexpected("throttle_reserve")),
        }
    }

    /// Gives an attempt back. With `known` the account knows the place from now on.
    ///
    /// # Errors
    /// Where the store cannot answer; the attempt may count then.
    pub async fn give_back(
        &self,
        reservation: &Reservation,
        known: bool,
    ) -> Result<(), StoreError> {
        let Reservation {
            of,
            in_known_place,
            rate,
        } = *reservation;
        let mut keys = vec![self.keys().throttle(&of)];
        if let Throttled::Account(name, Some(network)) = of {
            if in_known_place {
                keys = vec![self.keys().throttle_place(name, network)];
            }
            if known {
                keys.push(self.keys().throttle_known(name, network));
            }
        }
        let args = [
            rate.interval.as_millis().to_string(),
            KNOWN_FOR.as_millis().to_string(),
        ];
        self.script(&RETURN, &keys, &args).await
    }
}
