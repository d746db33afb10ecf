//! Acknowledged changes of a replica, and the comparison with the state after a restart.

use std::fmt;

use serde_json::{Value, json};

use super::servers::Settings;
use crate::harness::process::{Process, folder};
use crate::harness::{Anonymous, Answer, PASSWORD, patiently};

const NEW_PASSWORD: &str = "another staple of horses";
/// Number of accounts and sessions of each kind.
const EACH: usize = 3;

/// Result of one comparison.
pub(super) struct Finding {
    pub(super) what: &'static str,
    name: String,
    expected: String,
    found: String,
}

impl Finding {
    pub(super) fn is_kept(&self) -> bool {
        self.expected == self.found
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            name,
            expected,
            found,
        } = self;
        write!(
            f,
            "{what} of {name}: {expected} was acknowledged, {found} was found"
        )
    }
}

/// Client with its own address: limits are counted by network.
struct Client {
    at: Anonymous,
    address: String,
}

impl Client {
    fn new(replica: &Process, name: &str) -> Self {
        let sum = name.bytes().fold(7_u32, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u32::from(byte))
        });
        Self {
            at: replica.anonymous(),
            address: format!("10.{}.{}.{}", sum >> 16 & 255, sum >> 8 & 255, sum & 255),
        }
    }

    async fn send(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> Answer {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("x-forwarded-for", self.address.as_str())];
        if let Some(bearer) = &bearer {
            headers.push(("authorization", bearer));
        }
        let body = (!body.is_null()).then(|| body.to_string());
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        patiently(async || self.at.send(method, path, &headers, body.as_deref()).await).await
    }

    async fn register(&self, name: &str) {
        let body = json!({"username": name, "password": PASSWORD});
        let answer = self.send("POST", "/register", None, body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    async fn login(&self, name: &str, password: &str) -> Answer {
        let body = json!({"username": name, "password": password});
        self.send("POST", "/login", None, body).await
    }

    async fn session(&self, name: &str) -> Session {
        Session::of(&self.login(name, PASSWORD).await)
    }

    async fn refresh(&self, token: &str) -> Answer {
        let body = json!({"refresh_token": token});
        self.send("POST", "/refresh", None, body).await
    }

    async fn dashboard(&self, session: &Session) -> u16 {
        let token = Some(session.token.as_str());
        let answer = self.send("GET", "/dashboard", token, Value::Null).await;
        answer.status
    }
}

#[derive(Clone)]
struct Session {
    token: String,
    refresh_token: String,
}

impl Session {
    fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = |member: &str| answer.json()[member].as_str().unwrap().to_owned();
        Self {
            token: text("token"),
            refresh_token: text("refresh_token"),
        }
    }
}

/// Change that an account has seen.
enum Fate {
    Registered,
    PasswordChanged,
    Disabled,
    Deleted,
    GivenRoles,
    LoggedOutEverywhere,
    OverTheLimit,
}

const FATES: [(&str, Fate); 7] = [
    ("registered", Fate::Registered),
    ("changed", Fate::PasswordChanged),
    ("disabled", Fate::Disabled),
    ("deleted", Fate::Deleted),
    ("roles", Fate::GivenRoles),
    ("everywhere", Fate::LoggedOutEverywhere),
    ("limited", Fate::OverTheLimit),
];

struct Account {
    name: String,
    fate: &'static Fate,
    /// Session from before the change.
    session: Session,
    /// The account as an administrator last saw it; `None` if it is deleted.
    shown: Option<Value>,
}

/// All acknowledged changes.
pub(super) struct State {
    administrator: String,
    accounts: Vec<Account>,
    /// User whose sessions follow, grouped by their changes.
    owner: String,
    live: Vec<Session>,
    logged_out: Vec<Session>,
    /// Refresh tokens that were exchanged, each with the session that followed.
    rotated: Vec<(String, Session)>,
    /// Oldest refresh tokens of sessions that were rotated twice.
    reused: Vec<(String, Session)>,
    /// Session IDs that the service lists for the user.
    sids: Vec<String>,
    key_set: String,
}

