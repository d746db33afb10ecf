//! Computations side by side, and the order in which they are advanced.

use zeroize::Zeroizing;

use crate::blowfish::{State, expand_key, expand_salt};

/// Greatest number of lanes: the code is compiled once for each number.
pub const MAX_LANES: usize = 8;

/// Number of lanes that yields the most hashes of a core, as measured by `cargo bench -p bcrypt-lanes` on cores of today's
/// servers.
///
///
/// With one to three lanes a core still waits for memory, and one hash takes no longer than alone. The fifth lane is the last
/// that gains, and lengthens each hash by a fifth; more lanes only lengthen it.
pub const DEFAULT_LANES: usize = 5;

/// Bytes of a password that bcrypt reads, its closing zero included.
const MAX_KEY_LENGTH: usize = 72;

/// Digest of a computation. The hash strings of bcrypt hold its first 23 bytes.
pub type Digest = [u8; 24];

/// Input of one bcrypt computation. The copy of the password is wiped when it is dropped.
pub struct Computation {
    key: Zeroizing<Vec<u8>>,
    salt: [u8; 16],
    iterations: u64,
}

impl Computation {
    /// Computation of a hash with this cost: `2^cost` iterations. The hash strings of bcrypt allow costs from 4 to 31; any
    /// number below 64 is computed, and a greater one counts as 63.
    ///
    /// The password comes without a closing zero. It is cut after 72 bytes, the zero included.
    #[must_use]
    pub fn with_cost(password: &[u8], salt: [u8; 16], cost: u32) -> Self {
        Self::with_iterations(password, salt, 1 << cost.min(63))
    }

    /// Computation of any number of iterations, for example to make a refusal take as long as a hash of a greater cost. Its
    /// digest is a bcrypt digest only if the number is a power of two. Zero counts as one.
    #[must_use]
    pub fn with_iterations(password: &[u8], salt: [u8; 16], iterations: u64) -> Self {
        // A vector that grew would leave a copy of the password behind.
        let mut key = Zeroizing::new(Vec::with_capacity(MAX_KEY_LENGTH));
        key.extend(password.iter().chain(&[0]).take(MAX_KEY_LENGTH));
        Self {
            key,
            salt,
            iterations,
        }
    }
}

/// Shows the number of iterations and no secret.
impl std::fmt::Debug for Computation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Computation")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// Computations in progress. Each carries a tag, by which the caller recognises it when it ends.
///
/// A lane takes 4.2 KiB for its state. The states are wiped when their computations end, are cancelled, or are dropped.
pub struct Lanes<T> {
    /// States of the busy lanes, in the order of `entries`: states that are advanced in step must lie in one slice.
    states: Vec<State>,
    entries: Vec<Entry<T>>,
    capacity: usize,
}

struct Entry<T> {
    tag: T,
    remaining: u64,
}

impl<T> Lanes<T> {
    /// Free lanes. Their number is raised to 1 or lowered to [`MAX_LANES`] if it lies outside of these.
    #[must_use]
    pub fn new(lanes: usize) -> Self {
        let capacity = lanes.clamp(1, MAX_LANES);
        // A vector that grew would leave copies of its states behind.
        Self {
            states: Vec::with_capacity(capacity),
            entries: Vec::with_capacity(capacity),
            capacity,
        }
    }

    /// Number of computations in progress.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if another computation can be started.
    #[must_use]
    pub fn has_free_lane(&self) -> bool {
        self.busy() < self.capacity
    }

    /// Starts a computation in a free lane. This takes about half as long as an iteration of one lane.
    ///
    /// # Errors
    /// Returns the tag if no lane is free.
    pub fn start(&mut self, computation: &Computation, tag: T) -> Result<(), T> {
        if !self.has_free_lane() {
            return Err(tag);
        }
        self.states
            .push(State::new(&computation.key, computation.salt));
        self.entries.push(Entry {
            tag,
            remaining: computation.iterations,
        });
        Ok(())
    }

