//! Answers in JSON that are written often: as they are, not by way of a tree of values, which is what the framework's own
//! payload makes of them first.

use poem::{IntoResponse, Response};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use serde::Serialize;

/// A body in JSON. What serde writes of `T` must be what the document says of it.
#[derive(Debug)]
pub struct Answer<T>(pub T);

impl<T: Type> Payload for Answer<T> {
    const CONTENT_TYPE: &'static str = Json::<T>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        poem::web::Json(self.0).into_response()
    }
}
