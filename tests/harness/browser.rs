//! A browser: headless Chromium, driven over WebDriver (W3C) by its own `chromedriver`.
//!
//!
//! The browser can reach one server only: requests to any other address go to a proxy that does not exist. The harness keeps
//! the browser's requests and its console messages.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::installed;
use super::people::client;
use super::process::PATIENCE;

/// JSON member that identifies an element (WebDriver §12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Running browser, which ends with the test.
pub struct Browser {
    driver: Child,
    /// Output that the tests never read. The pipe stays open because a driver that cannot write would stop.
    _output: BufReader<ChildStdout>,
    _profile: TempDir,
    client: Client,
    session: String,
}

impl Browser {
    /// Starts a browser that can reach this server only.
    pub async fn start(server: SocketAddr) -> Self {
        installed("chromium", "chromium");
        installed("chromedriver", "chromium-driver");
        let profile = tempfile::tempdir().unwrap();
        let folder = profile.path().join("profile");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // The browser belongs to the driver's process group and must end with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(driver.stdout.take().unwrap());
        let port = tokio::time::timeout(PATIENCE, port(&mut output));
        let port = port.await.expect("chromedriver says where it listens");
        let mut browser = Self {
            driver,
            _output: output,
            client: client([]),
            session: format!("http://127.0.0.1:{port}/session"),
            _profile: profile,
        };
        let arguments = [
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--window-size=1280,1600".to_owned(),
            format!("--user-data-dir={}", folder.display()),
            // Nothing listens on port 9. Without `<-loopback>` the browser would bypass the proxy for all addresses of this
            // machine.
            "--proxy-server=http://127.0.0.1:9".to_owned(),
            format!("--proxy-bypass-list=<-loopback>;{server}"),
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let session = browser.post("", &capabilities).await;
        browser.session = format!(
            "{}/{}",
            browser.session,
            session["sessionId"].as_str().unwrap()
        );
        // The requests of the browser's own start page do not matter.
        browser.open("about:blank").await;
        browser.requested().await;
        browser
    }

    /// Opens a page and waits until it has loaded.
    pub async fn open(&self, url: &str) {
        self.post("/url", &json!({"url": url})).await;
    }

    /// URL of the page.
    pub async fn address(&self) -> String {
        let address = self.get("/url").await;
        address.as_str().unwrap().to_owned()
    }

    /// Clicks on the element that this selector matches, as soon as the element exists.
    pub async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.post(&format!("/element/{element}/click"), &json!({}))
            .await;
    }

    /// Types into the element that this selector matches, as soon as the element exists.
    pub async fn fill(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.post(&format!("/element/{element}/value"), &json!({"text": text}))
            .await;
    }

    /// Replaces the text of the element that this selector matches.
    pub async fn replace(&self, selector: &str, text: &str) {
        // WebDriver §17.4.2: Control goes down, `a` selects all, and the null key releases Control.
        self.fill(selector, &format!("\u{E009}a\u{E000}{text}"))
            .await;
    }

    /// Waits until the text of the element that this selector matches contains this text.
    pub async fn sees(&self, selector: &str, text: &str) {
        let mut last = String::new();
        let wait = async {
            loop {
                if let Some(element) = self.try_find(selector).await
                    && let Ok(shown) = self.try_get(&format!("/element/{element}/text")).await
                {
                    shown.as_str().unwrap_or_default().clone_into(&mut last);
                    if last.contains(text) {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(
            waited.is_ok(),
            "{selector} does not show {text} but {last:?}"
        );
    }

    /// Return value of a script that runs in the page.
    pub async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
            .await
    }

    /// Screenshot of the page, as PNG in base64.
    pub async fn screenshot(&self) -> String {
        let picture = self.get("/screenshot").await;
        picture.as_str().unwrap().to_owned()
    }

    /// URLs that the browser has requested since the last call of this function.
    pub async fn requested(&self) -> Vec<String> {
        let entries = self.log("performance").await;
        let messages = entries.into_iter().map(|entry| {
            let text = entry["message"].as_str().unwrap();
            serde_json::from_str::<Value>(text).unwrap()["message"].take()
        });
        messages
            .filter(|message| message["method"] == "Network.requestWillBeSent")
            .map(|message| {
                message["params"]["request"]["url"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    }

    /// Messages that the browser has written to its console since the last call of this function.
    pub async fn complaints(&self) -> Vec<String> {
        let entries = self.log("browser").await;
        let texts = entries.iter().map(|entry| entry["message"].as_str());
        texts.map(|text| text.unwrap().to_owned()).collect()
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.post("/se/log", &json!({"type": kind})).await;
        entries.as_array().unwrap().clone()
    }

    async fn find(&self, selector: &str) -> String {
        let wait = async {
            loop {
                if let Some(element) = self.try_find(selector).await {
                    return element;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("{selector} is not on the page"))
    }

    async fn try_find(&self, selector: &str) -> Option<String> {
        let by = json!({"using": "css selector", "value": selector});
        let found = self.call("POST", "/element", Some(&by)).await.ok()?;
        Some(found[ELEMENT].as_str()?.to_owned())
    }

    async fn get(&self, command: &str) -> Value {
        self.try_get(command).await.unwrap()
    }

    async fn try_get(&self, command: &str) -> Result<Value, String> {
        self.call("GET", command, None).await
    }

    async fn post(&self, command: &str, body: &Value) -> Value {
        let answer = self.call("POST", command, Some(body)).await;
        answer.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    async fn call(
        &self,
        method: &str,
        command: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        let url = format!("{}{command}", self.session);
        let mut request = self.client.request(method.parse().unwrap(), url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let good = response.status().is_success();
        let value = response.json::<Value>().await.unwrap()["value"].take();
        if good {
            Ok(value)
        } else {
            Err(format!("{}: {}", value["error"], value["message"]))
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = self.driver.id().map(u32::cast_signed);
        if let Some(group) = group.and_then(rustix::process::Pid::from_raw) {
            // The group may have ended already.
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
        }
    }
}

/// Port on which the driver reports to listen.
async fn port(output: &mut BufReader<ChildStdout>) -> u16 {
    let mut line = String::new();
    loop {
        line.clear();
        let read = output.read_line(&mut line).await.unwrap();
        assert!(read > 0, "chromedriver has ended");
        if let Some((_, port)) = line.trim_end().rsplit_once(" successfully on port ")
            && let Ok(port) = port.trim_end_matches('.').parse()
        {
            return port;
        }
    }
}
