//! OAuth requests and errors: forms from clients with credentials, and errors of RFC 6749 §5.2.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use poem::http::HeaderMap;
use poem::http::header::AUTHORIZATION;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaRequest, MetaSecurityScheme, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, Object};
use serde::de::DeserializeOwned;

use super::AuthState;
use super::body::{buffered_bytes, has_content_type, required_body};
use super::problem::{ApiError, ProblemCode};

/// Name of the security scheme in the document.
const SCHEME: &str = "client";

/// Content type of requests from clients.
const FORM: &str = "application/x-www-form-urlencoded";

/// OAuth error (RFC 6749 §5.2).
#[derive(Debug, Object)]
#[oai(example)]
pub struct OauthError {
    /// Error code: `invalid_client` or `invalid_request`
    error: String,
    /// Explanation for people
    error_description: String,
}

impl poem_openapi::types::Example for OauthError {
    fn example() -> Self {
        ClientRejection::InvalidClient.body()
    }
}

/// Form from an authenticated client, or the reason why the request is rejected.
#[derive(Debug)]
pub(super) struct ClientForm<T>(pub Result<T, ClientRejection>);

/// Reason why a request of a client is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientRejection {
    /// The client is unknown, or its secret is wrong.
    InvalidClient,
    /// The body is not a form, or a required parameter is missing.
    InvalidRequest,
}

impl ClientRejection {
    /// Returns the body of the response.
    pub(super) fn body(self) -> OauthError {
        let (error, description) = match self {
            Self::InvalidClient => (
                "invalid_client",
                "Send the credentials of a configured client by Basic authentication.",
            ),
            Self::InvalidRequest => (
                "invalid_request",
                "Send a form (application/x-www-form-urlencoded) with exactly one parameter token.",
            ),
        };
        OauthError {
            error: error.to_owned(),
            error_description: description.to_owned(),
        }
    }
}

/// Challenge of an `invalid_client` response.
pub(super) const CHALLENGE: &str = r#"Basic realm="portcullis", charset="UTF-8""#;

impl<'a, T: DeserializeOwned + Type + Send> ApiExtractor<'a> for ClientForm<T> {
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
        Some(required_body::<poem_openapi::payload::Form<T>>())
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let state = request
            .data::<AuthState>()
            .ok_or(ApiError::new(ProblemCode::Internal))?;
        let is_known = credentials(request.headers())
            .is_some_and(|(id, secret)| state.clients.authenticate(&id, &secret));
        if !is_known {
            return Ok(Self(Err(ClientRejection::InvalidClient)));
        }
        if !has_content_type(request.headers(), FORM) {
            return Ok(Self(Err(ClientRejection::InvalidRequest)));
        }
        let bytes = buffered_bytes(body).await;
        let form = bytes.and_then(|bytes| serde_urlencoded::from_bytes(&bytes).ok());
        Ok(Self(form.ok_or(ClientRejection::InvalidRequest)))
    }
}

fn scheme() -> MetaSecurityScheme {
    MetaSecurityScheme {
        ty: "http",
        description: Some("Credentials of a service, from the setting CLIENTS."),
        name: None,
        key_in: None,
        scheme: Some("basic"),
        bearer_format: None,
        flows: None,
        openid_connect_url: None,
    }
}

/// Decodes id and secret of Basic authentication, each form-encoded (RFC 6749 §2.3.1).
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
