//! Fuzz targets, fed with their committed corpora and with mutations of them. `make fuzz` looks for more.

pub mod targets;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::targets::TARGETS;
use crate::harness::tools::repository;
use crate::harness::{Dice, report_zero, rounds};

#[test]
fn hash_strings_of_any_form_are_taken_or_refused_as_by_the_crate_bcrypt() {
    feed("hashes");
}

#[test]
fn no_bytes_are_a_token_without_the_key() {
    feed("tokens");
}

#[test]
fn whatever_stands_in_redis_is_taken_or_refused() {
    feed("records");
}

#[test]
fn settings_of_any_value_are_taken_or_refused() {
    feed("settings");
}

#[test]
fn requests_of_any_bytes_are_answered_well_or_not_at_all() {
    feed("requests");
}

#[test]
fn every_target_has_a_corpus_and_a_guided_program() {
    for (name, _) in TARGETS {
        assert!(corpus(name).len() >= 3, "{name}");
        let program = repository("tests/fuzz/guided/src/bin").join(format!("{name}.rs"));
        assert!(program.exists(), "{}", program.display());
    }
}

/// Feeds a target with its corpus, and for some seconds with mutations of it.
fn feed(name: &str) {
    let (_, target) = TARGETS.iter().find(|(it, _)| *it == name).unwrap();
    let corpus = corpus(name);
    for input in &corpus {
        target(input);
    }
    let mut dice = Dice::new();
    let (mut fed, seconds) = (corpus.len(), rounds(3, 60));
    let until = Instant::now() + Duration::from_secs(seconds as u64);
    while Instant::now() < until {
        let input = changed(&corpus, &mut dice);
        target(&input);
        fed += 1;
    }
    report_zero(&format!("inputs that {name} does not stand"), fed);
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder: PathBuf = repository("tests/fuzz/corpus").join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|_| panic!("{}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// Mutates an input: bytes are replaced, removed, repeated, or taken from another input.
fn changed(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut input = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(4) {
        if input.is_empty() {
            input.push(b'{');
        }
        let at = dice.below(input.len());
        let until = (at + 1 + dice.below(8)).min(input.len());
        match dice.below(6) {
            0 => input[at] ^= 1 << dice.below(8),
            1 => input[at] = u8::try_from(dice.below(256)).unwrap(),
            2 => drop(input.drain(at..until)),
            3 => {
                let piece = input[at..until].to_vec();
                input.splice(at..at, piece);
            }
            4 => input[at] = b"\0\r\n \"{}[]:,$.=-/%&;"[dice.below(19)],
            _ => {
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len().max(1)).min(other.len());
                input.truncate(at);
                input.extend(&other[from..]);
            }
        }
    }
    input
}
