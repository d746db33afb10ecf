//! What the hashing threads do: one piece of work each, by lanes or by the crate, and how much it counts for in the queue.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use bcrypt::{BASE_64, HashParts};
use zeroize::Zeroizing;

use super::lanes::Computation;
use crate::domain::{Password, PasswordRule};

/// What judging a password counts for in the queue: about as much as a hash of the least cost.
const JUDGEMENT: u64 = 16;

/// A piece of work.
pub(super) enum Work {
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
    /// How easily a new password is guessed: no hash, but some milliseconds that nobody else should wait for.
    Judge {
        password: Password,
        min_length: usize,
        username: String,
    },
}

/// Shows no input.
impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} units", self.units())
    }
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Done {
    Hashed(String),
    Verified(bool),
    Judged(Option<PasswordRule>),
}

/// What follows a digest.
pub(super) enum Next {
    /// Nothing.
    Done(Done),
    /// A refusal that came too early.
    Pad(Computation),
}

impl Work {
    /// How many turns of bcrypt it takes at most. They double with each step of the cost.
    pub(super) fn units(&self) -> u64 {
        match self {
            Self::Hash { cost, .. } => turns(*cost),
            Self::Verify {
                hash, padded_to, ..
            } => turns(cost_of(hash).max(*padded_to)),
            Self::Judge { .. } => JUDGEMENT,
        }
    }

    /// The computation it begins with; `None` for what is none.
    pub(super) fn computation(&self) -> Option<Computation> {
        match self {
            Self::Hash { input, salt, cost } => Some(Computation::new(input, *salt, turns(*cost))),
            Self::Verify { input, hash, .. } => {
                // What is damaged is computed all the same: a refusal must cost the same.
                let salt = hash
                    .parse::<HashParts>()
                    .map_or([0; 16], |parts| parts.get_salt_raw());
                Some(Computation::new(input, salt, turns(cost_of(hash))))
            }
            Self::Judge { .. } => None,
        }
    }

    /// Goes on after the digest of its computation.
    pub(super) fn after(&self, digest: &[u8; 24]) -> Next {
        match self {
            Self::Hash { salt, cost, .. } => Next::Done(Done::Hashed(format!(
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
                let missing = turns(*padded_to).saturating_sub(turns(cost_of(hash)));
                if right || missing == 0 {
                    Next::Done(Done::Verified(right))
                } else {
                    // To begin and end a second computation takes about a turn.
                    let missing = missing - 1;
                    Next::Pad(Computation::new(b"padding", [0; 16], missing))
                }
            }
            Self::Judge { .. } => self
                .judge()
                .map_or(Next::Done(Done::Judged(None)), Next::Done),
        }
    }

    /// What the padding of a refusal ends with.
    pub(super) fn after_padding() -> Done {
        Done::Verified(false)
    }

    /// What needs no lane. `None` for all the rest.
    pub(super) fn judge(&self) -> Option<Done> {
        match self {
            Self::Judge {
                password,
                min_length,
                username,
            } => Some(Done::Judged(password.breaks(*min_length, username))),
            Self::Hash { .. } | Self::Verify { .. } => None,
        }
    }

    /// The whole of it by the crate. `None` where the crate refuses.
    pub(super) fn run_by_crate(&self) -> Option<Done> {
        match self {
            Self::Hash { input, salt, cost } => bcrypt::hash_with_salt(input, *cost, *salt)
                .ok()
                .map(|parts| Done::Hashed(parts.to_string())),
            Self::Verify {
                input,
                hash,
                padded_to,
            } => {
                let cost = cost_of(hash);
                let right = bcrypt::verify(input.as_slice(), hash).unwrap_or_else(|_| {
                    // The crate refuses what is damaged before it does any work.
                    bcrypt::bcrypt(cost.clamp(4, 15), [0; 16], b"damaged\0");
                    false
                });
                if !right {
                    // 2^from + 2^(from+1) + … + 2^(to-1) is just the difference.
                    for cost in cost.max(4)..*padded_to {
                        bcrypt::bcrypt(cost, [0; 16], b"padding\0");
                    }
                }
                Some(Done::Verified(right))
            }
            Self::Judge { .. } => self.judge(),
        }
    }
}

/// The turns that a cost stands for.
fn turns(cost: u32) -> u64 {
    1 << cost.min(31)
}

/// The cost that a bcrypt string names: `$2b$12$…`; the least where it names none.
fn cost_of(hash: &str) -> u32 {
    hash.get(4..6)
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(4)
}

#[cfg(test)]
mod tests {
    use super::super::lanes::Lanes;
    use super::*;

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

    fn verify(password: &str, hash: &str, padded_to: u32) -> Work {
        Work::Verify {
            input: Zeroizing::new(password.as_bytes().to_vec()),
            hash: hash.to_owned(),
            padded_to,
        }
    }

    /// By lanes, with the turns that it took.
    fn run_by_lanes(work: &Work) -> (Done, u64) {
        let mut lanes = Lanes::new(1);
        let mut turns = 0;
        let mut run = |computation: &Computation| {
            lanes.begin(computation, ()).unwrap();
            let mut digest = None;
            while lanes.busy() > 0 {
                lanes.turn(|(), came| digest = Some(came));
                turns += 1;
            }
            digest.unwrap()
        };
        let digest = run(&work.computation().unwrap());
        let done = match work.after(&digest) {
            Next::Done(done) => done,
            Next::Pad(padding) => {
                run(&padding);
                Work::after_padding()
            }
        };
        (done, turns)
    }

    #[test]
    fn hashes_of_other_programs_verify_and_no_other_password_does() {
        // Made by libxcrypt, by the npm modules bcrypt and bcryptjs, and by PHP, and from the vectors of jBCrypt.
        for (password, hash) in FOREIGN {
            assert_eq!(
                run_by_lanes(&verify(password, hash, 4)).0,
                Done::Verified(true),
                "{hash}"
            );
            let other = format!("{password}x");
            assert_eq!(
                run_by_lanes(&verify(&other, hash, 4)).0,
                Done::Verified(false),
                "{hash}"
            );
        }
    }

    #[test]
    fn both_engines_make_the_same_hash() {
        for length in [0, 1, 8, 64, 71, 72, 73, 100] {
            let work = Work::Hash {
                input: Zeroizing::new(vec![b'x'; length]),
                salt: [9; 16],
                cost: 5,
            };
            assert_eq!(
                Some(run_by_lanes(&work).0),
                work.run_by_crate(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn a_refusal_is_padded_and_what_is_right_is_not() {
        let hash = bcrypt::hash_with_salt("right", 4, [1; 16])
            .unwrap()
            .to_string();
        assert_eq!(
            run_by_lanes(&verify("right", &hash, 6)),
            (Done::Verified(true), 16)
        );
        assert_eq!(
            run_by_lanes(&verify("wrong", &hash, 6)),
            // A turn less, for what the second computation takes to begin and to end.
            (Done::Verified(false), 63)
        );
        assert_eq!(
            run_by_lanes(&verify("wrong", &hash, 4)),
            (Done::Verified(false), 16)
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
            let (done, turns) = run_by_lanes(&verify("right", &damaged, 4));
            assert_eq!((done, turns), (Done::Verified(false), 32), "{damaged}");
        }
    }
}
