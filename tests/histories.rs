//! Recorded histories: many clients send random requests to three replicas while faults happen, and the test then checks
//! their answers against the rules.

mod faults;
mod history;
mod rules;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use self::faults::Faults;
use self::history::{Operation, Outcome, Recorder, Session, What};
use crate::harness::{Anonymous, Answer, Dice, Proxy, Redis, Replica, config, report_zero, rounds};

/// Clients that send random requests at the same time.
const CLIENTS: usize = 48;
/// Attempts to register a name before the name goes out of use; several clients want each name.
const ATTEMPTS: usize = 5;
/// Maximum time for the replicas to agree after the last fault.
const AGREE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn c15_what_clients_of_three_replicas_were_answered_under_faults_is_what_one_could_have_answered()
 {
    let mut dice = Dice::new();
    let redis = Redis::start().await;
    let (mut proxies, mut replicas) = (Vec::new(), Vec::new());
    for window in [50, 0, 100] {
        let proxy = Proxy::to(redis.addr()).await;
        let mut config = config(&proxy.url());
        config.revocation.window = Duration::from_millis(window);
        // The faults are intended; thousands of log lines would hide the findings.
        "off".clone_into(&mut config.telemetry.filter);
        replicas.push(Replica::start(config).await);
        proxies.push(proxy);
    }
    for replica in &replicas {
        replica.ready().await;
    }
    let world = World {
        replicas: replicas.iter().map(|replica| replica.addr).collect(),
        recorder: Recorder::new(),
        known: Mutex::default(),
    };
    let mut faults = Faults { redis, proxies };

    let (wanted, enough) = (rounds(10_000, 100_000), AtomicBool::new(false));
    let things = faults.run(dice.split(), &enough);
    let clients = (0..CLIENTS).map(|_| dice.split()).collect::<Vec<_>>();
    let over = AtomicBool::new(false);
    let clients = join_all(clients.into_iter().map(|dice| world.live(dice, &over)));
    let watch = async {
        while world.recorder.len() < wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        enough.store(true, Ordering::Relaxed);
    };
    let things = async {
        let (things, ()) = tokio::join!(things, watch);
        over.store(true, Ordering::Relaxed);
        things
    };
    let (things, _) = tokio::join!(things, clients);

    for replica in &replicas {
        replica.ready().await;
    }
    let disputed = world.disputed().await;
    let history = world.recorder.into_history();
    let tally = tally(&history);
    println!("{} operations, {things} faults: {tally:?}", history.len());
    for outcome in [Outcome::Done, Outcome::Refused, Outcome::Unknown] {
        let seen = tally.get(&("check", outcome)).copied();
        assert!(
            seen > Some(50),
            "too few checks were {outcome:?} to show anything"
        );
    }
    let found = rules::violations(&history);
    let shown: Vec<_> = found.iter().take(20).collect();
    assert!(found.is_empty(), "{} violations: {shown:#?}", found.len());
    assert!(
        disputed.is_empty(),
        "the replicas do not agree: {disputed:#?}"
    );
    report_zero("violations in recorded histories", history.len());
}

/// Counts the operations of each kind by outcome.
fn tally(history: &[Operation]) -> BTreeMap<(&'static str, Outcome), usize> {
    let mut tally = BTreeMap::new();
    for operation in history {
        let kind = match operation.what {
            What::Register { .. } => "register",
            What::LogIn { .. } => "log in",
            What::Check { .. } => "check",
            What::LogOut { .. } => "log out",
            What::LogOutEverywhere { .. } => "log out everywhere",
        };
        *tally.entry((kind, operation.outcome)).or_default() += 1;
    }
    tally
}

/// State that all clients share.
struct World {
    replicas: Vec<SocketAddr>,
    recorder: Recorder,
    known: Mutex<Known>,
}

