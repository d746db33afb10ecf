//! The OpenAPI document is committed, agrees with the code, and is enough for a new client developer to work from.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::harness::{Cluster, PASSWORD};

const COMMITTED: &str = include_str!("../src/http/openapi.json");

/// Error codes that clients may match on (DESIGN §11).
const CODES: [&str; 19] = [
    "malformed_request",
    "invalid_request",
    "missing_token",
    "invalid_token",
    "invalid_credentials",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "request_timeout",
    "name_taken",
    "payload_too_large",
    "uri_too_long",
    "unsupported_media_type",
    "validation_failed",
    "throttled",
    "headers_too_large",
    "overloaded",
    "unavailable",
    "internal",
];

fn document() -> Value {
    serde_json::from_str(COMMITTED).unwrap()
}

/// Returns every operation as (path, method, its description in the document).
fn operations(document: &Value) -> Vec<(String, String, Map<String, Value>)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(|(method, operation)| {
            (
                path.clone(),
                method.clone(),
                operation.as_object().unwrap().clone(),
            )
        })
    });
    operations.collect()
}

/// Resolves a reference within the document; returns any other value itself.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => document
            .pointer(reference.strip_prefix('#').unwrap())
            .unwrap_or_else(|| panic!("{reference} points nowhere")),
        None => value,
    }
}

fn is_sentence(text: &Value, least: usize) -> bool {
    text.as_str().is_some_and(|text| text.trim().len() >= least)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_committed_document_is_what_the_code_says_and_what_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let printed = tokio::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("openapi")
        .env_clear()
        .current_dir(folder.path())
        .output()
        .await
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(
        printed == COMMITTED,
        "src/http/openapi.json is not what the code says: run `make openapi`"
    );
    // Printing the document does not start a replica.
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "something was left behind"
    );

    let cluster = Cluster::alone().await;
    let served = cluster.anonymous().get("/openapi.json").await;
    assert!(
        served.body == COMMITTED,
        "what is served is another document"
    );
    assert_eq!(served.header("content-type"), "application/json");
}

#[test]
fn every_operation_is_explained_to_a_newcomer() {
    let document = document();
    let declared: BTreeSet<_> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].clone().to_string())
        .collect();
    for tag in document["tags"].as_array().unwrap() {
        assert!(is_sentence(&tag["description"], 10), "{tag}");
    }
    let mut ids = BTreeSet::new();
    let operations = operations(&document);
    assert!(operations.len() >= 5);
    for (path, method, operation) in operations {
        let what = format!("{method} {path}");
        assert!(is_sentence(&operation["summary"], 5), "{what}: summary");
        assert!(
            is_sentence(&operation["description"], 40),
            "{what}: description"
        );
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
            "{what}: operationId"
        );
        let tags = operation["tags"].as_array().unwrap();
        assert!(
            !tags.is_empty() && tags.iter().all(|tag| declared.contains(&tag.to_string())),
            "{what}: tags"
        );

        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.keys().any(|status| status.starts_with('2')),
            "{what}: no success"
        );
        for status in ["4XX", "5XX"] {
            assert!(responses.contains_key(status), "{what}: {status}");
        }
        for (status, response) in responses {
            assert!(is_sentence(&response["description"], 10), "{what} {status}");
            let content = response.get("content").and_then(Value::as_object);
            for (kind, media) in content.into_iter().flatten() {
                has_example(&document, media, &format!("{what} {status}"));
                let is_problem = kind == "application/problem+json";
                // OAuth clients get the answers that they expect (RFC 6749 §5.2).
                let is_oauth = ["/introspect", "/revoke"]
                    .iter()
                    .any(|it| what.contains(it))
                    && !status.contains('X');
                assert_eq!(
                    is_problem,
                    !status.starts_with('2') && !is_oauth,
                    "{what} {status} is {kind}"
                );
            }
            if status == "401" {
                let headers = response["headers"].as_object().unwrap();
                assert!(
                    headers
                        .keys()
                        .any(|name| name.eq_ignore_ascii_case("www-authenticate"))
                );
            }
        }
    }
}

