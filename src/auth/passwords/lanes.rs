//! Lanes: several bcrypt computations in step on one core.
//!
//! Each lane has its own password, salt and number of turns. [`Lanes::turn`] advances all of them by one turn; a lane that
//! has finished makes room for the next computation at once, while the others go on. How many lanes pay is a matter of the
//! core: see [`DEFAULT_LANES`].

use zeroize::Zeroizing;

use super::blowfish::{State, mix_password, mix_salt};

/// The most lanes that there is code for.
pub const MOST_LANES: usize = 8;

/// Lanes of a thread unless the settings say otherwise, chosen by `cargo bench --bench lanes`. With one to three a core still
/// waits for memory and one hash takes no longer than alone; the fifth is the last that gains, and lengthens it by a fifth.
/// Beyond that all only take longer.
pub const DEFAULT_LANES: usize = 5;

/// bcrypt takes so many bytes of a password and its closing zero.
const MOST_BYTES: usize = 72;

/// One bcrypt computation before it begins.
pub struct Computation {
    key: Zeroizing<Vec<u8>>,
    salt: [u8; 16],
    turns: u64,
}

impl Computation {
    /// Of a password as bcrypt takes it: closed by a zero byte, at most 72 bytes with it. It takes `turns` turns, 2^cost of
    /// them for a hash.
    #[must_use]
    pub fn new(password: &[u8], salt: [u8; 16], turns: u64) -> Self {
        let mut key = Zeroizing::new(Vec::with_capacity(MOST_BYTES));
        key.extend(password.iter().chain(&[0]).take(MOST_BYTES));
        Self { key, salt, turns }
    }
}

/// Computations under way, each with what the caller wants to know it by.
pub struct Lanes<T> {
    /// One for each in `labels`, side by side: what runs in step must lie in one slice.
    states: Vec<State>,
    labels: Vec<Label<T>>,
    most: usize,
}

struct Label<T> {
    of: T,
    left: u64,
}

impl<T> Lanes<T> {
    /// So many lanes, from 1 to [`MOST_LANES`], all of them free.
    #[must_use]
    pub fn new(lanes: usize) -> Self {
        let most = lanes.clamp(1, MOST_LANES);
        // Never more: a vector that moved would leave copies of its states behind.
        Self {
            states: Vec::with_capacity(most),
            labels: Vec::with_capacity(most),
            most,
        }
    }

    /// How many lanes are busy.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is a free lane.
    #[must_use]
    pub fn have_room(&self) -> bool {
        self.busy() < self.most
    }

    /// Begins a computation. Ask for room before: without any it is handed back.
    ///
    /// # Errors
    /// What was handed in, where no lane is free.
    pub fn begin(&mut self, computation: &Computation, of: T) -> Result<(), T> {
        if !self.have_room() {
            return Err(of);
        }
        self.states
            .push(State::new(&computation.key, computation.salt));
        self.labels.push(Label {
            of,
            left: computation.turns,
        });
        Ok(())
    }

    /// Advances all lanes by one turn. Calls `finished` with each digest that is ready.
    pub fn turn(&mut self, finished: impl FnMut(T, [u8; 24])) {
        self.turn_with_a_rest(|| (), finished);
    }

    /// The same, with a rest in the middle, some tens of microseconds after the beginning.
    pub fn turn_with_a_rest(&mut self, rest: impl FnOnce(), mut finished: impl FnMut(T, [u8; 24])) {
        in_step(&mut self.states, Half::Password);
        rest();
        in_step(&mut self.states, Half::Salt);
        for lane in (0..self.labels.len()).rev() {
            let label = &mut self.labels[lane];
            label.left = label.left.saturating_sub(1);
            if label.left == 0 {
                let label = self.labels.swap_remove(lane);
                let digest = self.states[lane].digest();
                self.free(lane);
                finished(label.of, digest);
            }
        }
    }

    /// Gives up the computations that nobody waits for any longer. Calls `given_up` with each.
    pub fn give_up(&mut self, unwanted: impl Fn(&T) -> bool, mut given_up: impl FnMut(T)) {
        for lane in (0..self.labels.len()).rev() {
            if unwanted(&self.labels[lane].of) {
                self.free(lane);
                given_up(self.labels.swap_remove(lane).of);
            }
        }
    }

    /// Frees a lane. The last one moves to its place, and is wiped where it was.
    fn free(&mut self, lane: usize) {
        let last = self.states.len() - 1;
        self.states.swap(lane, last);
        self.states.truncate(last);
    }
}

/// The halves of a turn.
#[derive(Clone, Copy)]
enum Half {
    Password,
    Salt,
}

/// Half a turn of all states; there is code for each number of them.
fn in_step(states: &mut [State], half: Half) {
    /// Where there are just so many.
    fn just<const N: usize>(states: &mut [State], half: Half) {
        match (states.try_into(), half) {
            (Ok(states), Half::Password) => mix_password::<N>(states),
            (Ok(states), Half::Salt) => mix_salt::<N>(states),
            (Err(_), _) => {}
        }
    }
    match states.len() {
        1 => just::<1>(states, half),
        2 => just::<2>(states, half),
        3 => just::<3>(states, half),
        4 => just::<4>(states, half),
        5 => just::<5>(states, half),
        6 => just::<6>(states, half),
        7 => just::<7>(states, half),
        8 => just::<8>(states, half),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_computation_that_is_given_up_makes_room_and_leaves_the_others_alone() {
        let computation = |byte: u8, turns| Computation::new(&[byte], [byte; 16], turns);
        let mut lanes = Lanes::new(3);
        for byte in 1..=3 {
            lanes.begin(&computation(byte, 16), byte).unwrap();
        }
        assert_eq!(lanes.begin(&computation(4, 16), 4), Err(4));
        lanes.turn(|_, _| panic!("too early"));
        let mut given_up = Vec::new();
        lanes.give_up(|byte| *byte == 1, |byte| given_up.push(byte));
        assert_eq!(
            (given_up, lanes.busy(), lanes.have_room()),
            (vec![1], 2, true)
        );
        let mut done = Vec::new();
        for _ in 0..15 {
            lanes.turn(|byte, digest| done.push((byte, digest)));
        }
        done.sort_unstable();
        let right = |byte: u8| (byte, bcrypt::bcrypt(4, [byte; 16], &[byte, 0]));
        assert_eq!(done, [right(2), right(3)]);
    }
}
