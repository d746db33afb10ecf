//! Texts that are nearly a valid token. Each token has exactly one encoding; every other text must be refused.

use portcullis::auth::tokens::MAX_TOKEN_BYTES;
use serde_json::json;

use crate::harness::mint::{Desk, with};

/// Other texts that a lenient decoder would read as the same token: a denylist of whole tokens would not contain them.
#[test]
fn t14_t16_a_token_has_exactly_one_spelling() {
    let desk = Desk::open();
    let parts: Vec<_> = desk.token.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("three parts")
    };
    let mut forged = Vec::new();
    for space in [
        " ", "\t", "\n", "\r\n", "\0", "=", "==", ".", "%", "\u{a0}", "\u{feff}",
    ] {
        forged.push(format!("{space}{}", desk.token));
        forged.push(format!("{}{space}", desk.token));
        forged.push(format!("{header}{space}.{claims}.{signature}"));
        forged.push(format!("{header}.{space}{claims}.{signature}"));
        forged.push(format!("{header}.{claims}{space}.{signature}"));
        forged.push(format!("{header}.{claims}.{space}{signature}"));
    }
    // The unused bits of the last character.
    for (index, part) in parts.iter().enumerate() {
        for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/".chars() {
            let mut other: Vec<_> = parts.iter().map(|&part| part.to_owned()).collect();
            other[index] = format!("{}{last}", &part[..part.len() - 1]);
            if other[index] != *part {
                forged.push(other.join("."));
            }
        }
    }
    forged.extend([
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        header.to_owned(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{}.", desk.token),
        format!("{}.{signature}", desk.token),
        format!("{}.a.b", desk.token),
        format!("{claims}.{header}.{signature}"),
        format!("{header}.{signature}.{claims}"),
        format!("{header}.{header}.{signature}"),
        desk.token.replace('.', ","),
        desk.token.replace('.', "%2e"),
        desk.token.to_uppercase(),
        desk.token.to_lowercase(),
        json!({"protected": header, "payload": claims, "signature": signature}).to_string(),
    ]);
    desk.refuses_all("other spellings of a token", &forged);
}

#[test]
fn t15_t16_no_change_of_a_byte_and_no_piece_of_a_token_is_accepted() {
    let desk = Desk::open();
    let (token, length) = (&desk.token, desk.token.len());
    let mut forged = Vec::new();
    for at in 0..length {
        let (before, rest) = token.split_at(at);
        let (here, behind) = rest.split_at(1);
        let others = (0..=0x7f_u8)
            .map(char::from)
            .filter(|&c| !here.starts_with(c));
        forged.extend(others.map(|other| format!("{before}{other}{behind}")));
        // A prefix, a suffix, one byte too few, one too many.
        forged.push(before.to_owned());
        forged.push(behind.to_owned());
        forged.push(format!("{before}{behind}"));
        forged.push(format!("{before}{here}{here}{behind}"));
    }
    desk.refuses_all("changed bytes and pieces of a token", &forged);
}

#[test]
fn b14_a_token_of_more_than_4_kib_is_not_even_read() {
    let desk = Desk::open();
    let (mut accepted, mut refused) = (0, 0);
    for padding in (2_000..3_500).chain([10_000, 100_000, 1_000_000]) {
        let token = desk.claiming(&with(&desk.claims, "padding", "x".repeat(padding)));
        assert_eq!(
            desk.accepts(&token),
            token.len() <= MAX_TOKEN_BYTES,
            "{}",
            token.len()
        );
        *(if token.len() <= MAX_TOKEN_BYTES {
            &mut accepted
        } else {
            &mut refused
        }) += 1;
    }
    assert!(accepted > 300 && refused > 300, "{accepted} {refused}");
}
