//! The OpenAPI document and Swagger UI, both from the code and both from this binary: no page asks another server.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use poem::http::{HeaderValue, header};
use poem::web::Redirect;
use poem::{Endpoint, Request, Response, Route, get};
use poem_openapi::{OpenApi, OpenApiService};
use serde_json::{Value, json};

/// The pages of this file.
pub const PAGES: [&str; 3] = ["/", "/docs", "/openapi.json"];

/// The document and the page that shows it.
#[derive(Debug, Clone)]
pub struct Docs {
    document: Value,
    page: String,
    policy: HeaderValue,
}

impl Docs {
    /// Reads both from the operations.
    #[must_use]
    pub fn of<A: OpenApi>(service: &OpenApiService<A, ()>) -> Self {
        let generated = service.spec();
        let mut document: Value = serde_json::from_str(&generated).unwrap_or_default();
        complete(&mut document);
        // A page of its own would be a copy of this one with our document in it.
        let page = format!(
            "<!DOCTYPE html>{}",
            service
                .swagger_ui_html()
                .replace(&generated, &pretty(&document))
        );
        let policy = HeaderValue::try_from(content_security_policy(&page))
            .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        Self {
            document,
            page,
            policy,
        }
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The document as it is committed and served.
    #[must_use]
    pub fn text(&self) -> String {
        pretty(&self.document)
    }

    /// Serves both, leads `/` to the page, and leaves every other path to `operations`.
    ///
    /// The endpoints of the framework would answer any method, and its nesting at `/` would take `/` itself away.
    pub(super) fn before<E>(self, operations: E) -> impl Endpoint<Output = Response>
    where
        E: Endpoint<Output = Response>,
    {
        PagesFirst {
            pages: self.routes(),
            operations,
        }
    }

    fn routes(self) -> Route {
        let text = self.text();
        let document = poem::endpoint::make_sync(move |_| {
            Response::builder()
                .content_type("application/json")
                .body(text.clone())
        });
        let (page, policy) = (self.page, self.policy);
        let page = poem::endpoint::make_sync(move |_| {
            let builder = Response::builder().content_type("text/html; charset=utf-8");
            builder
                .header(header::CONTENT_SECURITY_POLICY, policy.clone())
                .body(page.clone())
        });
        Route::new()
            .at(
                "/",
                get(poem::endpoint::make_sync(|_| Redirect::temporary("/docs"))),
            )
            .at("/docs", get(page))
            .at("/openapi.json", get(document))
    }
}

struct PagesFirst<E> {
    pages: Route,
    operations: E,
}

impl<E: Endpoint<Output = Response>> Endpoint for PagesFirst<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        if PAGES.contains(&request.uri().path()) {
            self.pages.call(request).await
        } else {
            self.operations.call(request).await
        }
    }
}

fn pretty(document: &Value) -> String {
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

/// Adds what the framework knows but does not write: objects that take no other members, and the form of the token.
fn complete(document: &mut Value) {
    if let Some(schemas) = document
        .pointer_mut("/components/schemas")
        .and_then(Value::as_object_mut)
    {
        for name in STRICT_OBJECTS {
            if let Some(schema) = schemas.get_mut(*name) {
                schema["additionalProperties"] = json!(false);
            }
        }
    }
    if let Some(scheme) = document.pointer_mut("/components/securitySchemes/bearer") {
        scheme["bearerFormat"] = json!("JWT");
    }
}

/// The bodies that clients send.
const STRICT_OBJECTS: &[&str] = &["Credentials"];

/// The page's own scripts and nothing else may run: they are named by their hashes.
fn content_security_policy(page: &str) -> String {
    let scripts = page.split("<script").skip(1).filter_map(|part| {
        let (_, script) = part.split_once('>')?;
        let (script, _) = script.split_once("</script>")?;
        Some(format!(
            "'sha256-{}'",
            BASE64_STANDARD.encode(digest(&SHA256, script.as_bytes()))
        ))
    });
    let scripts: Vec<_> = scripts.collect();
    format!(
        "default-src 'none'; script-src {}; style-src 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        scripts.join(" ")
    )
}
