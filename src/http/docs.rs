//! OpenAPI document and Swagger UI, both generated from the code and served by this binary: no page loads from another server.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use poem::http::{HeaderValue, header};
use poem::web::Redirect;
use poem::{Endpoint, Request, Response, Route, get};
use poem_openapi::types::Example;
use poem_openapi::{OpenApi, OpenApiService};
use serde_json::{Map, Value, json};

use super::accounts::{Credentials, PasswordConfirmation};
use super::problem::{ProblemCode, example};

/// Paths of the pages of this file.
pub const PAGES: [&str; 3] = ["/", "/docs", "/openapi.json"];

/// Page of our own around the script and the style of Swagger UI.
const PAGE: &str = include_str!("docs/page.html");
const STYLE: &str = include_str!("docs/page.css");
const SCRIPT: &str = include_str!("docs/page.js");

/// Order of the paths in the document, and so of operations and tags on the page: first the quickstart, then the rest by tag.
/// A path that is missing here comes last.
const PATHS: [&str; 17] = [
    "/register",
    "/login",
    "/dashboard",
    "/refresh",
    "/logout",
    "/me",
    "/me/password",
    "/me/delete",
    "/sessions",
    "/sessions/{sid}",
    "/verify",
    "/introspect",
    "/revoke",
    "/.well-known/jwks.json",
    "/.well-known/oauth-authorization-server",
    "/users/{username}",
    "/users/{username}/sessions",
];

/// Order of the methods of a path.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// OpenAPI document and the page that shows it.
#[derive(Debug, Clone)]
pub struct Docs {
    document: Value,
    page: String,
    policy: HeaderValue,
}

impl Docs {
    /// Generates both from the operations.
    #[must_use]
    pub fn new<A: OpenApi>(service: &OpenApiService<A, ()>) -> Self {
        let mut document: Value = serde_json::from_str(&service.spec()).unwrap_or_default();
        complete_document(&mut document);
        sort_document(&mut document);
        let generated = service.swagger_ui_html();
        let swagger_script = scripts(&generated).next().unwrap_or_default();
        let page = PAGE
            .replacen("{{style}}", STYLE, 1)
            .replacen("{{script}}", SCRIPT, 1)
            .replacen("{{document}}", &in_script(&document), 1)
            .replacen("{{swagger style}}", style(&generated), 1)
            .replacen("{{swagger script}}", swagger_script, 1);
        let policy = HeaderValue::try_from(content_security_policy(&[swagger_script, SCRIPT]))
            .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        Self {
            document,
            page,
            policy,
        }
    }

    /// Returns the document.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Returns the text of the document, as committed and served.
    #[must_use]
    pub fn text(&self) -> String {
        pretty(&self.document)
    }

    /// Serves both, redirects `/` to the page, and passes every other path to `operations`.
    ///
    /// The framework's own endpoints would answer any method, and its nesting at `/` would take over `/` itself.
    pub(super) fn in_front_of<E>(self, operations: E) -> impl Endpoint<Output = Response>
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
                // Relative, so that the path prefix of a proxy is kept.
                get(poem::endpoint::make_sync(|_| Redirect::temporary("docs"))),
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

/// Adds the details that the framework does not write: objects that take no other members, write-only members of examples,
/// the format of the token, and examples of problems.
fn complete_document(document: &mut Value) {
    for name in STRICT_OBJECTS {
        if let Some(schema) = document.pointer_mut(&format!("/components/schemas/{name}")) {
            schema["additionalProperties"] = json!(false);
        }
    }
    if let Some(example) = document.pointer_mut("/components/schemas/Credentials/example") {
        example["password"] = json!(Credentials::example().password);
    }
    if let Some(example) = document.pointer_mut("/components/schemas/PasswordConfirmation/example")
    {
        example["password"] = json!(PasswordConfirmation::example().password);
    }
    if let Some(scheme) = document.pointer_mut("/components/securitySchemes/bearer") {
        scheme["bearerFormat"] = json!("JWT");
    }
    // poem-openapi declares an `Option` as optional, but not as nullable.
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
                content["example"] = json!(example(typical_problem(status, takes_token)));
            }
        }
    }
}

fn members(object: Option<&mut Map<String, Value>>) -> impl Iterator<Item = &mut Value> {
    object.into_iter().flat_map(Map::values_mut)
}

/// Most frequent problem with a status of the document, as its example.
fn typical_problem(status: &str, takes_token: bool) -> ProblemCode {
    match status {
        "401" => ProblemCode::InvalidCredentials,
        "404" => ProblemCode::NotFound,
        "409" => ProblemCode::NameTaken,
        "5XX" => ProblemCode::Unavailable,
        _ if takes_token => ProblemCode::InvalidToken,
        _ => ProblemCode::MalformedRequest,
    }
}

/// Schemas of request bodies.
const STRICT_OBJECTS: &[&str] = &[
    "Credentials",
    "PasswordBody",
    "PasswordConfirmation",
    "RefreshBody",
    "UserChange",
];

/// Sorts paths, their methods and the tags for the page.
fn sort_document(document: &mut Value) {
    let mut tags = Vec::new();
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        sort(paths, &PATHS);
        for methods in paths.values_mut().filter_map(Value::as_object_mut) {
            sort(methods, &METHODS);
            tags.extend(methods.values().map(|it| it["tags"][0].clone()));
        }
    }
    if let Some(declared) = document.get_mut("tags").and_then(Value::as_array_mut) {
        declared.sort_by_key(|tag| tags.iter().position(|it| *it == tag["name"]));
    }
}

/// Sorts members by the position of their name in `names`; other members come last and keep their order.
fn sort(object: &mut Map<String, Value>, names: &[&str]) {
    let mut members: Vec<_> = std::mem::take(object).into_iter().collect();
    let position = |name: &str| names.iter().position(|it| *it == name);
    members.sort_by_key(|(name, _)| position(name).unwrap_or(names.len()));
    object.extend(members);
}

/// Escapes the document for a script element, which `</script>` within the document would end.
fn in_script(document: &Value) -> String {
    pretty(document).replace('<', r"\u003c")
}

/// Policy that allows only these scripts, by their hashes.
fn content_security_policy(scripts: &[&str]) -> String {
    let scripts: Vec<_> = scripts
        .iter()
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

/// Returns the first style sheet of a page.
fn style(page: &str) -> &str {
    page.split_once("<style")
        .and_then(|(_, tag)| tag.split_once('>')?.1.split_once("</style>"))
        .map_or("", |(style, _)| style)
}

/// Iterates over the scripts of a page. `<script` within a script is part of its text.
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
