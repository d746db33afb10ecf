//! Real proxies with the configurations of `deploy/forward-auth/` before a service: the requests that they let through, and the
//! headers that they send to the service.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::tools::repository;
use crate::harness::{Anonymous, Cluster, User, free_port, installed};

/// Proxy before `PORTCULLIS` and `SERVICE`. It ends with the test.
struct Front {
    child: Child,
    port: u16,
    _folder: TempDir,
}

/// Command that starts a proxy with the configuration `$0` in the folder `$1`.
struct Recipe {
    program: &'static str,
    files: &'static [&'static str],
    start: &'static str,
}

const NGINX: Recipe = Recipe {
    program: "nginx",
    files: &["nginx.conf"],
    start: r#"exec nginx -c "$0" -p "$1" -g "daemon off; pid $1/pid; error_log stderr;""#,
};

const CADDY: Recipe = Recipe {
    program: "caddy",
    files: &["Caddyfile"],
    start: r#"HOME=$1 exec caddy run --config "$0" --adapter caddyfile"#,
};

const HAPROXY: Recipe = Recipe {
    program: "haproxy",
    files: &["haproxy.cfg", "haproxy.lua"],
    start: r#"exec haproxy -q -f "$0""#,
};

impl Front {
    async fn start(recipe: &Recipe, portcullis: u16, service: u16) -> Self {
        // On Debian some programs lie in a folder that an ordinary user's `PATH` does not contain.
        if !Path::new("/usr/sbin").join(recipe.program).exists() {
            installed(recipe.program, recipe.program);
        }
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        for name in recipe.files {
            let file = repository("deploy/forward-auth").join(name);
            let text = std::fs::read_to_string(file).unwrap();
            let text = text
                .replace("127.0.0.1:8080", &format!("127.0.0.1:{portcullis}"))
                .replace("127.0.0.1:3000", &format!("127.0.0.1:{service}"))
                .replace("127.0.0.1:8000", &format!("127.0.0.1:{port}"))
                .replace("http://:8000", &format!("http://:{port}"));
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let child = Command::new("sh")
            .args(["-c", &format!("PATH=$PATH:/usr/sbin; {}", recipe.start)])
            .arg(folder.path().join(recipe.files[0]))
            .arg(folder.path())
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self {
            child,
            port,
            _folder: folder,
        };
        for _ in 0..1000 {
            if this.anyone().try_get("/").await.is_ok() {
                return this;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} does not answer", recipe.program);
    }

    fn anyone(&self) -> Anonymous {
        Anonymous::at(([127, 0, 0, 1], self.port).into())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // SIGTERM makes the proxy end its workers.
        Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .ok();
        self.child.wait().ok();
    }
}

/// Service behind a proxy: it answers each request with the request's content, but `/broken` with 500 and `/forbidden` with
/// 403.
fn service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (mut came, mut byte) = (Vec::new(), [0]);
            while !came.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n == 1) {
                came.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&came).to_ascii_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next()?.parse().ok())
                .unwrap_or(0);
            let mut body = vec![0; length];
            client.read_exact(&mut body).ok();
            came.extend(body);
            let status = match head.split(' ').nth(1) {
                Some("/broken") => "500 Broken",
                Some("/forbidden") => "403 Forbidden",
                _ => "200 OK",
            };
            let length = came.len();
            let start = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
            );
            client.write_all(&[start.as_bytes(), &came].concat()).ok();
        }
    });
    port
}

