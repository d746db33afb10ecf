//! Makes tokens as a forger would who holds the key: every byte of them is chosen by the test.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::cluster::SECRET;

/// base64url without padding.
pub fn segment(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs a header and claims, as they are written, with a key of one's choice.
pub fn signed_by(algorithm: hmac::Algorithm, key: &[u8], header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", segment(header), segment(claims));
    let signature = hmac::sign(&hmac::Key::new(algorithm, key), signed.as_bytes());
    format!("{signed}.{}", segment(signature))
}

/// The same with the key and the algorithm of the test replicas.
pub fn signed(header: &str, claims: &str) -> String {
    signed_by(hmac::HMAC_SHA256, SECRET.as_bytes(), header, claims)
}

/// The header and the claims of a token.
pub fn opened(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        serde_json::from_slice(&bytes).unwrap_or_default()
    });
    (parts.next().unwrap(), parts.next().unwrap())
}

/// The object with a member set to a value.
pub fn with(object: &Value, member: &str, value: impl Into<Value>) -> String {
    let mut object = object.clone();
    object[member] = value.into();
    object.to_string()
}

/// The object without a member.
pub fn without(object: &Value, member: &str) -> String {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove(member).unwrap();
    object.to_string()
}

/// The object with one more member at its end, which may be there already; serde_json could not write that.
pub fn with_another(object: &Value, member: &str, value: &Value) -> String {
    let text = object.to_string();
    format!(
        r#"{},"{member}":{value}}}"#,
        text.strip_suffix('}').unwrap()
    )
}
