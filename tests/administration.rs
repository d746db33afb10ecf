//! Administrator operations on accounts, and users' operations on their own account, hold on every replica when the request
//! is answered.

use serde_json::{Value, json};

use crate::harness::{
    Answer, Cluster, Dice, PASSWORD, Replica, User, Wire, patiently, report_zero, rounds,
};

/// Sends a request with a token; repeats the request while the answer is 503.
async fn ask(
    user: &User,
    replica: &Replica,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let bearer = format!("Bearer {}", user.token);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let body = body.map(|body| body.to_string());
    let at = user.at.towards(replica);
    patiently(async || at.send(method, path, &headers, body.as_deref()).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn t20_what_an_administrator_ends_is_refused_by_all_replicas_the_moment_it_is_answered() {
    let cluster = Cluster::of(3).await;
    let root = cluster.administrator("root").await;
    let acts = rounds(40, 400);
    let mut accepted = 0;
    for number in 0..acts {
        let name = format!("user{number}");
        let user = cluster.user(&name).await;
        let second = User::log_in(&cluster.replicas[1].anonymous(), &name).await;
        let path = format!("/users/{name}");
        let (method, path, body, status) = match number % 4 {
            0 => ("PATCH", path, Some(json!({"disabled": true})), 200),
            1 => ("PATCH", path, Some(json!({"roles": ["editor"]})), 200),
            2 => ("DELETE", path, None, 204),
            _ => ("DELETE", path + "/sessions", None, 204),
        };
        for replica in &cluster.replicas {
            assert_eq!(user.dashboard_at(replica).await, 200, "good before");
        }
        let at = &cluster.replicas[number % 3];
        let answer = ask(&root, at, method, &path, body).await;
        // A deletion that was answered 503 and repeated may find no account any more: 404.
        assert!(
            answer.status == status || method == "DELETE" && answer.status == 404,
            "{answer:?}"
        );
        for replica in &cluster.replicas {
            for token in [&user, &second] {
                accepted += usize::from(token.dashboard_at(replica).await != 401);
            }
        }
        // A change of roles leaves the session open, and the new roles come with the refresh. Every other operation has ended
        // the session.
        let trade = async || cluster.anonymous().refresh(&user.refresh_token).await;
        let refreshed = patiently(trade).await;
        if number % 4 == 1 {
            let token = refreshed.json()["token"].as_str().unwrap().to_owned();
            let at = cluster.replicas[2].anonymous();
            let dashboard = patiently(async || at.dashboard(&token).await).await;
            assert_eq!(dashboard.json()["data"]["roles"], json!(["editor"]));
        } else {
            assert_eq!(refreshed.status, 401, "{method} {path}");
        }
        let login = patiently(async || cluster.anonymous().login(&name, PASSWORD).await).await;
        let expected = if number % 4 == 0 || number % 4 == 2 {
            401
        } else {
            200
        };
        assert_eq!(login.status, expected, "{method} {path}");
    }
    assert_eq!(accepted, 0);
    report_zero(
        "tokens accepted after an administrator ended them",
        acts * 6,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_come_with_the_next_login_and_go_at_once() {
    let cluster = Cluster::of(3).await;
    let root = cluster.administrator("root").await;
    let alice = cluster.user("alice").await;
    let [a, b, c] = [0, 1, 2].map(|number| &cluster.replicas[number]);
    assert_eq!(
        ask(&alice, a, "GET", "/users/root", None).await.code(),
        "forbidden"
    );
    let roles = json!({"roles": ["editor", "admin", "editor"]});
    let changed = ask(&root, a, "PATCH", "/users/Alice", Some(roles)).await;
    assert_eq!(
        (changed.status, &changed.json()["roles"]),
        (200, &json!(["admin", "editor"]))
    );
    assert_eq!(changed.json()["username"], "alice");
    assert_eq!(
        ask(&alice, b, "GET", "/users/root", None).await.code(),
        "invalid_token"
    );

    let alice = User::log_in(&b.anonymous(), "alice").await;
    let seen = ask(&alice, c, "GET", "/users/root", None).await;
    assert_eq!(
        (seen.status, &seen.json()["roles"]),
        (200, &json!(["admin"]))
    );
    let taken = ask(
        &root,
        b,
        "PATCH",
        "/users/alice",
        Some(json!({"roles": []})),
    )
    .await;
    assert_eq!((taken.status, &taken.json()["roles"]), (200, &json!([])));
    for replica in [a, b, c] {
        let refused = ask(&alice, replica, "DELETE", "/users/root", None).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (401, "invalid_token")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_already_ends_nothing_and_a_disabled_account_can_be_enabled_again() {
    let cluster = Cluster::of(1).await;
    let root = cluster.administrator("root").await;
    let alice = cluster.user("alice").await;
    let at = &cluster.replicas[0];
    for body in [
        json!({}),
        json!({"disabled": false}),
        json!({"roles": [], "disabled": false}),
    ] {
        assert_eq!(
            ask(&root, at, "PATCH", "/users/alice", Some(body))
                .await
                .status,
            200
        );
        assert_eq!(alice.dashboard_at(at).await, 200);
    }
    let disabled = ask(
        &root,
        at,
        "PATCH",
        "/users/alice",
        Some(json!({"disabled": true})),
    )
    .await;
    assert_eq!(disabled.json()["disabled"], true);
    let enabled = ask(
        &root,
        at,
        "PATCH",
        "/users/alice",
        Some(json!({"disabled": false})),
    )
    .await;
    assert_eq!(enabled.json()["disabled"], false);
    assert_eq!(
        alice.dashboard_at(at).await,
        401,
        "what has ended stays ended"
    );
    User::log_in(&at.anonymous(), "alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_an_administrator_is_told_anything_and_he_is_told_what_is_wrong() {
    let cluster = Cluster::of(1).await;
    let root = cluster.administrator("root").await;
    let alice = cluster.user("alice").await;
    let at = &cluster.replicas[0];
    for (method, path) in [
        ("GET", "/users/root"),
        ("PATCH", "/users/root"),
        ("DELETE", "/users/root"),
        ("DELETE", "/users/root/sessions"),
        ("GET", "/users/nobody"),
        ("PATCH", "/users/nobody"),
    ] {
        let refused = ask(&alice, at, method, path, None).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (403, "forbidden"),
            "{method} {path}"
        );
    }
    for name in ["nobody", "no", "%7Bx%7D", "a%2Fb"] {
        for (method, tail) in [
            ("GET", ""),
            ("PATCH", ""),
            ("DELETE", ""),
            ("DELETE", "/sessions"),
        ] {
            let path = format!("/users/{name}{tail}");
            let body = (method == "PATCH").then(|| json!({"disabled": true}));
            let answer = ask(&root, at, method, &path, body).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (404, "not_found"),
                "{method} {path}"
            );
        }
    }
    let bad = ask(
        &root,
        at,
        "PATCH",
        "/users/alice",
        Some(json!({"roles": ["ok", "Bad", "a,b"]})),
    )
    .await;
    assert_eq!(
        (bad.status, bad.code().as_str()),
        (422, "validation_failed")
    );
    let pointers: Vec<_> = bad.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].clone())
        .collect();
    assert_eq!(pointers, ["/roles/1", "/roles/2"]);
    for body in [
        json!({"roles": "admin"}),
        json!({"disabled": 1}),
        json!({"password": "x"}),
        json!({"disabled": null}),
        json!({"disabled": true, "roles": null}),
    ] {
        let malformed = ask(&root, at, "PATCH", "/users/alice", Some(body)).await;
        assert_eq!(
            (malformed.status, malformed.code().as_str()),
            (400, "malformed_request")
        );
    }
    assert_eq!(
        alice.dashboard_at(at).await,
        200,
        "nothing of this has changed anything"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_whose_session_ends_while_his_body_arrives_changes_nothing() {
    let cluster = Cluster::of(3).await;
    let times = rounds(5, 50);
    let alice = cluster.user("alice").await;
    cluster.administrator("root").await;
    for number in 0..times {
        let root = User::log_in(&cluster.anonymous(), "root").await;
        let body = json!({"disabled": true, "roles": ["admin"]}).to_string();
        let head = format!(
            "PATCH /users/alice HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            root.token,
            body.len()
        );
        let (first, rest) = body.split_at(1 + number % (body.len() - 2));
        let mut wire = Wire::to(cluster.replicas[0].addr).await;
        wire.send(format!("{head}{first}").as_bytes()).await;
        assert_eq!(
            root.log_out_at(&cluster.replicas[1 + number % 2]).await,
            204
        );
        wire.send(rest.as_bytes()).await;
        let answer = wire.answer().await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "invalid_token")
        );
        assert_eq!(alice.dashboard_at(&cluster.replicas[2]).await, 200);
    }
    let key = cluster.record("alice").await;
    let held: Vec<String> = cluster
        .redis
        .command(&["HMGET", &key, "disabled", "roles"])
        .await;
    assert_eq!(held, ["0", ""]);
    println!("{times} bodies whose administrator was logged out meanwhile: nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_ones_account_needs_the_password_and_ends_everything() {
    let cluster = Cluster::of(3).await;
    let alice = cluster.user("alice").await;
    let other = User::log_in(&cluster.replicas[1].anonymous(), "alice").await;
    let at = &cluster.replicas[0];
    for wrong in ["wrong", "", &"x".repeat(300)] {
        let refused = ask(
            &alice,
            at,
            "POST",
            "/me/delete",
            Some(json!({"password": wrong})),
        )
        .await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (422, "validation_failed")
        );
        assert_eq!(refused.json()["errors"][0]["pointer"], "/password");
    }
    assert_eq!(alice.dashboard_at(at).await, 200);
    let deleted = ask(
        &alice,
        at,
        "POST",
        "/me/delete",
        Some(json!({"password": PASSWORD})),
    )
    .await;
    assert_eq!((deleted.status, deleted.body.as_str()), (204, ""));
    for replica in &cluster.replicas {
        for user in [&alice, &other] {
            assert_eq!(user.dashboard_at(replica).await, 401);
        }
        let login = replica.anonymous().login("alice", PASSWORD).await;
        assert_eq!(login.status, 401);
    }
}

/// A login to the old account, the deletion of that account, and another client's registration of the name, all at one moment
/// and in any order.
#[tokio::test(flavor = "multi_thread")]
async fn c9_nothing_of_a_deleted_account_opens_the_account_of_a_stranger_with_its_name() {
    const STRANGER: &str = "staple battery horse correct";
    let cluster = Cluster::of(3).await;
    let times = rounds(100, 1000);
    let mut dice = Dice::new();
    let (mut doors, mut met, mut tried) = (0, 0, 0);
    for number in 0..times {
        let name = format!("name{number}");
        let owner = cluster.user(&name).await;
        let [at_first, at_second, at_third] = [0; 3].map(|_| &cluster.replicas[dice.below(3)]);
        let [first, second, third] =
            [0; 3].map(|_| std::time::Duration::from_micros(dice.below(9000) as u64));
        let deletion = async {
            tokio::time::sleep(first).await;
            ask(
                &owner,
                at_first,
                "POST",
                "/me/delete",
                Some(json!({"password": PASSWORD})),
            )
            .await
        };
        let login = async {
            tokio::time::sleep(second).await;
            at_second.anonymous().login(&name, PASSWORD).await
        };
        let registration = async {
            tokio::time::sleep(third).await;
            loop {
                let answer = at_third.anonymous().register(&name, STRANGER).await;
                if answer.status != 409 {
                    return answer;
                }
            }
        };
        let (deleted, login, registered) = tokio::join!(deletion, login, registration);
        assert!([204, 401].contains(&deleted.status), "{deleted:?}");
        assert!([201, 503].contains(&registered.status), "{registered:?}");
        met += usize::from(login.status == 200);
        let mut tokens = vec![owner.token.clone()];
        tokens.extend(
            (login.status == 200).then(|| login.json()["token"].as_str().unwrap().to_owned()),
        );
        for token in tokens {
            for replica in &cluster.replicas {
                let door = patiently(async || replica.anonymous().dashboard(&token).await).await;
                doors += usize::from(door.status != 401);
                tried += 1;
            }
        }
        let old = patiently(async || cluster.anonymous().login(&name, PASSWORD).await).await;
        doors += usize::from(old.status != 401);
        tried += 1;
        if registered.status == 201 {
            let own = patiently(async || cluster.anonymous().login(&name, STRANGER).await).await;
            assert_eq!(own.status, 200, "the stranger's account is his");
        }
    }
    assert_eq!(doors, 0);
    println!("{times} interleavings; in {met} the login came first");
    report_zero("doors into the stranger's account", tried);
}
