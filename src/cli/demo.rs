//! `bellwether demo`.

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::demo::{self, Options};
use crate::telemetry::{self, LogFormat};

/// Options of `bellwether demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End after the story instead of keeping the page up.
    #[arg(long)]
    exit: bool,
    /// Address of the page; 127.0.0.1:9494, or a free port when that is taken.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// Runs the command.
///
/// # Errors
/// When a part cannot start.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    telemetry::log_to_stderr(LogFormat::Text, "error");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(demo::run(Options { listen: args.listen, exit: args.exit }))?;
    Ok(ExitCode::SUCCESS)
}