/// Requirements on any proxy with our configuration. `gone` is the proxy's status if Portcullis does not answer.
async fn protects(recipe: &Recipe, gone: u16) {
    let mut cluster = Cluster::with(1, |_, config| config.http.cookies = true).await;
    let front = Front::start(recipe, cluster.replicas[0].addr.port(), service()).await;
    let admin = cluster.administrator("root").await;
    let user = cluster.user("alice").await;
    let bearer = format!("Bearer {}", user.token);
    let ask = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        let body = (method == "POST").then_some("what=ever");
        front.anyone().send(method, path, headers, body).await
    };

    let claims = [
        ("x-auth-username", "root"),
        ("X-AUTH-ROLES", "admin"),
        ("x_auth_roles", "admin"),
        ("x_auth-roles", "admin"),
        ("x-auth_subject", "root"),
        ("x-auth-session", "root"),
    ];
    let refused = ask("GET", "/things", &claims).await;
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").starts_with("Bearer"));
    for not_a_token in ["Bearer x", "Basic YTpi", "Bearer"] {
        let refused = ask("GET", "/things", &[("authorization", not_a_token)]).await;
        assert!(
            matches!(refused.status, 400 | 401 | 503),
            "{not_a_token}: {refused:?}"
        );
    }

    let mut spoofed = vec![("authorization", bearer.as_str())];
    spoofed.extend(claims);
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let passed = ask(method, "/things?of=mine", &spoofed).await;
        assert_eq!(passed.status, 200, "{method} {passed:?}");
        let came = passed.body.to_ascii_lowercase();
        let start = format!("{} /things?of=mine ", method.to_lowercase());
        assert!(came.starts_with(&start), "{came}");
        assert!(came.contains("x-auth-username: alice\r\n"), "{came}");
        assert_eq!(came.ends_with("what=ever"), method == "POST", "{came}");
        for other in ["root", "authorization", "admin", "bearer"] {
            assert!(!came.contains(other), "{other} in {came}");
        }
    }
    let bearer_of_admin = format!("Bearer {}", admin.token);
    let passed = ask("GET", "/", &[("authorization", &bearer_of_admin)]).await;
    let came = passed.body.to_ascii_lowercase();
    assert!(came.contains("x-auth-roles: admin\r\n"), "{came}");
    for (path, status) in [("/broken", 500), ("/forbidden", 403)] {
        let its_own = ask("GET", path, &spoofed).await;
        assert_eq!(its_own.status, status, "the service's own answer");
    }

    // A cookie authenticates reads from pages of any site, and changes only from pages of this origin.
    let tokens = format!("{}~{}", user.token, user.refresh_token);
    let cookies = format!("a=1; __Host-portcullis={tokens}; b=2");
    for (method, site, status) in [
        ("GET", "cross-site", 200),
        ("POST", "cross-site", 403),
        ("DELETE", "same-site", 403),
        ("POST", "same-origin", 200),
    ] {
        let headers = [("cookie", cookies.as_str()), ("sec-fetch-site", site)];
        let answer = ask(method, "/things", &headers).await;
        assert_eq!(answer.status, status, "{method} {site} {answer:?}");
        if status == 200 {
            let came = answer.body;
            assert!(came.contains("a=1; __Host-portcullis=; b=2"), "{came}");
        }
    }

    assert_eq!(user.at.logout(&user.token).await.status, 204);
    assert_eq!(ask("GET", "/things", &spoofed).await.status, 401);

    let other = User::log_in(&cluster.anonymous(), "alice").await;
    let bearer = format!("Bearer {}", other.token);
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(ask("GET", "/things", &headers).await.status, 200);
    cluster.redis.kill();
    // The view may answer for one window more.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let unknown = ask("GET", "/things", &headers).await;
    assert_eq!(unknown.status, 503, "{unknown:?}");
    assert!(unknown.header("retry-after").parse::<u64>().unwrap() >= 1);
    // A replica that is only dropped may still answer on a connection that a proxy keeps.
    for replica in cluster.replicas.drain(..) {
        replica.stop().await;
    }
    let unreachable = ask("GET", "/things", &headers).await;
    assert_eq!(unreachable.status, gone, "{unreachable:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_lets_through_who_has_a_good_token_and_tells_the_service_who_that_is() {
    protects(&NGINX, 503).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_lets_through_who_has_a_good_token_and_tells_the_service_who_that_is() {
    protects(&CADDY, 502).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_lets_through_who_has_a_good_token_and_tells_the_service_who_that_is() {
    protects(&HAPROXY, 503).await;
}
