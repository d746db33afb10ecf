//! The keyring: the key that signs, the keys that verify, and their ids.
//!
//! Each key is bound to one algorithm. The header of a token selects a key by id (`kid`), but never the algorithm (RFC 8725
//! §3.1). The id is the RFC 7638 thumbprint, so it is the same on all replicas.
//!
//! Keys come from `JWT_SECRET`, from a folder, or from both. With both, the folder signs as soon as it has an active key, and
//! tokens signed with the secret are still verified. The folder is polled each second and read again when it has changed. If
//! it cannot be read, or holds an incomplete file, the keyring stays as it is.

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
use self::folder::{DirSnapshot, read, snapshot};
use self::key::Key;
pub use self::key::{KeyKind, PublicKey, PublicParameters};
use self::rotation::created_at;
use super::file_watch::poll_each_second;
use crate::config::Secret;
use crate::domain::{AccessClaims, Timestamp};

/// Immutable set of keys. A changed set is a new keyring with a new generation.
pub struct Keyring {
    active: ActiveKey,
    verifying: HashMap<String, VerifyingKey>,
    published: Published,
    /// Creation time of the active key.
    created_at: Option<Timestamp>,
    generation: u64,
}

struct ActiveKey {
    header: Header,
    key: EncodingKey,
}

/// Verification key and its only algorithm.
pub(super) struct VerifyingKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Public keys of a keyring.
#[derive(Debug, Clone)]
pub struct Published {
    /// The keys, sorted by `kid`.
    pub keys: Vec<PublicKey>,
    /// Entity tag of the set; it changes with the keys and with the program's version.
    pub etag: String,
}

static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl Keyring {
    /// Creates a keyring of one HS256 key, whose bytes are those of the secret.
    ///
    /// # Errors
    /// A sentence if the cryptographic library rejects the key.
    pub fn from_secret(secret: &Secret) -> Result<Self, &'static str> {
        Ok(Self::new(Key::from_secret(secret)?, Vec::new()))
    }

    /// Creates a keyring of a key that signs and others that only verify.
    fn new(active: Key, others: Vec<Key>) -> Self {
        let signs = ActiveKey {
            header: active.header(),
            key: active.signing.clone(),
        };
        let keys: Vec<Key> = std::iter::once(active).chain(others).collect();
        let mut public: Vec<PublicKey> = keys.iter().filter_map(|key| key.public.clone()).collect();
        public.sort_by(|a, b| a.kid.cmp(&b.kid));
        // A kid is the digest of its key. The program's version is included because it decides how the keys are rendered.
        let names = public.iter().map(|key| key.kid.as_str());
        let names: Vec<&str> = names.chain([env!("CARGO_PKG_VERSION")]).collect();
        let etag = digest(&SHA256, names.join(" ").as_bytes());
        let etag = BASE64_URL_SAFE_NO_PAD.encode(&etag.as_ref()[..12]);
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
            published: Published { keys: public, etag },
            created_at: None,
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Returns the generation. A token that an earlier generation verified must be verified again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the creation time of the active key, if its file name contains one.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        self.created_at
    }

    /// Returns the public keys.
    #[must_use]
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// Signs with the active key.
    ///
    /// # Errors
    /// A sentence if the cryptographic library fails.
    pub(super) fn sign(&self, claims: &AccessClaims) -> Result<String, &'static str> {
        jsonwebtoken::encode(&self.active.header, claims, &self.active.key)
            .map_err(|_| "a token cannot be signed")
    }

    /// Returns the verification key with this id.
    pub(super) fn verifying(&self, kid: &str) -> Option<&VerifyingKey> {
        self.verifying.get(kid)
    }

    fn active_kid(&self) -> &str {
        self.active.header.kid.as_deref().unwrap_or_default()
    }
}

/// Shows the generation only: a key must not reach a log.
impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Current keyring and its sources. Readers never wait.
#[derive(Debug)]
pub struct KeyStore {
    ring: ArcSwap<Keyring>,
    secret: Option<Secret>,
    folder: Option<PathBuf>,
}

impl KeyStore {
    /// Reads the keys from a secret, from a folder, or from both.
    ///
    /// # Errors
    /// A sentence if a file is not a key, or if there is no key to sign with.
    pub fn open(secret: Option<Secret>, folder: Option<PathBuf>) -> Result<Self, String> {
        let ring = load(secret.as_ref(), folder.as_ref())?;
        Ok(Self {
            ring: ArcSwap::from_pointee(ring),
            secret,
            folder,
        })
    }

    /// Returns the current keyring.
    #[must_use]
    pub fn ring(&self) -> Guard<Arc<Keyring>> {
        self.ring.load()
    }

    /// Polls the folder each second until `stop`.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let Some(folder) = self.folder.clone() else {
            return stop.cancelled().await;
        };
        let poll = move |watch: &mut FolderWatch| watch.poll(&self, &folder);
        poll_each_second(FolderWatch::default(), poll, stop).await;
    }

    fn read(&self) -> Result<Keyring, String> {
        load(self.secret.as_ref(), self.folder.as_ref())
    }

    /// Replaces the keyring if its keys differ.
    fn replace(&self, next: Keyring) {
        let before = self.ring.load();
        let same = before.published.etag == next.published.etag
            && before.active_kid() == next.active_kid();
        if !same {
            info!(
                event = "keys",
                active = next.active_kid(),
                keys = next.verifying.len(),
                "keyring reloaded"
            );
            self.ring.store(Arc::new(next));
        }
    }
}

/// State of the folder watch between two polls.
#[derive(Default)]
struct FolderWatch {
    /// Snapshot of the folder when it was last read.
    last_read: Option<DirSnapshot>,
    /// Last error that was logged.
    last_error: Option<String>,
}

impl FolderWatch {
    /// Takes a snapshot, and reads the keys if it differs from the last one.
    fn poll(&mut self, keys: &KeyStore, folder: &Path) {
        // Taken before the read: changes made during the read show in the next poll.
        let seen = snapshot(folder);
        let changed = seen.as_ref().ok() != self.last_read.as_ref();
        let read = seen.and_then(|seen| {
            let next = changed.then(|| keys.read()).transpose()?;
            Ok((seen, next))
        });
        match read {
            // The folder changed during the read, so a key that was just renamed may be missing. The next poll reads again.
            Ok((seen, Some(_))) if snapshot(folder).as_ref() != Ok(&seen) => {}
            Ok((seen, next)) => {
                self.last_read = Some(seen);
                if self.last_error.take().is_some() {
                    info!(event = "keys", "signing keys are readable again");
                }
                if let Some(next) = next {
                    keys.replace(next);
                }
            }
            Err(why) => {
                // Logged once for each new error, not once a second.
                if self.last_error.as_ref() != Some(&why) {
                    warn!(event = "keys", %why, "signing keys cannot be read; the previous ones stay in use");
                    self.last_error = Some(why);
                }
            }
        }
    }
}

fn load(secret: Option<&Secret>, folder: Option<&PathBuf>) -> Result<Keyring, String> {
    let mut files = folder.map_or_else(|| Ok(Vec::new()), |folder| read(folder))?;
    let secret = secret.map(Key::from_secret).transpose()?;
    let active = files.iter().position(|file| file.state == KeyState::Active);
    let active = active.map(|number| files.remove(number));
    let created_at = active.as_ref().and_then(|file| created_at(&file.name));
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
        created_at,
        ..Keyring::new(active, others)
    })
}
