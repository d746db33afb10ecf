//! Passwords: the form in which bcrypt gets them, and the threads that run it.
//!
//! bcrypt cuts at 72 bytes and stops at a NUL, so it never gets the password itself but
//! `base64(HMAC-SHA-384(key, password))`: 64 ASCII characters (OWASP Password Storage, "pre-hashing"). The key is the pepper
//! of the settings, or a constant of this program: a constant protects nothing, but keeps one form for all hashes.
//!
//! A hash takes a tenth of a second and more of a whole core. It is made by threads of the pool, so that no other request
//! waits for it. Every check of a password takes the same time, whether the user exists or not.

mod hash_job;
mod pool;
mod queue;
mod throughput;
mod worker;
mod yield_budget;

use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

pub use pool::{Counts, HashingPool, PoolConfig};

use super::Failure;
use crate::config::PasswordConfig;
use crate::domain::{Guess, Password, PasswordHash, PasswordRule, Scheme};

/// Key of the pre-hash if there is no pepper.
const BUILT_IN_KEY: &[u8] = b"portcullis password pre-hash, version 1";
/// Costs that a stored hash may have. A greater one would let an attacker who can write to Redis keep a core busy for hours.
const STORED_COSTS: std::ops::RangeInclusive<u32> = 4..=15;

/// Makes and checks password hashes.
#[derive(Debug)]
pub struct Passwords {
    pool: HashingPool,
    cost: u32,
    min_length: usize,
    pepper: Option<Pepper>,
    built_in: hmac::Key,
    /// Hash that is checked if there is no such user, so that the refusal takes the same time.
    dummy: PasswordHash,
}

struct Pepper {
    id: String,
    key: hmac::Key,
}

impl std::fmt::Debug for Pepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pepper")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Result of checking a password.
#[derive(Debug)]
pub enum Checked {
    /// The password is right, and its hash has the form of today.
    Valid,
    /// The password is right; this new hash has the form of today and replaces the old one.
    ValidNeedsRehash(PasswordHash),
    /// The password is wrong, or there is no such user.
    Invalid,
}

impl Passwords {
    /// Starts the hashing threads, and measures how fast they are.
    ///
    /// # Errors
    /// An error of the operating system if a thread cannot be started.
    pub fn new(config: &PasswordConfig) -> std::io::Result<Self> {
        let pepper = config.pepper.as_ref().map(|(id, key)| Pepper {
            id: id.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA384, key.expose().as_bytes()),
        });
        let built_in = hmac::Key::new(hmac::HMAC_SHA384, BUILT_IN_KEY);
        let pool = HashingPool::start(&PoolConfig {
            threads: config.threads,
            lanes: config.lanes,
            deadline: config.deadline,
        })?;
        // No password has this hash: its digits were not made from one. It is well formed all the same (the last digit carries
        // four bits and no more): a malformed hash would be refused before any work is done, and its time would show that there
        // is no such user.
        let dummy = PasswordHash::new(
            Scheme::Prehashed {
                pepper: pepper.as_ref().map(|pepper| pepper.id.clone()),
            },
            format!(
                "$2b${:02}${}{}",
                config.cost, "abcdefghijklmnopqrstuu", "012345678901234567890123456789u"
            ),
        );
        Ok(Self {
            pool,
            cost: config.cost,
            min_length: config.min_length,
            pepper,
            built_in,
            dummy,
        })
    }

    /// Rule that a new password breaks, if any.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] if the job would have to wait too long.
    pub async fn check_policy(
        &self,
        attempt: Guess,
        password: &Password,
        username: &str,
    ) -> Result<Option<PasswordRule>, Failure> {
        self.pool
            .check_strength(
                attempt,
                password.clone(),
                self.min_length,
                username.to_owned(),
            )
            .await
    }

    /// Makes a hash of the form of today.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] if the job would have to wait too long.
    pub async fn hash(&self, attempt: Guess, password: &Password) -> Result<PasswordHash, Failure> {
        let (scheme, key) = match &self.pepper {
            Some(pepper) => (
                Scheme::Prehashed {
                    pepper: Some(pepper.id.clone()),
                },
                &pepper.key,
            ),
            None => (Scheme::Prehashed { pepper: None }, &self.built_in),
        };
        let mut salt = [0; 16];
        rand::fill(&mut salt).map_err(|_| Failure::Internal("the system gives no random bytes"))?;
        let input = prehash(key, password);
        let bcrypt = self.pool.hash(attempt, input, salt, self.cost).await?;
        Ok(PasswordHash::new(scheme, bcrypt))
    }

    /// Checks a password against a stored hash. Without one it takes the same time and refuses.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] if the job would have to wait too long.
    pub async fn check(
        &self,
        attempt: Guess,
        password: &Password,
        stored: Option<&PasswordHash>,
    ) -> Result<Checked, Failure> {
        let real =
            stored.and_then(|stored| Some((stored, self.bcrypt_input(stored.scheme(), password)?)));
        let usable = real
            .filter(|(stored, _)| cost_of(stored).is_some_and(|cost| STORED_COSTS.contains(&cost)));
        let Some((stored, input)) = usable else {
            let input = prehash(&self.built_in, password);
            self.pool
                .verify(attempt, input, self.dummy.bcrypt(), self.cost)
                .await?;
            return Ok(Checked::Invalid);
        };
        let cost = cost_of(stored).unwrap_or(self.cost);
        // A refusal takes as long as one with a hash of today's cost.
        let checked = self.pool.verify(attempt, input, stored.bcrypt(), self.cost);
        if !checked.await? {
            return Ok(Checked::Invalid);
        }
        let current = Scheme::Prehashed {
            pepper: self.pepper.as_ref().map(|pepper| pepper.id.clone()),
        };
        if cost < self.cost || *stored.scheme() != current {
            // A full queue is no reason to fail a login; the next login updates the hash.
            if let Ok(new) = self.hash(attempt, password).await {
                return Ok(Checked::ValidNeedsRehash(new));
            }
        }
        Ok(Checked::Valid)
    }

    /// Input that bcrypt got when a hash of this scheme was made. `None` if the scheme has another pepper.
    fn bcrypt_input(&self, scheme: &Scheme, password: &Password) -> Option<Zeroizing<Vec<u8>>> {
        match scheme {
            Scheme::Plain => Some(Zeroizing::new(password.expose().as_bytes().to_vec())),
            Scheme::Prehashed { pepper: None } => Some(prehash(&self.built_in, password)),
            Scheme::Prehashed { pepper: Some(id) } => {
                let pepper = self.pepper.as_ref().filter(|pepper| pepper.id == *id)?;
                Some(prehash(&pepper.key, password))
            }
        }
    }

    /// Hashing threads, for metrics.
    #[must_use]
    pub fn pool(&self) -> &HashingPool {
        &self.pool
    }
}

