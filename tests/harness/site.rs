//! A whole deployment: replicas on fixed ports behind HAProxy with the configuration of `deploy/`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::cluster::SECRET;
use super::installed;
use super::people::Anonymous;
use super::process::{PATIENCE, Process, folder};
use super::redis::free_port;
use super::tools::repository;

/// Number of replicas of a deployment.
pub const REPLICAS: usize = 3;

/// Settings of one replica, in addition to the settings that all replicas share.
pub type Variables = Vec<(&'static str, String)>;

/// Replicas and their load balancer. All end with the test.
pub struct Site {
    places: Vec<Place>,
    pub replicas: Vec<Process>,
    haproxy: Child,
    port: u16,
    _folder: TempDir,
}

/// Folder, ports and settings of one replica.
struct Place {
    folder: TempDir,
    port: u16,
    management: u16,
    variables: Variables,
}

impl Site {
    /// Starts a deployment whose replicas reach Redis at these URLs, and waits until each is ready.
    pub async fn over(urls: [String; REPLICAS]) -> Self {
        let site = Self::begin(urls.map(|url| vec![("REDIS_URL", url)])).await;
        site.all_ready().await;
        site
    }

    /// Starts a deployment whose replicas all reach Redis at this URL, and waits until each is ready.
    pub async fn at(url: &str) -> Self {
        Self::over([(); REPLICAS].map(|()| url.to_owned())).await
    }

    /// Starts a deployment whose replicas listen but may not be ready.
    pub async fn begin(variables: [Variables; REPLICAS]) -> Self {
        let mut places = Vec::new();
        let mut replicas = Vec::new();
        let mut backend = "backend replicas\n".to_owned();
        for (number, variables) in variables.into_iter().enumerate() {
            let place = Place {
                folder: folder(),
                port: free_port(),
                management: free_port(),
                variables,
            };
            replicas.push(place.start().await);
            let (port, management) = (place.port, place.management);
            writeln!(
                backend,
                "    server replica-{number} 127.0.0.1:{port} check port {management}"
            )
            .unwrap();
            places.push(place);
        }
        let (folder, port) = (folder(), free_port());
        let file = folder.path().join("replicas.cfg");
        std::fs::write(&file, backend).unwrap();
        let haproxy = installed("haproxy", "haproxy")
            .args(["-db", "-f"])
            .arg(repository("deploy/haproxy.cfg"))
            .arg("-f")
            .arg(&file)
            .env("PORT", port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let site = Self {
            places,
            replicas,
            haproxy,
            port,
            _folder: folder,
        };
        site.wait("HAProxy answers", async || {
            site.anyone().try_get("/nowhere").await.is_ok()
        })
        .await;
        site
    }

    /// Waits until every replica is ready and the load balancer has seen that.
    pub async fn all_ready(&self) {
        self.wait("all replicas are ready", async || {
            for number in 0..REPLICAS {
                if !self.ready(number).await {
                    return false;
                }
            }
            true
        })
        .await;
        self.wait("the balancer sees all of them", async || {
            self.seen().await == REPLICAS
        })
        .await;
    }

    /// Waits until `holds` returns true, for at most a minute.
    pub async fn wait(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let wait = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let held = tokio::time::timeout(PATIENCE, wait).await;
        assert!(held.is_ok(), "it never holds that {what}");
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Client with its own connections to the load balancer.
    pub fn anyone(&self) -> Anonymous {
        Anonymous::at(self.address())
    }

    /// Restarts a replica on the same port, and waits until it is ready and the load balancer can have seen that.
    pub async fn again(&mut self, number: usize) {
        self.replicas[number] = self.places[number].start().await;
        self.replicas[number].ready().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// Number of replicas that answer through the load balancer.
    pub async fn seen(&self) -> usize {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..30 {
            let answer = self.anyone().get("/nowhere").await;
            seen.insert(answer.header("x-served-by").to_owned());
        }
        seen.remove("");
        seen.len()
    }

    /// Returns true if a replica reports that it is ready.
    pub async fn ready(&self, number: usize) -> bool {
        self.replicas[number].probes().get("/readyz").await.status == 200
    }

    /// Checks the status of the liveness and readiness probes of all replicas.
    pub async fn probed(&self, livez: u16, readyz: u16) {
        for replica in &self.replicas {
            let probes = replica.probes();
            assert_eq!(probes.get("/livez").await.status, livez);
            assert_eq!(probes.get("/readyz").await.status, readyz);
        }
    }

    /// Stops the replicas, which must be the processes that were started.
    pub async fn end(mut self) {
        for replica in &mut self.replicas {
            assert!(replica.stop().await.success(), "it ended before");
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.haproxy.kill().ok();
        self.haproxy.wait().ok();
    }
}

impl Place {
    async fn start(&self) -> Process {
        let (listen, management) = (
            format!("127.0.0.1:{}", self.port),
            format!("127.0.0.1:{}", self.management),
        );
        let mut settings = vec![
            ("JWT_SECRET", SECRET),
            ("TRUSTED_PROXIES", "127.0.0.1"),
            ("LISTEN", &listen),
            ("MANAGEMENT_LISTEN", &management),
            ("DRAIN_DELAY", "2s"),
        ];
        settings.extend(self.variables.iter().map(|(name, value)| (*name, &**value)));
        Process::listen(self.folder.path(), &settings).await
    }
}
