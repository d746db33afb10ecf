//! The commands: `serve`, `check`, `healthcheck`, `openapi`, `user`, `keys`.

mod check;
mod import;
mod keys;
mod user;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::app::{self, App};
use crate::config::{Config, Settings};
use crate::telemetry::Telemetry;

/// Bad settings (`EX_USAGE` of BSD's sysexits).
const BAD_SETTINGS: u8 = 64;
/// Something that is needed is not there (`EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;

/// Portcullis: a token authentication API. Any number of identical replicas over one Redis; once a logout has answered, no
/// replica accepts the token.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API; the command where none is given
    Serve,
    /// Check the settings and what they name, and tell what would run
    Check,
    /// Ask a running replica whether it is ready; for containers without a shell
    Healthcheck,
    /// Print the OpenAPI document
    Openapi,
    /// Create, show, change, delete, list and import accounts
    #[command(subcommand)]
    User(user::UserCommand),
    /// Make, list and rotate signing keys in the folder of JWT_KEYS_DIR
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Become the private redis-server of a replica
    #[command(hide = true)]
    PrivateRedis {
        #[arg(long)]
        parent: u32,
        #[arg(long)]
        folder: PathBuf,
    },
}

/// Every command and setting, for what checks the README against them.
#[must_use]
pub fn definition() -> clap::Command {
    // A setting may stand before or after the command: `portcullis serve --port 8081`.
    Cli::command().mut_args(|setting| setting.global(true))
}

/// Runs the command of the process's arguments, and tells how to exit.
pub async fn run() -> ExitCode {
    let parsed = definition()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let Cli { command, settings } = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help is asked for in the same way; it is no mistake.
            let code = if error.use_stderr() { BAD_SETTINGS } else { 0 };
            error.print().ok();
            return ExitCode::from(code);
        }
    };
    if let Some(Command::PrivateRedis { parent, folder }) = command {
        let error = crate::store::become_redis_server(parent, &folder);
        return fail(UNAVAILABLE, &error.to_string());
    }
    if let Some(Command::Keys(command)) = &command {
        return keys::run(command, settings.key_folder());
    }
    let config = match settings.check() {
        Ok(config) => config,
        Err(mistakes) => return fail(BAD_SETTINGS, &mistakes.to_string()),
    };
    match command.unwrap_or(Command::Serve) {
        Command::Serve | Command::PrivateRedis { .. } | Command::Keys(_) => serve(config).await,
        Command::Check => check::run(&config).await,
        Command::Healthcheck => healthcheck(config.http.management_listen),
        Command::User(command) => user::run(command, &config).await,
        Command::Openapi => match app::document(config) {
            Ok(document) => print(&document),
            Err(error) => fail(UNAVAILABLE, &error.to_string()),
        },
    }
}

async fn serve(config: Config) -> ExitCode {
    let telemetry = match Telemetry::start(&config.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(BAD_SETTINGS, &error),
    };
    allow_descriptors(config.http.max_connections);
    let scheme = if config.http.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let app = match App::build(config).await {
        Ok(app) => app,
        Err(error) => return fail(UNAVAILABLE, &error.to_string()),
    };
    let address = |address: Option<SocketAddr>| {
        address
            .map(|address| address.to_string())
            .unwrap_or_default()
    };
    let (listen, management) = (address(app.local_addr()), address(app.management_addr()));
    // Before anybody can know that it listens: whoever tells it to stop then sees it drain.
    let told_to_stop = match told_to_stop() {
        Ok(told_to_stop) => told_to_stop,
        Err(error) => return fail(UNAVAILABLE, &format!("signals cannot be received: {error}")),
    };
    info!(
        event = "listening",
        listen,
        management,
        version = env!("CARGO_PKG_VERSION"),
        "open {scheme}://{listen}/docs"
    );
    let outcome = app.run(told_to_stop).await;
    drop(telemetry);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(UNAVAILABLE, &error.to_string()),
    }
}

/// Listens for signals from now on. What is returned resolves at the first SIGTERM or SIGINT; the second ends the process at
/// once.
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut next =
        async move || tokio::select! { _ = terminate.recv() => 143, _ = interrupt.recv() => 130 };
    Ok(async move {
        next().await;
        tokio::spawn(async move {
            let code = next().await;
            warn!(event = "stopped", "told to stop twice: exiting at once");
            std::process::exit(code);
        });
    })
}

/// Raises the limit on open descriptors as far as it goes, and says so where that is not enough: clients that hold all of
/// them would keep the replica from reaching Redis.
fn allow_descriptors(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let is_raised = setrlimit(Resource::Nofile, raised).is_ok();
    let now = if is_raised {
        limit.maximum
    } else {
        limit.current
    };
    let wanted = connections as u64 + 256;
    if now.is_some_and(|now| now < wanted) {
        warn!(
            event = "descriptors",
            limit = now,
            wanted,
            "fewer descriptors are allowed than MAX_CONNECTIONS needs"
        );
    }
}

/// Asks `/readyz`. Plain HTTP over a socket: the answer's first line is all that counts.
fn healthcheck(mut address: SocketAddr) -> ExitCode {
    if address.ip().is_unspecified() {
        let loopback: std::net::IpAddr = if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(loopback);
    }
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(
            stream,
            "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => print("ready\n"),
        Ok(answer) => fail(1, answer.lines().last().unwrap_or("no answer")),
        Err(error) => fail(1, &format!("{address}: {error}")),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(code: u8, why: &str) -> ExitCode {
    for line in why.lines() {
        eprintln!("portcullis: {line}");
    }
    ExitCode::from(code)
}
