//! What the hashing threads do: one piece of work each, and how much it counts for in the queue.

use zeroize::Zeroizing;

use crate::domain::{Password, PasswordRule};

/// What judging a password counts for in the queue: about as much as a hash of the least cost.
const JUDGEMENT: u64 = 16;

/// A piece of work.
pub(super) enum Work {
    Hash {
        input: Zeroizing<Vec<u8>>,
        cost: u32,
    },
    Verify {
        input: Zeroizing<Vec<u8>>,
        hash: String,
        cost: u32,
    },
    /// As much work as brings `from` up to `to`.
    Pad { from: u32, to: u32 },
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
#[derive(Debug)]
pub(super) enum Done {
    Hashed(String),
    Verified(bool),
    Padded,
    Judged(Option<PasswordRule>),
}

impl Work {
    /// bcrypt doubles its work with each step of the cost.
    pub(super) fn units(&self) -> u64 {
        match self {
            Self::Hash { cost, .. } | Self::Verify { cost, .. } => 1 << cost.min(&31),
            Self::Pad { from, to } => (1_u64 << to.min(&31)).saturating_sub(1 << from.min(&31)),
            Self::Judge { .. } => JUDGEMENT,
        }
    }

    /// `None` where the library refuses.
    pub(super) fn run(&self) -> Option<Done> {
        match self {
            Self::Hash { input, cost } => {
                bcrypt::hash(input.as_slice(), *cost).ok().map(Done::Hashed)
            }
            Self::Verify { input, hash, cost } => {
                let right = bcrypt::verify(input.as_slice(), hash).unwrap_or_else(|_| {
                    // The library refuses what is damaged before it does any work. A refusal must cost the same.
                    bcrypt::bcrypt((*cost).clamp(4, 15), [0; 16], input);
                    false
                });
                Some(Done::Verified(right))
            }
            Self::Pad { from, to } => {
                // 2^from + 2^(from+1) + … + 2^(to-1) is just the difference.
                for cost in (*from).max(4)..*to {
                    bcrypt::bcrypt(cost, [0; 16], b"padding");
                }
                Some(Done::Padded)
            }
            Self::Judge {
                password,
                min_length,
                username,
            } => Some(Done::Judged(password.breaks(*min_length, username))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_the_difference_between_two_costs() {
        let pad = Work::Pad { from: 10, to: 12 };
        assert_eq!(pad.units(), (1 << 12) - (1 << 10));
    }
}
