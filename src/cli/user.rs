//! `portcullis user`: administration of accounts, from a machine that can reach Redis. Its changes give the same guarantee as
//! those of the API: when a command succeeds, the sessions that it ended are refused by every replica.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;
use tracing::info;

use super::{BAD_SETTINGS, NOT_WRITTEN, UNAVAILABLE, fail, import, not_written, print};
use crate::auth::ServiceError;
use crate::auth::administration::{Administration, Authority, Changed};
use crate::auth::passwords::Passwords;
use crate::auth::revocation::Revocations;
use crate::config::{Config, RedisAddress, RedisServer, Secret};
use crate::domain::{AttemptedName, Clock, Guess, Password, Role, UserId, Username};
use crate::store::{Change, Keyspace, NewUser, Redis, Registered, SessionRecord, User, UserCursor};
use crate::telemetry::{AUDIT, Act, Telemetry, print_listing, say};

/// The account does not exist, exists already, or breaks a rule.
pub(super) const REFUSED: u8 = 1;

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Create an account; its password is asked for, or read from standard input
    Create {
        /// Give it the role admin
        #[arg(long)]
        admin: bool,
        name: String,
    },
    /// Show an account
    Show { name: String },
    /// Disable an account and end all of its sessions
    Disable { name: String },
    /// Enable an account that was disabled
    Enable { name: String },
    /// Set all roles of an account; without roles, it has none
    Roles { name: String, roles: Vec<String> },
    /// Delete an account
    Delete { name: String },
    /// List the sessions of an account, one JSON object per line, the newest first; or end all of them
    Sessions {
        name: String,
        /// End them
        #[arg(long)]
        end: bool,
    },
    /// List all accounts, one JSON object per line; an account that changes meanwhile may be listed twice
    List,
    /// Import accounts: lines of JSON {"username", "password_hash", "roles"?, "disabled"?} with bcrypt hashes
    Import {
        /// File with the accounts; standard input if omitted
        file: Option<PathBuf>,
    },
}

/// Runs one of the commands.
pub(super) async fn run(command: UserCommand, config: &Config) -> ExitCode {
    let telemetry = match Telemetry::for_command(&config.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(BAD_SETTINGS, &error),
    };
    let code = match open(config) {
        Ok(administration) => run_at(administration, command, config).await,
        Err(code) => code,
    };
    if telemetry.are_audit_events_kept() {
        return code;
    }
    fail(
        NOT_WRITTEN,
        "AUDIT_LOG: some audit events could not be written; the command was executed all the same",
    )
}

async fn run_at(administration: Administration, command: UserCommand, config: &Config) -> ExitCode {
    let change = |change: Change, act: Act, name: String| {
        let administration = &administration;
        async move { self::change(administration, &name, &change, act).await }
    };
    let switch = |disabled: bool| Change::Set {
        disabled: Some(disabled),
        roles: None,
    };
    match command {
        UserCommand::Create { admin, name } => create(&administration, config, &name, admin).await,
        UserCommand::Show { name } => show(&administration, &name).await,
        UserCommand::Disable { name } => change(switch(true), Act::DisableUser, name).await,
        UserCommand::Enable { name } => change(switch(false), Act::EnableUser, name).await,
        UserCommand::Roles { name, roles } => match roles.iter().map(|role| role.parse()).collect()
        {
            Ok(roles) => {
                let roles = Change::Set {
                    disabled: None,
                    roles: Some(roles),
                };
                change(roles, Act::SetRoles, name).await
            }
            Err(_) => fail(
                REFUSED,
                "a role is at most 32 of a-z, 0-9, - and _, beginning with a letter",
            ),
        },
        UserCommand::Delete { name } => change(Change::Delete, Act::DeleteUser, name).await,
        UserCommand::Sessions { name, end: true } => {
            change(Change::EndSessions, Act::EndUserSessions, name).await
        }
        UserCommand::Sessions { name, end: false } => sessions(&administration, &name).await,
        UserCommand::List => list(&administration).await,
        UserCommand::Import { file } => import::run(&administration, file).await,
    }
}

/// Connects to the Redis of the settings, or to the private one of a running replica with the same `DATA_DIR`.
fn open(config: &Config) -> Result<Administration, ExitCode> {
    let address = match &config.redis.server {
        RedisServer::At(address) => address.clone(),
        RedisServer::Private(folder) => {
            let socket = std::path::absolute(folder).map(|folder| folder.join("redis.sock"));
            match socket {
                Ok(socket) if std::os::unix::net::UnixStream::connect(&socket).is_ok() => {
                    RedisAddress::plain(Secret::new(format!("unix://{}", socket.display())))
                }
                _ => {
                    return Err(fail(
                        UNAVAILABLE,
                        "no replica runs with this DATA_DIR: start one, or set REDIS_URL",
                    ));
                }
            }
        }
    };
    let redis = Redis::new(&address, Keyspace::new(config.redis.prefix.clone()))
        .map_err(|error| fail(UNAVAILABLE, &error.to_string()))?;
    // The feed is not read here: this command only publishes revocations.
    let (revocations, _) = Revocations::new(redis.clone(), config.revocation, Clock::machine());
    Ok(Administration::new(redis, Arc::new(revocations)))
}

