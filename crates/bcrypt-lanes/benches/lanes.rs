//! Hashes in a second of CPU time, by cost and number of lanes, beside the crate `bcrypt`: `cargo bench -p bcrypt-lanes`.

#![expect(
    clippy::cast_precision_loss,
    reason = "counts and times far below 2^52"
)]

use std::hint::black_box;

use bcrypt_lanes::{Computation, DEFAULT_LANES, Lanes, MAX_LANES};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 5;

fn main() {
    for cost in 10_u32..=15 {
        let crates: Vec<_> = (0..ROUNDS)
            .map(|_| {
                seconds(|| {
                    black_box(bcrypt::bcrypt(cost, [7; 16], b"teal-otter-harbour-42\0"));
                })
            })
            .collect();
        let alone = median(crates);
        println!("cost {cost}: the crate {:.1} a CPU second", 1.0 / alone);
        let by_number = matches!(cost, 10 | 12);
        for lanes in
            (1..=MAX_LANES).filter(|&lanes| by_number || [1, DEFAULT_LANES].contains(&lanes))
        {
            let full = median((0..ROUNDS).map(|_| seconds(|| fill(lanes, cost))).collect());
            let rate = lanes as f64 / full;
            println!(
                "cost {cost}: {lanes} lanes {rate:.1} a CPU second, {:.2} x the crate; one takes {:.2} x as long as by the crate",
                rate * alone,
                full / alone
            );
        }
    }
}

/// Computes one hash in each lane.
fn fill(count: usize, cost: u32) {
    let mut lanes = Lanes::new(count);
    for number in 0..count {
        let computation = Computation::with_cost(b"teal-otter-harbour-42", [7; 16], cost);
        assert!(lanes.start(&computation, number).is_ok());
    }
    while lanes.busy() > 0 {
        lanes.iterate(|_, digest| {
            black_box(digest);
        });
    }
}

/// CPU seconds of this thread.
fn seconds(work: impl FnOnce()) -> f64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let begun = now();
    work();
    now() - begun
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
