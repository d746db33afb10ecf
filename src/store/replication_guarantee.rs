//! Guarantees that a number of acknowledgements gives with a number of Redis replicas.

use std::fmt;

/// Guarantee for the failure of the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicationGuarantee {
    /// No replicas, and no acknowledgements: no failover is possible.
    Standalone,
    /// Replicas, but no acknowledgements.
    Unacknowledged,
    /// More acknowledgements than replicas.
    Unsatisfiable,
    /// So few acknowledgements that two primaries may both be trusted.
    BelowQuorum,
    /// Enough acknowledgements to detect a replaced primary, too few to lose nothing.
    Lease,
    /// Acknowledgements by all replicas.
    AllReplicas,
}

impl ReplicationGuarantee {
    /// Returns the guarantee of `wanted` acknowledgements with this number of replicas.
    #[must_use]
    pub fn new(wanted: u32, replicas: u32) -> Self {
        match (wanted, replicas) {
            (0, 0) => Self::Standalone,
            (0, _) => Self::Unacknowledged,
            _ if wanted > replicas => Self::Unsatisfiable,
            _ if wanted == replicas => Self::AllReplicas,
            _ if wanted < replicas.div_ceil(2) => Self::BelowQuorum,
            _ => Self::Lease,
        }
    }

    /// Returns true if the setting needs no change by the operator.
    #[must_use]
    pub fn is_sound(self) -> bool {
        matches!(self, Self::Standalone | Self::Lease | Self::AllReplicas)
    }
}

impl fmt::Display for ReplicationGuarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standalone => "one server without replicas: only the data that it keeps over a restart survives",
            Self::Unacknowledged => {
                "replicas follow this Redis and REDIS_ACK_REPLICAS is 0: after a failover logged-out tokens may be accepted and acknowledged changes may be lost (set it to the number of replicas)"
            }
            Self::Unsatisfiable => {
                "fewer replicas follow this Redis than REDIS_ACK_REPLICAS asks for: nothing is acknowledged, and protected routes answer 503, until they are back"
            }
            Self::BelowQuorum => {
                "REDIS_ACK_REPLICAS is less than half of the replicas: after a failover a replaced primary may still be trusted, and logged-out tokens accepted (set it to half of them or more)"
            }
            Self::Lease => {
                "a replaced primary is never trusted; a failover may lose changes acknowledged in its last moments, except logouts that a running replica knows; the service continues while that number of Redis replicas is up"
            }
            Self::AllReplicas => {
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
            (0, 0, ReplicationGuarantee::Standalone),
            (0, 1, ReplicationGuarantee::Unacknowledged),
            (1, 0, ReplicationGuarantee::Unsatisfiable),
            (1, 1, ReplicationGuarantee::AllReplicas),
            (1, 2, ReplicationGuarantee::Lease),
            (2, 2, ReplicationGuarantee::AllReplicas),
            (1, 3, ReplicationGuarantee::BelowQuorum),
            (2, 3, ReplicationGuarantee::Lease),
            (3, 2, ReplicationGuarantee::Unsatisfiable),
        ];
        for (wanted, replicas, promise) in promises {
            assert_eq!(
                ReplicationGuarantee::new(wanted, replicas),
                promise,
                "{wanted} of {replicas}"
            );
        }
    }
}
