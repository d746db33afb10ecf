//! The OpenAPI document and Swagger UI, both from the code and both from this binary: no page asks another server.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use poem::http::{HeaderValue, header};
use poem::web::Redirect;
use poem::{Endpoint, Request, Response, Route, get};
use poem_openapi::types::Example;
use poem_openapi::{OpenApi, OpenApiService};
use serde_json::{Map, Value, json};

use super::accounts::{Credentials, Proof};
use super::problem::{ProblemCode, example};

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
        // A page of its own would be a copy of this one with our document in it. The icon keeps browsers from asking for one.
        let page = service
            .swagger_ui_html()
            .replacen("<title>", r#"<link rel="icon" href="data:,"><title>"#, 1)
            .replace(&generated, &pretty(&document));
        let page = format!("<!DOCTYPE html>{page}");
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

/// Adds what the framework knows but does not write: objects that take no other members, the members of an example that
/// are only ever sent, the form of the token, and what problems look like.
fn complete(document: &mut Value) {
    for name in STRICT_OBJECTS {
        if let Some(schema) = document.pointer_mut(&format!("/components/schemas/{name}")) {
            schema["additionalProperties"] = json!(false);
        }
    }
    if let Some(example) = document.pointer_mut("/components/schemas/Credentials/example") {
        example["password"] = json!(Credentials::example().password);
    }
    if let Some(example) = document.pointer_mut("/components/schemas/Proof/example") {
        example["password"] = json!(Proof::example().password);
    }
    if let Some(scheme) = document.pointer_mut("/components/securitySchemes/bearer") {
        scheme["bearerFormat"] = json!("JWT");
    }
    // Of an `Option` poem-openapi tells that it may be left out, not that it may be null.
    if let Some(cursor) =
        document.pointer_mut("/components/schemas/SessionList/properties/next_cursor")
    {
        cursor["nullable"] = json!(true);
    }
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for operation in members(paths).flat_map(|path| members(path.as_object_mut())) {
        let takes_token = operation.get("security").is_some();
        let responses = operation
            .get_mut("responses")
            .and_then(Value::as_object_mut);
        for (status, response) in responses.into_iter().flatten() {
            if let Some(content) = response.pointer_mut("/content/application~1problem+json") {
                content["example"] = json!(example(typical(status, takes_token)));
            }
        }
    }
}

fn members(object: Option<&mut Map<String, Value>>) -> impl Iterator<Item = &mut Value> {
    object.into_iter().flat_map(Map::values_mut)
}

/// The problem that most clients meet at a response of the document.
fn typical(status: &str, takes_token: bool) -> ProblemCode {
    match status {
        "401" => ProblemCode::InvalidCredentials,
        "404" => ProblemCode::NotFound,
        "409" => ProblemCode::NameTaken,
        "5XX" => ProblemCode::Unavailable,
        _ if takes_token => ProblemCode::InvalidToken,
        _ => ProblemCode::MalformedRequest,
    }
}

/// The bodies that clients send.
const STRICT_OBJECTS: &[&str] = &[
    "Credentials",
    "PasswordBody",
    "Proof",
    "RefreshBody",
    "UserChange",
];

/// The page's own scripts and nothing else may run: they are named by their hashes.
fn content_security_policy(page: &str) -> String {
    let scripts: Vec<_> = scripts(page)
        .map(|script| {
            let hash = BASE64_STANDARD.encode(digest(&SHA256, script.as_bytes()));
            format!("'sha256-{hash}'")
        })
        .collect();
    format!(
        "default-src 'none'; script-src {}; style-src 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        scripts.join(" ")
    )
}

/// The scripts of a page. What looks like the beginning of one within another is text of that other.
fn scripts(mut page: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (_, tag) = page.split_once("<script")?;
        let (_, script) = tag.split_once('>')?;
        let (script, rest) = script.split_once("</script>")?;
        page = rest;
        Some(script)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_ends_where_a_browser_ends_it() {
        let page = r#"<style>a{}</style><script charset="UTF-8">a = "<script><\/script>"</script><p><script>b</script>"#;
        let found: Vec<_> = scripts(page).collect();
        assert_eq!(found, [r#"a = "<script><\/script>""#, "b"]);
    }
}
