//! `bellwether detect`.

use std::process::ExitCode;

/// Options of `bellwether detect`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// When its input cannot be read or its output cannot be written.
pub fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not part of this build yet")
}
