//! `portcullis keys`: the steps of a key rotation, in the folder `JWT_KEYS_DIR`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::{BAD_SETTINGS, fail, print};
use crate::auth::keyring::KeyKind;
use crate::auth::keyring::rotation::{activate, generate, list, retire, stage};
use crate::domain::Clock;

/// The present keys do not permit the command.
const REFUSED: u8 = 1;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Generate the first key, which signs at once
    Generate {
        /// Algorithm of the key
        #[arg(long, value_enum, default_value_t = Algorithm::Ed25519)]
        algorithm: Algorithm,
    },
    /// List the keys: file, state, algorithm, kid
    List,
    /// Generate the next key: it is published, and does not sign yet
    Stage {
        /// Algorithm of the key
        #[arg(long, value_enum, default_value_t = Algorithm::Ed25519)]
        algorithm: Algorithm,
    },
    /// Let the next key sign; the current one goes on verifying
    Activate,
    /// Remove a key that does not sign, by its file or kid: tokens that it signed are refused from then on
    Retire { key: String },
}

/// Algorithms of keys that can be generated.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Algorithm {
    /// EdDSA: small and fast
    Ed25519,
    /// ES256: for verifiers without Ed25519
    P256,
    /// RS256 with 3072 bits: supported everywhere, slow to sign
    Rsa,
}

impl From<Algorithm> for KeyKind {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Ed25519 => Self::Ed25519,
            Algorithm::P256 => Self::P256,
            Algorithm::Rsa => Self::Rsa,
        }
    }
}

/// Runs one of the commands.
pub(super) fn run(command: &KeysCommand, folder: Option<PathBuf>) -> ExitCode {
    let Some(folder) = folder else {
        return fail(
            BAD_SETTINGS,
            "JWT_KEYS_DIR: must be set to the folder of the keys",
        );
    };
    let now = Clock::machine().now();
    let done = match command {
        KeysCommand::Generate { algorithm } => generate(&folder, (*algorithm).into(), now)
            .map(|name| format!("{name} signs\n")),
        KeysCommand::Stage { algorithm } => stage(&folder, (*algorithm).into(), now).map(|name| {
            format!(
                "{name} is published; when all replicas and verifiers have read it (minutes), let it sign: portcullis keys activate\n"
            )
        }),
        KeysCommand::Activate => activate(&folder, now).map(|(_, name)| {
            format!(
                "{name} signs; after one token lifetime, remove the former key: portcullis keys retire\n"
            )
        }),
        KeysCommand::Retire { key } => {
            retire(&folder, key).map(|name| format!("{name} is removed\n"))
        }
        KeysCommand::List => list(&folder).map(|keys| {
            keys.iter().fold(String::new(), |mut lines, key| {
                let (name, state) = (&key.name, key.state.name());
                // Writing to a text cannot fail.
                let _ = writeln!(lines, "{name}  {state}  {}  {}", key.algorithm, key.kid);
                lines
            })
        }),
    };
    match done {
        Ok(said) => print(&said),
        Err(why) => fail(REFUSED, &why),
    }
}
