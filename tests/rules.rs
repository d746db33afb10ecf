//! Values of the right form that break a rule: a registration reports all of these rules, a login none.

use serde_json::Value;

use crate::harness::{Answer, Cluster, PASSWORD};

fn pointers(answer: &Answer) -> Vec<String> {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (422, "validation_failed")
    );
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    let pointer = |error: &Value| {
        assert!(
            error["detail"]
                .as_str()
                .is_some_and(|detail| !detail.is_empty()),
            "{error}"
        );
        error["pointer"].as_str().unwrap().to_owned()
    };
    errors.iter().map(pointer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_breaks_rules_is_422_and_lists_all_of_them() {
    let cluster = Cluster::alone().await;
    let at = cluster.anonymous();
    let (long_name, long_password) = ("a".repeat(65), "correct horse ".repeat(20));
    let bad_names = [
        "",
        "ab",
        &long_name,
        "-alice",
        "al ice",
        "al\u{0}ice",
        "alice\r\nSet-Cookie: x=1",
        "\u{430}lice",
        "alice\u{200b}",
        "\u{202e}alice",
        "*",
        "{x}",
        "a:b",
        "../../etc",
        "S3cret Planted Value",
    ];
    let bad_passwords = [
        "",
        "short",
        "password",
        "12345678",
        "aaaaaaaaaaaaaaaa",
        &long_password,
    ];
    for name in bad_names {
        let answer = at.register(name, PASSWORD).await;
        assert_eq!(pointers(&answer), ["/username"], "{name:?}");
        assert!(answer.header("set-cookie").is_empty());
        assert!(name.len() < 3 || !answer.body.contains(name), "{answer:?}");
    }
    for password in bad_passwords {
        let answer = at.register("alice", password).await;
        assert_eq!(pointers(&answer), ["/password"], "{password:?}");
        for name in bad_names {
            assert_eq!(
                pointers(&at.register(name, password).await),
                ["/username", "/password"]
            );
        }
    }
    assert_eq!(at.register("alice", PASSWORD).await.status, 201);
}

/// Parts of a response that must not depend on the reason for refusing a login.
fn shape(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let id = answer.header("x-request-id");
    let headers = answer
        .headers
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()));
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    (
        answer.status,
        headers.collect(),
        answer.body.replace(id, "(id)"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a10_every_refused_login_is_the_same_401_to_the_byte() {
    let cluster = Cluster::alone().await;
    let at = cluster.anonymous();
    at.register("alice", PASSWORD).await;
    let wrong = at.login("alice", "correct horse battery stapler").await;
    assert_eq!(
        (wrong.status, wrong.code().as_str()),
        (401, "invalid_credentials")
    );
    let longest = "x".repeat(257);
    let heaviest = "\u{1f512}".repeat(2_000);
    for (name, password) in [
        ("nobody", PASSWORD),
        ("nobody", ""),
        ("", ""),
        ("al", PASSWORD),
        ("al ice", PASSWORD),
        ("alice\u{0}", PASSWORD),
        ("\u{430}lice", PASSWORD),
        (&"a".repeat(10_000), PASSWORD),
        ("alice", ""),
        ("alice", "short"),
        ("alice", "password"),
        ("alice", &format!("{PASSWORD} ")),
        ("alice", &PASSWORD.to_uppercase()),
        ("alice", &longest),
        ("alice", &heaviest),
        ("nobody", &longest),
        ("*", &longest),
    ] {
        let answer = at.login(name, password).await;
        assert_eq!(shape(&answer), shape(&wrong), "{name:?}");
    }
    assert_eq!(at.login("ALICE", PASSWORD).await.status, 200);
}
