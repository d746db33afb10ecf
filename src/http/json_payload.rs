//! JSON payload for frequent responses: serialised directly. The framework's own payload builds a tree of values first.

use poem::{IntoResponse, Response};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use serde::Serialize;

/// JSON body. The output of serde for `T` must match the schema of `T` in the document.
#[derive(Debug)]
pub struct JsonPayload<T>(pub T);

impl<T: Type> Payload for JsonPayload<T> {
    const CONTENT_TYPE: &'static str = Json::<T>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for JsonPayload<T> {
    fn into_response(self) -> Response {
        poem::web::Json(self.0).into_response()
    }
}
