//! `portcullis user import`: brings accounts over from another program, with the bcrypt hashes of their passwords.
//!
//! It can be run again after it was stopped: what is there already from the same line is skipped.

use std::io::{BufRead, BufReader, stdin};
use std::path::PathBuf;
use std::process::ExitCode;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde::Deserialize;

use super::user::{REFUSED, failed, note};
use super::{fail, print};
use crate::auth::ServiceError;
use crate::auth::administration::Administration;
use crate::domain::{Clock, PasswordHash, Role, UserId, Username};
use crate::store::{NewUser, Registered};
use crate::telemetry::{Act, say};

/// Accounts that go to Redis in one round trip: more than that and others would wait.
const BATCH: usize = 100;
/// How often progress is told, in lines.
const TOLD: usize = 10_000;
/// How often a batch is sent before the import stops. What has reached Redis is skipped the next time.
const ATTEMPTS: usize = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    username: String,
    password_hash: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    disabled: bool,
}

#[derive(Default)]
struct Counts {
    imported: usize,
    skipped: usize,
    refused: usize,
}

pub(super) async fn run(administration: &Administration, file: Option<PathBuf>) -> ExitCode {
    let lines: Box<dyn BufRead> = match file {
        None => Box::new(stdin().lock()),
        Some(file) => match std::fs::File::open(&file) {
            Ok(open) => Box::new(BufReader::new(open)),
            Err(error) => return fail(REFUSED, &format!("{}: {error}", file.display())),
        },
    };
    let (clock, mut counts, mut batch) = (Clock::machine(), Counts::default(), Vec::new());
    let begun = clock.uptime();
    let mut number = 0;
    for line in lines.lines() {
        number += 1;
        match line
            .map_err(|_| "is not text in UTF-8")
            .and_then(|line| parse(&line))
        {
            Ok(new) => batch.push((number, new)),
            Err(why) => counts.refuse(number, why),
        }
        if batch.len() == BATCH
            && let Err(failure) = send(administration, &mut batch, &mut counts).await
        {
            return failed(&failure);
        }
        if number % TOLD == 0 {
            say(format!("{number} lines: {counts}\n"));
        }
    }
    if let Err(failure) = send(administration, &mut batch, &mut counts).await {
        return failed(&failure);
    }
    let took = clock.uptime().since(begun);
    let rate = number as u128 * 1000 / took.as_millis().max(1);
    let printed = print(&format!("{number} lines: {counts}; {rate} a second\n"));
    if counts.refused == 0 {
        printed
    } else {
        ExitCode::from(REFUSED)
    }
}

async fn send(
    administration: &Administration,
    batch: &mut Vec<(usize, NewUser)>,
    counts: &mut Counts,
) -> Result<(), ServiceError> {
    let (numbers, new): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
    let mut attempt = 1;
    let outcomes = loop {
        match administration.create(&new).await {
            Err(_) if attempt < ATTEMPTS => attempt += 1,
            outcomes => break outcomes?,
        }
    };
    for ((number, new), outcome) in numbers.into_iter().zip(&new).zip(outcomes) {
        match outcome {
            Registered::Created(..) => {
                counts.imported += 1;
                note(Act::ImportUser, "done", Some(new.id), &new.username);
            }
            Registered::NameTaken { by_the_same: true } => counts.skipped += 1,
            Registered::NameTaken { by_the_same: false } => {
                counts.refuse(number, "somebody else has this username");
            }
        }
    }
    Ok(())
}

/// The account that a line describes, or why it describes none. Nothing of the line is repeated: it holds a hash.
fn parse(line: &str) -> Result<NewUser, &'static str> {
    let line: Line = serde_json::from_str(line).map_err(
        |_| "is not a JSON object of username, password_hash and, where wanted, roles and disabled",
    )?;
    let username: Username = line
        .username
        .parse()
        .map_err(|_| "the username breaks a rule")?;
    let password = parse_hash(&line.password_hash)?;
    let roles = line.roles.iter().map(|role| role.parse());
    let roles: Vec<Role> = roles
        .collect::<Result<_, _>>()
        .map_err(|_| "a role breaks a rule")?;
    let same = format!(
        "{username}\n{password}\n{}\n{}",
        line.roles.join(","),
        line.disabled
    );
    let same = digest(&SHA256, same.as_bytes());
    Ok(NewUser {
        id: UserId::new(),
        username,
        password,
        roles,
        disabled: line.disabled,
        imported: Some(BASE64_STANDARD_NO_PAD.encode(same.as_ref())),
    })
}

fn parse_hash(text: &str) -> Result<PasswordHash, &'static str> {
    let unknown = "the password_hash is not one of bcrypt: $2a$, $2b$ or $2y$";
    if !text.starts_with('$') {
        return Err(unknown);
    }
    let hash: PasswordHash = text.parse().map_err(|_| unknown)?;
    let (cost, digits) = (
        text.get(4..6).ok_or(unknown)?,
        text.get(7..).ok_or(unknown)?,
    );
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
    if text.as_bytes().get(6) != Some(&b'$') || !digits.bytes().all(alphabet) {
        return Err(unknown);
    }
    match cost.parse::<u32>() {
        Ok(4..=15) => Ok(hash),
        Ok(_) => Err("the password_hash has a cost that is not within 4 and 15"),
        Err(_) => Err(unknown),
    }
}

impl Counts {
    fn refuse(&mut self, number: usize, why: &str) {
        self.refused += 1;
        say(format!("line {number}: {why}\n"));
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            imported,
            skipped,
            refused,
        } = self;
        write!(
            f,
            "{imported} imported, {skipped} there already, {refused} refused"
        )
    }
}
