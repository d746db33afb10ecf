//! Rate limits, shared by all replicas. Sending guesses to several replicas gains an attacker nothing, and an attacker cannot
//! lock out the owner of an account.
//!
//! An attempt is reserved before its password is queued for hashing: otherwise a hundred simultaneous guesses would all be
//! hashed. The reservation is refunded if the password is right. There are three limits: per account, per network, and per
//! pair of the two if the account has logged in from that network before. From such a network only the limit of the pair
//! counts, not the account's: an attacker in another network cannot use it up. Names without an account are counted like any
//! other, so that a rejection reveals nothing.
//!
//! If Redis cannot say whether an attempt is allowed, the attempt is rejected.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;

use super::ServiceError;
use super::passwords::Checked;
use crate::config::RateLimitConfig;
use crate::domain::{Guess, Network};
use crate::store::{Bucket, Redis, Reservation, Reserved, StoreError};

/// Limiter of password checks and registrations; its counts are shared by all replicas.
#[derive(Debug)]
pub struct RateLimiter {
    redis: Redis,
    config: Option<RateLimitConfig>,
    warned_unknown: AtomicBool,
}

/// Limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Passwords for one account, or for one account from one network.
    Account,
    /// Passwords from one network.
    Network,
    /// Registrations from one network.
    Registration,
}

impl Limit {
    /// Returns the label for logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Network => "network",
            Self::Registration => "registration",
        }
    }
}

/// Reservations of one password check.
#[derive(Debug, Default)]
struct Attempt {
    network: Option<Reservation>,
    account: Option<Reservation>,
}

impl RateLimiter {
    /// Creates a limiter; without `config` there are no limits.
    #[must_use]
    pub fn new(redis: Redis, config: Option<RateLimitConfig>) -> Self {
        Self {
            redis,
            config,
            warned_unknown: AtomicBool::new(false),
        }
    }

    /// Runs `check` on a password if the limits allow it. Every password that authenticates a user must be checked through this
    /// function. If the client's network is unknown, only the limit of the account applies.
    ///
    /// # Errors
    /// [`ServiceError::RateLimited`] if a limit is reached; an error of Redis or of `check`.
    pub async fn password(
        &self,
        guess: Guess,
        check: impl Future<Output = Result<Checked, ServiceError>>,
    ) -> Result<Checked, ServiceError> {
        let attempt = match self.config {
            Some(config) => self.attempt(guess, config).await?,
            None => Attempt::default(),
        };
        let checked = check.await;
        match checked {
            Ok(Checked::Invalid) => {}
            // From now on the network is known to the account.
            Ok(Checked::Valid | Checked::ValidNeedsRehash(_)) => {
                self.refund(attempt, true).await?;
            }
            // Nothing was checked. If Redis does not take the refund, the attempt counts until it expires.
            Err(_) => self.refund(attempt, false).await.unwrap_or_default(),
        }
        checked
    }

    async fn attempt(
        &self,
        guess: Guess,
        config: RateLimitConfig,
    ) -> Result<Attempt, ServiceError> {
        let Guess { name, from } = guess;
        let network = if let Some(network) = from {
            let asked = self
                .redis
                .reserve(Bucket::Passwords(network), config.network);
            Some(allowed(Limit::Network, asked.await)?)
        } else {
            self.warn_unknown_networks();
            None
        };
        let asked = self
            .redis
            .reserve(Bucket::Account(name, from), config.account);
        let account = Some(allowed(Limit::Account, asked.await)?);
        Ok(Attempt { network, account })
    }

    /// Reserves a registration. It is never refunded.
    ///
    /// # Errors
    /// As with [`password`](Self::password).
    pub async fn registration(&self, from: Option<Network>) -> Result<(), ServiceError> {
        let Some(config) = self.config else {
            return Ok(());
        };
        let Some(network) = from else {
            self.warn_unknown_networks();
            return Ok(());
        };
        let asked = self
            .redis
            .reserve(Bucket::Registrations(network), config.registration);
        allowed(Limit::Registration, asked.await).map(drop)
    }

    /// Warns once that the networks of clients are unknown.
    fn warn_unknown_networks(&self) {
        if !self.warned_unknown.swap(true, Ordering::Relaxed) {
            warn!(
                event = "clients_unknown",
                "a trusted proxy sends no X-Forwarded-For: only the limits per account apply, and none to registrations; configure the proxy to send it"
            );
        }
    }

    async fn refund(&self, attempt: Attempt, known: bool) -> Result<(), StoreError> {
        for reservation in attempt.network.iter().chain(&attempt.account) {
            self.redis.refund(reservation, known).await?;
        }
        Ok(())
    }
}

fn allowed(limit: Limit, asked: Result<Reserved, StoreError>) -> Result<Reservation, ServiceError> {
    match asked? {
        Reserved::Yes(reservation) => Ok(reservation),
        Reserved::Limited(wait) => Err(ServiceError::RateLimited {
            by: limit,
            retry_after: wait
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
        }),
    }
}
