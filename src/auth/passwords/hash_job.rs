//! Jobs of the hashing threads, and the time that each takes in the queue.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use bcrypt::{BASE_64, HashParts};
use bcrypt_lanes::{Computation, Digest};
use zeroize::Zeroizing;

use crate::domain::{Password, PasswordRule};

/// Iterations that a strength check counts for in the queue: about as much as a hash of the least cost.
const STRENGTH_CHECK: u64 = 16;

/// A job for a hashing thread.
pub(super) enum HashJob {
    /// Makes a hash.
    Hash {
        input: Zeroizing<Vec<u8>>,
        salt: [u8; 16],
        cost: u32,
    },
    /// Checks a hash. A refusal takes as long as one of the cost `padded_to` would.
    Verify {
        input: Zeroizing<Vec<u8>>,
        hash: String,
        padded_to: u32,
    },
    /// Checks a new password against the rules. It makes no hash, but takes some milliseconds of CPU time that must not delay
    /// other requests.
    StrengthCheck {
        password: Password,
        min_length: usize,
        username: String,
    },
}

/// Shows no input.
impl std::fmt::Debug for HashJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} iterations", self.iterations())
    }
}

/// Result of a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HashResult {
    Hashed(String),
    Verified(bool),
    StrengthChecked(Option<PasswordRule>),
}

/// Next step of a job after its first digest.
pub(super) enum Next {
    Done(HashResult),
    /// Another computation, so that a refusal does not come too early.
    Pad(Computation),
}

impl HashJob {
    /// Greatest number of iterations of bcrypt that the job takes. It doubles with each step of the cost.
    pub(super) fn iterations(&self) -> u64 {
        match self {
            Self::Hash { cost, .. } => iterations(*cost),
            Self::Verify {
                hash, padded_to, ..
            } => iterations(cost_of(hash).max(*padded_to)),
            Self::StrengthCheck { .. } => STRENGTH_CHECK,
        }
    }

    /// First computation of the job; `None` if it needs none.
    pub(super) fn computation(&self) -> Option<Computation> {
        match self {
            Self::Hash { input, salt, cost } => Some(Computation::with_cost(input, *salt, *cost)),
            Self::Verify { input, hash, .. } => {
                // A damaged hash is computed too: every refusal takes the same time.
                let salt = hash
                    .parse::<HashParts>()
                    .map_or([0; 16], |parts| parts.get_salt_raw());
                Some(Computation::with_iterations(
                    input,
                    salt,
                    iterations(cost_of(hash)),
                ))
            }
            Self::StrengthCheck { .. } => None,
        }
    }

    /// Continues the job with the digest of its first computation.
    pub(super) fn continue_after(&self, digest: &Digest) -> Next {
        match self {
            Self::Hash { salt, cost, .. } => Next::Done(HashResult::Hashed(format!(
                "$2b${cost:02}${}{}",
                BASE_64.encode(salt),
                BASE_64.encode(&digest[..23])
            ))),
            Self::Verify {
                hash, padded_to, ..
            } => {
                let stored = hash
                    .parse::<HashParts>()
                    .ok()
                    .and_then(|_| BASE_64.decode(hash.get(29..)?).ok());
                let right = stored
                    .is_some_and(|stored| verify_slices_are_equal(&stored, &digest[..23]).is_ok());
                let missing = iterations(*padded_to).saturating_sub(iterations(cost_of(hash)));
                if right || missing == 0 {
                    Next::Done(HashResult::Verified(right))
                } else {
                    // To start and end a second computation takes about one iteration.
                    let missing = missing - 1;
                    Next::Pad(Computation::with_iterations(b"padding", [0; 16], missing))
                }
            }
            Self::StrengthCheck { .. } => self
                .check_strength()
                .map_or(Next::Done(HashResult::StrengthChecked(None)), Next::Done),
        }
    }

    /// Result of a job whose refusal was padded.
    pub(super) fn result_after_padding() -> HashResult {
        HashResult::Verified(false)
    }

    /// Result of a strength check; `None` for every other job.
    pub(super) fn check_strength(&self) -> Option<HashResult> {
        match self {
            Self::StrengthCheck {
                password,
                min_length,
                username,
            } => Some(HashResult::StrengthChecked(
                password.check_policy(*min_length, username),
            )),
            Self::Hash { .. } | Self::Verify { .. } => None,
        }
    }
}

/// Number of iterations of a cost.
fn iterations(cost: u32) -> u64 {
    1 << cost.min(31)
}

