//! Reads the arguments, runs the command, sets the exit code.

use std::process::ExitCode;

use portcullis::telemetry::say;

/// jemalloc returns memory to the system after a peak of connections; the allocator of the C library keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    portcullis::telemetry::report_early_panics();
    // Before any thread is started: `read_dotenv` changes the environment.
    if let Err(error) = portcullis::config::read_dotenv() {
        say(format!("portcullis: {error}\n"));
        return ExitCode::from(64);
    }
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(portcullis::cli::run()),
        Err(error) => {
            say(format!("portcullis: the runtime cannot start: {error}\n"));
            ExitCode::FAILURE
        }
    }
}