/// Knowledge that the clients share about each other.
#[derive(Default)]
struct Known {
    /// Attempts to register, each with a password of its own.
    attempts: usize,
    /// Name, password, outcome.
    registrations: Vec<(usize, usize, Outcome)>,
    sessions: Vec<Opened>,
}

struct Opened {
    name: usize,
    token: String,
}

impl World {
    /// Sends random requests until `over` is set.
    async fn live(&self, mut dice: Dice, over: &AtomicBool) {
        let client = Anonymous::at(self.replicas[0]);
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(dice.millis(0, 60)).await;
            let replica = dice.below(self.replicas.len());
            let act = dice.below(100);
            let session = self.some_session(&mut dice);
            match (act, session) {
                (0..34, _) => self.log_in(&client, replica, &mut dice).await,
                (34..40, _) | (_, None) => self.register(&client, replica, &mut dice).await,
                (40..82, Some(session)) => {
                    self.check(&client, replica, session).await;
                }
                (82..95, Some(session)) => {
                    self.end(&client, What::LogOut { session }, &mut dice).await;
                }
                (_, Some(session)) => {
                    let other = self.session_of_the_same(session, &mut dice);
                    self.end(&client, What::LogOutEverywhere { session }, &mut dice)
                        .await;
                    self.check_at_all(&client, other).await;
                }
            }
        }
    }

    /// Returns a session that was opened a short while ago, or any session.
    fn some_session(&self, dice: &mut Dice) -> Option<Session> {
        let count = self.known.lock().unwrap().sessions.len();
        let recent = count.min(if dice.percent(80) { 30 } else { count });
        (count > 0).then(|| count - 1 - dice.below(recent))
    }

    fn session_of_the_same(&self, session: Session, dice: &mut Dice) -> Session {
        let known = self.known.lock().unwrap();
        let name = known.sessions[session].name;
        let all = 0..known.sessions.len();
        let same: Vec<_> = all.filter(|&it| known.sessions[it].name == name).collect();
        same[dice.below(same.len())]
    }

    async fn register(&self, client: &Anonymous, replica: usize, dice: &mut Dice) {
        let (name, password) = {
            let mut known = self.known.lock().unwrap();
            known.attempts += 1;
            (
                (known.attempts + dice.below(ATTEMPTS)) / ATTEMPTS,
                known.attempts,
            )
        };
        let body = credentials(name, password);
        let outcome = self
            .ask(
                client,
                replica,
                ("POST", "/register"),
                Send::Body(&body),
                201,
                |_| What::Register { name, password },
            )
            .await;
        let mut known = self.known.lock().unwrap();
        known.registrations.push((name, password, outcome));
    }

    async fn log_in(&self, client: &Anonymous, replica: usize, dice: &mut Dice) {
        let (name, password) = {
            let known = self.known.lock().unwrap();
            let count = known.registrations.len();
            if count == 0 {
                return;
            }
            // Mostly a user who registered a short while ago, and mostly one whose registration succeeded.
            let pick = |dice: &mut Dice| {
                let recent = count.min(if dice.percent(80) { 60 } else { count });
                known.registrations[count - 1 - dice.below(recent)]
            };
            let mut chosen = pick(dice);
            for _ in 0..10 {
                if chosen.2 == Outcome::Done || dice.percent(10) {
                    break;
                }
                chosen = pick(dice);
            }
            (chosen.0, chosen.1)
        };
        let body = credentials(name, password);
        self.ask(
            client,
            replica,
            ("POST", "/login"),
            Send::Body(&body),
            200,
            |answer| {
                let session = answer.map(|answer| {
                    let token = answer.json()["token"].as_str().unwrap().to_owned();
                    let mut known = self.known.lock().unwrap();
                    known.sessions.push(Opened { name, token });
                    known.sessions.len() - 1
                });
                What::LogIn {
                    name,
                    password,
                    session,
                }
            },
        )
        .await;
    }

    async fn check(&self, client: &Anonymous, replica: usize, session: Session) -> Outcome {
        let token = self.token(session);
        let (request, what) = (("GET", "/dashboard"), What::Check { session });
        self.ask(client, replica, request, Send::Token(&token), 200, |_| what)
            .await
    }

    async fn check_at_all(&self, client: &Anonymous, session: Session) -> Vec<Outcome> {
        let all = 0..self.replicas.len();
        join_all(all.map(|replica| self.check(client, replica, session))).await
    }

    /// Revokes one session or all, repeats the request at another replica after an unknown outcome, as clients do, and checks
    /// that the revocation holds.
    async fn end(&self, client: &Anonymous, what: What, dice: &mut Dice) {
        let (request, session) = match what {
            What::LogOutEverywhere { session } => (("DELETE", "/sessions"), session),
            What::LogOut { session } => (("POST", "/logout"), session),
            other => unreachable!("{other:?} ends nothing"),
        };
        let token = self.token(session);
        for _ in 0..3 {
            let replica = dice.below(self.replicas.len());
            let outcome = self
                .ask(client, replica, request, Send::Token(&token), 204, |_| what)
                .await;
            self.check_at_all(client, session).await;
            if outcome != Outcome::Unknown || dice.percent(30) {
                return;
            }
        }
    }

    fn token(&self, session: Session) -> String {
        self.known.lock().unwrap().sessions[session].token.clone()
    }

    /// Sends a request and records its outcome. `what` names the operation, from the answer if that is a success.
    async fn ask(
        &self,
        client: &Anonymous,
        replica: usize,
        (method, path): (&str, &str),
        send: Send<'_>,
        success: u16,
        what: impl FnOnce(Option<&Answer>) -> What,
    ) -> Outcome {
        let at = client.towards_addr(self.replicas[replica]);
        let (name, value, body) = match send {
            Send::Token(token) => ("authorization", format!("Bearer {token}"), None),
            Send::Body(body) => ("content-type", "application/json".to_owned(), Some(body)),
        };
        let invoked = self.recorder.now();
        let answer = at.try_send(method, path, &[(name, &value)], body).await;
        let answered = self.recorder.now();
        let outcome = match &answer {
            Ok(answer) if answer.status == success => Outcome::Done,
            Ok(answer) if [401, 409].contains(&answer.status) => Outcome::Refused,
            Ok(answer) => {
                assert_eq!(answer.status, 503, "{method} {path}: {answer:?}");
                Outcome::Unknown
            }
            Err(_) => Outcome::Unknown,
        };
        let done = answer.ok().filter(|_| outcome == Outcome::Done);
        self.recorder.record(Operation {
            what: what(done.as_ref()),
            replica,
            invoked,
            answered,
            outcome,
        });
        outcome
    }

    /// Returns the sessions on which the replicas still disagree after the last fault, with the outcome at each replica.
    async fn disputed(&self) -> Vec<(Session, Vec<Outcome>)> {
        let client = Anonymous::at(self.replicas[0]);
        let sessions = self.known.lock().unwrap().sessions.len();
        let mut open: Vec<_> = (0..sessions).collect();
        let begun = Instant::now();
        loop {
            let mut disputed = Vec::new();
            for some in open.chunks(CLIENTS) {
                let answers = some.iter().map(|&it| self.check_at_all(&client, it));
                disputed.extend(some.iter().copied().zip(join_all(answers).await));
            }
            disputed.retain(|(_, said)| {
                said[0] == Outcome::Unknown || said.iter().any(|it| *it != said[0])
            });
            if disputed.is_empty() || begun.elapsed() > AGREE {
                return disputed;
            }
            open = disputed.into_iter().map(|(session, _)| session).collect();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Credentials or body of a request.
enum Send<'a> {
    Token(&'a str),
    Body(&'a str),
}

fn credentials(name: usize, password: usize) -> String {
    let password = format!("{password} correct horse battery staple");
    serde_json::json!({"username": format!("user{name}"), "password": password}).to_string()
}
