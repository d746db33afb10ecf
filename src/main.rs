//! Reads the arguments, runs the command, sets the exit code.

use std::process::ExitCode;

/// jemalloc returns memory to the system after a peak of connections; the allocator of the C library keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Before any thread is started: `read_dotenv` changes the environment.
    if let Err(error) = portcullis::config::read_dotenv() {
        eprintln!("portcullis: {error}");
        return ExitCode::from(64);
    }
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(portcullis::cli::run()),
        Err(error) => {
            eprintln!("portcullis: the runtime cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
