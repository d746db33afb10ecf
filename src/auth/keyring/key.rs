//! Signing key: its id, its only algorithm, and its public part.

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

/// Minimum length of an RSA modulus in bytes: 2048 bits.
const LEAST_MODULUS: usize = 256;

/// Error for a PEM file that is not a supported key.
const WRONG_PEM: &str = "is not a private key in PEM of a known kind: Ed25519 or P-256 (PKCS#8, as OpenSSL writes it), or RSA of 2048 bits or more";

/// Signing key.
pub(super) struct Key {
    /// RFC 7638 thumbprint: the same on all replicas.
    pub(super) kid: String,
    pub(super) algorithm: Algorithm,
    pub(super) signing: EncodingKey,
    pub(super) verifying: DecodingKey,
    /// Published part; `None` for a secret key.
    pub(super) public: Option<PublicKey>,
}

/// Public key, with the fields of a JSON Web Key (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Key id.
    pub kid: String,
    /// Only algorithm the key verifies.
    pub algorithm: &'static str,
    /// Numbers of the key.
    pub parameters: PublicParameters,
}

/// Parameters of a public key, each number in base64url.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicParameters {
    /// Ed25519 (RFC 8037).
    Ed25519 {
        /// Public point.
        x: String,
    },
    /// P-256 (RFC 7518 §6.2).
    P256 {
        /// X coordinate.
        x: String,
        /// Y coordinate.
        y: String,
    },
    /// RSA (RFC 7518 §6.3).
    Rsa {
        /// Modulus.
        n: String,
        /// Public exponent.
        e: String,
    },
}

/// Kind of a key to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519, `EdDSA`: small and fast.
    Ed25519,
    /// P-256, `ES256`: for verifiers without Ed25519.
    P256,
    /// RSA of 3072 bits, `RS256`: supported everywhere, slow to sign with.
    Rsa,
}

impl Key {
    /// Creates an HS256 key, whose bytes are those of the secret.
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

    /// Parses a private key in PEM.
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
        // Sign once, so that an unusable key fails here and not at the first login.
        jsonwebtoken::encode(&key.header(), &(), &key.signing).map_err(|_| WRONG_PEM)?;
        Ok(key)
    }

    /// Returns the header of tokens signed with this key.
    pub(super) fn header(&self) -> Header {
        Header {
            typ: Some("at+jwt".to_owned()),
            kid: Some(self.kid.clone()),
            ..Header::new(self.algorithm)
        }
    }
}

impl KeyKind {
    /// Generates a private key, in PEM.
    ///
    /// # Errors
    /// A sentence if the cryptographic library fails.
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

/// Shows the id and the algorithm only: the key must not reach a log.
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
    fn every_kind_of_generated_key_can_be_parsed() {
        let kinds = [KeyKind::Ed25519, KeyKind::P256, KeyKind::Rsa];
        for (kind, algorithm) in kinds.into_iter().zip(["EdDSA", "ES256", "RS256"]) {
            let key = Key::from_pem(&kind.generate().unwrap()).unwrap();
            assert_eq!(key.public.unwrap().algorithm, algorithm);
        }
    }

    /// Key and thumbprint of RFC 8037, appendix A.3.
    #[test]
    fn a_key_is_called_by_its_thumbprint() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        let key = Key::from_pem(&Secret::new(pem.to_owned())).unwrap();
        assert_eq!(key.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn unsupported_keys_are_rejected() {
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
