//! Forward authentication: what a proxy is told, and what a real one lets through.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::tools::repository;
use crate::harness::{Anonymous, Cluster, User, free_port, installed};

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_told_whose_a_token_is_whatever_the_method() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice@example.org").await;
    let bearer = format!("Bearer {}", user.token);
    let ask = async |method: &str, headers: &[(&str, &str)]| {
        user.at.send(method, "/verify", headers, None).await
    };
    let data = user.at.dashboard(&user.token).await.json()["data"].clone();
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let good = ask(
            method,
            &[("authorization", &bearer), ("x-auth-roles", "admin")],
        )
        .await;
        assert_eq!((good.status, good.body.as_str()), (200, ""), "{method}");
        assert_eq!(good.header("x-auth-username"), "alice@example.org");
        assert_eq!(good.header("x-auth-subject"), data["user_id"]);
        assert_eq!(good.header("x-auth-session"), data["session_id"]);
        assert_eq!(good.header("x-auth-roles"), "");
        let bad = ask(method, &[]).await;
        assert_eq!(
            (bad.status, bad.header("x-auth-subject")),
            (401, ""),
            "{method}"
        );
    }
    user.at.logout(&user.token).await;
    assert_eq!(
        ask("GET", &[("authorization", &bearer)]).await.code(),
        "invalid_token"
    );
}

/// A service behind a proxy: answers each request with its head.
fn service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            let length = head.len();
            let start =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
            client.write_all(&[start.as_bytes(), &head].concat()).ok();
        }
    });
    port
}

/// nginx with the configuration of `deploy/`, before other addresses. It ends with the test.
struct Nginx {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Nginx {
    async fn before(portcullis: u16, service: u16) -> Self {
        // On Debian it lies where an ordinary user's PATH does not lead.
        if !std::path::Path::new("/usr/sbin/nginx").exists() {
            installed("nginx", "nginx");
        }
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let text = std::fs::read_to_string(repository("deploy/forward-auth/nginx.conf")).unwrap();
        let file = folder.path().join("nginx.conf");
        let text = text
            .replace("127.0.0.1:8080", &format!("127.0.0.1:{portcullis}"))
            .replace("127.0.0.1:3000", &format!("127.0.0.1:{service}"))
            .replace("127.0.0.1:8000", &format!("127.0.0.1:{port}"));
        std::fs::write(&file, text).unwrap();
        let folder_name = folder.path().display();
        let globals = format!("daemon off; pid {folder_name}/pid; error_log stderr;");
        let child = Command::new("sh")
            .args([
                "-c",
                r#"PATH=$PATH:/usr/sbin exec nginx -c "$0" -p "$1" -g "$2""#,
            ])
            .arg(&file)
            .arg(folder.path())
            .arg(globals)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self {
            child,
            port,
            _folder: folder,
        };
        for _ in 0..500 {
            if this.anyone().try_get("/").await.is_ok() {
                return this;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nginx does not answer");
    }

    fn anyone(&self) -> Anonymous {
        Anonymous::at(([127, 0, 0, 1], self.port).into())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its workers.
        Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .ok();
        self.child.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_lets_through_who_has_a_good_token_and_tells_the_service_who_that_is() {
    let mut cluster = Cluster::of(1).await;
    let nginx = Nginx::before(cluster.replicas[0].addr.port(), service()).await;
    let user = cluster.user("alice").await;
    let bearer = format!("Bearer {}", user.token);
    let ask = async |headers: &[(&str, &str)]| {
        nginx
            .anyone()
            .send("GET", "/things?of=mine", headers, None)
            .await
    };
    let refused = ask(&[("x-auth-username", "root")]).await;
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").starts_with("Bearer"));

    let spoofed = [
        ("authorization", bearer.as_str()),
        ("x-auth-username", "root"),
        ("x-auth-roles", "admin"),
    ];
    let passed = ask(&spoofed).await;
    assert_eq!(passed.status, 200);
    let head = passed.body.to_ascii_lowercase();
    assert!(head.starts_with("get /things?of=mine "), "{head}");
    assert!(head.contains("x-auth-username: alice\r\n"), "{head}");
    for gone in ["root", "x-auth-roles", "authorization", "admin"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }

    assert_eq!(user.at.logout(&user.token).await.status, 204);
    assert_eq!(ask(&spoofed).await.status, 401);

    let other = User::log_in(&cluster.anonymous(), "alice").await;
    let bearer = format!("Bearer {}", other.token);
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(ask(&headers).await.status, 200);
    cluster.redis.kill();
    // The view may answer for one window more.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let unknown = ask(&headers).await;
    assert_eq!((unknown.status, unknown.header("retry-after")), (503, "1"));
}
