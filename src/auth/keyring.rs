//! The keyring: which key signs, which keys verify, and what each is called.
//!
//! A key is bound to one algorithm; the header of a token only chooses among the keys by name (`kid`), it never chooses the
//! algorithm (RFC 8725 §3.1). The name is the RFC 7638 thumbprint, so all replicas call the same key the same.
//!
//! Keys come from `JWT_SECRET`, from a folder, or from both: then the folder signs as soon as it has a key that does, and
//! what the secret has signed is still verified. The folder is looked at each second, and read anew where it has changed.
//! One that cannot be read, or holds half a file, leaves the ring as it is.

mod folder;
mod key;
pub mod rotation;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::folder::KeyState;
use self::folder::{Look, look, read};
use self::key::Key;
pub use self::key::{KeyKind, PublicKey, PublicParameters};
use crate::config::Secret;
use crate::domain::AccessClaims;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A set of keys at one moment. It does not change; a changed set is a new ring with a new generation.
pub struct Keyring {
    active: ActiveKey,
    verifying: HashMap<String, VerifyingKey>,
    published: Published,
    generation: u64,
}

struct ActiveKey {
    header: Header,
    key: EncodingKey,
}

/// A key that verifies, and the only algorithm it does that with.
pub(super) struct VerifyingKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// The public keys of a ring.
#[derive(Debug, Clone)]
pub struct Published {
    /// In the order of their names in the folder.
    pub keys: Vec<PublicKey>,
    /// Names this set: another one has another.
    pub tag: String,
}

static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl Keyring {
    /// A ring of one HS256 key, whose bytes are the secret's.
    ///
    /// # Errors
    /// A sentence where the cryptographic library refuses the key.
    pub fn from_secret(secret: &Secret) -> Result<Self, &'static str> {
        Ok(Self::of(Key::from_secret(secret)?, Vec::new()))
    }

    /// A ring of a key that signs and others that verify only.
    fn of(active: Key, others: Vec<Key>) -> Self {
        let signs = ActiveKey {
            header: active.header(),
            key: active.signing.clone(),
        };
        let keys: Vec<Key> = std::iter::once(active).chain(others).collect();
        let mut public: Vec<PublicKey> = keys.iter().filter_map(|key| key.public.clone()).collect();
        public.sort_by(|a, b| a.kid.cmp(&b.kid));
        let names: Vec<&str> = public.iter().map(|key| key.kid.as_str()).collect();
        let tag = digest(&SHA256, names.join(" ").as_bytes());
        let tag = BASE64_URL_SAFE_NO_PAD.encode(&tag.as_ref()[..12]);
        let verifying = keys.into_iter().map(|key| {
            let verifying = VerifyingKey {
                algorithm: key.algorithm,
                key: key.verifying,
            };
            (key.kid, verifying)
        });
        Self {
            active: signs,
            verifying: verifying.collect(),
            published: Published { keys: public, tag },
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Tells rings apart. What was verified by an earlier ring is verified again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What others may know of it.
    #[must_use]
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// Signs with the active key.
    ///
    /// # Errors
    /// A sentence where the cryptographic library fails.
    pub(super) fn sign(&self, claims: &AccessClaims) -> Result<String, &'static str> {
        jsonwebtoken::encode(&self.active.header, claims, &self.active.key)
            .map_err(|_| "a token cannot be signed")
    }

    /// The key of that name.
    pub(super) fn verifying(&self, kid: &str) -> Option<&VerifyingKey> {
        self.verifying.get(kid)
    }

    fn active_kid(&self) -> &str {
        self.active.header.kid.as_deref().unwrap_or_default()
    }
}

/// Shows no key.
impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// The present ring, and where it comes from. Whoever reads it waits for nobody.
#[derive(Debug)]
pub struct Keys {
    ring: ArcSwap<Keyring>,
    secret: Option<Secret>,
    folder: Option<PathBuf>,
}

impl Keys {
    /// Reads the keys of a secret, of a folder, or of both.
    ///
    /// # Errors
    /// A sentence: a file is no key, or none of the keys signs.
    pub fn open(secret: Option<Secret>, folder: Option<PathBuf>) -> Result<Self, String> {
        let ring = ring(secret.as_ref(), folder.as_ref())?;
        Ok(Self {
            ring: ArcSwap::from_pointee(ring),
            secret,
            folder,
        })
    }

    /// The present ring.
    #[must_use]
    pub fn ring(&self) -> Guard<Arc<Keyring>> {
        self.ring.load()
    }

    /// Looks at the folder each second until told to stop.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let Some(folder) = self.folder.clone() else {
            return;
        };
        let (mut taken, mut complained) = (None, None);
        loop {
            // Before it is read: what is written meanwhile is seen the next time.
            let seen = look(&folder);
            if seen.as_ref().ok() != taken.as_ref() || taken.is_none() {
                self.take(seen, &mut taken, &mut complained);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn take(
        &self,
        seen: Result<Look, String>,
        taken: &mut Option<Look>,
        complained: &mut Option<String>,
    ) {
        let next =
            seen.and_then(|seen| Ok((seen, ring(self.secret.as_ref(), self.folder.as_ref())?)));
        if let (Ok((seen, _)), Some(folder)) = (&next, &self.folder)
            && look(folder).as_ref().ok() != Some(seen)
        {
            // Names are being changed: a key that is renamed just now may have been missed. The next look finds it.
            return;
        }
        match next {
            Ok((seen, next)) => {
                *complained = None;
                let first = taken.replace(seen).is_none();
                let before = self.ring.load();
                let same = before.published.tag == next.published.tag
                    && before.active_kid() == next.active_kid();
                if first && same {
                    return;
                }
                info!(
                    event = "keys",
                    active = next.active_kid(),
                    keys = next.verifying.len(),
                    "the keyring has changed"
                );
                self.ring.store(Arc::new(next));
            }
            Err(why) => {
                // Once for each thing that is wrong, not once a second.
                if complained.as_ref() != Some(&why) {
                    warn!(event = "keys", %why, "the keys cannot be read; those read before stay");
                    *complained = Some(why);
                }
            }
        }
    }
}

fn ring(secret: Option<&Secret>, folder: Option<&PathBuf>) -> Result<Keyring, String> {
    let mut files = folder.map_or_else(|| Ok(Vec::new()), |folder| read(folder))?;
    let secret = secret.map(Key::from_secret).transpose()?;
    let active = files.iter().position(|file| file.state == KeyState::Active);
    let active = active.map(|number| files.remove(number).key);
    let mut others: Vec<Key> = files.into_iter().map(|file| file.key).collect();
    let active = match (active, secret) {
        (Some(active), secret) => {
            others.extend(secret);
            active
        }
        (None, Some(secret)) => secret,
        (None, None) => {
            return Err(
                "JWT_KEYS: no key in the folder signs; make one with: portcullis keys generate"
                    .to_owned(),
            );
        }
    };
    Ok(Keyring::of(active, others))
}
