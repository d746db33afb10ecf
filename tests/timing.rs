//! Refused logins reveal nothing about the user, neither by the bytes of the response nor by its time: not if the user exists,
//! is disabled, or has an older hash.

use std::time::Instant;

use portcullis::config::Config;

use crate::harness::{
    Anonymous, Answer, Dice, PASSWORD, Redis, Replica, config, patiently, rounds,
};

/// Cost of new hashes: a login takes ten milliseconds and more, mostly for the hash, as at the costs that are allowed in
/// production. The variation of a hash hides the microseconds by which the answers of the store differ.
const COST: u32 = 8;

/// Logins that are refused. The first is the one with which the others are compared.
const REFUSED: [(&str, &str); 6] = [
    ("a wrong password", "alice"),
    ("a name that nobody has", "nobody"),
    ("a name that nobody can have", "!"),
    ("a disabled user", "disabled"),
    ("a user whose hash has a lower cost", "older"),
    ("a name that nobody has, of the greatest length", LONGEST),
];

const LONGEST: &str = "nobody-nobody-nobody-nobody-nobody-nobody-nobody-nobody-nobody-1";

#[tokio::test(flavor = "multi_thread")]
async fn a11_a12_refused_logins_take_equally_long_whatever_is_wrong() {
    let people = People::new().await;
    let count = rounds(1_000, 5_000);
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); REFUSED.len()];
    let (mut malformed, mut dice) = (Vec::new(), Dice::new());
    let mut order: Vec<usize> = (0..REFUSED.len()).collect();
    for _ in 0..count {
        dice.shuffle(&mut order);
        for &case in &order {
            let begun = Instant::now();
            let answer = people.refused(case).await;
            times[case].push(begun.elapsed().as_secs_f64());
            assert_eq!(answer.status, 401, "{answer:?}");
        }
        let begun = Instant::now();
        let answer = people.at.post_text("/login", "{}").await;
        malformed.push(begun.elapsed().as_secs_f64());
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    // Without a difference, the area of 1,000 + 1,000 logins has a standard deviation of 0.013.
    let bound = 0.05;
    for (case, (what, _)) in REFUSED.iter().enumerate().skip(1) {
        let area = area_under_curve(&times[0], &times[case]);
        println!(
            "{what}: {count} + {count} logins, area under the curve {area:.3} (0.5 ± {bound})"
        );
        assert!(
            (area - 0.5).abs() <= bound,
            "{what} can be told by time: {area}"
        );
    }
    let area = area_under_curve(&times[0], &malformed);
    println!("a request without a login: {area:.3}");
    assert!(area < 0.05, "what differs should be seen: {area}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a10_refused_logins_are_the_same_bytes_whatever_is_wrong() {
    let people = People::new().await;
    let expected = bytes(&people.refused(0).await);
    for (case, (what, _)) in REFUSED.iter().enumerate() {
        assert_eq!(bytes(&people.refused(case).await), expected, "{what}");
    }
    let long = people.at.login("alice", &"x".repeat(300)).await;
    assert_eq!(bytes(&long), expected, "a password that nobody can have");
}

/// A replica and its users.
struct People {
    at: Anonymous,
    _replicas: [Replica; 2],
    _redis: Redis,
}

impl People {
    async fn new() -> Self {
        let redis = Redis::start().await;
        let replica = Replica::serve(with_cost(&redis, COST)).await;
        let older = Replica::serve(with_cost(&redis, COST - 2)).await;
        let at = replica.anonymous();
        for (at, name) in [
            (&at, "alice"),
            (&at, "disabled"),
            (&older.anonymous(), "older"),
        ] {
            let answer = patiently(async || at.register(name, PASSWORD).await).await;
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        let keys: Vec<String> = redis.command(&["KEYS", "portcullis:user:*:disabled"]).await;
        let _: u64 = redis.command(&["HSET", &keys[0], "disabled", "1"]).await;
        Self {
            at,
            _replicas: [replica, older],
            _redis: redis,
        }
    }

    async fn refused(&self, case: usize) -> Answer {
        let (what, name) = REFUSED[case];
        // A disabled user is refused with the right password.
        let password = if what == "a disabled user" {
            PASSWORD
        } else {
            "not the one that it is"
        };
        patiently(async || self.at.login(name, password).await).await
    }
}

/// Bytes of a response without the date and the request ID.
fn bytes(answer: &Answer) -> String {
    let id = answer.header("x-request-id");
    let headers = answer.headers.iter();
    let headers = headers.filter(|(name, _)| *name != "date" && *name != "x-request-id");
    let mut lines: Vec<_> = headers
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    let status = answer.status;
    format!(
        "{status}\n{}\n\n{}",
        lines.join("\n"),
        answer.body.replace(id, "")
    )
}

/// Probability that a time of `b` is longer than one of `a`: the area under the receiver operating characteristic, 0.5 if the
/// two cannot be told apart (Mann and Whitney's U, divided by the number of pairs).
fn area_under_curve(a: &[f64], b: &[f64]) -> f64 {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
    let longer = pairs.filter(|(x, y)| y > x).count();
    longer as f64 / (a.len() * b.len()) as f64
}

fn with_cost(redis: &Redis, cost: u32) -> Config {
    let mut config = config(&redis.url());
    config.passwords.cost = cost;
    config
}
