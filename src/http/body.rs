//! Bodies: read whole within a limit and a deadline, and parsed strictly.
//!
//! A framework's parser takes numbers for texts, the last of two members with one name, and members that nobody asked for,
//! and its messages repeat what was sent. Here a body is deserialised into a plain structure that refuses all of that, and
//! what is said about a bad one is the same for all.

use std::time::Duration;

use hyper::body::Bytes;
use poem::http::HeaderMap;
use poem::http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use poem::{Body, Endpoint, Request, RequestBody};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::problem::{ApiError, ProblemCode};

/// No body that any operation takes is larger.
const MAX_BYTES: usize = 16 * 1024;
/// How long a body may take to arrive.
const DEADLINE: Duration = Duration::from_secs(10);

/// A member that may be left out, and is not null where it is there: the document has no such value.
///
/// # Errors
/// Where it is null, or of another type.
pub(super) fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Reads bodies before anything else looks at a request, so that nobody can hold a handler with half a body.
#[derive(Debug)]
pub(super) struct WholeBodies<E>(pub E);

impl<E: Endpoint> Endpoint for WholeBodies<E> {
    type Output = E::Output;

    async fn call(&self, mut request: Request) -> poem::Result<E::Output> {
        let headers = request.headers();
        if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
            // Boxed: most requests have no body, and would carry the room for reading one through every layer.
            let bytes = Box::pin(whole_body(&mut request)).await;
            request.set_body(Body::from_bytes(bytes.map_err(ApiError::closing)?));
        }
        self.0.call(request).await
    }
}

async fn whole_body(request: &mut Request) -> Result<Bytes, ApiError> {
    let declared = request.headers().get(CONTENT_LENGTH);
    let length = declared.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BYTES as u64) {
        return Err(ApiError::new(ProblemCode::PayloadTooLarge));
    }
    let reading = request.take_body().into_bytes_limit(MAX_BYTES);
    match tokio::time::timeout(DEADLINE, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(poem::error::ReadBodyError::PayloadTooLarge)) => {
            Err(ApiError::new(ProblemCode::PayloadTooLarge))
        }
        Ok(Err(_)) => Err(ApiError::new(ProblemCode::MalformedRequest)),
        Err(_) => Err(ApiError::new(ProblemCode::RequestTimeout)),
    }
}

/// A JSON object of exactly the form of `T`.
#[derive(Debug)]
pub(super) struct Json<T>(pub T);

impl<'a, T: DeserializeOwned + Type + Send> ApiExtractor<'a> for Json<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(described::<poem_openapi::payload::Json<T>>())
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        if !is_of(request.headers(), "application/json") {
            return Err(ApiError::new(ProblemCode::UnsupportedMediaType).into());
        }
        let malformed = |detail| ApiError::because(ProblemCode::MalformedRequest, detail);
        let bytes = bytes(body).await;
        let bytes = bytes.ok_or_else(|| malformed("The body cannot be read."))?;
        // serde would take an array for the structure, its elements in the order of the members.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(malformed("The body is not a JSON object.").into());
        }
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self(value)),
            Err(error) if error.is_data() => Err(malformed(
                "The body is not of the form that this operation takes: a member is missing, unknown, there twice, or of another type.",
            )
            .into()),
            Err(_) => Err(malformed("The body is not valid JSON.").into()),
        }
    }
}

/// What the document says of a body that must be there.
pub(super) fn described<P: Payload>() -> MetaRequest {
    MetaRequest {
        description: None,
        content: vec![MetaMediaType {
            content_type: P::CONTENT_TYPE,
            schema: P::schema_ref(),
        }],
        required: true,
    }
}

/// A body that was read already; `None` where there is none.
pub(super) async fn bytes(body: &mut RequestBody) -> Option<Vec<u8>> {
    let bytes = body.take().ok()?.into_bytes_limit(MAX_BYTES).await;
    Some(bytes.ok()?.to_vec())
}

/// Whether the body is of that kind, without a character set or with UTF-8.
pub(super) fn is_of(headers: &HeaderMap, wanted: &str) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let Ok(text) = value.to_str() else {
        return false;
    };
    let mut parts = text.split(';').map(str::trim);
    parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case(wanted))
        && parts.all(|parameter| {
            let parameter = parameter.to_ascii_lowercase();
            parameter == "charset=utf-8" || parameter == "charset=\"utf-8\""
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(content_type: &str) -> bool {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
        is_of(&headers, "application/json")
    }

    #[test]
    fn only_json_in_utf_8_is_taken() {
        assert!(takes("application/json") && takes("Application/JSON; charset=UTF-8"));
        for other in [
            "text/plain",
            "application/json; charset=utf-16",
            "application/jsonp",
            "application/xml",
            "",
        ] {
            assert!(!takes(other), "{other}");
        }
        assert!(!is_of(&HeaderMap::new(), "application/json"));
    }
}
