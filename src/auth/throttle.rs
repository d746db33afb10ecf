//! Throttles: nobody guesses passwords faster by asking another replica, and nobody is locked out by what others do in his
//! name.
//!
//! An attempt is reserved before the password waits for its hash, so that a hundred guesses at one instant do not all get
//! one, and given back where the password was right. There are three limits: for the account, for the network, and for the
//! pair of both where the account has logged in from there before. In such a place only the pair's limit counts, not the
//! account's: an attacker elsewhere cannot use it up. A name that nobody has is counted like any other, so that a refusal
//! tells nothing.
//!
//! Where Redis cannot say whether an attempt is allowed, it is not.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;

use super::Failure;
use super::passwords::Checked;
use crate::config::ThrottleConfig;
use crate::domain::{Guess, Network};
use crate::store::{Bucket, Redis, Reservation, Reserved, StoreError};

/// Counts attempts, together with all other replicas.
#[derive(Debug)]
pub struct Throttle {
    redis: Redis,
    config: Option<ThrottleConfig>,
    said_unknown: AtomicBool,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Passwords for one account, or for one account from one place.
    Account,
    /// Passwords from one network.
    Network,
    /// Registrations from one network.
    Registration,
}

impl Limit {
    /// One word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Network => "network",
            Self::Registration => "registration",
        }
    }
}

/// What a guess at a password has reserved.
#[derive(Debug, Default)]
struct Attempt {
    network: Option<Reservation>,
    account: Option<Reservation>,
}

impl Throttle {
    /// Throttles as `config` says; without it nothing is throttled.
    #[must_use]
    pub fn new(redis: Redis, config: Option<ThrottleConfig>) -> Self {
        Self {
            redis,
            config,
            said_unknown: AtomicBool::new(false),
        }
    }

    /// Checks a password by `check`, if one may be checked. Every password that somebody types to prove who he is is checked
    /// in here. A client whose network cannot be known is held to the limit of the account alone.
    ///
    /// # Errors
    /// [`Failure::Throttled`] where none may be; otherwise where Redis cannot say, or what `check` fails with.
    pub async fn password(
        &self,
        guess: Guess,
        check: impl Future<Output = Result<Checked, Failure>>,
    ) -> Result<Checked, Failure> {
        let attempt = match self.config {
            Some(config) => self.attempt(guess, config).await?,
            None => Attempt::default(),
        };
        let checked = check.await;
        match checked {
            Ok(Checked::Invalid) => {}
            // The account knows the place from now on.
            Ok(Checked::Valid | Checked::ValidNeedsRehash(_)) => {
                self.give_back(attempt, true).await?;
            }
            // Nothing was checked. Where Redis cannot be told it counts all the same, until it is forgotten.
            Err(_) => self.give_back(attempt, false).await.unwrap_or_default(),
        }
        checked
    }

    async fn attempt(&self, guess: Guess, config: ThrottleConfig) -> Result<Attempt, Failure> {
        let Guess { name, from } = guess;
        let network = if let Some(network) = from {
            let asked = self
                .redis
                .reserve(Bucket::Passwords(network), config.network);
            Some(allowed(Limit::Network, asked.await)?)
        } else {
            self.say_unknown();
            None
        };
        let asked = self
            .redis
            .reserve(Bucket::Account(name, from), config.account);
        let account = Some(allowed(Limit::Account, asked.await)?);
        Ok(Attempt { network, account })
    }

    /// Asks whether an account may be registered. This is never given back.
    ///
    /// # Errors
    /// As with [`password`](Self::password).
    pub async fn registration(&self, from: Option<Network>) -> Result<(), Failure> {
        let Some(config) = self.config else {
            return Ok(());
        };
        let Some(network) = from else {
            self.say_unknown();
            return Ok(());
        };
        let asked = self
            .redis
            .reserve(Bucket::Registrations(network), config.registration);
        allowed(Limit::Registration, asked.await).map(drop)
    }

    /// Says once that clients cannot be told apart.
    fn say_unknown(&self) {
        if !self.said_unknown.swap(true, Ordering::Relaxed) {
            warn!(
                event = "clients_unknown",
                "a trusted proxy sends no X-Forwarded-For: passwords are throttled by account only, registrations not at all"
            );
        }
    }

    async fn give_back(&self, attempt: Attempt, known: bool) -> Result<(), StoreError> {
        for reservation in attempt.network.iter().chain(&attempt.account) {
            self.redis.refund(reservation, known).await?;
        }
        Ok(())
    }
}

fn allowed(limit: Limit, asked: Result<Reserved, StoreError>) -> Result<Reservation, Failure> {
    match asked? {
        Reserved::Yes(reservation) => Ok(reservation),
        Reserved::Limited(wait) => Err(Failure::Throttled {
            by: limit,
            retry_after: wait
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
        }),
    }
}
