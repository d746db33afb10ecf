//! Redis dies and comes back repeatedly under load: no acknowledged change is lost, every client is answered in time, and no
//! replica has to be restarted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use crate::harness::process::PATIENCE;
use crate::harness::{
    Anonymous, Answer, Cluster, PASSWORD, Replica, patiently, report_zero, rounds,
};

const REPLICAS: usize = 3;
const PEOPLE: usize = 24;
/// Delay before clients try again: much shorter than `Retry-After` asks for.
const PAUSE: Duration = Duration::from_millis(50);
/// Greatest duration of a response: several times the deadline of a request (1 s for Redis in all, the window, a cheap hash),
/// because the load, the replicas and Redis share one machine.
const TOO_LONG: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn i2_redis_killed_under_load_loses_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::of(REPLICAS).await;
    let load = Load::begin(&cluster);
    let times = rounds(3, 10);
    let mut recoveries = Vec::new();
    for _ in 0..times {
        load.more(40).await;
        cluster.redis.kill();
        load.failed(40).await;
        cluster.redis.start_again().await;
        let back = Instant::now();
        load.more(40).await;
        recoveries.push(back.elapsed());
    }
    let done = load.end().await;
    done.print(&format!("Redis killed {times} times"));
    println!("from Redis' return to 40 more whole visits: {recoveries:.1?}");
    done.check(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_redis_paused_under_load_loses_nothing_that_was_acknowledged() {
    let cluster = Cluster::of(REPLICAS).await;
    let load = Load::begin(&cluster);
    let times = rounds(3, 10);
    for _ in 0..times {
        load.more(40).await;
        cluster.redis.pause();
        load.failed(40).await;
        cluster.redis.resume();
        load.more(40).await;
    }
    let done = load.end().await;
    done.print(&format!("Redis paused {times} times"));
    done.check(&cluster).await;
}

/// Clients that register, log in, request the dashboard, log out and start again under another name, until the load ends.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<Mutex<Done>>,
    people: Vec<JoinHandle<()>>,
}

/// Record of the responses.
#[derive(Debug, Default)]
struct Done {
    /// Names whose registration was acknowledged.
    registered: Vec<String>,
    /// Tokens whose logout was acknowledged.
    out: Vec<String>,
    /// Tokens for which no client has requested a logout.
    standing: Vec<String>,
    /// Number of whole visits, from the registration to the logout.
    visits: usize,
    answers: BTreeMap<(&'static str, u16), usize>,
    slowest: BTreeMap<&'static str, Duration>,
}

impl Load {
    fn begin(cluster: &Cluster) -> Self {
        let (stop, done) = (Arc::default(), Arc::default());
        let doors: Vec<_> = cluster.replicas.iter().map(Replica::anonymous).collect();
        let people = (0..PEOPLE).map(|number| {
            let person = Person {
                number,
                doors: doors.clone(),
                turn: AtomicUsize::new(number),
                stop: Arc::clone(&stop),
                done: Arc::clone(&done),
            };
            tokio::spawn(person.live())
        });
        Self {
            people: people.collect(),
            stop,
            done,
        }
    }

    /// Waits until `visits` more visits were successful from beginning to end.
    async fn more(&self, visits: usize) {
        let goal = self.now(|done| done.visits) + visits;
        self.until("visits", |done| done.visits >= goal).await;
    }

    /// Waits until `answers` more responses had the status 503.
    async fn failed(&self, answers: usize) {
        let failures = |done: &Done| {
            let failed = done
                .answers
                .iter()
                .filter(|((_, status), _)| *status == 503);
            failed.map(|(_, count)| count).sum::<usize>()
        };
        let goal = self.now(failures) + answers;
        self.until("failures", |done| failures(done) >= goal).await;
    }

