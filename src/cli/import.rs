//! `portcullis user import`: imports accounts from another program, with the bcrypt hashes of their passwords.
//!
//! An import that was stopped can be run again: accounts already imported from the same line are skipped.

use std::io::{BufRead, BufReader, stdin};
use std::path::PathBuf;
use std::process::ExitCode;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde::Deserialize;

use super::user::{REFUSED, audit, failed};
use super::{fail, print};
use crate::auth::ServiceError;
use crate::auth::administration::Administration;
use crate::domain::{Clock, PasswordHash, Role, UserId, Username};
use crate::store::{NewUser, Registered};
use crate::telemetry::{Act, say};

/// Accounts in one round trip to Redis; larger batches would delay other commands.
const BATCH: usize = 100;
/// Number of lines between two progress reports.
const PROGRESS_EVERY: usize = 10_000;
/// Number of times that a batch is sent before the import stops. Accounts that reached Redis are skipped the next time.
const MAX_ATTEMPTS: usize = 5;

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
        if number % PROGRESS_EVERY == 0 {
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
            Err(_) if attempt < MAX_ATTEMPTS => attempt += 1,
            outcomes => break outcomes?,
        }
    };
    for ((number, new), outcome) in numbers.into_iter().zip(&new).zip(outcomes) {
        match outcome {
            Registered::Created(..) => {
                counts.imported += 1;
                audit(Act::ImportUser, "done", Some(new.id), &new.username);
            }
            Registered::NameTaken { by_the_same: true } => counts.skipped += 1,
            Registered::NameTaken { by_the_same: false } => {
                counts.refuse(number, "another account has this username");
            }
        }
    }
    Ok(())
}

/// Parses the account of a line. An error repeats nothing of the line, which holds a hash.
fn parse(line: &str) -> Result<NewUser, &'static str> {
    let line: Line = serde_json::from_str(line).map_err(
        |_| "is not a JSON object of username, password_hash and, optionally, roles and disabled",
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
    let unknown = "the password_hash is not a bcrypt hash: $2a$, $2b$ or $2y$";
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
        Ok(_) => Err("the password_hash has a cost that is not between 4 and 15"),
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