/// Cost in a bcrypt string, `$2b$12$…`; the least one if there is none.
fn cost_of(hash: &str) -> u32 {
    hash.get(4..6)
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bcrypt_lanes::Lanes;

    const FOREIGN: [(&str, &str); 11] = [
        (
            "",
            "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.",
        ),
        (
            "a",
            "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe",
        ),
        (
            "abc",
            "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i",
        ),
        (
            "abcdefghijklmnopqrstuvwxyz",
            "$2a$06$.rCVZVOThsIa97pEDOxvGuRRgzG64bvtJ0938xuqzv18d3ZpQhstC",
        ),
        (
            "~!@#$%^&*()      ~!@#$%^&*()PNBFRD",
            "$2a$06$fPIsBO8qRqkjj273rfaOI.HtSV9jLDpTbZn782DC6/t7qT67P6FfO",
        ),
        (
            "correct horse",
            "$2b$05$IiFGWszLcInk7QRH8z8KIeD9r.HlzsiIketELKucESlpFFiM6Lz/2",
        ),
        (
            "pässwörter",
            "$2b$05$v5WTqwr2cY87JWnc7nkxfeXYy/fiXu.ccsq5WbHgo4gKkqIEckDPG",
        ),
        (
            "U*U*U",
            "$2b$05$4nPZBReWIBk3y19tO4C3BO0DUimCbIZGSlUtz6l6oZh0qFKVJswCa",
        ),
        (
            "php battery",
            "$2y$05$PNJFhT1vb3/dqtHXmnmFN.NTG9Sools7gnQ8gtCCpPpq3g8GQcfMi",
        ),
        (
            "npm native staple",
            "$2b$05$FiRYELUwQZBaX6csAfiXXO68QxUkbKkyWsn/33M7KRVtpocH6VSj2",
        ),
        (
            "bcryptjs staple",
            "$2b$05$KvJF9H46Qg1odQ8pQwzgXOtc7SGzBXNnjNap10VCWeBFGHsjOhtbm",
        ),
    ];

    fn verify(password: &str, hash: &str, padded_to: u32) -> HashJob {
        HashJob::Verify {
            input: Zeroizing::new(password.as_bytes().to_vec()),
            hash: hash.to_owned(),
            padded_to,
        }
    }

    /// Runs a job in one lane. Returns its result and the number of iterations that it took.
    fn run_by_lanes(job: &HashJob) -> (HashResult, u64) {
        let mut lanes = Lanes::new(1);
        let mut iterations = 0;
        let mut run = |computation: &Computation| {
            lanes.start(computation, ()).unwrap();
            let mut digest = None;
            while lanes.busy() > 0 {
                lanes.iterate(|(), came| digest = Some(came));
                iterations += 1;
            }
            digest.unwrap()
        };
        let digest = run(&job.computation().unwrap());
        let result = match job.continue_after(&digest) {
            Next::Done(result) => result,
            Next::Pad(padding) => {
                run(&padding);
                HashJob::result_after_padding()
            }
        };
        (result, iterations)
    }

    #[test]
    fn hashes_of_other_programs_verify_and_no_other_password_does() {
        // Made by libxcrypt, by the npm modules bcrypt and bcryptjs, and by PHP, and from the vectors of jBCrypt.
        for (password, hash) in FOREIGN {
            assert_eq!(
                run_by_lanes(&verify(password, hash, 4)).0,
                HashResult::Verified(true),
                "{hash}"
            );
            let other = format!("{password}x");
            assert_eq!(
                run_by_lanes(&verify(&other, hash, 4)).0,
                HashResult::Verified(false),
                "{hash}"
            );
        }
    }

    #[test]
    fn a_new_hash_is_that_of_the_crate() {
        for length in [0, 1, 8, 64, 71, 72, 73, 100] {
            let input = Zeroizing::new(vec![b'x'; length]);
            let of_the_crate = bcrypt::hash_with_salt(&input, 5, [9; 16]).unwrap();
            let job = HashJob::Hash {
                input,
                salt: [9; 16],
                cost: 5,
            };
            let expected = HashResult::Hashed(of_the_crate.to_string());
            assert_eq!(run_by_lanes(&job).0, expected, "{length} bytes");
        }
    }

    #[test]
    fn a_refusal_is_padded_and_what_is_right_is_not() {
        let hash = bcrypt::hash_with_salt("right", 4, [1; 16])
            .unwrap()
            .to_string();
        assert_eq!(
            run_by_lanes(&verify("right", &hash, 6)),
            (HashResult::Verified(true), 16)
        );
        assert_eq!(
            run_by_lanes(&verify("wrong", &hash, 6)),
            // One iteration less, for the start and the end of the second computation.
            (HashResult::Verified(false), 63)
        );
        assert_eq!(
            run_by_lanes(&verify("wrong", &hash, 4)),
            (HashResult::Verified(false), 16)
        );
    }

    #[test]
    fn a_damaged_hash_is_computed_and_refused() {
        let hash = bcrypt::hash_with_salt("right", 5, [1; 16])
            .unwrap()
            .to_string();
        for at in [1, 2, 10, 28, 29, 59] {
            let mut damaged = hash.clone().into_bytes();
            damaged[at] = b'!';
            let damaged = String::from_utf8(damaged).unwrap();
            let (result, iterations) = run_by_lanes(&verify("right", &damaged, 4));
            assert_eq!(
                (result, iterations),
                (HashResult::Verified(false), 32),
                "{damaged}"
            );
        }
    }
}
