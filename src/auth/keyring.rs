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
pub mod private_file;
pub mod rotation;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
use self::rotation::made;
use super::looking::look_each_second;
use crate::config::Secret;
use crate::domain::{AccessClaims, Timestamp};

/// A set of keys at one moment. It does not change; a changed set is a new ring with a new generation.
pub struct Keyring {
    active: ActiveKey,
    verifying: HashMap<String, VerifyingKey>,
    published: Published,
    /// When the active key was made.
    made: Option<Timestamp>,
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
        // A name is the digest of its key, and the version of the program says how it is shown.
        let names = public.iter().map(|key| key.kid.as_str());
        let names: Vec<&str> = names.chain([env!("CARGO_PKG_VERSION")]).collect();
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
            made: None,
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Tells rings apart. What was verified by an earlier ring is verified again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When the key that signs was made, where its name says so.
    #[must_use]
    pub fn made(&self) -> Option<Timestamp> {
        self.made
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
            return stop.cancelled().await;
        };
        let look = move |watch: &mut Watch| watch.look(&self, &folder);
        look_each_second(Watch::default(), look, stop).await;
    }

    fn read(&self) -> Result<Keyring, String> {
        ring(self.secret.as_ref(), self.folder.as_ref())
    }

    /// Takes a ring over, where it is another one.
    fn replace(&self, next: Keyring) {
        let before = self.ring.load();
        let same =
            before.published.tag == next.published.tag && before.active_kid() == next.active_kid();
        if !same {
            info!(
                event = "keys",
                active = next.active_kid(),
                keys = next.verifying.len(),
                "the keyring has changed"
            );
            self.ring.store(Arc::new(next));
        }
    }
}

/// What was seen of a folder so far.
#[derive(Default)]
struct Watch {
    /// How it looked when it was read.
    taken: Option<Look>,
    /// What was said to be wrong with it.
    complaint: Option<String>,
}

impl Watch {
    /// Looks, and reads where something has changed.
    fn look(&mut self, keys: &Keys, folder: &Path) {
        // Before it is read: what is written meanwhile is seen the next time.
        let seen = look(folder);
        let changed = seen.as_ref().ok() != self.taken.as_ref();
        let read = seen.and_then(|seen| {
            let next = changed.then(|| keys.read()).transpose()?;
            Ok((seen, next))
        });
        match read {
            // Names are being changed: a key that is renamed just now may have been missed. The next look finds it.
            Ok((seen, Some(_))) if look(folder).as_ref() != Ok(&seen) => {}
            Ok((seen, next)) => {
                self.taken = Some(seen);
                if self.complaint.take().is_some() {
                    info!(event = "keys", "the keys can be read again");
                }
                if let Some(next) = next {
                    keys.replace(next);
                }
            }
            Err(why) => {
                // Once for each thing that is wrong, not once a second.
                if self.complaint.as_ref() != Some(&why) {
                    warn!(event = "keys", %why, "the keys cannot be read; those read before stay");
                    self.complaint = Some(why);
                }
            }
        }
    }
}

fn ring(secret: Option<&Secret>, folder: Option<&PathBuf>) -> Result<Keyring, String> {
    let mut files = folder.map_or_else(|| Ok(Vec::new()), |folder| read(folder))?;
    let secret = secret.map(Key::from_secret).transpose()?;
    let active = files.iter().position(|file| file.state == KeyState::Active);
    let active = active.map(|number| files.remove(number));
    let made = active.as_ref().and_then(|file| made(&file.name));
    let active = active.map(|file| file.key);
    let mut others: Vec<Key> = files.into_iter().map(|file| file.key).collect();
    let active = match (active, secret) {
        (Some(active), secret) => {
            others.extend(secret);
            active
        }
        (None, Some(secret)) => secret,
        (None, None) => {
            return Err(
                "JWT_KEYS_DIR: no key in the folder signs; make one with: portcullis keys generate"
                    .to_owned(),
            );
        }
    };
    Ok(Keyring {
        made,
        ..Keyring::of(active, others)
    })
}
