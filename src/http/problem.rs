//! Error responses: RFC 9457 problems for every request that does not succeed.
//!
//! A client sees a status, a closed [`ProblemCode`] and fixed sentences of this program. No constructor puts the text of an
//! error value into them, so that neither a rejected password nor an address of Redis can reach a response. The cause is
//! carried beside the problem to the end of the request, and logged there in one line.

use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{
    MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::{ToJSON, Type};
use poem_openapi::{ApiResponse, Enum, Object};
use serde::Serialize;

use super::context;
use crate::auth::ServiceError;

/// Default of `Retry-After` in seconds: a failover takes a few seconds.
const RETRY_AFTER: u64 = 2;

/// Error code for programs. The list is closed: a client may match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// 400: the body does not have the form that the operation takes.
    MalformedRequest,
    /// 400: the request contradicts itself, as with two tokens (RFC 6750 §3.1).
    InvalidRequest,
    /// 401: no bearer token was sent.
    MissingToken,
    /// 401: the token is malformed, expired, forged or revoked.
    InvalidToken,
    /// 401: wrong username or password.
    InvalidCredentials,
    /// 403: the token is valid, but its user lacks the role.
    Forbidden,
    /// 404: there is nothing at this path.
    NotFound,
    /// 405: the path does not support this method; `Allow` lists the supported ones.
    MethodNotAllowed,
    /// 408: the head or the body did not arrive in time.
    RequestTimeout,
    /// 409: the username is taken.
    NameTaken,
    /// 413: the body is too large.
    PayloadTooLarge,
    /// 414: the path and query are too long.
    UriTooLong,
    /// 415: the body is not JSON in UTF-8.
    UnsupportedMediaType,
    /// 422: a value breaks a rule; `errors` lists all such values.
    ValidationFailed,
    /// 429: too many attempts.
    Throttled,
    /// 431: the header fields are too many or too large.
    HeadersTooLarge,
    /// 503: too many passwords wait to be checked.
    Overloaded,
    /// 503: the service is unavailable at present.
    Unavailable,
    /// 500: the service has failed.
    Internal,
}

impl ProblemCode {
    fn status(self) -> StatusCode {
        match self {
            Self::MalformedRequest | Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::MissingToken | Self::InvalidToken | Self::InvalidCredentials => {
                StatusCode::UNAUTHORIZED
            }
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::NameTaken => StatusCode::CONFLICT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ValidationFailed => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Throttled => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Overloaded | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Self::MalformedRequest => {
                "The request does not have the form that this operation takes."
            }
            Self::InvalidRequest => "Send one token, and only in the Authorization header.",
            Self::MissingToken => "Send an access token: Authorization: Bearer <token>.",
            Self::InvalidToken => {
                "The access token is malformed, expired, forged or revoked. Log in again."
            }
            Self::InvalidCredentials => "The username or the password is wrong.",
            Self::Forbidden => {
                "This operation requires a role that the user of the token does not have."
            }
            Self::NotFound => "There is nothing at this path.",
            Self::MethodNotAllowed => {
                "This path does not support the method; the Allow header lists the supported methods."
            }
            Self::RequestTimeout => "The request did not arrive in time.",
            Self::NameTaken => "The username is taken.",
            Self::PayloadTooLarge => "The body is larger than 16 KiB.",
            Self::UriTooLong => "The path and query are longer than 8 KiB.",
            Self::UnsupportedMediaType => {
                "The body must be JSON in UTF-8, with Content-Type: application/json."
            }
            Self::ValidationFailed => "A value breaks a rule; see errors.",
            Self::Throttled => "Too many attempts; try again after Retry-After seconds.",
            Self::HeadersTooLarge => {
                "There are more than 64 header fields, or more than 16 KiB of them."
            }
            Self::Overloaded => {
                "Too many passwords wait to be checked; try again after Retry-After seconds."
            }
            Self::Unavailable => {
                "The service is unavailable at present; try again after Retry-After seconds."
            }
            Self::Internal => "The service has failed. Quote the request id when you report this.",
        }
    }
}

/// Problem (RFC 9457).
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct Problem {
    /// Always `about:blank`: `code` identifies the error.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    kind: String,
    /// Name of the HTTP status.
    title: String,
    /// HTTP status.
    status: u16,
    /// Explanation for people.
    detail: String,
    /// Error code for programs.
    code: ProblemCode,
    /// ID of the request, also in the log.
    request_id: String,
    /// With 422: every value that breaks a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<FieldError>>,
}

/// A value that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
pub(super) struct FieldError {
    /// JSON pointer to the value in the body (RFC 6901).
    pub pointer: String,
    /// Rule that the value breaks, to be read after the name of the member.
    pub detail: String,
}

/// Error response: a problem and its headers.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    code: ProblemCode,
    detail: &'static str,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    closes_connection: bool,
    /// Cause of a failure of the service, only for the log.
    cause: Option<String>,
}

impl ApiError {
    /// Creates a problem with the default sentence of its code.
    #[must_use]
    pub(super) fn new(code: ProblemCode) -> Self {
        let mut error = Self {
            code,
            detail: code.detail(),
            errors: Vec::new(),
            headers: Vec::new(),
            closes_connection: false,
            cause: None,
        };
        match code.status() {
            StatusCode::UNAUTHORIZED => {
                // RFC 6750 §3: the challenge has an error code only if a token was sent.
                let challenge = if code == ProblemCode::InvalidToken {
                    r#"Bearer realm="portcullis", error="invalid_token""#
                } else {
                    r#"Bearer realm="portcullis""#
                };
                error.headers.push((
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static(challenge),
                ));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                error.retry_after(RETRY_AFTER);
            }
            _ => {}
        }
        error
    }

