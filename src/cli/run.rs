//! `bellwether run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{Config, all_faults};
use crate::telemetry::{self, LogFormat};

/// Options of `bellwether run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, default_value = "bellwether.yaml", value_name = "FILE")]
    config: PathBuf,
    /// Address to listen on, in place of server.listen.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// How logs are written (to stderr). RUST_LOG chooses what is said.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

/// Runs the command.
///
/// # Errors
/// When the configuration is refused or a part cannot start.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    telemetry::log_to_stderr(args.log_format, "info");
    let config = Config::load(&args.config).map_err(all_faults)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(crate::run::run(args.config.clone(), config, args.listen))?;
    Ok(ExitCode::SUCCESS)
}
