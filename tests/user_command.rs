//! `portcullis user`: the operator's commands give the same guarantees as the API.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::harness::program::{Desk, serve};
use crate::harness::{Anonymous, Cluster, PASSWORD, SECRET, User, patiently, report_zero, rounds};

/// Result of a run: its exit code, standard output, standard error.
type Told = (i32, String, String);

/// Runs `portcullis user …` with `input` on standard input.
async fn user(desk: &Desk, url: &str, arguments: &[&str], input: &str) -> Told {
    let arguments: Vec<_> = ["user"].iter().chain(arguments).copied().collect();
    let variables = [
        ("REDIS_URL", url),
        ("JWT_SECRET", SECRET),
        ("BCRYPT_COST", "4"),
    ];
    let mut command = desk.command(&arguments, &variables);
    told(&mut command, input).await
}

async fn told(command: &mut tokio::process::Command, input: &str) -> Told {
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A command that does not read its input may have ended before the input is written.
    tokio::spawn(async move { stdin.write_all(input.as_bytes()).await.ok() });
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_ends_is_refused_by_all_replicas_the_moment_it_has_ended() {
    let (cluster, desk) = (Cluster::of(3).await, Desk::new());
    let url = cluster.redis.url();
    let acts = rounds(12, 120);
    let (mut accepted, mut tried) = (0, 0);
    for number in 0..acts {
        let name = format!("user{number}");
        let alice = cluster.user(&name).await;
        let arguments = match number % 4 {
            0 => vec!["disable", &name],
            1 => vec!["roles", &name, "editor"],
            2 => vec!["delete", &name],
            _ => vec!["sessions", &name, "--end"],
        };
        let (code, _, err) = user(&desk, &url, &arguments, "").await;
        assert_eq!(code, 0, "{arguments:?}: {err}");
        for replica in &cluster.replicas {
            accepted += usize::from(alice.dashboard_at(replica).await != 401);
            tried += 1;
        }
        let event: Value = serde_json::from_str(err.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&event["event"], &event["by"]),
            (&json!("audit"), &json!("operator"))
        );
        assert_eq!(
            (&event["target_username"], &event["outcome"]),
            (&json!(name), &json!("done"))
        );
    }
    assert_eq!(accepted, 0);
    report_zero("tokens accepted after a command ended them", tried);
    assert_eq!(user(&desk, &url, &["enable", "user0"], "").await.0, 0);
    User::log_in(&cluster.anonymous(), "user0").await;
    for arguments in [["show", "nobody"], ["disable", "nobody"], ["delete", "no"]] {
        assert_eq!(
            user(&desk, &url, &arguments, "").await.0,
            1,
            "{arguments:?}"
        );
    }
    let agent = [("user-agent", "browser/1")];
    let login = json!({"username": "user0", "password": PASSWORD}).to_string();
    let headers = [agent[0], ("content-type", "application/json")];
    let another = async || {
        let at = cluster.anonymous();
        at.send("POST", "/login", &headers, Some(&login)).await
    };
    assert_eq!(patiently(another).await.status, 200);
    let (code, listed, err) = user(&desk, &url, &["sessions", "user0"], "").await;
    assert_eq!(code, 0, "{err}");
    let listed: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(listed.len(), 2, "those that the command ended are gone");
    assert_eq!(listed[0]["user_agent"], "browser/1", "the newest first");
    assert_eq!(listed[0]["address"], "127.0.0.1");
    assert_eq!(user(&desk, &url, &["sessions", "nobody"], "").await.0, 1);
    assert_eq!(
        user(&desk, "redis://127.0.0.1:1", &["show", "user0"], "")
            .await
            .0,
        69
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_administrator_is_created_with_a_password_from_standard_input() {
    let (cluster, desk) = (Cluster::of(1).await, Desk::new());
    let url = cluster.redis.url();
    let input = format!("{PASSWORD}\n");
    let (code, out, err) = user(&desk, &url, &["create", "--admin", "Root"], &input).await;
    assert_eq!(code, 0, "{err}");
    assert!(!format!("{out}{err}").contains(PASSWORD));
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&shown["username"], &shown["roles"]),
        (&json!("root"), &json!(["admin"]))
    );
    let root = User::log_in(&cluster.anonymous(), "root").await;
    let bearer = format!("Bearer {}", root.token);
    let headers = [("authorization", bearer.as_str())];
    let seen = cluster
        .anonymous()
        .send("GET", "/users/root", &headers, None)
        .await;
    assert_eq!((seen.status, seen.json()), (200, shown));
    let (code, _, err) = user(&desk, &url, &["create", "root"], &input).await;
    assert_eq!(
        (code, err.contains("the username is taken")),
        (1, true),
        "{err}"
    );
    for (name, password) in [("alice", "password1"), ("alice", ""), ("a", PASSWORD)] {
        assert_eq!(
            user(&desk, &url, &["create", name], password).await.0,
            1,
            "{name}"
        );
    }
    assert_eq!(
        user(&desk, &url, &["create", "alice", PASSWORD], "")
            .await
            .0,
        64
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_private_redis_of_a_replica_is_found_by_its_data_folder() {
    let desk = Desk::new();
    let folder = desk.path().join("kept");
    let variables = [
        ("DATA_DIR", folder.to_str().unwrap()),
        ("BCRYPT_COST", "4"),
        ("LISTEN", "127.0.0.1:0"),
        ("MANAGEMENT_LISTEN", "127.0.0.1:0"),
        ("PATH", env!("PATH")),
    ];
    let none = told(&mut desk.command(&["user", "list"], &variables), "").await;
    assert_eq!(none.0, 69, "nothing runs yet: {none:?}");
    let (mut child, line) = serve(&desk, &variables).await;
    let created = told(
        &mut desk.command(&["user", "create", "alice"], &variables),
        PASSWORD,
    )
    .await;
    assert_eq!(created.0, 0, "{created:?}");
    let at = Anonymous::at(line["listen"].as_str().unwrap().parse().unwrap());
    User::log_in(&at, "alice").await;
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_names_what_it_refuses_and_can_be_run_again() {
    let (cluster, desk) = (Cluster::of(1).await, Desk::new());
    let url = cluster.redis.url();
    cluster.user("taken").await;
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let of = |kind: &str| hash.replacen("$2b$", kind, 1);
    let line =
        |name: &str, hash: &str| json!({"username": name, "password_hash": hash}).to_string();
    let planted = "S3cret-Planted-Value";
    let lines = [
        line("ann", &of("$2a$")),
        line("bob", &of("$2b$")),
        json!({"username": "Cyd", "password_hash": of("$2y$"), "roles": ["editor"]}).to_string(),
        json!({"username": "dan", "password_hash": hash, "disabled": true}).to_string(),
        line("taken", &hash),
        line("x", &hash),
        line("eve", planted),
        line("eve", &hash.replacen("$04$", "$16$", 1)),
        line("eve", &format!("p1${hash}")),
        format!("{{\"username\": \"eve\", \"password\": \"{planted}\"}}"),
        planted.to_owned(),
    ];
    let file = desk.file("users.jsonl", lines.join("\n"));
    let (code, out, err) = user(&desk, &url, &["import", &file], "").await;
    assert_eq!(code, 1);
    assert!(
        out.starts_with("11 lines: 4 imported, 0 there already, 7 refused"),
        "{out}"
    );
    let refused: BTreeSet<_> = err
        .lines()
        .filter_map(|line| line.strip_prefix("line ")?.split(':').next())
        .collect();
    assert_eq!(
        refused,
        BTreeSet::from(["5", "6", "7", "8", "9", "10", "11"])
    );
    assert!(!format!("{out}{err}").contains(planted) && !err.contains(&hash[7..]));
    for name in ["ann", "bob", "cyd"] {
        User::log_in(&cluster.anonymous(), name).await;
    }
    assert_eq!(cluster.anonymous().login("dan", PASSWORD).await.status, 401);
    // The logins have replaced the hashes; the import still recognises the same line, and reports a different one.
    let again = user(&desk, &url, &["import"], &lines[..4].join("\n")).await;
    assert!(
        again.0 == 0 && again.1.starts_with("4 lines: 0 imported, 4 there already"),
        "{again:?}"
    );
    let other = user(
        &desk,
        &url,
        &["import"],
        &line("ann", &bcrypt::hash("another", 4).unwrap()),
    )
    .await;
    assert!(
        other.0 == 1
            && other
                .2
                .contains("line 1: another account has this username"),
        "{other:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_users_are_imported_and_listed_by_pages_that_nobody_waits_for() {
    let (cluster, desk) = (Cluster::of(1).await, Desk::new());
    let url = cluster.redis.url();
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let users = rounds(5000, 100_000);
    let lines = |users: usize| {
        let line =
            |number| format!("{{\"username\":\"user{number}\",\"password_hash\":\"{hash}\"}}\n");
        (0..users).map(line).collect::<String>()
    };
    // An import that was stopped half-way.
    let half = user(&desk, &url, &["import"], &lines(users / 2)).await;
    assert_eq!(half.0, 0, "{:?}", half.2.lines().last());
    let whole = user(&desk, &url, &["import"], &lines(users)).await;
    let expected = format!(
        "{users} lines: {} imported, {} there already, 0 refused",
        users - users / 2,
        users / 2
    );
    assert!(
        whole.0 == 0 && whole.1.starts_with(&expected),
        "{}",
        whole.1
    );
    println!("first half: {}whole: {}", half.1, whole.1);

    cluster.redis.command::<()>(&["CONFIG", "RESETSTAT"]).await;
    let (code, out, _) = user(&desk, &url, &["list"], "").await;
    let name = |line: &str| serde_json::from_str::<Value>(line).unwrap()["username"].to_string();
    let names: BTreeSet<_> = out.lines().map(name).collect();
    assert_eq!((code, names.len()), (0, users));
    let counts = cluster.redis.command_counts().await;
    let calls = |name: &str| {
        counts
            .iter()
            .filter(|(command, _)| command == name)
            .map(|(_, calls)| *calls)
            .sum::<u64>()
    };
    assert_eq!(calls("keys"), 0);
    assert!(calls("scan") >= users as u64 / 500, "{counts:?}");
}
