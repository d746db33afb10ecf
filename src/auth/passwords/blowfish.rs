//! Blowfish as bcrypt uses it, on several states in step.
//!
//! A round of Blowfish waits for four loads whose addresses the round before has just computed: one state alone leaves most
//! of a core idle. [`mix_password`] and [`mix_salt`] advance `N` independent states together, one round of each at a time, so
//! that the core always has loads of the others to work on. `N` is a constant of the compiled code: the loops over it are unrolled, and every
//! state's words stay in registers.
//!
//! Nothing here decides anything by the data but where it loads from, as with every bcrypt.

use zeroize::Zeroize;

use super::pi;

/// Rounds come in pairs; a block takes eight, and two more subkeys.
const PAIRS: usize = 8;

/// Half a block each.
type Block = (u32, u32);

/// The subkeys and boxes of one computation: 4 KiB that depend on the password.
#[derive(Clone)]
pub(super) struct State {
    subkeys: [u32; 18],
    boxes: [[u32; 256]; 4],
    /// The password, repeated to the length of the subkeys.
    key: [u32; 18],
    /// The salt, in words.
    salt: [u32; 4],
}

impl State {
    /// A state into which password and salt have been mixed once. `key` ends with a zero byte and has at most 72 bytes.
    pub(super) fn new(key: &[u8], salt: [u8; 16]) -> Self {
        let mut state = Self {
            subkeys: pi::SUBKEYS,
            boxes: pi::BOXES,
            key: cycled(key),
            salt: cycled(&salt),
        };
        for (subkey, word) in state.subkeys.iter_mut().zip(state.key) {
            *subkey ^= word;
        }
        let (mut block, mut half) = ((0, 0), 0);
        for at in 0..9 + 4 * 128 {
            block.0 ^= state.salt[half];
            block.1 ^= state.salt[half + 1];
            half ^= 2;
            block = state.encrypt(block);
            state.put(at, block);
        }
        state
    }

    /// What bcrypt answers when all mixing is done: the well-known text, encrypted 64 times.
    pub(super) fn digest(&self) -> [u8; 24] {
        let mut digest = *b"OrpheanBeholderScryDoubt";
        for part in digest.as_chunks_mut::<8>().0 {
            let whole = u64::from_be_bytes(*part);
            let mut block = halves(whole);
            for _ in 0..64 {
                block = self.encrypt(block);
            }
            *part = (u64::from(block.0) << 32 | u64::from(block.1)).to_be_bytes();
        }
        digest
    }

    fn encrypt(&self, block: Block) -> Block {
        let [block] = encrypt([self], [block]);
        block
    }

    /// Replaces the pair of words number `at`: first the subkeys, then the boxes.
    #[inline]
    fn put(&mut self, at: usize, (left, right): Block) {
        if at < 9 {
            self.subkeys[2 * at] = left;
            self.subkeys[2 * at + 1] = right;
        } else {
            let at = 2 * (at - 9);
            let words = &mut self.boxes[at / 256];
            words[at % 256] = left;
            words[at % 256 + 1] = right;
        }
    }

    #[inline]
    fn substitute(&self, word: u32) -> u32 {
        let [a, b, c, d] = word.to_be_bytes();
        let boxes = &self.boxes;
        (boxes[0][usize::from(a)].wrapping_add(boxes[1][usize::from(b)]) ^ boxes[2][usize::from(c)])
            .wrapping_add(boxes[3][usize::from(d)])
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.subkeys.zeroize();
        self.boxes.zeroize();
        self.key.zeroize();
    }
}

/// The first half of one of bcrypt's `2^cost` turns, for `N` states in step: the password is mixed in.
pub(super) fn mix_password<const N: usize>(states: &mut [State; N]) {
    for state in states.iter_mut() {
        for (subkey, word) in state.subkeys.iter_mut().zip(state.key) {
            *subkey ^= word;
        }
    }
    replace(states);
}

/// The second half: the salt is mixed in.
pub(super) fn mix_salt<const N: usize>(states: &mut [State; N]) {
    for state in states.iter_mut() {
        for (at, subkey) in state.subkeys.iter_mut().enumerate() {
            *subkey ^= state.salt[at % 4];
        }
    }
    replace(states);
}

