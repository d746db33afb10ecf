//! Client authentication: services that call with credentials of their own.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};

use crate::config::ClientConfig;

/// Clients of the configuration, each with the digest of its secret.
pub struct Clients(Vec<(String, Digest)>);

impl Clients {
    /// Hashes the secrets of `clients`.
    #[must_use]
    pub fn new(clients: &[ClientConfig]) -> Self {
        let known = clients.iter().map(|client| {
            let secret = digest(&SHA256, client.secret.expose().as_bytes());
            (client.id.clone(), secret)
        });
        Self(known.collect())
    }

    /// Returns whether no client is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the credentials are those of a client. The comparison takes the same time wherever the secrets differ.
    #[must_use]
    pub fn authenticate(&self, id: &str, secret: &str) -> bool {
        let secret = digest(&SHA256, secret.as_bytes());
        let matches = |(known, its): &(String, Digest)| {
            known == id && verify_slices_are_equal(its.as_ref(), secret.as_ref()).is_ok()
        };
        self.0.iter().any(matches)
    }
}

/// Lists the ids only: a secret must not reach a log.
impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(id, _)| id))
            .finish()
    }
}
