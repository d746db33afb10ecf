//! Services with credentials of their own: whether somebody is one of them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};

use crate::config::ClientConfig;

/// Those of the settings.
pub struct Clients(Vec<(String, Digest)>);

impl Clients {
    /// Knows these.
    #[must_use]
    pub fn new(clients: &[ClientConfig]) -> Self {
        let known = clients.iter().map(|client| {
            let secret = digest(&SHA256, client.secret.expose().as_bytes());
            (client.id.clone(), secret)
        });
        Self(known.collect())
    }

    /// Whether there are any.
    #[must_use]
    pub fn are_there(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether this is one of them. Takes equally long whatever is wrong with the secret.
    #[must_use]
    pub fn knows(&self, id: &str, secret: &str) -> bool {
        let secret = digest(&SHA256, secret.as_bytes());
        let is_it = |(known, its): &(String, Digest)| {
            known == id && verify_slices_are_equal(its.as_ref(), secret.as_ref()).is_ok()
        };
        self.0.iter().any(is_it)
    }
}

/// Shows no secret.
impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(id, _)| id))
            .finish()
    }
}