/// Replaces all words of each state by what it encrypts them to, one after the other.
fn replace<const N: usize>(states: &mut [State; N]) {
    let mut blocks = [(0, 0); N];
    for at in 0..9 + 4 * 128 {
        blocks = encrypt(states.each_ref(), blocks);
        for (state, block) in states.iter_mut().zip(blocks) {
            state.put(at, block);
        }
    }
}

/// Encrypts a block by each state, in step.
#[inline]
fn encrypt<const N: usize>(states: [&State; N], mut blocks: [Block; N]) -> [Block; N] {
    for pair in 0..PAIRS {
        for (state, (left, right)) in states.iter().zip(&mut blocks) {
            *left ^= state.subkeys[2 * pair];
            *right ^= state.substitute(*left);
        }
        for (state, (left, right)) in states.iter().zip(&mut blocks) {
            *right ^= state.subkeys[2 * pair + 1];
            *left ^= state.substitute(*right);
        }
    }
    for (state, (left, right)) in states.iter().zip(&mut blocks) {
        (*left, *right) = (*right ^ state.subkeys[17], *left ^ state.subkeys[16]);
    }
    blocks
}

/// Bytes in words, from the start again where they end.
fn cycled<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut bytes = bytes.iter().cycle();
    std::array::from_fn(|_| {
        bytes
            .by_ref()
            .take(4)
            .fold(0, |word, byte| word << 8 | u32::from(*byte))
    })
}

#[expect(clippy::cast_possible_truncation, reason = "it is what halving means")]
fn halves(whole: u64) -> Block {
    ((whole >> 32) as u32, whole as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// π by Machin's formula, π/4 = 4 arctan(1/5) − arctan(1/239), in words after the point.
    fn digits_of_pi(words: usize) -> Vec<u32> {
        // Some words more than are asked for, where the sums are not exact.
        let len = words + 3;
        let divide = |number: &mut [u32], by: u32| {
            let mut rest = 0_u64;
            for word in number {
                let part = rest << 32 | u64::from(*word);
                *word = u32::try_from(part / u64::from(by)).unwrap();
                rest = part % u64::from(by);
            }
        };
        let add = |sum: &mut [u32], number: &[u32], negative: bool| {
            let mut carry = i64::from(negative);
            for (word, other) in sum.iter_mut().zip(number).rev() {
                let other = if negative { !other } else { *other };
                carry += i64::from(*word) + i64::from(other);
                *word = halves(carry.cast_unsigned()).1;
                carry >>= 32;
            }
        };
        let mut sum = vec![0; len];
        for (of, factor, sign) in [(5_u32, 16, false), (239, 4, true)] {
            let mut power = vec![0; len];
            power[0] = factor;
            divide(&mut power, of);
            for (number, odd) in (1..).step_by(2).enumerate() {
                let mut term = power.clone();
                divide(&mut term, odd);
                add(&mut sum, &term, sign != (number % 2 == 1));
                divide(&mut power, of * of);
                if power.iter().all(|word| *word == 0) {
                    break;
                }
            }
        }
        assert_eq!(sum[0], 3);
        sum[1..=words].to_vec()
    }

    #[test]
    fn the_first_words_are_the_digits_of_pi() {
        let ours: Vec<_> = pi::SUBKEYS
            .iter()
            .chain(pi::BOXES.as_flattened())
            .copied()
            .collect();
        assert_eq!(ours, digits_of_pi(18 + 1024));
    }

    #[test]
    fn states_in_step_do_not_mix() {
        let state = |byte: u8| State::new(&[byte, 0], [byte; 16]);
        let mut together = [state(1), state(2), state(3)];
        mix_password(&mut together);
        mix_salt(&mut together);
        for (byte, together) in (1..).zip(&together) {
            let mut alone = [state(byte)];
            mix_password(&mut alone);
            mix_salt(&mut alone);
            assert_eq!(alone[0].digest(), together.digest());
        }
    }
}
