//! Users who go on while Redis fails, and a check of their acknowledged operations afterwards.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Anonymous, Answer, Dice, PASSWORD, Replica, User};

/// Users who log in and out.
const VISITORS: usize = 12;

/// Users who register and change their passwords.
const NEWCOMERS: usize = 3;

/// Second password that is good enough.
const OTHER: &str = "a staple of correct horses";

/// Tally of the events' effects.
#[derive(Debug, Default, Clone)]
pub struct Toll {
    /// Acknowledged logouts.
    pub logouts: usize,
    /// Checks of tokens after their logout had answered.
    pub checks: usize,
    /// Checks that accepted the token.
    pub accepted: usize,
    /// Tokens that are accepted when Redis works again.
    pub forgotten_logouts: usize,
    pub registrations: usize,
    pub lost_registrations: usize,
    pub passwords: usize,
    pub lost_passwords: usize,
}

/// Load on the service.
pub struct Load {
    shared: Arc<Shared>,
    people: JoinSet<()>,
}

struct Shared {
    replicas: Vec<Anonymous>,
    standing: User,
    enough: AtomicBool,
    toll: Mutex<Toll>,
    revoked: Mutex<Vec<String>>,
    /// Users whose registration was acknowledged, each with the passwords that may be valid now: the last acknowledged one,
    /// and those whose change got no answer.
    accounts: Mutex<HashMap<String, Vec<&'static str>>>,
    changed: AtomicUsize,
    /// Time when each replica last accepted the token of the session that stays open, and, in `outage`, the longest time that
    /// a replica did not accept it.
    seen: Mutex<Vec<Instant>>,
    outage: Mutex<Duration>,
}

impl Load {
    /// Starts the load on these replicas.
    pub async fn on(replicas: &[Replica]) -> Self {
        let standing = User::register(&replicas[0], "standing").await;
        User::register(&replicas[0], "another").await;
        let client = replicas[0].anonymous();
        let shared = Arc::new(Shared {
            replicas: replicas.iter().map(|it| client.towards(it)).collect(),
            standing,
            enough: AtomicBool::new(false),
            toll: Mutex::default(),
            revoked: Mutex::default(),
            accounts: Mutex::default(),
            changed: AtomicUsize::new(0),
            seen: Mutex::new(vec![Instant::now(); replicas.len()]),
            outage: Mutex::default(),
        });
        let (mut people, mut dice) = (JoinSet::new(), Dice::new());
        for number in 0..VISITORS {
            let name = format!("visitor{number}");
            User::register(&replicas[0], &name).await;
            people.spawn(visit(Arc::clone(&shared), name, dice.split()));
        }
        for number in 0..NEWCOMERS {
            people.spawn(come(Arc::clone(&shared), number, dice.split()));
        }
        people.spawn(try_old_tokens(Arc::clone(&shared), dice.split()));
        for number in 0..replicas.len() {
            people.spawn(watch(Arc::clone(&shared), number));
        }
        Self { shared, people }
    }

    /// Counts outages from now on.
    pub fn mark(&self) {
        self.shared.seen.lock().unwrap().fill(Instant::now());
        *self.shared.outage.lock().unwrap() = Duration::ZERO;
    }

    /// Longest time since the mark that a replica did not accept the token of the open session.
    pub fn outage(&self) -> Duration {
        *self.shared.outage.lock().unwrap()
    }

