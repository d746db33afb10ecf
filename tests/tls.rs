//! TLS on the public address: certificates are renewed under load, and the address never falls back to plaintext.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

use crate::harness::certificates::{Authority, Identity};
use crate::harness::process::{Process, folder};
use crate::harness::program::Desk;
use crate::harness::{
    Anonymous, Cluster, PASSWORD, Redis, SECRET, User, Wire, installed, report_zero, rounds,
};

/// Folder with the certificate and key of a replica.
struct Files(tempfile::TempDir);

impl Files {
    fn of(identity: &Identity) -> Self {
        let files = Self(folder());
        files.hold(identity);
        files
    }

    fn hold(&self, identity: &Identity) {
        identity.write(self.0.path(), "tls");
    }

    fn certificate(&self) -> String {
        self.path("tls.crt")
    }

    fn key(&self) -> String {
        self.path("tls.key")
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

async fn serve(folder: &Path, redis: &Redis, files: &Files) -> Process {
    let (url, certificate, key) = (redis.url(), files.certificate(), files.key());
    let settings = [
        ("REDIS_URL", url.as_str()),
        ("JWT_SECRET", SECRET),
        ("TLS_CERT", &certificate),
        ("TLS_KEY", &key),
    ];
    Process::serve(folder, &settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_under_load_and_a_broken_one_is_not_taken() {
    let (authority, next) = (Authority::new(), Authority::new());
    let files = Files::of(&authority.vouch());
    let (place, redis) = (folder(), Redis::start().await);
    let mut replica = serve(place.path(), &redis, &files).await;
    let at = Anonymous::over_tls(replica.addr, &authority.pem());
    assert_eq!(at.register("alice", PASSWORD).await.status, 201);
    let user = User::log_in(&at, "alice").await;
    let (over, asked, failed) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let both = [authority.pem(), next.pem()].concat();
    let ask = async |newly: bool| {
        // One client keeps its connection, the other makes a new handshake for each request.
        let mut at = Anonymous::over_tls(replica.addr, &both);
        while !over.load(Ordering::Relaxed) {
            if newly {
                at = Anonymous::over_tls(replica.addr, &both);
            }
            let good = at.dashboard_once(&user.token).await == Some(200);
            failed.fetch_add(usize::from(!good), Ordering::Relaxed);
            asked.fetch_add(1, Ordering::Relaxed);
        }
    };
    let trusts = async |authority: &Authority| {
        let at = Anonymous::over_tls(replica.addr, &authority.pem());
        at.dashboard_once(&user.token).await.is_some()
    };
    let changes = async {
        for _ in 0..rounds(2, 10) {
            // Half a renewal: the key does not belong to the certificate.
            std::fs::write(files.key(), authority.vouch().key).unwrap();
            tokio::time::sleep(Duration::from_millis(2500)).await;
            assert!(trusts(&authority).await);
            std::fs::write(files.certificate(), "-----BEGIN CERTIFICATE-----\n").unwrap();
            tokio::time::sleep(Duration::from_millis(2500)).await;
            assert!(trusts(&authority).await, "the one before stays");
            files.hold(&next.vouch());
            while !trusts(&next).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert!(!trusts(&authority).await);
            files.hold(&authority.vouch());
            while !trusts(&authority).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        over.store(true, Ordering::Relaxed);
    };
    let load = [false, false, true, true].map(ask);
    tokio::join!(join_all(load), changes);
    let complaints = replica.events("tls");
    let said: Vec<_> = complaints
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    println!("{said:#?}");
    assert!(said.iter().any(|it| it.contains("is invalid")));
    assert!(said.iter().any(|it| it.contains("has changed")));
    assert!(
        said.len() <= rounds(2, 10) * 6,
        "once for each change: {said:#?}"
    );
    assert_eq!(failed.into_inner(), 0);
    report_zero(
        "requests that failed while certificates changed",
        asked.into_inner(),
    );
    assert!(replica.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_in_the_clear_and_browsers_are_told_to_stay() {
    let authority = Authority::new();
    let files = Files::of(&authority.vouch());
    let (place, redis) = (folder(), Redis::start().await);
    let mut replica = serve(place.path(), &redis, &files).await;
    for plain in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut wire = Wire::to(replica.addr).await;
        wire.send(plain).await;
        assert!(!wire.hears("HTTP").await, "{plain}");
    }
    // A client that sends nothing, or stops sending, is disconnected after the timeout of a request head.
    for start in ["", "\u{16}\u{3}\u{1}"] {
        let mut wire = Wire::to(replica.addr).await;
        wire.send(start).await;
        assert!(wire.is_closed_within(Duration::from_secs(9)).await);
    }
    let at = Anonymous::over_tls(replica.addr, &authority.pem());
    let answer = at.get("/docs").await;
    assert_eq!(answer.status, 200);
    let strict = answer.header("strict-transport-security");
    assert_eq!(strict, "max-age=31536000");
    let stranger = Anonymous::over_tls(replica.addr, &Authority::new().pem());
    assert!(stranger.try_get("/docs").await.is_err());

    let address = replica.addr.to_string();
    for (version, good) in [
        ("-tls1_3", true),
        ("-tls1_2", true),
        ("-tls1_1", false),
        ("-tls1", false),
    ] {
        let mut openssl = installed("openssl", "openssl");
        let shaken = openssl
            .args([
                "s_client",
                "-connect",
                &address,
                version,
                "-cipher",
                "ALL:@SECLEVEL=0",
            ])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&shaken.stdout).into_owned();
        assert_eq!(
            said.contains("Cipher is (NONE)"),
            !good,
            "{version}: {said}"
        );
    }
    assert!(replica.stop().await.success());

    let plain = Cluster::alone().await;
    let answer = plain.anonymous().get("/docs").await;
    assert_eq!(answer.header("strict-transport-security"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_good_stop_the_start_and_are_named() {
    let authority = Authority::new();
    let files = Files::of(&authority.vouch());
    let (desk, redis) = (Desk::new(), Redis::start().await);
    let url = redis.url();
    let told = async |certificate: &str, key: &str| {
        let settings = [
            ("REDIS_URL", url.as_str()),
            ("JWT_SECRET", SECRET),
            ("TLS_CERT", certificate),
            ("TLS_KEY", key),
        ];
        let (checked, started) =
            tokio::join!(desk.check(&settings), desk.run(&["serve"], &settings));
        assert_eq!(
            (checked.code, started.code),
            (69, 69),
            "{checked:?} {started:?}"
        );
        assert!(checked.out.contains("FAILED: TLS_"), "{}", checked.out);
        started.err
    };
    let other = desk.file("other.key", authority.vouch().key);
    let (certificate, key) = (files.certificate(), files.key());
    for (certificate, key, why) in [
        (
            &*certificate,
            &*other,
            "TLS_KEY: not the key of the certificate",
        ),
        (&key, &key, "TLS_CERT: no certificate in PEM"),
        (&certificate, &certificate, "TLS_KEY: no private key in PEM"),
        ("/nowhere", &key, "TLS_CERT: /nowhere: No such file"),
    ] {
        let said = told(certificate, key).await;
        assert!(said.contains(why), "{said}");
    }
    let settings = [
        ("REDIS_URL", url.as_str()),
        ("JWT_SECRET", SECRET),
        ("TLS_CERT", &certificate),
        ("TLS_KEY", &key),
    ];
    let checked = desk.check(&settings).await;
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(
        checked.out.contains("clients       https://"),
        "{}",
        checked.out
    );
}
