//! `bellwether explain`.

use std::process::ExitCode;

use anyhow::bail;
use bellwether_models::incident::{Incident, Word};
use bellwether_scheduler::plan::Decision;
use bellwether_scheduler::route::drain::Turn;

use super::client::{Server, path};
use super::output::line;
use super::people::sentence;
use crate::words;

/// Options of `bellwether explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of an incident, of a decision or of a drain, as alerts, the page and the API print it.
    id: String,
    /// Print the record as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or knows no such id.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let record = find(args)?;
    if args.json {
        line(&serde_json::to_string_pretty(&record)?)?;
    } else if let Ok(incident) = serde_json::from_value::<Incident>(record.clone()) {
        line(&words::incident(&incident, usize::MAX))?;
        line(&words::anomalies(&incident))?;
        said(args)?;
    } else if let Ok(turn) = serde_json::from_value::<Turn>(record.clone()) {
        line(&words::drain_turn(&turn))?;
    } else {
        line(&words::decision(&serde_json::from_value::<Decision>(record)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What people said of the incident, one a line.
fn said(args: &Args) -> anyhow::Result<()> {
    let all: Vec<serde_json::Value> = args.server.get(&path(&["incidents", &args.id, "words"]), &[])?;
    for record in all {
        let over = if record["taken_back"] == true { " (taken back)" } else { "" };
        let word: Word = serde_json::from_value(record)?;
        line(&format!("  {} · {}{over}", word.id, sentence(&word)))?;
    }
    Ok(())
}

fn find(args: &Args) -> anyhow::Result<serde_json::Value> {
    let mut refusals = Vec::new();
    for kind in ["incidents", "decisions", "drains"] {
        match args.server.get(&path(&[kind, &args.id]), &[]) {
            Ok(record) => return Ok(record),
            Err(error) if format!("{error:#}").contains("404") => refusals.push(kind),
            Err(error) => return Err(error),
        }
    }
    bail!(
        "there is no incident, decision or drain with the id {:?}; /api/v1/incidents, /api/v1/decisions and /api/v1/drains list them",
        args.id
    )
}