/// Checks that a media type has an example, of its own or in its schema, and that the example has what the schema requires.
fn has_example(document: &Value, media: &Value, what: &str) {
    let schema = resolved(document, &media["schema"]);
    let example = media.get("example").or_else(|| schema.get("example"));
    let example = example.unwrap_or_else(|| panic!("{what}: no example"));
    for member in schema["required"].as_array().into_iter().flatten() {
        assert!(
            example.get(member.as_str().unwrap()).is_some(),
            "{what}: the example has no {member}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bearer_scheme_stands_at_the_operations_that_ask_for_a_token_and_at_no_other() {
    let document = document();
    let scheme = &document["components"]["securitySchemes"]["bearer"];
    assert_eq!(
        (&scheme["type"], &scheme["scheme"]),
        (&"http".into(), &"bearer".into())
    );
    assert_eq!(scheme["bearerFormat"], "JWT");
    let cluster = Cluster::alone().await;
    for (path, method, operation) in operations(&document) {
        let answer = cluster
            .anonymous()
            .send(&method.to_uppercase(), &path, &[], None)
            .await;
        let challenge = answer.header("www-authenticate");
        let asks = answer.status == 401 && challenge.starts_with("Bearer");
        if asks {
            assert_eq!(answer.code(), "missing_token", "{method} {path}");
        }
        let says = operation
            .get("security")
            .is_some_and(|security| security[0].get("bearer").is_some());
        assert_eq!(says, asks, "{method} {path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_bodies_take_no_other_members_and_their_examples_work() {
    let document = document();
    let cluster = Cluster::alone().await;
    let mut bodies = 0;
    for (path, method, operation) in operations(&document) {
        let Some(body) = operation.get("requestBody") else {
            continue;
        };
        assert_eq!(body["required"], true, "{method} {path}");
        for (kind, media) in body["content"].as_object().unwrap() {
            let schema = resolved(&document, &media["schema"]);
            // OAuth requires servers to ignore unknown parameters (RFC 6749 §3.2).
            let strict = kind != "application/x-www-form-urlencoded";
            assert_eq!(
                schema["additionalProperties"] == false,
                strict,
                "{method} {path}"
            );
            has_example(&document, media, &path);
            bodies += 1;
        }
    }
    assert!(bodies >= 2);
    let example = &document["components"]["schemas"]["Credentials"]["example"];
    let at = cluster.anonymous();
    assert_eq!(at.post("/register", example).await.status, 201);
    assert_eq!(at.post("/login", example).await.status, 200);
}

#[test]
fn the_document_begins_with_the_journey_and_keeps_tags_together() {
    let document = document();
    let operations = operations(&document);
    let name = |(path, method, _): &(String, String, _)| format!("{method} {path}");
    let journey: Vec<_> = operations.iter().map(name).take(5).collect();
    assert_eq!(
        journey,
        [
            "post /register",
            "post /login",
            "get /dashboard",
            "post /refresh",
            "post /logout",
        ]
    );
    let mut used: Vec<_> = operations.iter().map(|(.., it)| &it["tags"][0]).collect();
    used.dedup();
    let declared = document["tags"].as_array().unwrap();
    let declared: Vec<_> = declared.iter().map(|tag| &tag["name"]).collect();
    assert_eq!(used, declared);
    assert_eq!(
        declared,
        [
            "Quickstart",
            "Account",
            "Sessions",
            "Services",
            "Administration",
        ]
    );
}

/// Checks that the members of an answer come in the order of its schema.
fn has_order(document: &Value, schema: &Value, value: &Value) {
    let schema = schema.get("allOf").map_or(schema, |all| &all[0]);
    let schema = resolved(document, schema);
    match value {
        Value::Object(members) => {
            let properties = schema["properties"].as_object().unwrap();
            let declared = properties.keys().filter(|name| members.contains_key(*name));
            assert!(members.keys().eq(declared), "{value} is not as {schema}");
            for (name, value) in members {
                has_order(document, &properties[name], value);
            }
        }
        Value::Array(elements) => elements
            .iter()
            .for_each(|element| has_order(document, &schema["items"], element)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_an_answer_have_the_order_of_the_document() {
    let document = document();
    let cluster = Cluster::alone().await;
    let at = cluster.anonymous();
    let registered = at.register("alice", PASSWORD).await;
    let login = at.login("alice", PASSWORD).await;
    let members: Vec<_> = login.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        members,
        [
            "token",
            "token_type",
            "expires_in",
            "refresh_token",
            "refresh_expires_in",
        ]
    );
    let bearer = format!("Bearer {}", login.json()["token"].as_str().unwrap());
    let get = async |path: &str| {
        let headers = [("authorization", bearer.as_str())];
        at.send("GET", path, &headers, None).await
    };
    for (path, method, answer) in [
        ("/register", "post", registered),
        ("/login", "post", login),
        ("/me", "get", get("/me").await),
        ("/sessions", "get", get("/sessions").await),
        ("/dashboard", "get", get("/dashboard").await),
        (
            "/.well-known/oauth-authorization-server",
            "get",
            get("/.well-known/oauth-authorization-server").await,
        ),
    ] {
        let status = answer.status.to_string();
        let responses = &document["paths"][path][method]["responses"];
        let content = responses[status]["content"].as_object().unwrap();
        let (_, media) = content.iter().next().unwrap();
        has_order(&document, &media["schema"], &answer.json());
    }
    let problem = at.login("alice", "another password").await.json();
    let schema = &document["components"]["schemas"]["Problem"];
    has_order(&document, schema, &problem);
}

#[test]
fn the_codes_of_problems_are_a_closed_list() {
    let document = document();
    let listed = &document["components"]["schemas"]["ProblemCode"]["enum"];
    let listed: BTreeSet<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|code| code.as_str().unwrap())
        .collect();
    assert_eq!(listed, BTreeSet::from(CODES));
}

#[test]
fn every_reference_leads_somewhere_and_nothing_of_a_later_version_is_used() {
    fn walk(document: &Value, value: &Value) {
        resolved(document, value);
        match value {
            Value::Object(members) => members.values().for_each(|value| walk(document, value)),
            Value::Array(elements) => elements.iter().for_each(|value| walk(document, value)),
            _ => {}
        }
    }
    let document = document();
    walk(&document, &document);
    assert_eq!(document["openapi"], "3.0.0");
    // `summary` came with 3.1, and strict readers of 3.0 reject it here.
    let allowed = [
        "title",
        "description",
        "termsOfService",
        "contact",
        "license",
        "version",
    ];
    for member in document["info"].as_object().unwrap().keys() {
        assert!(allowed.contains(&member.as_str()), "{member}");
    }
}
