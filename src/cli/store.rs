//! `bellwether store`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use bellwether_collector::store::embedded::{repair, verify};

/// What to do with the store.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Reads every byte of a store and says what is damaged: file, place, series, time. Stop the process that uses it first.
    ///
    /// Exit code 0: all is whole, or was put in order. 1: damage was found. 2: the store could not be read.
    Verify {
        /// Write every damaged file anew from what is whole in it, keeping the old one with `.damaged` at its end.
        #[arg(long)]
        repair: bool,
        /// The store's folder.
        path: PathBuf,
    },
}

/// Runs the command.
///
/// # Errors
/// When the store cannot be read.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let Command::Verify { repair: put_in_order, path } = command;
    let look = if *put_in_order { repair } else { verify };
    let report = look(path).with_context(|| format!("could not verify the store at {}", path.display()))?;
    write!(std::io::stdout(), "{report}")?;
    let whole = report.damages.is_empty() || *put_in_order;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
