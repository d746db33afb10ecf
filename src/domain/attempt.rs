//! A guess at a password: at whom it is aimed, from where it comes, and how often such a thing is allowed.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::{Malformed, UserTag};

/// The name that was typed into a login, whether or not anybody has or could have it.
///
/// It is kept as a digest: what is typed there may be a password that went into the wrong field, and is of any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptedName([u8; 16]);

impl AttemptedName {
    /// The name, without regard to case.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let hash = digest(&SHA256, text.to_ascii_lowercase().as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&hash.as_ref()[..16]);
        Self(short)
    }

    /// The tag of the user of that name, if there is one: both lie in one slot of a Redis Cluster.
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

/// The network that a client is in, as far as throttles tell clients apart: an IPv4 address, or the /64 of an IPv6 address,
/// which is what one customer of a provider has at the least.
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

/// A password that somebody wants to have checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guess {
    /// At whom it is aimed.
    pub name: AttemptedName,
    /// From where it comes, as far as that can be known.
    pub from: Option<Network>,
}

/// How often something is allowed: so many times at once, and once more each interval. Written `10@1m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At once, after a long rest; at least one.
    pub burst: u32,
    /// How long it takes until one more is allowed; at least a millisecond.
    pub interval: Duration,
}

impl FromStr for Rate {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (burst, interval) = text.split_once('@').ok_or(Malformed)?;
        let burst = burst.parse().map_err(|_| Malformed)?;
        let interval = humantime::parse_duration(interval).map_err(|_| Malformed)?;
        let bounds = Duration::from_millis(1)..=Duration::from_hours(24);
        if (1..=1_000_000).contains(&burst) && bounds.contains(&interval) {
            Ok(Self { burst, interval })
        } else {
            Err(Malformed)
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
            assert_eq!(bad.parse::<Rate>(), Err(Malformed), "{bad}");
        }
    }
}
