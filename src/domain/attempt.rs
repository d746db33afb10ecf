//! Login attempts: the attempted name, the network of the client, and the permitted rate.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::{ParseError, UserTag};

/// Name that was typed into a login. It need not belong to an account, and need not be a valid name.
///
/// Only its digest is kept: the text may be a password typed into the wrong field, and has any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptedName([u8; 16]);

impl AttemptedName {
    /// Digest of the name; upper and lower case are the same.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let hash = digest(&SHA256, text.to_ascii_lowercase().as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&hash.as_ref()[..16]);
        Self(short)
    }

    /// Hash tag of the user with this name, so that both are in one slot of a Redis Cluster.
    #[must_use]
    pub fn tag(&self) -> UserTag {
        let [a, b, c, d, ..] = self.0;
        UserTag::from_bits(u32::from_be_bytes([a, b, c, d]))
    }
}

impl fmt::Display for AttemptedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Network of a client, as rate limits count it: an IPv4 address, or the /64 of an IPv6 address. A /64 is the least that a
/// provider gives to one customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let prefix = address.to_bits() >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from_bits(prefix))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(prefix) => write!(f, "{prefix}/64"),
        }
    }
}

/// Attempt to check a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guess {
    /// Name of the account under attempt.
    pub name: AttemptedName,
    /// Network of the client; `None` if it cannot be known.
    pub from: Option<Network>,
}

/// Rate of a limit: a burst, then one more each interval. Written `10@1m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Attempts at once, after a long pause; at least 1.
    pub burst: u32,
    /// Time until one more attempt is allowed; at least one millisecond.
    pub interval: Duration,
}

impl FromStr for Rate {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (burst, interval) = text.split_once('@').ok_or(ParseError)?;
        let burst = burst.parse().map_err(|_| ParseError)?;
        let interval = humantime::parse_duration(interval).map_err(|_| ParseError)?;
        let bounds = Duration::from_millis(1)..=Duration::from_hours(24);
        if (1..=1_000_000).contains(&burst) && bounds.contains(&interval) {
            Ok(Self { burst, interval })
        } else {
            Err(ParseError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Username;

    fn network(address: &str) -> String {
        Network::from(address.parse::<IpAddr>().unwrap()).to_string()
    }

    #[test]
    fn all_addresses_of_one_64_are_one_network_and_mapped_ones_are_ipv4() {
        assert_eq!(network("203.0.113.7"), "203.0.113.7");
        assert_eq!(network("::ffff:203.0.113.7"), "203.0.113.7");
        assert_eq!(network("2001:db8:1:2::1"), "2001:db8:1:2::/64");
        assert_eq!(
            network("2001:db8:1:2:ffff:ffff:ffff:ffff"),
            "2001:db8:1:2::/64"
        );
        assert_eq!(network("2001:db8:1:3::1"), "2001:db8:1:3::/64");
    }

    #[test]
    fn a_name_and_its_user_share_a_tag() {
        let user: Username = "alice".parse().unwrap();
        assert_eq!(AttemptedName::of("Alice").tag(), user.tag());
        assert_eq!(AttemptedName::of("Alice"), AttemptedName::of("alice"));
        assert_ne!(AttemptedName::of("alice "), AttemptedName::of("alice"));
    }

    #[test]
    fn a_rate_is_a_count_and_an_interval() {
        let rate = |burst, interval| Ok(Rate { burst, interval });
        assert_eq!("10@1m".parse(), rate(10, Duration::from_mins(1)));
        assert_eq!("20@6s".parse(), rate(20, Duration::from_secs(6)));
        for bad in [
            "", "10", "@1m", "10@", "0@1m", "10@0s", "10@2d", "-1@1s", "1@1",
        ] {
            assert_eq!(bad.parse::<Rate>(), Err(ParseError), "{bad}");
        }
    }
}