impl State {
    /// Makes changes of every kind that a replica acknowledges, and records them.
    pub(super) async fn acknowledged(replica: &Process, settings: &Settings, label: &str) -> Self {
        let label = label.to_lowercase();
        let administrator = format!("admin-{label}");
        let client = Client::new(replica, &administrator);
        client.register(&administrator).await;
        let files = folder();
        std::fs::create_dir(files.path().join("keys")).unwrap();
        settings
            .run(files.path(), &["user", "roles", &administrator, "admin"])
            .await;
        let admin = client.session(&administrator).await;

        let mut accounts = Vec::new();
        for (kind, fate) in &FATES {
            for number in 0..EACH {
                let name = format!("{kind}-{label}-{number}");
                accounts.push(Account::live(replica, &admin, name, fate).await);
            }
        }

        let owner = format!("owner-{label}");
        let client = Client::new(replica, &owner);
        client.register(&owner).await;
        let (mut live, mut logged_out) = (Vec::new(), Vec::new());
        let (mut rotated, mut reused) = (Vec::new(), Vec::new());
        for _ in 0..EACH {
            live.push(client.session(&owner).await);
            let ended = client.session(&owner).await;
            let token = Some(ended.token.as_str());
            let answer = client.send("POST", "/logout", token, Value::Null).await;
            assert_eq!(answer.status, 204, "{answer:?}");
            logged_out.push(ended);
            let first = client.session(&owner).await;
            let next = Session::of(&client.refresh(&first.refresh_token).await);
            rotated.push((first.refresh_token, next));
            let first = client.session(&owner).await;
            let second = Session::of(&client.refresh(&first.refresh_token).await);
            let third = Session::of(&client.refresh(&second.refresh_token).await);
            reused.push((first.refresh_token, third));
        }
        let sids = sids(&client, &live[0]).await;
        Self {
            administrator,
            accounts,
            live,
            logged_out,
            rotated,
            reused,
            sids,
            key_set: client.send("GET", KEY_SET, None, Value::Null).await.body,
            owner,
        }
    }

    /// Compares the acknowledged changes with the present state.
    pub(super) async fn compare(self, replica: &Process, _: &Settings) -> Vec<Finding> {
        let mut findings = Findings(Vec::new());
        let client = Client::new(replica, &self.administrator);
        let login = client.login(&self.administrator, PASSWORD).await;
        findings.add("administrator", &self.administrator, 200, login.status);
        if login.status == 200 {
            let admin = Session::of(&login);
            for account in &self.accounts {
                account.compare(replica, &admin, &mut findings).await;
            }
        }

        let client = Client::new(replica, &self.owner);
        let found = client.send("GET", KEY_SET, None, Value::Null).await.body;
        findings.add("key set", "the issuer", &self.key_set, &found);
        let found = sids(&client, &self.live[0]).await;
        findings.add(
            "list of sessions",
            &self.owner,
            self.sids.join(" "),
            found.join(" "),
        );
        for (number, session) in self.live.iter().enumerate() {
            let name = format!("{} {number}", self.owner);
            findings.add("live session", &name, 200, client.dashboard(session).await);
            let refreshed = client.refresh(&session.refresh_token).await;
            findings.add("refresh token", &name, 200, refreshed.status);
        }
        for (number, session) in self.logged_out.iter().enumerate() {
            let name = format!("{} {number}", self.owner);
            findings.add("revocation", &name, 401, client.dashboard(session).await);
            let refreshed = client.refresh(&session.refresh_token).await;
            findings.add(
                "refresh token of an ended session",
                &name,
                401,
                refreshed.status,
            );
        }
        for (number, (_, session)) in self.rotated.iter().enumerate() {
            let name = format!("{} {number}", self.owner);
            let refreshed = client.refresh(&session.refresh_token).await;
            findings.add("rotated refresh token", &name, 200, refreshed.status);
        }
        for (number, (oldest, session)) in self.reused.iter().enumerate() {
            let name = format!("{} {number}", self.owner);
            let refreshed = client.refresh(oldest).await;
            findings.add("traded refresh token", &name, 401, refreshed.status);
            // The token is presented a second time, which ends the session.
            let refreshed = client.refresh(&session.refresh_token).await;
            findings.add("session of a reused token", &name, 401, refreshed.status);
        }
        findings.0
    }
}

