//! Commands: `serve`, `check`, `healthcheck`, `openapi`, `user`, `keys`.

mod check;
mod import;
mod keys;
mod user;

use std::io::{IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::app::{self, App};
use crate::config::{Config, Settings};
use crate::telemetry::{self, Telemetry, close_logs, print_listing, say};

/// Invalid settings (`EX_USAGE` of BSD's sysexits).
const BAD_SETTINGS: u8 = 64;
/// A required resource is not available (`EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;
/// The command succeeded, but its output cannot be written (`EX_IOERR`).
const NOT_WRITTEN: u8 = 74;
/// Maximum time to flush the log after a second signal.
const HASTY_FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

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
    /// Serve the API; the default command
    Serve,
    /// Check the settings, the keys, the certificate and Redis, and report what would run
    Check,
    /// Ask a running replica whether it is ready; for containers without a shell
    Healthcheck,
    /// Print the OpenAPI document
    Openapi,
    /// Create, show, change, delete, list and import accounts
    #[command(subcommand)]
    User(user::UserCommand),
    /// Generate, list and rotate signing keys in the folder JWT_KEYS_DIR
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

/// Definition of all commands and settings, also for the tests that compare the documentation with it.
#[must_use]
pub fn definition() -> clap::Command {
    // A setting may stand before or after the command: `portcullis serve --port 8081`.
    Cli::command().mut_args(|setting| setting.global(true))
}

/// Runs the command of the process's arguments, and returns its exit code.
pub async fn run() -> ExitCode {
    let parsed = definition()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let Cli { command, settings } = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            return show_usage(&error);
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
        Err(errors) => return fail(BAD_SETTINGS, &errors.to_string()),
    };
    match command.unwrap_or(Command::Serve) {
        Command::Serve | Command::PrivateRedis { .. } | Command::Keys(_) => serve(config).await,
        Command::Check => check::run(&config).await,
        Command::Healthcheck => healthcheck(config.http.management_listen),
        Command::User(command) => user::run(command, &config).await,
        Command::Openapi => match app::openapi_document(config) {
            Ok(document) => print_listing(&document)
                .map_or_else(|error| not_written(&error), |()| ExitCode::SUCCESS),
            Err(error) => fail(UNAVAILABLE, &error.to_string()),
        },
    }
}

async fn serve(config: Config) -> ExitCode {
    let telemetry = match Telemetry::start(&config.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(BAD_SETTINGS, &error),
    };
    raise_nofile_limit(config.http.max_connections);
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
    // Before `listening` is logged: a signal that follows that line must drain the replica, not kill it.
    let shutdown_signal = match shutdown_signal() {
        Ok(shutdown_signal) => shutdown_signal,
        Err(error) => return fail(UNAVAILABLE, &format!("signals cannot be received: {error}")),
    };
    info!(
        event = "listening",
        listen,
        management,
        version = env!("CARGO_PKG_VERSION"),
        "open {scheme}://{listen}/docs"
    );
    let outcome = app.run(shutdown_signal).await;
    drop(telemetry);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(UNAVAILABLE, &error.to_string()),
    }
}

/// Installs the signal handlers. The returned future resolves at the first SIGTERM or SIGINT; the second exits the process at
/// once.
fn shutdown_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut next =
        async move || tokio::select! { _ = terminate.recv() => 143, _ = interrupt.recv() => 130 };
    Ok(async move {
        next().await;
        tokio::spawn(async move {
            let code = next().await;
            warn!(event = "stopped", "second signal received: exiting at once");
            close_logs(HASTY_FLUSH_TIMEOUT);
            std::process::exit(code);
        });
    })
}

/// Raises the limit of open file descriptors to the hard limit, and warns if that is too low: clients that hold all
/// descriptors would keep the replica from reaching Redis.
fn raise_nofile_limit(connections: usize) {
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
            "the hard limit of open files is below what MAX_CONNECTIONS needs: raise it, or lower MAX_CONNECTIONS"
        );
    }
}

/// Asks `/readyz` by plain HTTP over a socket: only the status line of the answer matters.
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
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => {
            // The exit code is the answer.
            telemetry::print("ready\n").ok();
            ExitCode::SUCCESS
        }
        Ok(answer) => fail(1, answer.lines().last().unwrap_or("no answer")),
        Err(error) => fail(1, &format!("{address}: {error}")),
    }
}

/// Prints help, the version, or the error in the arguments.
fn show_usage(error: &clap::Error) -> ExitCode {
    // clap returns `--help` and `--version` as errors too; they exit with 0.
    let (code, is_terminal) = if error.use_stderr() {
        (BAD_SETTINGS, std::io::stderr().is_terminal())
    } else {
        (0, std::io::stdout().is_terminal())
    };
    if is_terminal {
        // With colours, unless they are switched off.
        error.print().ok();
    } else if error.use_stderr() {
        say(error.render().to_string());
    } else if let Err(error) = print_listing(&error.render().to_string()) {
        return not_written(&error);
    }
    ExitCode::from(code)
}

/// Prints the result of a command.
fn print(text: &str) -> ExitCode {
    telemetry::print(text).map_or_else(|error| not_written(&error), |()| ExitCode::SUCCESS)
}

fn not_written(error: &std::io::Error) -> ExitCode {
    fail(
        NOT_WRITTEN,
        &format!("standard output cannot be written: {error}"),
    )
}

fn fail(code: u8, why: &str) -> ExitCode {
    let lines = why.lines().map(|line| format!("portcullis: {line}\n"));
    say(lines.collect::<String>());
    ExitCode::from(code)
}
