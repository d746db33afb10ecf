//! Signing keys in a folder: rotation under load, removed keys, unreadable files, and other verifiers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use portcullis::config::{Config, Secret};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::program::Desk;
use crate::harness::tools::{printed, repository, tool};
use crate::harness::{
    Anonymous, Cluster, Redis, Replica, SECRET, User, config, patiently, report_zero, rounds,
};

/// Users who send requests while keys change.
const PEOPLE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn c16_two_rotations_under_load_refuse_nobody_and_a_removed_key_is_refused_everywhere() {
    let folder = Folder::new();
    folder.run(&["generate"]);
    let path = folder.path();
    let cluster = Cluster::with(3, |_, config| signs_with(config, &path)).await;
    let first = cluster.user("first").await;
    let (wanted, enough) = (rounds(20_000, 200_000), AtomicBool::new(false));
    let (asked, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut people = Vec::new();
    for number in 0..PEOPLE {
        people.push(cluster.user(&format!("person{number}")).await);
    }
    let ask = async |mut user: User, number: usize| {
        for count in 0.. {
            if enough.load(Ordering::Relaxed) {
                break;
            }
            let replica = &cluster.replicas[(number + count) % 3];
            let status = user.dashboard_at(replica).await;
            asked.fetch_add(1, Ordering::Relaxed);
            refused.fetch_add(usize::from(status != 200), Ordering::Relaxed);
            if count % 200 == 199 {
                // Token of the key that signs now.
                let at = user.at.towards(replica);
                user = User::log_in(&at, &user.name).await;
            }
        }
    };
    let people = people.into_iter().enumerate();
    let people = people.map(|(number, user)| ask(user, number));
    let people: Vec<_> = people.collect();
    let rotating = async {
        for (algorithm, keys) in [("p256", 2), ("rsa", 3)] {
            folder.run(&["stage", "--algorithm", algorithm]);
            taken_over(&cluster, async |at| at_least(at, keys).await).await;
            folder.run(&["activate"]);
            tokio::time::sleep(Duration::from_millis(2_500)).await;
        }
        while asked.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        enough.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(people), rotating);
    let (asked, refused) = (asked.into_inner(), refused.into_inner());
    assert_eq!(refused, 0, "of {asked}");
    report_zero("requests refused through two rotations", asked);

    let listed = folder.run(&["list"]);
    assert_eq!(listed.matches("retired").count(), 2, "{listed}");
    let oldest = listed.split_whitespace().next().unwrap().to_owned();
    assert_eq!(first.dashboard_at(&cluster.replicas[0]).await, 200);
    folder.run(&["retire", &oldest]);
    for replica in &cluster.replicas {
        let gone = async {
            while first.dashboard_at(replica).await != 401 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(10), gone).await;
        assert!(gone.is_ok(), "a token of a removed key is accepted");
    }
    // The session goes on: its refresh tokens have a key of their own.
    let next = patiently(async || first.at.refresh(&first.refresh_token).await).await;
    assert_eq!(next.status, 200, "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_from_a_secret_to_a_folder_logs_nobody_out() {
    let redis = Redis::start().await;
    let before = Replica::serve(config(&redis.url())).await;
    let alice = User::register(&before, "alice").await;
    let folder = Folder::new();
    let with_both = |path: &Path| {
        let mut config = config(&redis.url());
        config.tokens.key_folder = Some(path.to_owned());
        config
    };
    // A folder that does not sign yet: the secret goes on signing.
    std::fs::create_dir_all(folder.path()).unwrap();
    folder.run(&["stage"]);
    let both = Replica::serve(with_both(&folder.path())).await;
    assert_eq!(alice.dashboard_at(&both).await, 200);
    let at = alice.at.towards(&both);
    assert_eq!(signed_by(&User::log_in(&at, "alice").await.token), "HS256");
    folder.run(&["activate"]);
    // The session must survive many logins, so another user logs in: a user has twenty sessions at most.
    User::register(&both, "bob").await;
    let bob = async {
        loop {
            let bob = User::log_in(&at, "bob").await;
            if signed_by(&bob.token) == "EdDSA" {
                return bob;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let bob = tokio::time::timeout(Duration::from_secs(10), bob)
        .await
        .unwrap();
    assert_eq!(alice.dashboard_at(&both).await, 200, "the secret's tokens");
    assert_eq!(bob.dashboard_at(&both).await, 200, "the folder's tokens");
    let next = patiently(async || at.refresh(&alice.refresh_token).await).await;
    assert_eq!(next.status, 200);
    // A separate secret for refresh tokens, set later, ends no session either.
    let mut later = with_both(&folder.path());
    later.tokens.refresh_secrets = vec![Secret::new(
        "a-secret-of-their-own-9f8e7d6c5b4a3".to_owned(),
    )];
    let later = Replica::serve(later).await;
    let token = next.json()["refresh_token"].as_str().unwrap().to_owned();
    let at = alice.at.towards(&later);
    let next = patiently(async || at.refresh(&token).await).await;
    assert_eq!(next.status, 200, "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_read_leaves_the_keys_and_one_that_is_swapped_replaces_them() {
    let (redis, folder, other) = (Redis::start().await, Folder::new(), Folder::new());
    folder.run(&["generate"]);
    other.run(&["generate", "--algorithm", "p256"]);
    // The folder is mounted as Kubernetes mounts a Secret: the files lead through a symbolic link, which is exchanged.
    let mount = tempfile::tempdir().unwrap();
    let link = |to: &Folder| {
        let new = mount.path().join("..data_tmp");
        std::os::unix::fs::symlink(to.path(), &new).unwrap();
        std::fs::rename(new, mount.path().join("..data")).unwrap();
    };
    link(&folder);
    let name = |folder: &Folder| {
        folder
            .run(&["list"])
            .split_whitespace()
            .next()
            .unwrap()
            .to_owned()
    };
    std::os::unix::fs::symlink(
        Path::new("..data").join(name(&folder)),
        mount.path().join("key.pem"),
    )
    .unwrap();
    let mut settings = config(&redis.url());
    signs_with(&mut settings, mount.path());
    let replica = Replica::serve(settings).await;
    let alice = User::register(&replica, "alice").await;
    assert_eq!(signed_by(&alice.token), "EdDSA");

    // Half a file, and a file that is no key.
    for text in ["-----BEGIN PRIVATE KEY-----\nMC4CAQAw", "no key at all"] {
        std::fs::write(mount.path().join("z.pem"), text).unwrap();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(alice.dashboard_at(&replica).await, 200);
        let again = User::log_in(&alice.at, "alice").await;
        assert_eq!(signed_by(&again.token), "EdDSA");
    }
    std::fs::remove_file(mount.path().join("z.pem")).unwrap();

    std::fs::rename(
        other.path().join(name(&other)),
        other.path().join(name(&folder)),
    )
    .unwrap();
    User::register(&replica, "bob").await;
    assert_eq!(alice.dashboard_at(&replica).await, 200);
    link(&other);
    let swapped = async {
        while signed_by(&User::log_in(&alice.at, "bob").await.token) != "ES256" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let swapped = tokio::time::timeout(Duration::from_secs(10), swapped).await;
    assert!(swapped.is_ok(), "a swapped link is not seen");
    assert_eq!(
        alice.dashboard_at(&replica).await,
        401,
        "the former key is gone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_set_is_named_kept_and_holds_nothing_secret() {
    let folder = Folder::new();
    folder.run(&["generate", "--algorithm", "rsa"]);
    folder.run(&["stage"]);
    let redis = Redis::start().await;
    let mut settings = config(&redis.url());
    settings.tokens.key_folder = Some(folder.path());
    let replica = Replica::serve(settings).await;
    let at = replica.anonymous();
    let answer = at.get(JWKS).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
    let keys = answer.json()["keys"].as_array().unwrap().clone();
    let kinds: Vec<_> = keys
        .iter()
        .map(|key| key["kty"].as_str().unwrap())
        .collect();
    assert_eq!(keys.len(), 2, "{kinds:?}");
    assert!(
        kinds.contains(&"RSA") && kinds.contains(&"OKP"),
        "{kinds:?}"
    );
    for key in &keys {
        for member in key.as_object().unwrap().keys() {
            let public = ["kty", "kid", "alg", "use", "crv", "x", "y", "n", "e"];
            assert!(public.contains(&member.as_str()), "{member}");
        }
    }
    assert!(!answer.body.contains(SECRET));
    let tag = answer.header("etag").to_owned();
    for known in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
        let again = at
            .send("GET", JWKS, &[("if-none-match", &known)], None)
            .await;
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{known}");
        assert_eq!(again.header("etag"), tag);
    }
    let other = at
        .send("GET", JWKS, &[("if-none-match", "\"x\"")], None)
        .await;
    assert_eq!(other.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_a_public_key_is_no_secret_to_sign_with() {
    let folder = Folder::new();
    folder.run(&["generate", "--algorithm", "rsa"]);
    let redis = Redis::start().await;
    let mut settings = config(&redis.url());
    signs_with(&mut settings, &folder.path());
    let replica = Replica::serve(settings).await;
    let alice = User::register(&replica, "alice").await;
    let key = &replica.anonymous().get(JWKS).await.json()["keys"][0];
    let (modulus, document) = (key["n"].as_str().unwrap(), key.to_string());
    let (_, rest) = alice.token.split_once('.').unwrap();
    let (claims, _) = rest.split_once('.').unwrap();
    let mut tried = 0;
    for secret in [modulus.as_bytes(), document.as_bytes(), &[]] {
        for algorithm in ["HS256", "HS384", "none", "RS256", "PS256"] {
            let header = format!(
                r#"{{"typ":"at+jwt","alg":"{algorithm}","kid":{}}}"#,
                key["kid"]
            );
            let signed = format!("{}.{claims}", BASE64_URL_SAFE_NO_PAD.encode(header));
            let mac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
            let mac = aws_lc_rs::hmac::sign(&mac, signed.as_bytes());
            let forged = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac));
            assert_eq!(replica.anonymous().dashboard(&forged).await.status, 401);
            tried += 1;
        }
    }
    report_zero("tokens accepted that a public key has signed", tried);
    assert_eq!(alice.dashboard_at(&replica).await, 200);
}

/// Published example of a signed text, with the key that signed it.
struct Vector {
    token: &'static str,
    /// Bytes before the key's numbers in PKCS#8, in hexadecimal; the numbers themselves are in base64url.
    before: &'static str,
    secret: &'static str,
    public: &'static [&'static str],
}

/// RFC 8037, appendix A.
const ED25519: Vector = Vector {
    token: "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    before: "302e020100300506032b657004220420",
    secret: "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    public: &[],
};

/// RFC 7515, appendix A.3.
const P256: Vector = Vector {
    token: "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    before: "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420",
    secret: "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
    public: &[
        "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    ],
};

/// Examples that are signed with other keys, or not at all: RFC 7515, appendices A.1 and A.5.
const OF_OTHERS: [&str; 2] = [
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
];

impl Vector {
    fn pem(&self) -> String {
        let digits = self.before.as_bytes().chunks(2);
        let byte = |two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
        let mut der: Vec<u8> = digits.map(byte).collect();
        der.extend(BASE64_URL_SAFE_NO_PAD.decode(self.secret).unwrap());
        if !self.public.is_empty() {
            // Public key: a bit string of 66 bytes without unused bits, an uncompressed point.
            der.extend([0xa1, 0x44, 0x03, 0x42, 0x00, 0x04]);
            for number in self.public {
                der.extend(BASE64_URL_SAFE_NO_PAD.decode(number).unwrap());
            }
        }
        let body = base64::prelude::BASE64_STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    }
}

/// Malformed variants of a signature that some verifier has accepted: without content, with the wrong encoding, with a part
/// that is too large, too short or too long.
fn other_signatures(signature: &str) -> Vec<String> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    // Order L of Ed25519's group, little-endian. A verifier that does not check the range accepts S + L in place of S.
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut shifted = bytes.clone();
    let mut carry = 0;
    for (byte, add) in shifted[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + add + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    let der = |number: &[u8]| {
        let sign = (number[0] > 127).then_some(0);
        let digits: Vec<u8> = sign.into_iter().chain(number.iter().copied()).collect();
        [&[2, u8::try_from(digits.len()).unwrap()][..], &digits].concat()
    };
    let both = [der(&bytes[..32]), der(&bytes[32..])].concat();
    let sequence = [&[0x30, u8::try_from(both.len()).unwrap()][..], &both].concat();
    let swapped = [&bytes[32..], &bytes[..32]].concat();
    [
        Vec::new(),
        vec![0; 64],
        vec![0xff; 64],
        [&bytes[..32], &[0; 32]].concat(),
        [&[0; 32], &bytes[32..]].concat(),
        shifted,
        swapped,
        sequence,
        bytes[..63].to_vec(),
        [&bytes[..], &[0]].concat(),
        [&[0], &bytes[..]].concat(),
    ]
    .iter()
    .map(|bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes))
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn t27_published_vectors_are_no_tokens_even_under_their_own_keys() {
    let mut tried = 0;
    for (vector, algorithm) in [(ED25519, "EdDSA"), (P256, "ES256")] {
        let folder = Folder::new();
        std::fs::create_dir(folder.path()).unwrap();
        std::fs::write(folder.path().join("2026-01-01.pem"), vector.pem()).unwrap();
        let redis = Redis::start().await;
        let mut settings = config(&redis.url());
        signs_with(&mut settings, &folder.path());
        let replica = Replica::serve(settings).await;
        let at = replica.anonymous();
        let user = User::register(&replica, "alice").await;
        let key = at.get(JWKS).await.json()["keys"][0].clone();
        assert_eq!(key["alg"], algorithm);
        // Control: the vector is intact, and its signature is valid under the key that the replica publishes.
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key).unwrap();
        let public = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let (signed, signature) = vector.token.rsplit_once('.').unwrap();
        let named = algorithm.parse().unwrap();
        let is_good = jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &public, named);
        assert!(is_good.unwrap(), "{algorithm}");

        let (signed, signature) = user.token.rsplit_once('.').unwrap();
        let mut forged: Vec<String> = other_signatures(signature)
            .iter()
            .map(|other| format!("{signed}.{other}"))
            .collect();
        forged.push(vector.token.to_owned());
        forged.extend(OF_OTHERS.map(str::to_owned));
        for token in &forged {
            assert_eq!(at.dashboard(token).await.code(), "invalid_token", "{token}");
        }
        tried += forged.len();
        assert_eq!(user.dashboard_at(&replica).await, 200, "the control");
    }
    report_zero("vectors and other writings of signatures accepted", tried);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_verify_our_tokens_from_the_key_set_through_a_rotation() {
    let folder = Folder::new();
    folder.run(&["generate"]);
    let path = folder.path();
    let cluster = Cluster::with(1, |_, config| signs_with(config, &path)).await;
    let at = cluster.anonymous();
    let url = format!("http://{}{JWKS}", cluster.replicas[0].addr);
    let mut tokens = vec![cluster.user("alice").await.token];
    for algorithm in ["p256", "rsa"] {
        folder.run(&["stage", "--algorithm", algorithm]);
        taken_over(&cluster, async |at| at_least(at, tokens.len() + 1).await).await;
        folder.run(&["activate"]);
        let before = signed_by(tokens.last().unwrap());
        let token = loop {
            let token = User::log_in(&at, "alice").await.token;
            if signed_by(&token) != before {
                break token;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        tokens.push(token);
    }
    let algorithms: Vec<_> = tokens.iter().map(|token| signed_by(token)).collect();
    assert_eq!(algorithms, ["EdDSA", "ES256", "RS256"]);
    let forged: String = tokens[0].chars().rev().collect();
    for (name, mut verifier) in [("PyJWT", pyjwt()), ("jose", jose())] {
        verifier.arg(&url).args(&tokens).arg(&forged);
        let said = tokio::task::spawn_blocking(move || printed(&mut verifier))
            .await
            .unwrap();
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines, ["alice", "alice", "alice", "refused"], "{name}");
    }
}

#[test]
fn the_keys_command_tells_what_it_does_and_what_it_will_not_do() {
    let folder = Folder::new();
    let refused = |arguments: &[&str], why: &str| {
        let (code, said) = folder.try_run(arguments);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(why), "{said}");
    };
    let said = folder.run(&["generate"]);
    assert!(said.contains("signs"), "{said}");
    refused(&["generate"], "portcullis keys stage");
    refused(&["activate"], "one key that is next");
    folder.run(&["stage", "--algorithm", "p256"]);
    let listed = folder.run(&["list"]);
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let lines: Vec<_> = listed.lines().map(words).collect();
    assert_eq!(
        (lines[0][1].as_str(), lines[0][2].as_str()),
        ("active", "EdDSA")
    );
    assert_eq!(
        (lines[1][1].as_str(), lines[1][2].as_str()),
        ("next", "ES256")
    );
    refused(&["retire", &lines[0][0]], "let another one sign first");
    refused(&["retire", "nothing"], "no key of that name");
    folder.run(&["activate"]);
    folder.run(&["retire", &lines[0][3]]);
    assert_eq!(folder.run(&["list"]).lines().count(), 1);
    for file in std::fs::read_dir(folder.path()).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // Name that an operator has chosen, and that sorts after all dates.
    let only = folder
        .run(&["list"])
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned();
    std::fs::rename(folder.path().join(&only), folder.path().join("mine.pem")).unwrap();
    folder.run(&["stage"]);
    let said = folder.run(&["activate"]);
    assert!(said.starts_with("mine~20"), "{said}");
    folder.run(&["retire", "mine.pem"]);
    // A reader must not open a pipe: the read would block.
    let pipe = folder.path().join("pipe.pem");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let (code, said) = folder.try_run(&["list"]);
    assert_eq!(code, 1);
    assert!(said.contains("pipe.pem is no file"), "{said}");
    std::fs::remove_file(pipe).unwrap();
    std::fs::write(folder.path().join("z.pem"), "planted-secret").unwrap();
    let (code, said) = folder.try_run(&["list"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("z.pem") && !said.contains("planted"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_keys_that_do_not_fit_are_mistakes() {
    let (desk, folder) = (Desk::new(), Folder::new());
    let keys = folder.path().display().to_string();
    let ran = desk.check(&[("JWT_KEYS_DIR", &keys)]).await;
    assert_eq!(ran.mistakes(), ["REFRESH_SECRET"]);
    let secret = "a9Kd72hfLq0PzXw83nVbTy5Rm1Uc6JeS";
    let listen = ("LISTEN", "0.0.0.0:0");
    let redis = ("REDIS_URL", "redis://127.0.0.1:1");
    let with = [
        ("JWT_KEYS_DIR", keys.as_str()),
        ("REFRESH_SECRET", secret),
        redis,
        listen,
    ];
    let ran = desk.check(&with).await;
    assert_eq!(ran.code, 69, "a folder does for JWT_SECRET: {ran:?}");
    let ran = desk.run(&["serve"], &with).await;
    assert_eq!(ran.code, 69, "{ran:?}");
    assert!(ran.err.contains("JWT_KEYS_DIR"), "{ran:?}");
}

const JWKS: &str = "/.well-known/jwks.json";

/// Folder of keys, and the command that changes it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("keys")
    }

    fn try_run(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .arg("keys")
            .args(arguments)
            .env_clear()
            .env("JWT_KEYS_DIR", self.path())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(said).unwrap(),
        )
    }

    fn run(&self, arguments: &[&str]) -> String {
        let (code, said) = self.try_run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
        said
    }
}

/// Configures the folder as the only source of signing keys.
fn signs_with(config: &mut Config, folder: &Path) {
    config.tokens.signing = None;
    config.tokens.key_folder = Some(folder.to_owned());
    config.tokens.refresh_secrets = vec![Secret::new(SECRET.to_owned())];
}

/// Waits until all replicas have loaded the changed folder.
async fn taken_over(cluster: &Cluster, has: impl AsyncFn(&Anonymous) -> bool) {
    for replica in &cluster.replicas {
        let at = replica.anonymous();
        let taken = async {
            while !has(&at).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let taken = tokio::time::timeout(Duration::from_secs(10), taken).await;
        assert!(taken.is_ok(), "a replica does not see the new key");
    }
}

async fn at_least(at: &Anonymous, keys: usize) -> bool {
    at.get(JWKS).await.json()["keys"].as_array().unwrap().len() >= keys
}

/// Returns the algorithm in a token's header.
fn signed_by(token: &str) -> String {
    let header = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap());
    let header: Value = serde_json::from_slice(&header.unwrap()).unwrap();
    header["alg"].as_str().unwrap().to_owned()
}

/// Command for Python's PyJWT: prints the name in each token, or that it is refused.
fn pyjwt() -> Command {
    let mut python = tool("python3");
    python.arg(repository("tests/keys/verify.py"));
    python
}

/// Command for Node's jose.
fn jose() -> Command {
    let mut node = crate::harness::installed("node", "nodejs");
    node.arg(repository("tests/keys/verify.mjs"));
    node.env("MODULES", repository("target/tools/node_modules"));
    node
}
