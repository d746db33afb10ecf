//! The programs that `deploy/` is for accept its files, and the load test passes against real replicas.

use std::process::Command;

use crate::harness::tools::{printed, repository, tool};
use crate::harness::{Cluster, free_port, installed};

#[test]
fn the_dockerfile_has_nothing_that_hadolint_would_change() {
    printed(tool("hadolint").arg(repository("deploy/Dockerfile")));
}

#[test]
fn compose_reads_the_compose_file() {
    let file = repository("deploy/compose.yaml");
    let mut compose = installed("docker-compose", "docker-compose");
    let said = printed(compose.arg("-f").arg(file).arg("config"));
    for service in [
        "portcullis",
        "haproxy",
        "redis",
        "collector",
        "prometheus",
        "grafana",
    ] {
        assert!(
            said.contains(&format!("\n  {service}:")),
            "{service}: {said}"
        );
    }
}

#[test]
fn every_file_that_the_compose_file_mounts_is_there() {
    let text = std::fs::read_to_string(repository("deploy/compose.yaml")).unwrap();
    let mounts = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ."));
    let mut seen = 0;
    for mount in mounts.filter(|mount| !mount.starts_with("./data/")) {
        let path = format!("deploy/.{}", mount.split(':').next().unwrap());
        assert!(repository(&path).exists(), "{path}");
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
}

#[test]
fn haproxy_accepts_its_configuration_in_compose() {
    let mut haproxy = Command::new("sh");
    haproxy.args([
        "-c",
        "PATH=$PATH:/usr/sbin:/sbin exec haproxy -c -f haproxy.cfg -f compose/replicas.cfg",
    ]);
    haproxy
        .env("BALANCER_BIND", "0.0.0.0")
        .current_dir(repository("deploy"));
    let said = printed(&mut haproxy);
    assert!(!said.contains("[WARNING]"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_accepts_the_configuration_of_its_pod() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().to_string();
    let secrets = repository("k8s/overlays/local/secrets");
    let mut redis = installed("redis-server", "redis-server")
        .arg(repository("k8s/components/redis-standalone/redis.conf"))
        .arg("--include")
        .arg(secrets.join("redis-auth.conf"))
        .args(["--bind", "127.0.0.1", "--port", &port, "--logfile", ""])
        .current_dir(folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let url = std::fs::read_to_string(secrets.join("redis-url")).unwrap();
    let url = url.replace("portcullis-redis:6379", &format!("127.0.0.1:{port}"));
    let desk = crate::harness::program::Desk::new();
    let secret = secrets.join("jwt-secret");
    let variables = [
        ("REDIS_URL", &*url),
        ("JWT_SECRET_FILE", secret.to_str().unwrap()),
    ];
    let mut ran = desk.check(&variables).await;
    for _ in 0..50 {
        if ran.code == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        ran = desk.check(&variables).await;
    }
    redis.kill().unwrap();
    redis.wait().unwrap();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.contains("keeps every acknowledged write"),
        "{ran:?}"
    );
}

#[test]
fn k6_reads_every_script() {
    for script in ["smoke", "steady", "login_spike", "propagation", "soak"] {
        let file = repository(&format!("deploy/load/{script}.js"));
        let mut k6 = tool("k6");
        let said = printed(
            k6.arg("inspect")
                .arg(file)
                .env("K6_NO_USAGE_REPORT", "true"),
        );
        assert!(said.contains("thresholds"), "{script}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smoke_test_passes_against_real_replicas() {
    let cluster = Cluster::alone().await;
    let base = format!("http://{}", cluster.replicas[0].addr);
    let smoke = tokio::task::spawn_blocking(move || {
        let file = repository("deploy/load/smoke.js");
        let mut k6 = tool("k6");
        let args = [
            "run",
            "--quiet",
            "--duration",
            "3s",
            "--address",
            "127.0.0.1:0",
        ];
        // The test sets a generous time limit: the machine runs other tests, so its speed is not judged.
        printed(
            k6.args(args)
                .arg("-e")
                .arg(format!("BASE={base}"))
                .args(["-e", "PATIENCE=60000"])
                .arg(file)
                .env("K6_NO_USAGE_REPORT", "true"),
        )
    });
    let said = smoke.await.unwrap();
    for act in [
        "login is 200",
        "dashboard is 200",
        "a token that was logged out is 401",
    ] {
        assert!(said.contains(act), "{act}: {said}");
    }
}

#[test]
fn the_image_makes_a_stand_in_for_every_target_that_the_manifest_names() {
    let manifest = std::fs::read_to_string(repository("Cargo.toml")).unwrap();
    let recipe = std::fs::read_to_string(repository("deploy/Dockerfile")).unwrap();
    let paths = manifest.lines().filter_map(|line| {
        let path = line.strip_prefix("path = \"")?;
        path.strip_suffix('"')
    });
    let paths: Vec<_> = paths.collect();
    assert!(paths.len() > 1, "{paths:?}");
    for path in paths {
        // Without the stand-in cargo does not read the manifest, and builds nothing.
        assert!(recipe.contains(&format!(": > {path} ")), "{path}");
    }
    // The members of the workspace need no stand-in: they are copied as they are.
    assert!(manifest.contains("members = [\"crates/*\"]"));
    assert!(recipe.contains("\nCOPY crates crates\n"));
    let sent = std::fs::read_to_string(repository(".dockerignore")).unwrap();
    assert!(sent.lines().any(|line| line == "!crates"), "{sent}");
}