fn prehash(key: &hmac::Key, password: &Password) -> Zeroizing<Vec<u8>> {
    let tag = hmac::sign(key, password.expose().as_bytes());
    Zeroizing::new(BASE64_STANDARD.encode(tag.as_ref()).into_bytes())
}

/// Cost in a bcrypt string, `$2b$12$…`.
fn cost_of(hash: &PasswordHash) -> Option<u32> {
    hash.bcrypt().get(4..6)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn passwords(pepper: Option<&str>, cost: u32) -> Passwords {
        let pepper = pepper.map(|id| {
            (
                id.to_owned(),
                crate::config::Secret::new("3fA9kQ2pX7vLr8TnB5yWc1ZeH6uMd0Js".to_owned()),
            )
        });
        let deadline = Duration::from_secs(10);
        Passwords::new(&PasswordConfig {
            min_length: 8,
            pepper,
            cost,
            threads: Some(1),
            lanes: None,
            deadline,
        })
        .unwrap()
    }

    fn attempt() -> Guess {
        Guess {
            name: crate::domain::AttemptedName::of("alice"),
            from: None,
        }
    }

    fn typed(text: &str) -> Password {
        Password::parse(text.to_owned()).unwrap()
    }

    async fn is_right(passwords: &Passwords, text: &str, stored: &PasswordHash) -> bool {
        !matches!(
            passwords
                .check(attempt(), &typed(text), Some(stored))
                .await
                .unwrap(),
            Checked::Invalid
        )
    }

    #[tokio::test]
    async fn bytes_beyond_the_72nd_count() {
        let passwords = passwords(None, 4);
        let long = "A".repeat(72);
        let stored = passwords
            .hash(attempt(), &typed(&format!("{long}B")))
            .await
            .unwrap();
        assert!(is_right(&passwords, &format!("{long}B"), &stored).await);
        assert!(!is_right(&passwords, &format!("{long}C"), &stored).await);
        assert!(!is_right(&passwords, &long, &stored).await);
    }

    #[tokio::test]
    async fn a_nul_does_not_end_a_password() {
        let passwords = passwords(None, 4);
        let stored = passwords.hash(attempt(), &typed("aaaaaaaa")).await.unwrap();
        assert!(!is_right(&passwords, "aaaaaaaa\0aaaaaaaa", &stored).await);
    }

    #[tokio::test]
    async fn a_plain_bcrypt_hash_from_elsewhere_verifies_and_is_outdated() {
        let passwords = passwords(None, 4);
        let plain: PasswordHash = bcrypt::hash("correct horse", 4).unwrap().parse().unwrap();
        let Checked::ValidNeedsRehash(new) = passwords
            .check(attempt(), &typed("correct horse"), Some(&plain))
            .await
            .unwrap()
        else {
            panic!("should verify and be replaced");
        };
        assert!(matches!(
            passwords
                .check(attempt(), &typed("correct horse"), Some(&new))
                .await
                .unwrap(),
            Checked::Valid
        ));
    }

    #[tokio::test]
    async fn a_hash_under_a_pepper_is_useless_without_it_and_hashes_without_are_upgraded() {
        let (with, without) = (passwords(Some("k1"), 4), passwords(None, 4));
        let peppered = with.hash(attempt(), &typed("correct horse")).await.unwrap();
        assert!(peppered.to_string().starts_with("p1:k1$"));
        assert!(!is_right(&without, "correct horse", &peppered).await);
        let bare = without
            .hash(attempt(), &typed("correct horse"))
            .await
            .unwrap();
        assert!(matches!(
            with.check(attempt(), &typed("correct horse"), Some(&bare))
                .await
                .unwrap(),
            Checked::ValidNeedsRehash(_)
        ));
    }

    #[test]
    fn the_stand_in_for_a_missing_user_is_a_hash_that_is_really_computed() {
        let passwords = passwords(None, 4);
        assert!(matches!(
            bcrypt::verify("anything", passwords.dummy.bcrypt()),
            Ok(false)
        ));
    }

    #[tokio::test]
    async fn a_stored_hash_of_absurd_cost_is_not_run() {
        let passwords = passwords(None, 4);
        let absurd: PasswordHash = format!("$2b$31${}", "a".repeat(53)).parse().unwrap();
        assert!(!is_right(&passwords, "anything at all", &absurd).await);
    }
}