    async fn until(&self, what: &str, reached: impl Fn(&Done) -> bool) {
        let wait = async {
            while !self.now(&reached) {
                assert!(
                    !self.people.iter().any(JoinHandle::is_finished),
                    "somebody fell"
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        let answers = || self.now(|done| done.answers.clone());
        assert!(waited.is_ok(), "no more {what}: {:?}", answers());
    }

    fn now<T>(&self, look: impl Fn(&Done) -> T) -> T {
        look(&self.done.lock().unwrap())
    }

    /// Waits until every client has finished its visit.
    async fn end(self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        for person in self.people {
            person.await.unwrap();
        }
        Arc::into_inner(self.done).unwrap().into_inner().unwrap()
    }
}

impl Done {
    fn print(&self, what: &str) {
        let answers: usize = self.answers.values().sum();
        println!(
            "{what}: {answers} answers, {} whole visits; acknowledged: {} registrations, {} logouts",
            self.visits,
            self.registered.len(),
            self.out.len()
        );
        println!("answers {:?}", self.answers);
        println!("slowest {:.0?}", self.slowest);
    }

    /// Checks that every replica has all acknowledged changes, and that every request was answered in time.
    async fn check(&self, cluster: &Cluster) {
        let (mut lost, mut accepted, mut refused) = (0, 0, 0);
        let doors: Vec<_> = cluster.replicas.iter().map(Replica::anonymous).collect();
        for names in self.registered.chunks(8) {
            let logins = names.iter().zip(doors.iter().cycle());
            // A busy machine may pass a deadline: 503 is no loss.
            let logins = logins.map(async |(name, door)| {
                let login = patiently(async || door.login(name, PASSWORD).await);
                login.await.status
            });
            lost += count(join_all(logins).await, |status| status != 200);
        }
        let everywhere = |token: &str| {
            let looks = doors.iter().map(|door| {
                let (door, token) = (door.clone(), token.to_owned());
                async move {
                    let dashboard = patiently(async || door.dashboard(&token).await);
                    dashboard.await.status
                }
            });
            join_all(looks)
        };
        for token in &self.out {
            accepted += count(everywhere(token).await, |status| status != 401);
        }
        for token in &self.standing {
            refused += count(everywhere(token).await, |status| status != 200);
        }
        assert_eq!((lost, accepted, refused), (0, 0, 0));
        assert!(!self.registered.is_empty() && !self.out.is_empty());
        report_zero("acknowledged registrations lost", self.registered.len());
        report_zero(
            "tokens accepted after an acknowledged logout",
            self.out.len() * REPLICAS,
        );
        report_zero(
            "tokens refused that nobody has logged out",
            self.standing.len() * REPLICAS,
        );
        for (what, slowest) in &self.slowest {
            assert!(*slowest < TOO_LONG, "{what} took {slowest:?}");
        }
    }
}

fn count(statuses: Vec<u16>, bad: impl Fn(u16) -> bool) -> usize {
    statuses.into_iter().filter(|&status| bad(status)).count()
}

struct Person {
    number: usize,
    doors: Vec<Anonymous>,
    turn: AtomicUsize,
    stop: Arc<AtomicBool>,
    done: Arc<Mutex<Done>>,
}

impl Person {
    async fn live(self) {
        for visit in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let whole = self.visit(&format!("p{}v{visit}", self.number)).await;
            if whole.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Makes one visit; returns `None` if a step failed.
    async fn visit(&self, name: &str) -> Option<()> {
        self.ask("register", name, 201).await?;
        self.note(|done| done.registered.push(name.to_owned()));
        let login = self.ask("login", name, 200).await?;
        let token = login.json()["token"].as_str().unwrap().to_owned();
        let mut seen = Some(());
        for _ in 0..REPLICAS {
            if self.ask("dashboard", &token, 200).await.is_none() {
                seen = None;
            }
        }
        // Some clients stay logged in: a token without a logout must not be refused either.
        if name.ends_with('7') {
            self.note(|done| done.standing.push(token));
            return seen;
        }
        // Our documentation tells clients to repeat a logout until it is acknowledged.
        while self.ask("logout", &token, 204).await.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
        for _ in 0..REPLICAS {
            self.ask("dashboard", &token, 401).await;
        }
        self.note(|done| {
            done.out.push(token);
            done.visits += usize::from(seen.is_some());
        });
        seen
    }

    /// Sends a request to the next replica, with a name or a token. The response has the expected status, or 503: `None`.
    async fn ask(&self, what: &'static str, with: &str, expected: u16) -> Option<Answer> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let door = &self.doors[turn % self.doors.len()];
        let begun = Instant::now();
        let answer = match what {
            "register" => door.register(with, PASSWORD).await,
            "login" => door.login(with, PASSWORD).await,
            "logout" => door.logout(with).await,
            _ => door.dashboard(with).await,
        };
        let took = begun.elapsed();
        self.note(|done| {
            *done.answers.entry((what, answer.status)).or_default() += 1;
            let slowest = done.slowest.entry(what).or_default();
            *slowest = took.max(*slowest);
        });
        if answer.status == 503 {
            // Checks that the response is a problem with `Retry-After`.
            let code = answer.code();
            assert!(code == "unavailable" || code == "overloaded", "{code}");
            return None;
        }
        assert_eq!(answer.status, expected, "{what}: {answer:?}");
        Some(answer)
    }

    fn note(&self, note: impl FnOnce(&mut Done)) {
        note(&mut self.done.lock().unwrap());
    }
}