    /// Advances all computations by one iteration, and calls `finished` with the tag and digest of each that has ended. Its
    /// lane is free when `finished` returns. One iteration takes some 50 µs on a core of 2024.
    pub fn iterate(&mut self, finished: impl FnMut(T, Digest)) {
        self.iterate_with_pause(|| (), finished);
    }

    /// Does the same as [`iterate`](Self::iterate), and calls `pause` half-way: the caller can yield its core more often.
    pub fn iterate_with_pause(
        &mut self,
        pause: impl FnOnce(),
        mut finished: impl FnMut(T, Digest),
    ) {
        expand(&mut self.states, Half::Key);
        pause();
        expand(&mut self.states, Half::Salt);
        for lane in (0..self.entries.len()).rev() {
            let entry = &mut self.entries[lane];
            entry.remaining = entry.remaining.saturating_sub(1);
            if entry.remaining == 0 {
                let entry = self.entries.swap_remove(lane);
                let digest = self.states[lane].digest();
                self.free(lane);
                finished(entry.tag, digest);
            }
        }
    }

    /// Ends the computations whose tags are `unwanted` without a result, and calls `cancelled` with their tags.
    pub fn cancel(&mut self, unwanted: impl Fn(&T) -> bool, mut cancelled: impl FnMut(T)) {
        for lane in (0..self.entries.len()).rev() {
            if unwanted(&self.entries[lane].tag) {
                self.free(lane);
                cancelled(self.entries.swap_remove(lane).tag);
            }
        }
    }

    /// Frees a lane. The last state moves to its place and is wiped in its old one.
    fn free(&mut self, lane: usize) {
        let last = self.states.len() - 1;
        self.states.swap(lane, last);
        self.states.truncate(last);
    }
}

/// Shows how many lanes are busy.
impl<T> std::fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes")
            .field("busy", &self.busy())
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// Halves of an iteration.
#[derive(Clone, Copy)]
enum Half {
    Key,
    Salt,
}

/// Runs half an iteration of all states with the code that was compiled for their number.
fn expand(states: &mut [State], half: Half) {
    fn exactly<const N: usize>(states: &mut [State], half: Half) {
        match (states.try_into(), half) {
            (Ok(states), Half::Key) => expand_key::<N>(states),
            (Ok(states), Half::Salt) => expand_salt::<N>(states),
            (Err(_), _) => {}
        }
    }
    match states.len() {
        1 => exactly::<1>(states, half),
        2 => exactly::<2>(states, half),
        3 => exactly::<3>(states, half),
        4 => exactly::<4>(states, half),
        5 => exactly::<5>(states, half),
        6 => exactly::<6>(states, half),
        7 => exactly::<7>(states, half),
        8 => exactly::<8>(states, half),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_computation_frees_its_lane_and_leaves_the_others_alone() {
        let computation =
            |byte: u8, iterations| Computation::with_iterations(&[byte], [byte; 16], iterations);
        let mut lanes = Lanes::new(3);
        for byte in 1..=3 {
            assert_eq!(lanes.start(&computation(byte, 16), byte), Ok(()));
        }
        assert_eq!(lanes.start(&computation(4, 16), 4), Err(4));
        lanes.iterate(|_, _| panic!("too early"));
        let mut cancelled = Vec::new();
        lanes.cancel(|byte| *byte == 1, |byte| cancelled.push(byte));
        assert_eq!(
            (cancelled, lanes.busy(), lanes.has_free_lane()),
            (vec![1], 2, true)
        );
        let mut done = Vec::new();
        for _ in 0..15 {
            lanes.iterate(|byte, digest| done.push((byte, digest)));
        }
        done.sort_unstable();
        let right = |byte: u8| (byte, bcrypt::bcrypt(4, [byte; 16], &[byte, 0]));
        assert_eq!(done, [right(2), right(3)]);
    }

    #[test]
    fn debug_output_shows_no_password() {
        let computation = Computation::with_cost(b"correct horse", [7; 16], 4);
        let shown = format!("{computation:?}");
        assert_eq!(shown, "Computation { iterations: 16, .. }");
    }
}