impl Account {
    async fn live(replica: &Process, admin: &Session, name: String, fate: &'static Fate) -> Self {
        let client = Client::new(replica, &name);
        client.register(&name).await;
        let session = client.session(&name).await;
        let (own, admins) = (Some(session.token.as_str()), Some(admin.token.as_str()));
        let user = format!("/users/{name}");
        let passwords = json!({"current_password": PASSWORD, "new_password": NEW_PASSWORD});
        let (answer, status) = match fate {
            Fate::Registered => (client.send("GET", "/me", own, Value::Null).await, 200),
            Fate::PasswordChanged => (
                client.send("PUT", "/me/password", own, passwords).await,
                200,
            ),
            Fate::Disabled => {
                let body = json!({"disabled": true});
                (client.send("PATCH", &user, admins, body).await, 200)
            }
            Fate::GivenRoles => {
                let body = json!({"roles": ["auditor", "editor"]});
                (client.send("PATCH", &user, admins, body).await, 200)
            }
            Fate::Deleted => {
                let body = json!({"password": PASSWORD});
                (client.send("POST", "/me/delete", own, body).await, 204)
            }
            Fate::LoggedOutEverywhere => {
                let answer = client.send("DELETE", "/sessions", own, Value::Null).await;
                (answer, 204)
            }
            Fate::OverTheLimit => {
                let mut answer = client.login(&name, "wrong password").await;
                while answer.status == 401 {
                    answer = client.login(&name, "wrong password").await;
                }
                (answer, 429)
            }
        };
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        let shown = shown(&client, &user, admin).await;
        Self {
            name,
            fate,
            session,
            shown,
        }
    }

    async fn compare(&self, replica: &Process, admin: &Session, findings: &mut Findings) {
        let client = Client::new(replica, &self.name);
        let name = &self.name;
        let found = shown(&client, &format!("/users/{name}"), admin).await;
        findings.add(
            "account",
            name,
            text(self.shown.as_ref()),
            text(found.as_ref()),
        );
        // This comes first: a login with the right password would make room in the limit.
        let (current, old) = match self.fate {
            Fate::OverTheLimit => {
                let found = client.login(name, "wrong password").await;
                findings.add("limit", name, 429, found.status);
                return;
            }
            Fate::PasswordChanged => ((NEW_PASSWORD, 200), Some(PASSWORD)),
            Fate::Disabled | Fate::Deleted => ((PASSWORD, 401), None),
            _ => ((PASSWORD, 200), None),
        };
        let found = client.login(name, current.0).await;
        findings.add("login", name, current.1, found.status);
        if let Some(old) = old {
            let found = client.login(name, old).await;
            findings.add("login with the old password", name, 401, found.status);
        }
        // A password change keeps the session under a new token, and a change of roles keeps it under a new version.
        let [access, refresh] = match self.fate {
            Fate::Registered => [200, 200],
            Fate::GivenRoles => [401, 200],
            Fate::PasswordChanged => {
                let found = client.dashboard(&self.session).await;
                findings.add("earlier access token", name, 401, found);
                return;
            }
            _ => [401, 401],
        };
        let found = client.dashboard(&self.session).await;
        findings.add("earlier access token", name, access, found);
        let found = client.refresh(&self.session.refresh_token).await;
        findings.add("earlier refresh token", name, refresh, found.status);
    }
}

const KEY_SET: &str = "/.well-known/jwks.json";

struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        what: &'static str,
        name: &str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        self.0.push(Finding {
            what,
            name: name.to_owned(),
            expected: format!("{expected}"),
            found: format!("{found}"),
        });
    }
}

/// An account as an administrator sees it.
async fn shown(client: &Client, path: &str, admin: &Session) -> Option<Value> {
    let answer = client
        .send("GET", path, Some(&admin.token), Value::Null)
        .await;
    match answer.status {
        200 => Some(answer.json()),
        404 => None,
        _ => panic!("{answer:?}"),
    }
}

fn text(shown: Option<&Value>) -> String {
    shown.map_or("no account".to_owned(), Value::to_string)
}

async fn sids(client: &Client, session: &Session) -> Vec<String> {
    let token = Some(session.token.as_str());
    let answer = client.send("GET", "/sessions", token, Value::Null).await;
    if answer.status != 200 {
        return vec![format!("status {}", answer.status)];
    }
    let items = answer.json()["items"].as_array().unwrap().clone();
    let mut sids: Vec<_> = items.iter().map(|it| it["sid"].to_string()).collect();
    sids.sort_unstable();
    sids
}
