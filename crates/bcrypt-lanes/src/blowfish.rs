//! Blowfish as bcrypt uses it ("Eksblowfish"), on several states in step.
//!
//! A round of Blowfish waits for four loads whose addresses the round before has just computed: one state alone leaves most
//! of a core idle. [`expand_key`] and [`expand_salt`] advance `N` independent states together, one round of each at a time, so
//! that the core always has loads of other states to work on. `N` is a constant of the compiled code: the compiler unrolls the
//! loops over it and keeps the words of every state in registers.
//!
//! No branch depends on a password; addresses of loads do, as in every bcrypt.

use zeroize::Zeroize;

use crate::blowfish_tables::{P_ARRAY, S_BOXES};

/// Number of pairs of rounds for one block.
const PAIRS: usize = 8;

/// Left and right half of a block of 64 bits.
type Block = (u32, u32);

/// Key-dependent state of one computation: 4 KiB. It is wiped when it is dropped.
#[derive(Clone)]
pub(crate) struct State {
    p_array: [u32; 18],
    s_boxes: [[u32; 256]; 4],
    /// Password, repeated to the length of the P-array.
    key: [u32; 18],
    /// Salt, in words.
    salt: [u32; 4],
}

impl State {
    /// State after the first key schedule with password and salt (`EksBlowfishSetup` without its loop). `key` ends with a zero
    /// byte and has at most 72 bytes.
    pub(crate) fn new(key: &[u8], salt: [u8; 16]) -> Self {
        let mut state = Self {
            p_array: P_ARRAY,
            s_boxes: S_BOXES,
            key: cyclic_words(key),
            salt: cyclic_words(&salt),
        };
        for (subkey, word) in state.p_array.iter_mut().zip(state.key) {
            *subkey ^= word;
        }
        let (mut block, mut half) = ((0, 0), 0);
        for at in 0..9 + 4 * 128 {
            block.0 ^= state.salt[half];
            block.1 ^= state.salt[half + 1];
            half ^= 2;
            block = state.encrypt(block);
            state.set_pair(at, block);
        }
        state
    }

    /// Digest of bcrypt once all iterations are done: a constant text, encrypted 64 times.
    pub(crate) fn digest(&self) -> [u8; 24] {
        let mut digest = *b"OrpheanBeholderScryDoubt";
        for part in digest.as_chunks_mut::<8>().0 {
            let whole = u64::from_be_bytes(*part);
            let mut block = split(whole);
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

    /// Replaces a pair of words. Pairs count through the P-array first and the S-boxes then.
    #[inline]
    fn set_pair(&mut self, at: usize, (left, right): Block) {
        if at < 9 {
            self.p_array[2 * at] = left;
            self.p_array[2 * at + 1] = right;
        } else {
            let at = 2 * (at - 9);
            let words = &mut self.s_boxes[at / 256];
            words[at % 256] = left;
            words[at % 256 + 1] = right;
        }
    }

    #[inline]
    fn round_function(&self, word: u32) -> u32 {
        let [a, b, c, d] = word.to_be_bytes();
        let s_boxes = &self.s_boxes;
        (s_boxes[0][usize::from(a)].wrapping_add(s_boxes[1][usize::from(b)])
            ^ s_boxes[2][usize::from(c)])
        .wrapping_add(s_boxes[3][usize::from(d)])
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.p_array.zeroize();
        self.s_boxes.zeroize();
        self.key.zeroize();
    }
}

/// First half of one of bcrypt's `2^cost` iterations, for `N` states in step: a key schedule with the password.
pub(crate) fn expand_key<const N: usize>(states: &mut [State; N]) {
    for state in states.iter_mut() {
        for (subkey, word) in state.p_array.iter_mut().zip(state.key) {
            *subkey ^= word;
        }
    }
    rekey(states);
}

/// Second half of an iteration: a key schedule with the salt.
pub(crate) fn expand_salt<const N: usize>(states: &mut [State; N]) {
    for state in states.iter_mut() {
        for (at, subkey) in state.p_array.iter_mut().enumerate() {
            *subkey ^= state.salt[at % 4];
        }
    }
    rekey(states);
}

/// Replaces all words of each state, pair after pair, by the encryption of the pair before.
fn rekey<const N: usize>(states: &mut [State; N]) {
    let mut blocks = [(0, 0); N];
    for at in 0..9 + 4 * 128 {
        blocks = encrypt(states.each_ref(), blocks);
        for (state, block) in states.iter_mut().zip(blocks) {
            state.set_pair(at, block);
        }
    }
}

/// Encrypts one block with each state, in step.
#[inline]
fn encrypt<const N: usize>(states: [&State; N], mut blocks: [Block; N]) -> [Block; N] {
    for pair in 0..PAIRS {
        for (state, (left, right)) in states.iter().zip(&mut blocks) {
            *left ^= state.p_array[2 * pair];
            *right ^= state.round_function(*left);
        }
        for (state, (left, right)) in states.iter().zip(&mut blocks) {
            *right ^= state.p_array[2 * pair + 1];
            *left ^= state.round_function(*right);
        }
    }
    for (state, (left, right)) in states.iter().zip(&mut blocks) {
        (*left, *right) = (*right ^ state.p_array[17], *left ^ state.p_array[16]);
    }
    blocks
}

/// Big-endian words of a sequence of bytes that is repeated without end.
fn cyclic_words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut bytes = bytes.iter().cycle();
    std::array::from_fn(|_| {
        bytes
            .by_ref()
            .take(4)
            .fold(0, |word, byte| word << 8 | u32::from(*byte))
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves are what is wanted"
)]
fn split(whole: u64) -> Block {
    ((whole >> 32) as u32, whole as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// π by Machin's formula, π/4 = 4 arctan(1/5) − arctan(1/239), in words after the point.
    fn digits_of_pi(words: usize) -> Vec<u32> {
        // Some more words than `words`, because the last words of the sums are not exact.
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
                *word = split(carry.cast_unsigned()).1;
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
        let ours: Vec<_> = P_ARRAY
            .iter()
            .chain(S_BOXES.as_flattened())
            .copied()
            .collect();
        assert_eq!(ours, digits_of_pi(18 + 1024));
    }

    #[test]
    fn states_in_step_do_not_mix() {
        let state = |byte: u8| State::new(&[byte, 0], [byte; 16]);
        let mut together = [state(1), state(2), state(3)];
        expand_key(&mut together);
        expand_salt(&mut together);
        for (byte, together) in (1..).zip(&together) {
            let mut alone = [state(byte)];
            expand_key(&mut alone);
            expand_salt(&mut alone);
            assert_eq!(alone[0].digest(), together.digest());
        }
    }
}
