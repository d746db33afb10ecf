//! What a number of acknowledgements promises over so many replicas of Redis.

use std::fmt;

/// What holds when the primary fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// There are no replicas, and none are waited for: there is nobody to fail over to.
    Alone,
    /// There are replicas, and none are waited for.
    Blind,
    /// More are waited for than there are.
    Never,
    /// So few that two primaries may both be trusted.
    TooFew,
    /// Enough to tell a primary that was replaced, not enough to lose nothing.
    Lease,
    /// All.
    Everything,
}

impl Promise {
    /// What `wanted` acknowledgements promise where there are so many replicas.
    #[must_use]
    pub fn of(wanted: u32, replicas: u32) -> Self {
        match (wanted, replicas) {
            (0, 0) => Self::Alone,
            (0, _) => Self::Blind,
            _ if wanted > replicas => Self::Never,
            _ if wanted == replicas => Self::Everything,
            _ if wanted < replicas.div_ceil(2) => Self::TooFew,
            _ => Self::Lease,
        }
    }

    /// Whether an operator may leave it so.
    #[must_use]
    pub fn is_sound(self) -> bool {
        matches!(self, Self::Alone | Self::Lease | Self::Everything)
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alone => "one server without replicas: what it keeps over a restart is all there is",
            Self::Blind => {
                "replicas follow this Redis and REDIS_ACK_REPLICAS is 0: after a failover logged-out tokens may be accepted and acknowledged changes may be lost (set it to the number of replicas)"
            }
            Self::Never => {
                "fewer replicas follow this Redis than REDIS_ACK_REPLICAS asks for: nothing is acknowledged, and protected routes answer 503, until they are back"
            }
            Self::TooFew => {
                "REDIS_ACK_REPLICAS is less than half of the replicas: after a failover a primary that was replaced may still be trusted, and logged-out tokens accepted (set it to half of them or more)"
            }
            Self::Lease => {
                "a primary that was replaced is never trusted; a failover may lose changes acknowledged in its last moments, logouts excepted that a running replica knows; it goes on while as many replicas of Redis as that are up"
            }
            Self::Everything => {
                "no failover loses anything that was acknowledged; while one replica of Redis is down, protected routes, logins and logouts answer 503"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_replicas_make_a_lease_and_all_of_them_lose_nothing() {
        let promises = [
            (0, 0, Promise::Alone),
            (0, 1, Promise::Blind),
            (1, 0, Promise::Never),
            (1, 1, Promise::Everything),
            (1, 2, Promise::Lease),
            (2, 2, Promise::Everything),
            (1, 3, Promise::TooFew),
            (2, 3, Promise::Lease),
            (3, 2, Promise::Never),
        ];
        for (wanted, replicas, promise) in promises {
            assert_eq!(
                Promise::of(wanted, replicas),
                promise,
                "{wanted} of {replicas}"
            );
        }
    }
}
