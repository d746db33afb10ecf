//! Comparison with the crate `bcrypt`: every digest is the same, independent of the computations in the other lanes.

use bcrypt_lanes::{Computation, Digest, Lanes, MAX_LANES};

/// Bytes of a password that bcrypt reads, its closing zero included.
const MAX_KEY_LENGTH: usize = 72;
/// Computations that are compared; `PORTCULLIS_LONG=1` compares more.
const SHORT: usize = 3_000;
const LONG: usize = 100_000;

/// Random numbers (xorshift*) from a seed that a failure names, so that it can be repeated.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).expect("32 bits") % bound
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next().to_be_bytes()[7])
    }
}

/// Runs computations, each started as soon as a lane is free, and returns their digests in order.
fn run(lanes: usize, computations: &[Computation]) -> Vec<Digest> {
    let mut digests = vec![[0; 24]; computations.len()];
    let mut waiting = computations.iter().enumerate();
    let mut lanes = Lanes::new(lanes);
    loop {
        while lanes.has_free_lane()
            && let Some((number, computation)) = waiting.next()
        {
            assert!(lanes.start(computation, number).is_ok());
        }
        if lanes.busy() == 0 {
            return digests;
        }
        lanes.iterate(|number, digest| digests[number] = digest);
    }
}

fn by_the_crate(password: &[u8], salt: [u8; 16], cost: u32) -> Digest {
    let key = password.iter().copied().chain([0]).take(MAX_KEY_LENGTH);
    bcrypt::bcrypt(cost, salt, &key.collect::<Vec<_>>())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one setting of this test, which the service does not know"
)]
#[test]
fn any_number_of_lanes_computes_what_the_crate_computes() {
    let long = std::env::var_os("PORTCULLIS_LONG").is_some();
    let count = if long { LONG } else { SHORT };
    let seed = std::process::id();
    let mut rng = Rng(u64::from(seed) | 1 << 32);
    let mut compared = 0;
    while compared < count {
        let inputs: Vec<_> = (0..25)
            .map(|_| {
                let password: [u8; 100] = rng.bytes();
                let length = rng.below(password.len());
                let cost = if rng.below(2) == 0 { 4 } else { 5 };
                (password[..length].to_vec(), rng.bytes(), cost)
            })
            .collect();
        let computations: Vec<_> = inputs
            .iter()
            .map(|(password, salt, cost)| Computation::with_cost(password, *salt, *cost))
            .collect();
        let lanes = 1 + rng.below(MAX_LANES);
        for ((password, salt, cost), digest) in inputs.iter().zip(run(lanes, &computations)) {
            assert_eq!(
                digest,
                by_the_crate(password, *salt, *cost),
                "seed {seed}, {lanes} lanes: {password:?} {salt:?} {cost}"
            );
            compared += 1;
        }
    }
    println!("digests that differ from the crate's: 0 of {compared}");
}

#[test]
fn passwords_around_the_limit_are_cut_as_by_the_crate() {
    for length in [0, 1, 70, 71, 72, 73, 100] {
        let password = vec![b'x'; length];
        let computation = Computation::with_cost(&password, [9; 16], 4);
        let digests = run(1, &[computation]);
        assert_eq!(
            digests,
            [by_the_crate(&password, [9; 16], 4)],
            "{length} bytes"
        );
    }
}