    /// Waits until every replica accepts the token of the open session and a login.
    pub async fn recovered(&self) {
        for at in &self.shared.replicas {
            let well = async {
                loop {
                    let dashboard = at.dashboard(&self.shared.standing.token).await.status;
                    // Log another user in: a user has twenty sessions at most, and the session of the token must stay open.
                    if dashboard == 200 && at.login("another", PASSWORD).await.status == 200 {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let well = tokio::time::timeout(Duration::from_mins(1), well).await;
            assert!(well.is_ok(), "a replica does not recover");
        }
    }

    /// Stops the load, and counts which acknowledged operations are lost.
    pub async fn finish(mut self) -> Toll {
        self.shared.enough.store(true, Ordering::Relaxed);
        while let Some(person) = self.people.join_next().await {
            person.unwrap();
        }
        let mut toll = self.shared.toll.lock().unwrap().clone();
        let revoked = self.shared.revoked.lock().unwrap().clone();
        for token in &revoked {
            let checks = self.shared.replicas.iter().map(|at| at.dashboard(token));
            let answers = join_all(checks).await;
            if answers.iter().any(|it| it.status == 200) {
                toll.forgotten_logouts += 1;
            }
        }
        let accounts = self.shared.accounts.lock().unwrap().clone();
        toll.registrations = accounts.len();
        toll.passwords = self.shared.changed.load(Ordering::Relaxed);
        for (name, passwords) in accounts {
            let known = ["/register", "/login"];
            let taken = json!({"username": name, "password": PASSWORD});
            let taken = persistently(async || self.shared.replicas[0].post(known[0], &taken).await);
            if taken.await.status != 409 {
                toll.lost_registrations += 1;
                continue;
            }
            let mut opens = false;
            for password in passwords {
                let login = async || self.shared.replicas[0].login(&name, password).await;
                opens |= persistently(login).await.status == 200;
            }
            toll.lost_passwords += usize::from(!opens);
        }
        toll
    }
}

/// Logs in at one replica and out at another, and checks the token at all replicas as soon as the logout has answered.
async fn visit(shared: Arc<Shared>, name: String, mut dice: Dice) {
    let replicas = shared.replicas.len();
    while !shared.enough.load(Ordering::Relaxed) {
        let at = &shared.replicas[dice.below(replicas)];
        let login = at.login(&name, PASSWORD).await;
        if login.status != 200 {
            assert_eq!(login.status, 503, "{login:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        let token = login.json()["token"].as_str().unwrap().to_owned();
        let at = &shared.replicas[dice.below(replicas)];
        while at.logout(&token).await.status != 204 {
            if shared.enough.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let checks = shared.replicas.iter().map(|at| at.dashboard(&token));
        let answers = join_all(checks).await;
        {
            let mut toll = shared.toll.lock().unwrap();
            toll.logouts += 1;
            count(&mut toll, &answers);
        }
        shared.revoked.lock().unwrap().push(token);
        tokio::time::sleep(dice.millis(5, 30)).await;
    }
}

fn count(toll: &mut Toll, answers: &[Answer]) {
    for answer in answers {
        toll.checks += 1;
        if ![401, 503].contains(&answer.status) {
            println!("accepted after logout: {answer:?}");
            toll.accepted += 1;
        }
    }
}

/// Sends tokens that were logged out at any time before.
async fn try_old_tokens(shared: Arc<Shared>, mut dice: Dice) {
    while !shared.enough.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let token = {
            let revoked = shared.revoked.lock().unwrap();
            if revoked.is_empty() {
                continue;
            }
            // The latest tokens are the most likely to show a loss.
            let back = dice.below(revoked.len().min(200)) + 1;
            revoked[revoked.len() - back].clone()
        };
        let checks = shared.replicas.iter().map(|at| at.dashboard(&token));
        let answers = join_all(checks).await;
        count(&mut shared.toll.lock().unwrap(), &answers);
    }
}

/// Registers a user, and changes the user's password.
async fn come(shared: Arc<Shared>, number: usize, mut dice: Dice) {
    for count in 0.. {
        if shared.enough.load(Ordering::Relaxed) {
            return;
        }
        tokio::time::sleep(dice.millis(10, 60)).await;
        let at = &shared.replicas[dice.below(shared.replicas.len())];
        let name = format!("newcomer{number}-{count}");
        if at.register(&name, PASSWORD).await.status != 201 {
            continue;
        }
        let account = (name.clone(), vec![PASSWORD]);
        shared.accounts.lock().unwrap().extend([account]);
        let login = at.login(&name, PASSWORD).await;
        if login.status != 200 {
            continue;
        }
        let bearer = format!("Bearer {}", login.json()["token"].as_str().unwrap());
        let body = json!({"current_password": PASSWORD, "new_password": OTHER}).to_string();
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let maybe = (name.clone(), vec![PASSWORD, OTHER]);
        shared.accounts.lock().unwrap().extend([maybe]);
        let changed = at.send("PUT", "/me/password", &headers, Some(&body)).await;
        if changed.status == 200 {
            shared.changed.fetch_add(1, Ordering::Relaxed);
            shared.accounts.lock().unwrap().insert(name, vec![OTHER]);
        }
    }
}

/// Measures how long a replica does not accept the token of the open session. The replica must never answer that the token is
/// invalid.
async fn watch(shared: Arc<Shared>, number: usize) {
    while !shared.enough.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let answer = shared.replicas[number]
            .dashboard(&shared.standing.token)
            .await;
        assert_ne!(answer.status, 401, "{answer:?}");
        if answer.status == 200 {
            let now = Instant::now();
            let before = std::mem::replace(&mut shared.seen.lock().unwrap()[number], now);
            let mut outage = shared.outage.lock().unwrap();
            *outage = (*outage).max(now - before);
        }
    }
}

async fn persistently(ask: impl AsyncFn() -> Answer) -> Answer {
    for _ in 0..200 {
        let answer = ask().await;
        if answer.status != 503 {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ask().await
}
