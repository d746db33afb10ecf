//! Paths of the document: for `Allow`, and for metric labels that clients cannot invent.

use std::collections::HashMap;
use std::sync::Arc;

use poem::http::HeaderValue;
use serde_json::Value;

/// Path and the methods it supports.
#[derive(Debug)]
pub(super) struct Route {
    /// Path as in the document.
    pub pattern: Arc<str>,
    /// Value of `Allow`.
    pub allow: HeaderValue,
}

/// All paths.
#[derive(Debug)]
pub(super) struct Routes {
    known: HashMap<String, Route>,
    /// Paths with a parameter: few, and searched one by one.
    patterns: Vec<Route>,
    /// Label of requests for other paths.
    pub unmatched: Arc<str>,
}

impl Routes {
    /// Reads the paths from an OpenAPI document, and adds `pages`, which answer `GET` only.
    #[must_use]
    pub(super) fn new(document: &Value, pages: &[&str]) -> Self {
        let (mut routes, mut patterns) = (HashMap::new(), Vec::new());
        let paths = document.get("paths").and_then(Value::as_object);
        for (pattern, operations) in paths.into_iter().flatten() {
            let methods = operations
                .as_object()
                .into_iter()
                .flatten()
                .map(|(method, _)| method.as_str());
            let route = route(pattern, methods);
            if pattern.contains('{') {
                patterns.push(route);
            } else {
                routes.insert(pattern.clone(), route);
            }
        }
        for page in pages {
            routes.insert((*page).to_owned(), route(page, ["get"].into_iter()));
        }
        Self {
            known: routes,
            patterns,
            unmatched: "unmatched".into(),
        }
    }

    /// Returns the route of a path.
    #[must_use]
    pub(super) fn find(&self, path: &str) -> Option<&Route> {
        let with_parameters = || {
            let mut patterns = self.patterns.iter();
            patterns.find(|route| matches(&route.pattern, path))
        };
        self.known.get(path).or_else(with_parameters)
    }
}

/// True if a path matches a pattern, segment by segment; `{…}` matches any segment that is not empty.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(wanted), Some(part))
                if wanted == part || (wanted.starts_with('{') && !part.is_empty()) => {}
            _ => return false,
        }
    }
}

fn route<'a>(pattern: &str, methods: impl Iterator<Item = &'a str>) -> Route {
    let mut allow: Vec<_> = methods.map(str::to_ascii_uppercase).collect();
    if allow.iter().any(|method| method == "GET") {
        allow.push("HEAD".to_owned());
    }
    allow.sort();
    let allow =
        HeaderValue::try_from(allow.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""));
    Route {
        pattern: pattern.into(),
        allow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_lists_the_methods_of_the_document_and_head_beside_get() {
        let document =
            serde_json::json!({"paths": {"/a": {"get": {}, "delete": {}}, "/b": {"post": {}}}});
        let routes = Routes::new(&document, &["/docs"]);
        assert_eq!(routes.find("/a").unwrap().allow, "DELETE, GET, HEAD");
        assert_eq!(routes.find("/b").unwrap().allow, "POST");
        assert_eq!(routes.find("/docs").unwrap().allow, "GET, HEAD");
        assert!(routes.find("/c").is_none());
    }

    #[test]
    fn a_parameter_matches_one_segment_that_is_not_empty() {
        let document = serde_json::json!({"paths": {"/a/{b}": {"get": {}}, "/a/c": {"post": {}}}});
        let routes = Routes::new(&document, &[]);
        assert_eq!(&*routes.find("/a/x").unwrap().pattern, "/a/{b}");
        assert_eq!(&*routes.find("/a/c").unwrap().pattern, "/a/c");
        assert!(
            ["/a", "/a/", "/a/x/", "/a/x/y", "/b/x"]
                .iter()
                .all(|path| routes.find(path).is_none())
        );
    }
}
