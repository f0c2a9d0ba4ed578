//! `bellwether store`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use bellwether_collector::store::Backup;
use bellwether_collector::store::embedded::{backup, repair, verify};

use super::client::Server;

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
    /// Backs a store up to an empty folder: that of a running server, or the one in a folder that no process uses. To
    /// restore, start on the backup.
    ///
    /// Files are given a second name where both folders lie on one file system, and copied otherwise.
    Backup {
        /// The folder of the backup; made if it is not there. A running server asks that it lies under its
        /// `store.embedded.backup_root`.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
        /// The store's folder; left out, the running server is asked.
        path: Option<PathBuf>,
        /// The running server.
        #[command(flatten)]
        server: Server,
    },
}

/// Runs the command.
///
/// # Errors
/// When the store cannot be read.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Verify { repair, path } => look(path, *repair),
        Command::Backup { to, path, server } => back_up(path.as_deref(), to, server),
    }
}

fn look(path: &Path, put_in_order: bool) -> anyhow::Result<ExitCode> {
    let look = if put_in_order { repair } else { verify };
    let report = look(path).with_context(|| format!("could not verify the store at {}", path.display()))?;
    write!(std::io::stdout(), "{report}")?;
    let whole = report.damages.is_empty() || put_in_order;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn back_up(path: Option<&Path>, to: &Path, server: &Server) -> anyhow::Result<ExitCode> {
    let to = std::path::absolute(to)?;
    let done: Backup = match path {
        Some(path) => {
            backup(path, &to).with_context(|| format!("could not back up the store at {}", path.display()))?
        }
        None => server.post("/api/v1/store/backup", &serde_json::json!({ "to": to }))?,
    };
    let Backup { files, linked, bytes } = done;
    writeln!(
        std::io::stdout(),
        "{files} files of {bytes} bytes in {}; {linked} of them linked, the others copied",
        to.display()
    )?;
    Ok(ExitCode::SUCCESS)
}
