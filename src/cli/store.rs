//! `bellwether store`.

use std::process::ExitCode;

/// What to do with the store.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Reads every byte of a store and says what is damaged.
    Verify {
        /// The store's folder.
        path: std::path::PathBuf,
    },
}

/// Runs the command.
///
/// # Errors
/// When the store cannot be read.
pub fn run(_command: &Command) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not part of this build yet")
}
