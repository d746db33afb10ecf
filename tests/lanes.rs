//! The lanes compute what the crate `bcrypt` computes.

use portcullis::auth::passwords::lanes::{Computation, Lanes, MOST_LANES};

use crate::harness::{Dice, report_zero, rounds};

/// bcrypt takes so many bytes of a password and its closing zero.
const MOST_BYTES: usize = 72;

/// Runs computations, each begun as soon as there is room, and tells their digests in order.
fn run(lanes: usize, computations: &[Computation]) -> Vec<[u8; 24]> {
    let mut digests = vec![None; computations.len()];
    let (mut lanes, mut waiting) = (Lanes::new(lanes), computations.iter().enumerate());
    loop {
        while lanes.have_room()
            && let Some((number, computation)) = waiting.next()
        {
            lanes.begin(computation, number).unwrap();
        }
        if lanes.busy() == 0 {
            break;
        }
        lanes.turn(|number, digest| digests[number] = Some(digest));
    }
    digests.into_iter().map(Option::unwrap).collect()
}

#[test]
fn any_number_of_lanes_computes_what_the_crate_computes() {
    let count = rounds(3_000, 100_000);
    let mut dice = Dice::new();
    let mut compared = 0;
    while compared < count {
        let inputs: Vec<_> = (0..25)
            .map(|_| {
                let mut byte = || u8::try_from(dice.below(256)).unwrap();
                let salt: [u8; 16] = std::array::from_fn(|_| byte());
                let password: Vec<_> = (0..100).map(|_| byte()).collect();
                let length = dice.below(password.len());
                let cost = 4 + u32::try_from(dice.below(2)).unwrap();
                (password[..length].to_vec(), salt, cost)
            })
            .collect();
        let computations: Vec<_> = inputs
            .iter()
            .map(|(password, salt, cost)| Computation::new(password, *salt, 1 << cost))
            .collect();
        let lanes = 1 + dice.below(MOST_LANES);
        for ((password, salt, cost), ours) in inputs.iter().zip(run(lanes, &computations)) {
            let closed: Vec<_> = password
                .iter()
                .copied()
                .chain([0])
                .take(MOST_BYTES)
                .collect();
            assert_eq!(
                ours,
                bcrypt::bcrypt(*cost, *salt, &closed),
                "{password:?} {salt:?} {cost}"
            );
            compared += 1;
        }
    }
    report_zero("computations that differ from the crate's", compared);
}
