//! One key: what it is called, the only algorithm it is used with, and what others may know of it.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use aws_lc_rs::{rsa, signature};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};

use crate::config::Secret;

/// The fewest bytes of an RSA modulus: 2048 bits.
const LEAST_MODULUS: usize = 256;

/// What is wrong with a PEM file that is no key of ours.
const WRONG_PEM: &str = "is not a private key in PEM of a known kind: Ed25519 or P-256 (PKCS#8, as OpenSSL writes it), or RSA of 2048 bits or more";

/// A signing key.
pub(super) struct Key {
    /// The RFC 7638 thumbprint: all replicas call the same key the same.
    pub(super) kid: String,
    pub(super) algorithm: Algorithm,
    pub(super) signing: EncodingKey,
    pub(super) verifying: DecodingKey,
    /// What is published; nothing of a secret.
    pub(super) public: Option<PublicKey>,
}

/// A public key as a JSON Web Key (RFC 7517) has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Its name.
    pub kid: String,
    /// The algorithm it verifies.
    pub algorithm: &'static str,
    /// What it is made of.
    pub parameters: PublicParameters,
}

/// What a public key is made of, each number in base64url.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicParameters {
    /// Ed25519 (RFC 8037).
    Ed25519 {
        /// The point.
        x: String,
    },
    /// P-256 (RFC 7518 §6.2).
    P256 {
        /// One coordinate.
        x: String,
        /// The other.
        y: String,
    },
    /// RSA (RFC 7518 §6.3).
    Rsa {
        /// The modulus.
        n: String,
        /// The exponent.
        e: String,
    },
}

/// The kinds of keys that are made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519, `EdDSA`: small and fast.
    Ed25519,
    /// P-256, `ES256`: where Ed25519 is not known.
    P256,
    /// RSA of 3072 bits, `RS256`: known everywhere, slow to sign with.
    Rsa,
}

impl Key {
    /// A key of HS256, whose bytes are the secret's.
    pub(super) fn from_secret(secret: &Secret) -> Result<Self, &'static str> {
        let bytes = secret.expose().as_bytes();
        let signing = EncodingKey::from_secret(bytes);
        let kid = Jwk::from_encoding_key(&signing, Algorithm::HS256)
            .and_then(|jwk| jwk.thumbprint(ThumbprintHash::SHA256))
            .map_err(|_| "JWT_SECRET: cannot be used as a key")?;
        Ok(Self {
            kid,
            algorithm: Algorithm::HS256,
            signing,
            verifying: DecodingKey::from_secret(bytes),
            public: None,
        })
    }

    /// A private key in PEM.
    pub(super) fn from_pem(pem: &Secret) -> Result<Self, &'static str> {
        let bytes = pem.expose().as_bytes();
        let known = EncodingKey::from_ed_pem(bytes)
            .map(|key| (key, Algorithm::EdDSA))
            .or_else(|_| EncodingKey::from_ec_pem(bytes).map(|key| (key, Algorithm::ES256)))
            .or_else(|_| EncodingKey::from_rsa_pem(bytes).map(|key| (key, Algorithm::RS256)));
        let (signing, algorithm) = known.map_err(|_| WRONG_PEM)?;
        let jwk = Jwk::from_encoding_key(&signing, algorithm).map_err(|_| WRONG_PEM)?;
        let kid = jwk
            .thumbprint(ThumbprintHash::SHA256)
            .map_err(|_| WRONG_PEM)?;
        let (parameters, name) = match &jwk.algorithm {
            AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => {
                (PublicParameters::Ed25519 { x: it.x.clone() }, "EdDSA")
            }
            AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => {
                let (x, y) = (it.x.clone(), it.y.clone());
                (PublicParameters::P256 { x, y }, "ES256")
            }
            AlgorithmParameters::RSA(it) => {
                let modulus = BASE64_URL_SAFE_NO_PAD.decode(&it.n);
                if modulus.map_err(|_| WRONG_PEM)?.len() < LEAST_MODULUS {
                    return Err(WRONG_PEM);
                }
                let (n, e) = (it.n.clone(), it.e.clone());
                (PublicParameters::Rsa { n, e }, "RS256")
            }
            _ => return Err(WRONG_PEM),
        };
        let key = Self {
            verifying: DecodingKey::from_jwk(&jwk).map_err(|_| WRONG_PEM)?,
            public: Some(PublicKey {
                kid: kid.clone(),
                algorithm: name,
                parameters,
            }),
            kid,
            algorithm,
            signing,
        };
        // What does not sign is found out now, not with the first login.
        jsonwebtoken::encode(&key.header(), &(), &key.signing).map_err(|_| WRONG_PEM)?;
        Ok(key)
    }

    /// The header of what it signs.
    pub(super) fn header(&self) -> Header {
        Header {
            typ: Some("at+jwt".to_owned()),
            kid: Some(self.kid.clone()),
            ..Header::new(self.algorithm)
        }
    }
}

impl KeyKind {
    /// Makes a private key, in PEM.
    ///
    /// # Errors
    /// A sentence where the cryptographic library fails.
    pub fn generate(self) -> Result<Secret, &'static str> {
        let failed = |_| "a key cannot be made";
        let der = match self {
            Self::Ed25519 => {
                let pair = Ed25519KeyPair::generate().map_err(failed)?;
                pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
            }
            Self::P256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
                let pair = pair.map_err(failed)?;
                pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
            }
            Self::Rsa => {
                let pair: signature::RsaKeyPair =
                    rsa::KeyPair::generate(KeySize::Rsa3072).map_err(failed)?;
                pair.as_der().map_err(failed)?.as_ref().to_vec()
            }
        };
        let pem = pem::encode_config(
            &pem::Pem::new("PRIVATE KEY", der),
            pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
        );
        Ok(Secret::new(pem))
    }
}

/// Shows nothing secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_key_that_is_made_is_read_again() {
        let kinds = [KeyKind::Ed25519, KeyKind::P256, KeyKind::Rsa];
        for (kind, algorithm) in kinds.into_iter().zip(["EdDSA", "ES256", "RS256"]) {
            let key = Key::from_pem(&kind.generate().unwrap()).unwrap();
            assert_eq!(key.public.unwrap().algorithm, algorithm);
        }
    }

    /// The key and the name of RFC 8037, appendix A.3.
    #[test]
    fn a_key_is_called_by_its_thumbprint() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        let key = Key::from_pem(&Secret::new(pem.to_owned())).unwrap();
        assert_eq!(key.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn what_is_no_key_of_a_known_kind_is_refused() {
        // RSA of 1024 bits, whole and well formed.
        let weak = include_str!("weak.pem");
        for text in [
            "",
            "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
            weak,
        ] {
            assert_eq!(
                Key::from_pem(&Secret::new(text.to_owned())).err(),
                Some(WRONG_PEM)
            );
        }
    }
}
