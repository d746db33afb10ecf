//! Table of every key in Redis: its type and its lifetime.
//!
//! | key | type | content | lifetime |
//! |---|---|---|---|
//! | `user:{tag}:name` | hash | id, username, password hash, roles, disabled, version, `min_session_version`, created, last login; a digest of the record it was imported from | no expiry |
//! | `session:{tag}:sid` | hash | user id, version, `revoked`, created, latest access-token expiry | until its refresh token expires; a revoked one until its entry does |
//! | `sessions:{tag}:name` | sorted set | sid by expiry | until its last session expires |
//! | `outbox:{tag}:name` | set | revocation entries that the feed has not acknowledged | until appended, at most its largest `until` |
//! | `throttle:registrations:network` `throttle:passwords:network` | string | time at which a network's bucket is empty | until that time |
//! | `throttle:account:{tag}:name` `throttle:place:{tag}:name:network` | string | the same for an account, and for a network known to the account; the name as a digest | until that time |
//! | `throttle:known:{tag}:name:network` | string | empty: the account has logged in from that network | 30 days |
//! | `{feed}:revocations` | stream | revocation entries, read by every replica | no expiry; trimmed |
//! | `{feed}:windows` | sorted set | announced freshness windows by date | no expiry; each window counts for five minutes |
//! | `{feed}:stable_since` | string | history of the feed, and the time from which on it is settled | as long as the history |
//! | `{feed}:canary:intent` `{feed}:canary:scripted` `{feed}:canary:plain`; in a Cluster `{number}:canary:…`, one set for each shard | string | numbers that differ after a restart that lost the writes of scripts ([`canary`](super::canary)) | no expiry: parts that expired one by one would look like a loss |
//! | `{feed}:heartbeat` | string | empty: an acknowledged write shows that the primary has not been replaced | a minute |
//! | `{feed}:repair_lock` | string | name of the replica that puts lost entries back | seconds |
//!
//! The tag is the first four bytes of the SHA-256 of the username in hex. All keys of one user therefore lie in one
//! slot of a Redis Cluster, and a revocation names a session's record in a few bytes. Every key begins with the prefix
//! of the settings.

use super::canary::CanaryKeys;
use super::rate_limits::Bucket;
use crate::domain::{AttemptedName, Network, SessionId, UserTag, Username};

/// Builder of key names.
#[derive(Debug, Clone)]
pub struct Keyspace {
    prefix: String,
}

impl Keyspace {
    /// Creates a builder of keys that begin with `prefix`.
    #[must_use]
    pub fn new(prefix: String) -> Self {
        Self { prefix }
    }

    pub(super) fn user(&self, name: &Username) -> String {
        format!("{}user:{{{}}}:{name}", self.prefix, name.tag())
    }

    /// Key that no user has, because a name cannot be empty.
    pub(super) fn no_user(&self, name: AttemptedName) -> String {
        format!("{}user:{{{}}}:", self.prefix, name.tag())
    }

    /// Pattern of all users' keys. A backslash escapes the characters of the prefix that a pattern would interpret.
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

    pub(super) fn rate_limit(&self, bucket: &Bucket) -> String {
        match bucket {
            Bucket::Registrations(network) => {
                format!("{}throttle:registrations:{network}", self.prefix)
            }
            Bucket::Passwords(network) => format!("{}throttle:passwords:{network}", self.prefix),
            Bucket::Account(name, _) => {
                format!("{}throttle:account:{{{}}}:{name}", self.prefix, name.tag())
            }
        }
    }

    pub(super) fn rate_limit_network(&self, name: AttemptedName, network: Network) -> String {
        let (prefix, tag) = (&self.prefix, name.tag());
        format!("{prefix}throttle:place:{{{tag}}}:{name}:{network}")
    }

    pub(super) fn rate_limit_known(&self, name: AttemptedName, network: Network) -> String {
        let (prefix, tag) = (&self.prefix, name.tag());
        format!("{prefix}throttle:known:{{{tag}}}:{name}:{network}")
    }

    pub(super) fn feed(&self) -> String {
        format!("{}{{feed}}:revocations", self.prefix)
    }

    pub(super) fn windows(&self) -> String {
        format!("{}{{feed}}:windows", self.prefix)
    }

    pub(super) fn stable_since(&self) -> String {
        format!("{}{{feed}}:stable_since", self.prefix)
    }

    pub(super) fn heartbeat(&self) -> String {
        format!("{}{{feed}}:heartbeat", self.prefix)
    }

    /// Keys of the canary of the only server, or of the shard that serves the slot of `tag`.
    pub(super) fn canary(&self, tag: &str) -> CanaryKeys {
        let key = |part: &str| format!("{}{{{tag}}}:canary:{part}", self.prefix);
        CanaryKeys {
            intent: key("intent"),
            scripted: key("scripted"),
            plain: key("plain"),
        }
    }

    pub(super) fn repair_lock(&self) -> String {
        format!("{}{{feed}}:repair_lock", self.prefix)
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
            keys.rate_limit(&Bucket::Account(attempted, Some(network))),
            keys.rate_limit_network(attempted, network),
            keys.rate_limit_known(attempted, network),
        ];
        for key in all {
            assert!(key.contains(":{2bd806c9}:"), "{key}");
        }
        assert_eq!(keys.user(&name), "portcullis:user:{2bd806c9}:alice");
    }
}