    /// Creates a problem with another sentence.
    #[must_use]
    pub(super) fn with_detail(code: ProblemCode, detail: &'static str) -> Self {
        Self {
            detail,
            ..Self::new(code)
        }
    }

    /// Creates a 422 with all values that break a rule.
    #[must_use]
    pub(super) fn validation(errors: Vec<FieldError>) -> Self {
        Self {
            errors,
            ..Self::new(ProblemCode::ValidationFailed)
        }
    }

    /// Creates a 405 with the methods that the path supports.
    #[must_use]
    pub(super) fn method_not_allowed(allow: HeaderValue) -> Self {
        let mut error = Self::new(ProblemCode::MethodNotAllowed);
        error.headers.push((header::ALLOW, allow));
        error
    }

    /// Closes the connection after the response: the rest of the request was not read.
    #[must_use]
    pub(super) fn closing_connection(mut self) -> Self {
        self.closes_connection = true;
        self
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub(super) fn caused_by(mut self, why: &dyn std::fmt::Display) -> Self {
        self.cause = Some(why.to_string());
        self
    }

    /// Returns the cause, for the log.
    #[must_use]
    pub(super) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    fn retry_after(&mut self, seconds: u64) {
        self.headers.retain(|(name, _)| name != header::RETRY_AFTER);
        self.headers
            .push((header::RETRY_AFTER, HeaderValue::from(seconds)));
    }

    fn problem(&self) -> Problem {
        let status = self.code.status();
        Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: self.detail.to_owned(),
            code: self.code,
            request_id: context::request_id(),
            errors: (!self.errors.is_empty()).then(|| self.errors.clone()),
        }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code.detail())
    }
}

impl std::error::Error for ApiError {}

/// Converts a failure of the service: the client sees the problem, the log gets the cause.
impl From<ServiceError> for ApiError {
    fn from(failure: ServiceError) -> Self {
        match failure {
            ServiceError::Unavailable(why) => Self::new(ProblemCode::Unavailable).caused_by(&why),
            ServiceError::Overloaded { retry_after } => {
                let mut error =
                    Self::new(ProblemCode::Overloaded).caused_by(&"the password queue is full");
                error.retry_after(retry_after);
                error
            }
            ServiceError::RateLimited { retry_after, .. } => {
                let mut error = Self::new(ProblemCode::Throttled);
                error.retry_after(retry_after);
                error
            }
            ServiceError::Internal(what) => Self::new(ProblemCode::Internal).caused_by(&what),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = ProblemJson(self.problem()).into_response();
        response.set_status(self.code.status());
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        if self.closes_connection {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl poem::error::ResponseError for ApiError {
    fn status(&self) -> StatusCode {
        self.code.status()
    }

    fn as_response(&self) -> Response {
        self.clone().into_response()
    }
}

/// Responses that the document lists at every operation, besides its own.
impl ApiResponse for ApiError {
    fn meta() -> MetaResponses {
        let header = |name: &str, description: &str, schema: MetaSchema| MetaHeader {
            name: name.to_owned(),
            description: Some(description.to_owned()),
            required: false,
            deprecated: false,
            schema: MetaSchemaRef::Inline(Box::new(schema)),
        };
        let response = |range: &str, description, headers| MetaResponse {
            description,
            status: None,
            status_range: Some(range.to_owned()),
            content: vec![MetaMediaType {
                content_type: ProblemJson::CONTENT_TYPE,
                schema: ProblemJson::schema_ref(),
            }],
            headers,
        };
        let retry = || {
            header(
                "Retry-After",
                "With 429 and 503: seconds to wait.",
                MetaSchema::new("integer"),
            )
        };
        let challenge = header(
            "WWW-Authenticate",
            "With 401 (RFC 6750 §3).",
            MetaSchema::new("string"),
        );
        MetaResponses {
            responses: vec![
                response(
                    "4XX",
                    "The request is rejected; `code` names the reason.",
                    vec![challenge, retry()],
                ),
                response(
                    "5XX",
                    "The service is unavailable or has failed; with 503, try again after Retry-After seconds.",
                    vec![retry()],
                ),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        ProblemJson::register(registry);
    }
}

/// Problem as an example for the document.
pub(super) fn example(code: ProblemCode) -> Option<serde_json::Value> {
    let request_id = "0197a5a26d2f7c1e9d3b0a1b2c3d4e5f".to_owned();
    let problem = ApiError::new(code).problem();
    Problem {
        request_id,
        ..problem
    }
    .to_json()
}

/// Body with a problem.
#[derive(Debug)]
pub struct ProblemJson(Problem);

impl ProblemJson {
    /// Creates the problem of an expected outcome.
    #[must_use]
    pub fn new(code: ProblemCode) -> Self {
        Self(ApiError::new(code).problem())
    }
}

impl Payload for ProblemJson {
    const CONTENT_TYPE: &'static str = "application/problem+json";

    fn schema_ref() -> MetaSchemaRef {
        Problem::schema_ref()
    }

    fn register(registry: &mut Registry) {
        Problem::register(registry);
    }
}

impl IntoResponse for ProblemJson {
    fn into_response(self) -> Response {
        Response::builder()
            .content_type(Self::CONTENT_TYPE)
            .body(serde_json::to_vec(&self.0).unwrap_or_default())
    }
}
