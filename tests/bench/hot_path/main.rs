//! Benchmark of the pieces of the hot path.
//!
//! `cargo bench --bench hot_path` prints the time that each piece takes. `hot_path count PIECE` runs one piece often enough
//! for callgrind to count its instructions; `tests/bench/instructions.py` compares the count with the recorded one.

#![expect(
    clippy::expect_used,
    reason = "a benchmark that cannot go on should say where"
)]

mod pieces;

use std::hint::black_box;
use std::process::ExitCode;

use bcrypt_lanes::{Computation, Lanes, MAX_LANES};
use divan::Bencher;
use divan::counter::ItemsCount;

use self::pieces::{COUNTED, PIECES, Work};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Runs of a piece before the count begins, and runs that are counted.
const WARM_UP: usize = 20;
const COUNTED_TIMES: usize = 100;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match &words[..] {
        [command] if command == "pieces" => {
            println!("{COUNTED_TIMES}\n{}", COUNTED.join("\n"));
        }
        [command, name] if command == "count" => {
            let Some((_, prepare)) = PIECES.iter().find(|(known, _)| known == name) else {
                eprintln!("hot_path: no such piece");
                return ExitCode::FAILURE;
            };
            let mut work = prepare();
            (0..WARM_UP).for_each(|_| work());
            measured_batch(&mut work);
        }
        _ => divan::main(),
    }
    ExitCode::SUCCESS
}

/// Batch of runs that callgrind counts; callgrind finds the batch by the name of this function.
#[inline(never)]
fn measured_batch(work: &mut Work) {
    for _ in 0..COUNTED_TIMES {
        black_box(&mut *work)();
    }
}

#[divan::bench(args = PIECES.map(|(name, _)| name))]
fn piece(bencher: Bencher<'_, '_>, name: &str) {
    let (_, prepare) = PIECES[PIECES
        .iter()
        .position(|(known, _)| *known == name)
        .expect("a piece")];
    bencher.bench_local(prepare());
}

/// Hashes of cost 10, computed in this number of lanes at a time in one thread.
#[divan::bench(args = 1..=MAX_LANES, sample_count = 10)]
fn hashes(bencher: Bencher<'_, '_>, lanes: usize) {
    let bencher = bencher.counter(ItemsCount::new(lanes));
    let computation = Computation::with_cost(b"teal-otter-harbour-42", [7; 16], 10);
    bencher.bench_local(|| {
        let mut all = Lanes::new(lanes);
        for number in 0..lanes {
            all.start(&computation, number).expect("room");
        }
        while all.busy() > 0 {
            all.iterate(|_, hash| assert_ne!(black_box(hash), [0; 24]));
        }
    });
}
