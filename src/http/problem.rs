//! Errors as clients see them: RFC 9457 problems, for everything that is not a success.
//!
//! Who may see what: a client sees a status, a closed [`ProblemCode`] and sentences that are written in this program. No
//! constructor takes text from an error value for it, so neither a password that did not parse nor an address of Redis can
//! get into an answer. A cause travels beside the problem to where the request ends, and into the one line of the log there.

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

/// Seconds after which a client may try again where nothing better is known: a failover is a matter of seconds.
const RETRY_AFTER: u64 = 2;

/// What went wrong, for programs. The list is closed: a client may match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// 400: the body is not of the form that the operation takes.
    MalformedRequest,
    /// 400: the request contradicts itself, as with two tokens (RFC 6750 §3.1).
    InvalidRequest,
    /// 401: no bearer token was sent.
    MissingToken,
    /// 401: the token is malformed, expired, forged or revoked.
    InvalidToken,
    /// 401: wrong username or password.
    InvalidCredentials,
    /// 403: the token is good, but its holder lacks the role.
    Forbidden,
    /// 404: there is nothing at this path.
    NotFound,
    /// 405: the path does not know this method; `Allow` lists those it knows.
    MethodNotAllowed,
    /// 408: the head or the body did not arrive in time.
    RequestTimeout,
    /// 409: somebody has this username.
    NameTaken,
    /// 413: the body is too large.
    PayloadTooLarge,
    /// 414: the path and query are too long.
    UriTooLong,
    /// 415: the body is not JSON in UTF-8.
    UnsupportedMediaType,
    /// 422: a value breaks a rule; `errors` lists all that do.
    ValidationFailed,
    /// 429: too many attempts.
    Throttled,
    /// 431: the header fields are too many or too large.
    HeadersTooLarge,
    /// 503: passwords are being checked as fast as they can be.
    Overloaded,
    /// 503: the service cannot answer at present.
    Unavailable,
    /// 500: a fault of the service.
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
            Self::MalformedRequest => "The request is not of the form that this operation takes.",
            Self::InvalidRequest => "Send one token, and only in the Authorization header.",
            Self::MissingToken => "Send an access token: Authorization: Bearer <token>.",
            Self::InvalidToken => {
                "The access token is malformed, expired, forged or revoked. Log in again."
            }
            Self::InvalidCredentials => "The username or the password is wrong.",
            Self::Forbidden => "This needs a role that the token's user does not have.",
            Self::NotFound => "There is nothing at this path.",
            Self::MethodNotAllowed => {
                "This path does not know that method; the Allow header lists those it knows."
            }
            Self::RequestTimeout => "The request did not arrive in time.",
            Self::NameTaken => "Somebody has this username.",
            Self::PayloadTooLarge => "The body is larger than 16 KiB.",
            Self::UriTooLong => "The path and query are longer than 8 KiB.",
            Self::UnsupportedMediaType => {
                "The body must be JSON in UTF-8, with Content-Type: application/json."
            }
            Self::ValidationFailed => "A value breaks a rule; see errors.",
            Self::Throttled => "Too many attempts; wait as long as Retry-After says.",
            Self::HeadersTooLarge => {
                "There are more than 64 header fields, or more than 16 KiB of them."
            }
            Self::Overloaded => {
                "Passwords are being checked as fast as they can be; wait as long as Retry-After says."
            }
            Self::Unavailable => {
                "The service cannot answer at present; try again after Retry-After seconds."
            }
            Self::Internal => "A fault of the service. The log knows it by the request id.",
        }
    }
}

/// An error (RFC 9457).
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct Problem {
    /// Always `about:blank`: the code says what is special.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong, for people.
    detail: String,
    /// What is wrong, for programs.
    code: ProblemCode,
    /// Identifies the request, also in the log.
    request_id: String,
    /// With 422: every value that breaks a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<FieldError>>,
}

/// A value that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
pub(super) struct FieldError {
    /// Where it is in the body (RFC 6901).
    pub pointer: String,
    /// Which rule it breaks, to be read after the name of the member.
    pub detail: String,
}

/// An error to be answered: a problem, and the headers that belong to it.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    code: ProblemCode,
    detail: &'static str,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    closes: bool,
    /// Why the service could not do its work, for the log alone.
    cause: Option<String>,
}

impl ApiError {
    /// A problem with nothing special about it.
    #[must_use]
    pub(super) fn new(code: ProblemCode) -> Self {
        let mut error = Self {
            code,
            detail: code.detail(),
            errors: Vec::new(),
            headers: Vec::new(),
            closes: false,
            cause: None,
        };
        match code.status() {
            StatusCode::UNAUTHORIZED => {
                // RFC 6750 §3: the error is named only where a token was sent.
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

    /// A problem with a sentence of its own.
    #[must_use]
    pub(super) fn because(code: ProblemCode, detail: &'static str) -> Self {
        Self {
            detail,
            ..Self::new(code)
        }
    }

    /// 422, with all that breaks a rule.
    #[must_use]
    pub(super) fn validation(errors: Vec<FieldError>) -> Self {
        Self {
            errors,
            ..Self::new(ProblemCode::ValidationFailed)
        }
    }

    /// 405, with the methods that the path knows.
    #[must_use]
    pub(super) fn method_not_allowed(allow: HeaderValue) -> Self {
        let mut error = Self::new(ProblemCode::MethodNotAllowed);
        error.headers.push((header::ALLOW, allow));
        error
    }

    /// After this answer the connection is closed: the rest of the request was not read.
    #[must_use]
    pub(super) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Keeps what the log is to say about it.
    #[must_use]
    pub(super) fn caused_by(mut self, why: &dyn std::fmt::Display) -> Self {
        self.cause = Some(why.to_string());
        self
    }

    /// What the log is to say about it.
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

/// The service could not do its work: a problem without the cause for the client, and the cause for the log.
impl From<ServiceError> for ApiError {
    fn from(failure: ServiceError) -> Self {
        match failure {
            ServiceError::Unavailable(why) => Self::new(ProblemCode::Unavailable).caused_by(&why),
            ServiceError::Overloaded { retry_after } => {
                let mut error = Self::new(ProblemCode::Overloaded).caused_by(&"too many hashes");
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
        if self.closes {
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

/// In the document every operation may answer these, besides the outcomes of its own.
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
                    "The request cannot be answered as it is; `code` says why.",
                    vec![challenge, retry()],
                ),
                response(
                    "5XX",
                    "The service cannot answer at present; 503 says when to try again.",
                    vec![retry()],
                ),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        ProblemJson::register(registry);
    }
}

/// A problem as the document shows it.
pub(super) fn example(code: ProblemCode) -> Option<serde_json::Value> {
    let request_id = "0197a5a26d2f7c1e9d3b0a1b2c3d4e5f".to_owned();
    let problem = ApiError::new(code).problem();
    Problem {
        request_id,
        ..problem
    }
    .to_json()
}

/// A problem as a body.
#[derive(Debug)]
pub struct ProblemJson(Problem);

impl ProblemJson {
    /// An expected outcome that is a problem.
    #[must_use]
    pub fn of(code: ProblemCode) -> Self {
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