async fn create(
    administration: &Administration,
    config: &Config,
    name: &str,
    admin: bool,
) -> ExitCode {
    let Ok(username) = name.parse::<Username>() else {
        return fail(REFUSED, &format!("the username {}", Username::RULE));
    };
    let Ok(password) = ask_password().map(Password::parse) else {
        return fail(REFUSED, "the password cannot be read");
    };
    let Ok(password) = password else {
        return fail(REFUSED, "the password is too long");
    };
    let id = UserId::new();
    let attempt = Guess {
        name: AttemptedName::of(name),
        from: None,
    };
    let created = async {
        let passwords = Passwords::new(&config.passwords)
            .map_err(|_| ServiceError::Internal("no threads for hashing"))?;
        if let Some(rule) = passwords
            .check_policy(attempt, &password, username.as_str())
            .await?
        {
            return Ok(Err(format!("the password {rule}")));
        }
        let new = NewUser {
            id,
            username: username.clone(),
            password: passwords.hash(attempt, &password).await?,
            roles: if admin {
                Role::ADMIN.parse().into_iter().collect()
            } else {
                Vec::new()
            },
            disabled: false,
            imported: None,
        };
        Ok(match administration.create(&[new]).await?.first() {
            Some(Registered::Created(..)) => Ok(()),
            _ => Err("the username is taken".to_owned()),
        })
    };
    match created.await {
        Ok(Ok(())) => {
            audit(Act::CreateUser, "done", Some(id), &username);
            show(administration, name).await
        }
        Ok(Err(why)) => {
            audit(Act::CreateUser, "refused", None, &username);
            fail(REFUSED, &why)
        }
        Err(failure) => failed(&failure),
    }
}

async fn show(administration: &Administration, name: &str) -> ExitCode {
    let found = match name.parse() {
        Ok(name) => administration.find(&name).await,
        Err(_) => Ok(None),
    };
    match found {
        Ok(Some(user)) => print(&line(user)),
        Ok(None) => fail(REFUSED, "no account has this username"),
        Err(failure) => failed(&failure),
    }
}

async fn sessions(administration: &Administration, name: &str) -> ExitCode {
    let found = match name.parse() {
        Ok(name) => administration.sessions(&name).await,
        Err(_) => Ok(None),
    };
    match found {
        Ok(Some(sessions)) => {
            let lines: String = sessions.iter().map(session_line).collect();
            print_listing(&lines).map_or_else(|error| not_written(&error), |()| ExitCode::SUCCESS)
        }
        Ok(None) => fail(REFUSED, "no account has this username"),
        Err(failure) => failed(&failure),
    }
}

async fn change(
    administration: &Administration,
    name: &str,
    change: &Change,
    act: Act,
) -> ExitCode {
    let Ok(name) = name.parse::<Username>() else {
        return fail(REFUSED, "no account has this username");
    };
    match administration
        .change(Authority::Operator, &name, change)
        .await
    {
        Ok(Changed::Done(user)) => {
            audit(act, "done", Some(user.id), &name);
            ExitCode::SUCCESS
        }
        Ok(Changed::NoSuchUser | Changed::ActingSessionGone) => {
            audit(act, "no_such_user", None, &name);
            fail(REFUSED, "no account has this username")
        }
        Err(failure) => {
            audit(act, "unavailable", None, &name);
            failed(&failure)
        }
    }
}

async fn list(administration: &Administration) -> ExitCode {
    let mut cursor = UserCursor::default();
    loop {
        let (next, users) = match administration.list_page(cursor).await {
            Ok(some) => some,
            Err(failure) => return failed(&failure),
        };
        let lines: String = users.into_iter().map(line).collect();
        if let Err(error) = print_listing(&lines) {
            return not_written(&error);
        }
        match next {
            Some(next) => cursor = next,
            None => return ExitCode::SUCCESS,
        }
    }
}

/// An account as the API shows it.
fn line(user: User) -> String {
    let roles: Vec<String> = user.roles.into_iter().map(Role::into).collect();
    let user = json!({
        "id": user.id.to_string(), "username": user.username.to_string(), "roles": roles,
        "disabled": user.disabled, "created_at": user.created.to_string(),
    });
    format!("{user}\n")
}

/// A session as the API shows it, without the mark of the current session.
fn session_line(session: &SessionRecord) -> String {
    let session = json!({
        "sid": session.sid.to_string(), "created_at": session.created.to_string(),
        "last_seen_at": session.last_seen.to_string(), "user_agent": session.user_agent, "address": session.address,
    });
    format!("{session}\n")
}

/// Writes an audit event in the form of the service's, without `user`: no user is logged in here.
pub(super) fn audit(act: Act, outcome: &str, target: Option<UserId>, target_username: &Username) {
    info!(
        target: AUDIT,
        event = "audit",
        act = act.name(),
        outcome,
        by = "operator",
        target_user = target.map(|id| id.to_string()),
        target_username = target_username.as_str(),
        "audit"
    );
}

pub(super) fn failed(failure: &ServiceError) -> ExitCode {
    let why = match failure {
        ServiceError::Unavailable(why) => why.to_string(),
        ServiceError::Internal(what) => (*what).to_owned(),
        ServiceError::Overloaded { .. } | ServiceError::RateLimited { .. } => {
            "too much at once".to_owned()
        }
    };
    fail(
        UNAVAILABLE,
        &format!("{why}; run the command again: completed changes are not repeated"),
    )
}

/// Reads the first line of standard input. A terminal gets a prompt and does not echo.
fn ask_password() -> std::io::Result<String> {
    let stdin = std::io::stdin();
    let mut text = String::new();
    if stdin.is_terminal() {
        say("Password: ");
        let shown = tcgetattr(&stdin)?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
        let read = stdin.read_line(&mut text);
        tcsetattr(&stdin, OptionalActions::Flush, &shown)?;
        say("\n");
        read?;
    } else {
        stdin.read_line(&mut text)?;
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}
