//! Names and passwords that a client might mistake for others, over the API. The numbers are those of the threats in
//! `docs/security.md`.

use std::time::Duration;

use portcullis::config::Secret;
use serde_json::json;

use crate::harness::{Answer, Cluster, PASSWORD, Replica, config, patiently};

/// Password that is registered and is good enough, and a similar one that must not open the account.
const PAIR: [&str; 2] = ["quokka lantern 71 umbrella", "quokka lantern 71 umbrellA"];

async fn register(cluster: &Cluster, name: &str, password: &str) -> Answer {
    patiently(async || cluster.anonymous().register(name, password).await).await
}

async fn login(cluster: &Cluster, name: &str, password: &str) -> u16 {
    let login = async || cluster.anonymous().login(name, password).await;
    patiently(login).await.status
}

async fn stored(cluster: &Cluster, name: &str) -> String {
    let key = cluster.record(name).await;
    cluster.redis.command(&["HGET", &key, "password"]).await
}

pub async fn store(cluster: &Cluster, name: &str, hash: &str) {
    let key = cluster.record(name).await;
    let write = ["HSET", &key, "password", hash];
    cluster.redis.command::<i64>(&write).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u1_u2_u3_no_two_accounts_have_names_that_look_alike() {
    let cluster = Cluster::alone().await;
    for name in ["admin", "file", "istanbul", "e-name", "kelvin"] {
        assert_eq!(register(&cluster, name, PASSWORD).await.status, 201);
    }
    for name in ["ADMIN", "Admin", "aDmIn"] {
        assert_eq!(
            register(&cluster, name, PASSWORD).await.code(),
            "name_taken"
        );
        assert_eq!(
            login(&cluster, name, PASSWORD).await,
            200,
            "it is the same name"
        );
    }
    for name in [
        "аdmin",
        "ⓐdmin",
        "admin\u{200b}",
        "admin\u{ad}",
        "\u{feff}admin",
        "ﬁle",
        "İstanbul",
        "ıstanbul",
        "é-name",
        "e\u{301}-name",
        "\u{212a}elvin",
        "ａｄｍｉｎ",
        " admin",
        "admin ",
        "a\0min",
        "admin\u{7f}",
        "\u{202e}nimda",
        "admin\n",
    ] {
        let answer = register(&cluster, name, PASSWORD).await;
        assert_eq!(answer.code(), "validation_failed", "{name:?}");
        assert_eq!(login(&cluster, name, PASSWORD).await, 401, "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_u5_b24_a_name_reaches_no_key_but_its_own_and_no_header() {
    let cluster = Cluster::alone().await;
    let long = "x".repeat(10 * 1024);
    let before: Vec<String> = cluster.redis.command(&["KEYS", "*"]).await;
    for name in [
        "*",
        "{x}",
        "{evil}name",
        "a:b",
        "user:{0}:admin",
        "\r\nFLUSHALL",
        "name\r\nSet-Cookie: x=1",
        "$5\r\nadmin",
        "../../etc",
        "' OR 1=1 --",
        &long,
    ] {
        let answer = register(&cluster, name, PASSWORD).await;
        assert_eq!(answer.code(), "validation_failed", "{name:?}");
        assert_eq!(answer.header("set-cookie"), "");
        assert_eq!(login(&cluster, name, PASSWORD).await, 401, "{name:?}");
    }
    let after: Vec<String> = cluster.redis.command(&["KEYS", "*"]).await;
    assert_eq!(before.len(), after.len(), "{after:?}");
    // The strangest valid name: all of its keys are in one slot, and the name does not choose that slot.
    let strange = "0.-_+@a.b@c";
    assert_eq!(register(&cluster, strange, PASSWORD).await.status, 201);
    assert_eq!(login(&cluster, strange, PASSWORD).await, 200);
    let keys: Vec<String> = cluster.redis.command(&["KEYS", "*"]).await;
    let new = keys.iter().filter(|key| !after.contains(key));
    let tag = |key: &&String| key[key.find('{').unwrap()..=key.find('}').unwrap()].to_owned();
    let tags: std::collections::BTreeSet<_> = new.map(|key| tag(&key)).collect();
    assert_eq!(tags.len(), 1, "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn u6_u7_u8_u10_passwords_differ_by_every_character_and_bytes_beyond_the_72nd_count() {
    let cluster = Cluster::alone().await;
    let a = "seven small otters swim over the old stone bridge near Graz at dawn 1971";
    let signs = (0..64).map(|number| char::from_u32(0x1f300 + number * 37 % 256).unwrap());
    let locks: String = signs.collect();
    assert_eq!((a.len(), locks.chars().count(), locks.len()), (72, 64, 256));
    let cases: &[(&str, String, Vec<String>)] = &[
        ("long", format!("{a}B"), vec![format!("{a}C"), a.to_owned()]),
        (
            "locks",
            locks.clone(),
            vec![
                locks.replacen('\u{1f300}', "\u{1f513}", 1),
                locks[..252].to_owned(),
                format!("{}\u{1f513}", &locks[..252]),
            ],
        ),
        (
            "cycle",
            "quokka-lantern7".to_owned(),
            vec!["quokka-lantern7\0quokka-lantern7".to_owned()],
        ),
        (
            "nul",
            "quokka\0lantern 71".to_owned(),
            vec!["quokka".to_owned(), "quokka\0lantern 72".to_owned()],
        ),
        (
            "spaces",
            format!(" {} ", PAIR[0]),
            vec![
                PAIR[0].to_owned(),
                format!(" {}", PAIR[0]),
                format!("{} ", PAIR[0]),
            ],
        ),
        ("case", PAIR[0].to_owned(), vec![PAIR[1].to_owned()]),
    ];
    for (name, password, others) in cases {
        let answer = register(&cluster, name, password).await;
        assert_eq!(answer.status, 201, "{name} {answer:?}");
        assert_eq!(login(&cluster, name, password).await, 200, "{name}");
        for other in others {
            assert_eq!(login(&cluster, name, other).await, 401, "{name}: {other:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u9_a_password_without_end_is_hashed_by_nobody() {
    let cluster = Cluster::alone().await;
    let hashes = async || {
        let page = cluster.replicas[0].metrics().await;
        let line = page
            .lines()
            .find(|line| line.starts_with("portcullis_password_hashes_total"));
        line.map(str::to_owned)
    };
    let before = hashes().await;
    for length in [17_000, 1 << 20] {
        let password = "x".repeat(length);
        let at = cluster.anonymous();
        assert_eq!(
            at.register("alice", &password).await.code(),
            "payload_too_large"
        );
        assert_eq!(
            at.login("alice", &password).await.code(),
            "payload_too_large"
        );
    }
    let answer = register(&cluster, "alice", &"x".repeat(257)).await;
    assert_eq!(answer.code(), "validation_failed");
    assert_eq!(hashes().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn u11_a_password_is_the_same_on_every_keyboard() {
    let cluster = Cluster::alone().await;
    let (composed, decomposed) = ("un caf\u{e9} \u{fb01}xe 71", "un cafe\u{301} fixe 71");
    assert_ne!(composed, decomposed);
    assert_eq!(register(&cluster, "alice", composed).await.status, 201);
    assert_eq!(login(&cluster, "alice", decomposed).await, 200);
    assert_eq!(login(&cluster, "alice", "un cafe fixe 71").await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn u12_u13_u14_what_is_easily_guessed_is_refused_and_nothing_is_prescribed() {
    let cluster = Cluster::with(1, |_, config| {
        config.revocation.alone = true;
        config.passwords.min_length = 15;
    })
    .await;
    for password in [
        "passwordpassword",
        "aaaaaaaaaaaaaaaaaaaa",
        "qwertyuiopqwertyuiop",
        "123456789012345678",
        "abcdefghijklmnopqrstuvwxyz",
        "portcullisportcullis",
        "margaret-thatcher123",
        "iloveyouiloveyou",
        "fourteen chars",
    ] {
        let answer = register(&cluster, "margaret-thatcher", password).await;
        assert_eq!(answer.code(), "validation_failed", "{password}");
        assert_eq!(answer.json()["errors"][0]["pointer"], "/password");
    }
    let free = [
        "seven small otters swim",
        "\u{1f30b}\u{1f6a2}\u{1f511}\u{1f30b}\u{1f98a}\u{1f511}\u{1f9ed}\u{1f98a}\u{1f6a2}\u{1f9ed}\u{1f30b}\u{1f980}\u{1f511}\u{1f6a2}\u{1f344}",
        "zqj vkx wpl mrb",
    ];
    for (number, password) in free.iter().enumerate() {
        let name = format!("user{number}");
        let answer = register(&cluster, &name, password).await;
        assert_eq!(answer.status, 201, "{password} {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u15_a_damaged_hash_in_redis_refuses_its_user_and_harms_nobody_else() {
    let cluster = Cluster::alone().await;
    for name in ["alice", "bob"] {
        assert_eq!(register(&cluster, name, PASSWORD).await.status, 201);
    }
    let good = stored(&cluster, "alice").await;
    let absurd = good.replace("$04$", "$31$");
    assert_ne!(absurd, good);
    for damaged in [
        absurd,
        good.replace("$04$", "$99$"),
        good.replace("$2b$", "$2z$"),
        good[..good.len() - 1].to_owned(),
        format!("{good}x"),
        "é".repeat(30),
        String::new(),
        "p1$".to_owned(),
        "\0".repeat(60),
        PASSWORD.to_owned(),
    ] {
        store(&cluster, "alice", &damaged).await;
        let answer = cluster.anonymous().login("alice", PASSWORD).await;
        assert!(matches!(answer.status, 401 | 503), "{damaged:?} {answer:?}");
        assert_eq!(login(&cluster, "bob", PASSWORD).await, 200, "{damaged:?}");
    }
    store(&cluster, "alice", &good).await;
    assert_eq!(login(&cluster, "alice", PASSWORD).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn u16_a_login_brings_the_hash_to_the_present_cost_and_never_undoes_a_new_password() {
    let cluster = Cluster::with(1, |_, config| config.passwords.cost = 4).await;
    let mut costly = config(&cluster.redis.url());
    costly.passwords.cost = 6;
    let costly = Replica::serve(costly).await;
    let at = costly.anonymous();
    assert_eq!(register(&cluster, "alice", PASSWORD).await.status, 201);
    let old = stored(&cluster, "alice").await;
    assert!(old.contains("$04$"), "{old}");
    let log_in = async |password: &str| patiently(async || at.login("alice", password).await).await;
    assert_eq!(log_in(PAIR[0]).await.status, 401);
    assert_eq!(
        stored(&cluster, "alice").await,
        old,
        "a wrong one changes nothing"
    );
    let tokens = log_in(PASSWORD).await.json();
    let new = stored(&cluster, "alice").await;
    assert!(new.contains("$06$"), "{new}");

    // Logins with the old password, whose hash is outdated, race with a change of the password.
    let token = tokens["token"].as_str().unwrap().to_owned();
    store(&cluster, "alice", &old).await;
    let racing = async {
        // Fewer logins than a user may have sessions: the session of the change must survive.
        for _ in 0..8 {
            at.login("alice", PASSWORD).await;
        }
    };
    let changing = async {
        tokio::time::sleep(Duration::from_millis(15)).await;
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = json!({"current_password": PASSWORD, "new_password": PAIR[0]}).to_string();
        let change = async || at.send("PUT", "/me/password", &headers, Some(&body)).await;
        patiently(change).await
    };
    let ((), changed) = tokio::join!(racing, changing);
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(log_in(PASSWORD).await.status, 401);
    assert_eq!(log_in(PAIR[0]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_users_from_before_the_pepper_still_log_in_and_get_it() {
    let cluster = Cluster::alone().await;
    assert_eq!(register(&cluster, "alice", PASSWORD).await.status, 201);
    let mut peppered = config(&cluster.redis.url());
    let pepper = Secret::new("pepper-for-tests-of-32-bytes-or-more".to_owned());
    peppered.passwords.pepper = Some(("k1".to_owned(), pepper));
    let peppered = Replica::serve(peppered).await;
    let at = peppered.anonymous();
    let login = patiently(async || at.login("alice", PASSWORD).await).await;
    assert_eq!(login.status, 200, "{login:?}");
    let hash = stored(&cluster, "alice").await;
    assert!(hash.starts_with("p1:k1$"), "{hash}");
}
