//! Redis over TLS: one server, Sentinels, a Cluster; certificates that a replica must not accept; passwords that change.

use std::path::PathBuf;
use std::time::Duration;

use portcullis::config::{ClientCertificate, Config, RedisServer, RedisTls, Secret};
use tempfile::TempDir;

use crate::harness::certificates::Authority;
use crate::harness::process::{folder, program};
use crate::harness::sentinel::{NAME, Sentinel};
use crate::harness::tools::printed;
use crate::harness::{
    PASSWORD, REDIS_PASSWORD, Redis, Replica, SECRET, User, acknowledged, config, free_port,
    installed,
};

#[tokio::test(flavor = "multi_thread")]
async fn i27_one_server_is_reached_over_tls_and_a_certificate_that_is_not_good_is_refused() {
    let files = Files::new();
    let (server, port) = files.server("good", &[]).await;
    journey(files.settings(&format!("rediss://{}", at(port)), 0)).await;

    let (_expired, expired_port) = files.server("late", &[]).await;
    let [ca, certificate, key, other, late, late_key] = [
        "ca.crt",
        "good.crt",
        "good.key",
        "other.crt",
        "late.crt",
        "late.key",
    ]
    .map(|name| files.path(name).display().to_string());
    let encrypted = format!("rediss://{}", at(port));
    let plain_port = format!("rediss://{}", at(server.addr().port()));
    let plain_client = format!("redis://{}", at(port));
    let expired = format!("rediss://{}", at(expired_port));
    let cases: [(&str, &[(&str, &str)]); 7] = [
        (
            "",
            &[
                ("REDIS_URL", &encrypted),
                ("REDIS_CA", &ca),
                ("REDIS_CERT", &certificate),
                ("REDIS_KEY", &key),
            ],
        ),
        (
            "no certificate of its own",
            &[("REDIS_URL", &encrypted), ("REDIS_CA", &ca)],
        ),
        (
            "another authority",
            &[
                ("REDIS_URL", &encrypted),
                ("REDIS_CA", &other),
                ("REDIS_CERT", &certificate),
                ("REDIS_KEY", &key),
            ],
        ),
        (
            "the authorities of the system",
            &[
                ("REDIS_URL", &encrypted),
                ("REDIS_CERT", &certificate),
                ("REDIS_KEY", &key),
            ],
        ),
        (
            "an expired server",
            &[
                ("REDIS_URL", &expired),
                ("REDIS_CA", &ca),
                ("REDIS_CERT", &certificate),
                ("REDIS_KEY", &key),
            ],
        ),
        (
            "an expired client",
            &[
                ("REDIS_URL", &encrypted),
                ("REDIS_CA", &ca),
                ("REDIS_CERT", &late),
                ("REDIS_KEY", &late_key),
            ],
        ),
        (
            "a server without TLS",
            &[("REDIS_URL", &plain_port), ("REDIS_CA", &ca)],
        ),
    ];
    for (what, settings) in cases {
        let (code, said) = check(settings).await;
        if what.is_empty() {
            assert_eq!(code, 0, "{said}");
        } else {
            assert_eq!(code, 69, "{what}: {said}");
            assert!(said.contains("FAILED"), "{what}: {said}");
        }
        println!("{what}: {said}");
    }
    let (code, said) = check(&[("REDIS_URL", &plain_client)]).await;
    assert_eq!(code, 69, "a server that wants TLS, asked without: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_tls_that_do_not_fit_together_are_mistakes() {
    let files = Files::new();
    let [ca, certificate, missing] =
        ["ca.crt", "good.crt", "missing.crt"].map(|name| files.path(name).display().to_string());
    let cases: [(&[(&str, &str)], &str); 7] = [
        (
            &[("REDIS_URL", "redis://h"), ("REDIS_CA", &ca)],
            "REDIS_CA: needs TLS",
        ),
        (
            &[("REDIS_URL", "rediss://h"), ("REDIS_CA", &missing)],
            "REDIS_CA: the file cannot be read",
        ),
        (
            &[("REDIS_URL", "rediss://h"), ("REDIS_CERT", &certificate)],
            "goes with REDIS_KEY",
        ),
        (
            &[("REDIS_URL", "rediss://h/#insecure")],
            "must not contain #",
        ),
        (
            &[
                ("REDIS_URL", "redis+cluster://h"),
                ("REDIS_ACK_REPLICAS", "0"),
            ],
            "at least 1",
        ),
        (
            &[("REDIS_URL", "redis://h"), ("SENTINEL_PASSWORD", "x")],
            "SENTINEL_PASSWORD",
        ),
        (&[("REDIS_ACK_REPLICAS", "1")], "no replicas"),
    ];
    for (settings, mistake) in cases {
        let (code, said) = check(settings).await;
        assert_eq!(code, 64, "{said}");
        assert!(said.contains(mistake), "{mistake} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_sentinels_watch_are_reached_over_tls() {
    let files = Files::new();
    let (_primary, port) = files.server("good", &["--tls-replication", "yes"]).await;
    let follows = [
        "--tls-replication",
        "yes",
        "--replicaof",
        "127.0.0.1",
        &port.to_string(),
    ];
    let (_replica, _) = files.server("good", &follows).await;
    let [certificate, key, ca] =
        ["good.crt", "good.key", "ca.crt"].map(|name| files.path(name).display().to_string());
    // The server speaks TLS only.
    let tls_port = free_port();
    let sentinel = format!(
        "port 0\ntls-port {tls_port}\ntls-replication yes\n\
         tls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {ca}\n\
         sentinel monitor {NAME} 127.0.0.1 {port} 1\n"
    );
    let _sentinel = Sentinel::start(0, &sentinel);
    let url = format!("rediss+sentinel://{}/{NAME}", at(tls_port));
    journey(files.settings(&url, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_reached_over_tls() {
    let files = Files::new();
    let (mut servers, mut addresses) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let options = [
            "--cluster-enabled",
            "yes",
            "--tls-cluster",
            "yes",
            "--tls-replication",
            "yes",
        ];
        let (server, port) = files.server("good", &options).await;
        servers.push(server);
        addresses.push(format!("127.0.0.1:{port}"));
    }
    let mut create = installed("redis-cli", "redis-tools");
    create.env("REDISCLI_AUTH", REDIS_PASSWORD);
    create.current_dir(files.folder.path()).args([
        "--user",
        "admin",
        "--tls",
        "--cacert",
        "ca.crt",
        "--cert",
        "good.crt",
        "--key",
        "good.key",
        "--cluster",
        "create",
    ]);
    create
        .args(&addresses)
        .args(["--cluster-replicas", "1", "--cluster-yes"]);
    printed(&mut create);
    let url = format!(
        "rediss+cluster://portcullis:{REDIS_PASSWORD}@{}",
        addresses.join(",")
    );
    journey(files.settings(&url, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i26_a_password_that_is_changed_gives_503_and_when_it_is_right_again_all_is_well_without_a_restart()
 {
    let redis = Redis::start().await;
    let replica = Replica::serve(config(&redis.url())).await;
    let user = User::register(&replica, "alice").await;
    let change = async |password: &str| {
        let rule = format!(">{password}");
        let () = redis
            .command(&["ACL", "SETUSER", "portcullis", "resetpass", &rule])
            .await;
        let _: u64 = redis
            .command(&["CLIENT", "KILL", "USER", "portcullis"])
            .await;
    };
    change("another one").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(user.at.dashboard(&user.token).await.status, 503);
    assert_eq!(user.at.login("alice", PASSWORD).await.status, 503);
    assert_eq!(user.at.logout(&user.token).await.status, 503);
    change(REDIS_PASSWORD).await;
    assert_eq!(user.dashboard_at(&replica).await, 401, "it was logged out");
    let again = User::log_in(&user.at, "alice").await;
    assert_eq!(again.dashboard_at(&replica).await, 200);
}

/// Registers, logs in, asks for the dashboard and logs out at a replica with these settings.
async fn journey(config: Config) {
    let replica = Replica::serve(config).await;
    let user = User::register(&replica, "alice").await;
    assert_eq!(user.dashboard_at(&replica).await, 200);
    assert_eq!(user.log_out_at(&replica).await, 204);
    assert_eq!(user.dashboard_at(&replica).await, 401);
}

/// Runs `portcullis check` with these variables; returns its exit code and its output.
async fn check(variables: &[(&str, &str)]) -> (i32, String) {
    let folder = folder();
    let mut all = vec![("JWT_SECRET", SECRET)];
    all.extend(variables);
    let output = program(folder.path(), &all)
        .arg("check")
        .output()
        .await
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn at(port: u16) -> String {
    format!("portcullis:{REDIS_PASSWORD}@127.0.0.1:{port}")
}

/// Folder of certificates.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        std::fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
        std::fs::write(folder.path().join("other.crt"), Authority::new().pem()).unwrap();
        authority.vouch().write(folder.path(), "good");
        authority.vouch_too_late().write(folder.path(), "late");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Starts a server with this certificate; returns it with its TLS port. The test itself breaks things through the plain
    /// port.
    async fn server(&self, name: &str, more: &[&str]) -> (Redis, u16) {
        let port = std::iter::repeat_with(free_port)
            .find(|port| *port < 22_000)
            .unwrap();
        let [certificate, key, ca] = [
            format!("{name}.crt"),
            format!("{name}.key"),
            "ca.crt".to_owned(),
        ]
        .map(|name| self.path(&name).display().to_string());
        let tls_port = port.to_string();
        let mut options = vec![
            "--tls-port",
            &tls_port,
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "yes",
            "--masteruser",
            "replica",
            "--masterauth",
            REDIS_PASSWORD,
            "--repl-diskless-sync-delay",
            "0",
        ];
        options.extend(more);
        (Redis::on(free_port(), &options).await, port)
    }

    fn settings(&self, url: &str, acknowledgements: u32) -> Config {
        let mut config = acknowledged(url, acknowledgements);
        if let RedisServer::At(address) = &mut config.redis.server {
            address.tls = RedisTls {
                ca: Some(self.read("ca.crt").into_bytes()),
                client: Some(ClientCertificate {
                    certificates: self.read("good.crt").into_bytes(),
                    key: Secret::new(self.read("good.key")),
                }),
            };
        }
        config
    }
}
