//! Request bodies: buffered within a size limit and a deadline, and parsed strictly.
//!
//! The framework's parser accepts numbers as strings, the last of two members with one name, and unknown members, and its
//! messages repeat the input. Here a body is deserialised into a plain structure that rejects all of these, and the messages
//! are fixed sentences.

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

/// Maximum size of a request body, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// Time in which a body must arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Deserialises an optional member that must not be null if present: the document does not allow null.
///
/// # Errors
/// If the member is null, or of another type.
pub(super) fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Buffers the body before the inner endpoint runs, so that a client cannot hold a handler with half a body.
#[derive(Debug)]
pub(super) struct BufferedBody<E>(pub E);

impl<E: Endpoint> Endpoint for BufferedBody<E> {
    type Output = E::Output;

    async fn call(&self, mut request: Request) -> poem::Result<E::Output> {
        let headers = request.headers();
        if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
            // Boxed: most requests have no body, and this would enlarge the future of every layer.
            let bytes = Box::pin(read_body(&mut request)).await;
            request.set_body(Body::from_bytes(
                bytes.map_err(ApiError::closing_connection)?,
            ));
        }
        self.0.call(request).await
    }
}

async fn read_body(request: &mut Request) -> Result<Bytes, ApiError> {
    let declared = request.headers().get(CONTENT_LENGTH);
    let length = declared.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(ApiError::new(ProblemCode::PayloadTooLarge));
    }
    let reading = request.take_body().into_bytes_limit(MAX_BODY_BYTES);
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(poem::error::ReadBodyError::PayloadTooLarge)) => {
            Err(ApiError::new(ProblemCode::PayloadTooLarge))
        }
        Ok(Err(_)) => Err(ApiError::new(ProblemCode::MalformedRequest)),
        Err(_) => Err(ApiError::new(ProblemCode::RequestTimeout)),
    }
}

/// JSON object of exactly the form of `T`.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub T);

impl<'a, T: DeserializeOwned + Type + Send> ApiExtractor<'a> for JsonBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(required_body::<poem_openapi::payload::Json<T>>())
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        if !has_content_type(request.headers(), "application/json") {
            return Err(ApiError::new(ProblemCode::UnsupportedMediaType).into());
        }
        let malformed = |detail| ApiError::with_detail(ProblemCode::MalformedRequest, detail);
        let bytes = buffered_bytes(body).await;
        let bytes = bytes.ok_or_else(|| malformed("The body cannot be read."))?;
        // serde would accept an array for the structure, with its elements in the order of the members.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(malformed("The body is not a JSON object.").into());
        }
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self(value)),
            Err(error) if error.is_data() => Err(malformed(
                "The body does not have the form that this operation takes: a member is missing, unknown, duplicated, or of another type.",
            )
            .into()),
            Err(_) => Err(malformed("The body is not valid JSON.").into()),
        }
    }
}

/// Describes a required body in the document.
pub(super) fn required_body<P: Payload>() -> MetaRequest {
    MetaRequest {
        description: None,
        content: vec![MetaMediaType {
            content_type: P::CONTENT_TYPE,
            schema: P::schema_ref(),
        }],
        required: true,
    }
}

/// Returns a body that [`BufferedBody`] has read; `None` if there is none.
pub(super) async fn buffered_bytes(body: &mut RequestBody) -> Option<Vec<u8>> {
    let bytes = body.take().ok()?.into_bytes_limit(MAX_BODY_BYTES).await;
    Some(bytes.ok()?.to_vec())
}

/// True if the content type is `wanted`, without a character set or with UTF-8.
pub(super) fn has_content_type(headers: &HeaderMap, wanted: &str) -> bool {
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
        has_content_type(&headers, "application/json")
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
        assert!(!has_content_type(&HeaderMap::new(), "application/json"));
    }
}
