//! Every key in Redis, its type and its lifetime, in one table.
//!
//! | key | type | holds | lives |
//! |---|---|---|---|
//! | `user:{tag}:name` | hash | id, username, password hash, roles, disabled, version, `sessions_from`, created, last login; a digest of what it was imported from | for ever |
//! | `session:{tag}:sid` | hash | user id, version, `revoked`, created, latest access-token expiry | as long as its access token; a revoked one as long as its entry |
//! | `sessions:{tag}:name` | sorted set | sid by expiry | longest session |
//! | `outbox:{tag}:name` | set | revocation entries that the feed has not acknowledged | until appended, at most its largest `until` |
//! | `throttle:registrations:network` `throttle:passwords:network` | string | until when a network's bucket is full | until then |
//! | `throttle:account:{tag}:name` `throttle:place:{tag}:name:network` | string | the same for an account, and for a place that it knows; the name as a digest | until then |
//! | `throttle:known:{tag}:name:network` | string | nothing: the account has logged in from there | 30 days |
//! | `{feed}:revocations` | stream | revocation entries, read by every replica | no lifetime of its own |
//! | `{feed}:windows` | sorted set | announced windows by date | no lifetime of its own; each window five minutes |
//! | `{feed}:settled` | string | which history of the feed is settled from when on | as long as the history |
//! | `{feed}:canary:intent` `{feed}:canary:scripted` `{feed}:canary:plain`; in a Cluster `{number}:canary:…`, one of each shard | string | numbers that differ after a restart which lost what scripts wrote ([`canary`](super::canary)) | no lifetime: parts that expired one by one would look like a loss |
//! | `{feed}:beat` | string | nothing: that its writing was acknowledged shows that the primary is one | a minute |
//! | `{feed}:reappend` | string | which replica is putting lost entries back | seconds |
//!
//! The tag is the first four bytes of the SHA-256 of the username in hex: all keys of one user lie in one slot of a Redis
//! Cluster, and a revocation can name a session's record in a few bytes. The prefix of the settings stands before all.

use super::canary::CanaryKeys;
use super::throttles::Throttled;
use crate::domain::{AttemptedName, Network, SessionId, UserTag, Username};

/// Makes the keys.
#[derive(Debug, Clone)]
pub struct Keyspace {
    prefix: String,
}

impl Keyspace {
    /// Keys that begin with `prefix`.
    #[must_use]
    pub fn new(prefix: String) -> Self {
        Self { prefix }
    }

    pub(super) fn user(&self, name: &Username) -> String {
        format!("{}user:{{{}}}:{name}", self.prefix, name.tag())
    }

    /// Where nobody is: a name cannot be empty.
    pub(super) fn nobody(&self, name: AttemptedName) -> String {
        format!("{}user:{{{}}}:", self.prefix, name.tag())
    }

    /// The pattern of all users' keys. What means something else in a pattern is kept from that by a backslash.
    pub(super) fn users(&self) -> String {
        let mut pattern = String::new();
        for letter in self.prefix.chars() {
            if "*?[]\\^".contains(letter) {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern + "user:{*"
    }

    pub(super) fn session(&self, tag: UserTag, sid: SessionId) -> String {
        format!("{}session:{{{tag}}}:{sid}", self.prefix)
    }

    pub(super) fn sessions(&self, name: &Username) -> String {
        format!("{}sessions:{{{}}}:{name}", self.prefix, name.tag())
    }

    pub(super) fn outbox(&self, name: &Username) -> String {
        format!("{}outbox:{{{}}}:{name}", self.prefix, name.tag())
    }

    pub(super) fn throttle(&self, of: &Throttled) -> String {
        match of {
            Throttled::Registrations(network) => {
                format!("{}throttle:registrations:{network}", self.prefix)
            }
            Throttled::Passwords(network) => format!("{}throttle:passwords:{network}", self.prefix),
            Throttled::Account(name, _) => {
                format!("{}throttle:account:{{{}}}:{name}", self.prefix, name.tag())
            }
        }
    }

    pub(super) fn throttle_place(&self, name: AttemptedName, network: Network) -> String {
        let (prefix, tag) = (&self.prefix, name.tag());
        format!("{prefix}throttle:place:{{{tag}}}:{name}:{network}")
    }

    pub(super) fn throttle_known(&self, name: AttemptedName, network: Network) -> String {
        let (prefix, tag) = (&self.prefix, name.tag());
        format!("{prefix}throttle:known:{{{tag}}}:{name}:{network}")
    }

    pub(super) fn feed(&self) -> String {
        format!("{}{{feed}}:revocations", self.prefix)
    }

    pub(super) fn windows(&self) -> String {
        format!("{}{{feed}}:windows", self.prefix)
    }

    pub(super) fn settled(&self) -> String {
        format!("{}{{feed}}:settled", self.prefix)
    }

    pub(super) fn beat(&self) -> String {
        format!("{}{{feed}}:beat", self.prefix)
    }

    /// The canary of the only server, or of the shard that has the slot of `tag`.
    pub(super) fn canary(&self, tag: &str) -> CanaryKeys {
        let key = |part: &str| format!("{}{{{tag}}}:canary:{part}", self.prefix);
        CanaryKeys {
            intent: key("intent"),
            scripted: key("scripted"),
            plain: key("plain"),
        }
    }

    pub(super) fn reappend(&self) -> String {
        format!("{}{{feed}}:reappend", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_one_user_share_a_hash_tag() {
        let keys = Keyspace::new("portcullis:".to_owned());
        let name: Username = "alice".parse().unwrap();
        let attempted = AttemptedName::of("alice");
        let network = Network::from(std::net::IpAddr::from([203, 0, 113, 7]));
        let all = [
            keys.user(&name),
            keys.session(name.tag(), SessionId::random()),
            keys.sessions(&name),
            keys.outbox(&name),
            keys.throttle(&Throttled::Account(attempted, Some(network))),
            keys.throttle_place(attempted, network),
            keys.throttle_known(attempted, network),
        ];
        for key in all {
            assert!(key.contains(":{2bd806c9}:"), "{key}");
        }
        assert_eq!(keys.user(&name), "portcullis:user:{2bd806c9}:alice");
    }
}
