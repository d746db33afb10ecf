//! How OAuth is spoken: forms from clients with credentials, and errors as RFC 6749 §5.2 has them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use poem::http::HeaderMap;
use poem::http::header::AUTHORIZATION;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaRequest, MetaSecurityScheme, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, Object};
use serde::de::DeserializeOwned;

use super::Asked;
use super::body::{bytes, described, is_of};
use super::problem::{ApiError, ProblemCode};

/// The name of the security scheme in the document.
const SCHEME: &str = "client";

/// The kind of body that clients send.
const FORM: &str = "application/x-www-form-urlencoded";

/// What is wrong, for programs (RFC 6749 §5.2).
#[derive(Debug, Object)]
#[oai(example)]
pub struct OauthError {
    /// `invalid_client` or `invalid_request`
    error: String,
    /// What is wrong, for people
    error_description: String,
}

impl poem_openapi::types::Example for OauthError {
    fn example() -> Self {
        Refused::Client.body()
    }
}

/// What a client has sent, or why it is not answered.
#[derive(Debug)]
pub(super) struct FromClient<T>(pub Result<T, Refused>);

/// Why a client is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is none that is known, or its secret is wrong.
    Client,
    /// The form is not one, or lacks what it must have.
    Request,
}

impl Refused {
    /// The body of the answer.
    pub(super) fn body(self) -> OauthError {
        let (error, description) = match self {
            Self::Client => (
                "invalid_client",
                "Send the credentials of a client that is known here, by Basic authentication.",
            ),
            Self::Request => (
                "invalid_request",
                "Send a form (application/x-www-form-urlencoded) with the parameter token, once.",
            ),
        };
        OauthError {
            error: error.to_owned(),
            error_description: description.to_owned(),
        }
    }
}

/// The challenge that belongs to `invalid_client`.
pub(super) const CHALLENGE: &str = r#"Basic realm="portcullis", charset="UTF-8""#;

impl<'a, T: DeserializeOwned + Type + Send> ApiExtractor<'a> for FromClient<T> {
    const TYPES: &'static [ApiExtractorType] = &[
        ApiExtractorType::RequestObject,
        ApiExtractorType::SecurityScheme,
    ];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
        registry.create_security_scheme(SCHEME, scheme());
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(described::<poem_openapi::payload::Form<T>>())
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let asked = request
            .data::<Asked>()
            .ok_or(ApiError::new(ProblemCode::Internal))?;
        let known = credentials(request.headers())
            .is_some_and(|(id, secret)| asked.clients.authenticate(&id, &secret));
        if !known {
            return Ok(Self(Err(Refused::Client)));
        }
        if !is_of(request.headers(), FORM) {
            return Ok(Self(Err(Refused::Request)));
        }
        let bytes = bytes(body).await;
        let form = bytes.and_then(|bytes| serde_urlencoded::from_bytes(&bytes).ok());
        Ok(Self(form.ok_or(Refused::Request)))
    }
}

fn scheme() -> MetaSecurityScheme {
    MetaSecurityScheme {
        ty: "http",
        description: Some("The credentials of a service, from the setting CLIENTS."),
        name: None,
        key_in: None,
        scheme: Some("basic"),
        bearer_format: None,
        flows: None,
        openid_connect_url: None,
    }
}

/// Id and secret of Basic authentication, each encoded as a form (RFC 6749 §2.3.1).
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let mut headers = headers.get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (headers.next(), headers.next()) else {
        return None;
    };
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decoded = |text: &str| {
        let pair = serde_urlencoded::from_str::<Vec<(String, String)>>(&format!("x={text}"));
        let [(_, decoded)] = <[_; 1]>::try_from(pair.ok()?).ok()?;
        Some(decoded)
    };
    Some((decoded(id)?, decoded(secret)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str) -> Option<(String, String)> {
        let value = format!("Basic {}", BASE64_STANDARD.encode(text));
        credentials(&HeaderMap::from_iter([(
            AUTHORIZATION,
            value.parse().unwrap(),
        )]))
    }

    #[test]
    fn credentials_are_encoded_as_forms_are() {
        let both = |id: &str, secret: &str| Some((id.to_owned(), secret.to_owned()));
        assert_eq!(sent("gate:s3cret"), both("gate", "s3cret"));
        assert_eq!(sent("gate:a%3Ab+c"), both("gate", "a:b c"));
        assert_eq!(sent("gate"), None);
        assert_eq!(sent("gate:a&x=b"), None);
    }
}
