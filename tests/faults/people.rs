//! Users who do every operation during a fault, and the answers that they get.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::harness::site::{REPLICAS, Site};
use crate::harness::{Answer, PASSWORD, User, patiently};

/// Maximum time of a request: several times the deadline of a request (1 s for Redis in all), since all processes share one
/// machine.
const TOO_LONG: Duration = Duration::from_secs(6);

/// Status of each operation of a user: register, log in, refresh, ask for the dashboard, log out.
pub type Statuses = [u16; 5];

/// Users who are logged in before the fault begins.
pub struct People {
    pub reader: User,
    leaver: User,
    asked: AtomicUsize,
}

impl People {
    pub async fn of(site: &Site) -> Self {
        let reader = User::register_at(&site.anyone(), "reader").await;
        let leaver = User::register_at(&site.anyone(), "leaver").await;
        Self {
            reader,
            leaver,
            asked: AtomicUsize::new(0),
        }
    }

    /// Returns the status of the reader's dashboard.
    pub async fn look(&self) -> u16 {
        self.reader.at.dashboard(&self.reader.token).await.status
    }

    /// Does every operation this number of times; each time one user for each replica, all at once.
    pub async fn ask_often(&self, times: usize) -> Tally {
        // Views of the revocations may stay fresh for one more window.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut tally = Tally::default();
        for time in 0..times {
            let asks = (0..REPLICAS).map(|number| self.ask(time == 0 && number == 0));
            for (statuses, longest) in join_all(asks).await {
                tally.statuses.extend(statuses);
                tally.longest = tally.longest.max(longest);
            }
        }
        tally
    }

    /// Does every operation; logs out only if `leaves` is true, since the one logout cannot be tried twice.
    async fn ask(&self, leaves: bool) -> (Vec<(usize, u16)>, Duration) {
        let at = &self.reader.at;
        let mut seen = Vec::new();
        let mut longest = Duration::ZERO;
        let mut lap = Instant::now();
        let mut take = |what: usize, answer: &Answer| {
            if answer.status == 503 {
                answer.code();
            }
            seen.push((what, answer.status));
            longest = longest.max(lap.elapsed());
            lap = Instant::now();
        };
        let name = format!("late-{}", self.asked.fetch_add(1, Ordering::Relaxed));
        take(0, &in_time(at.register(&name, PASSWORD)).await);
        take(1, &in_time(at.login("reader", PASSWORD)).await);
        take(2, &in_time(at.refresh(&self.reader.refresh_token)).await);
        take(3, &in_time(at.dashboard(&self.reader.token)).await);
        if leaves {
            take(4, &in_time(at.logout(&self.leaver.token)).await);
        }
        (seen, longest)
    }

    /// Waits until all replicas are ready, and checks that no acknowledged operation is lost: users who were logged in still
    /// are. A user whose logout was answered 204, or 503 and then repeated, is refused.
    pub async fn see_all_well(&self, site: &Site) {
        site.all_ready().await;
        let again = User::log_in(&self.reader.at, "reader").await;
        let said = patiently(async || self.leaver.at.logout(&self.leaver.token).await).await;
        assert_eq!(said.status, 204);
        for replica in &site.replicas {
            let at = again.at.towards_addr(replica.addr);
            assert_eq!(at.dashboard(&again.token).await.status, 200);
            assert_eq!(at.dashboard(&self.reader.token).await.status, 200);
            assert_eq!(at.dashboard(&self.leaver.token).await.status, 401);
        }
        let refreshed = self.reader.at.refresh(&self.reader.refresh_token).await;
        assert_eq!(refreshed.status, 200, "{refreshed:?}");
    }
}

/// Answers that users got during a fault.
#[derive(Default)]
pub struct Tally {
    statuses: Vec<(usize, u16)>,
    longest: Duration,
}

impl Tally {
    pub fn check(&self, wanted: Statuses) {
        let all = &self.statuses;
        println!(
            "{} answers, the slowest after {:.2?}",
            all.len(),
            self.longest
        );
        let names = ["register", "login", "refresh", "dashboard", "logout"];
        for &(what, status) in all {
            assert_eq!(status, wanted[what], "{}: {all:?}", names[what]);
        }
        assert!(self.longest < TOO_LONG, "{:?}", self.longest);
    }
}

/// Awaits an answer, which must come in time: no client is left waiting.
pub async fn in_time(answer: impl Future<Output = Answer>) -> Answer {
    tokio::time::timeout(TOO_LONG * 2, answer)
        .await
        .expect("no answer")
}
