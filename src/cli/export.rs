//! `bellwether export`: incidents whose cause people named, as labelled cases.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use bellwether_models::incident::Incident;

use super::client::{Server, path};
use super::output::{complain, line};
use crate::case::Case;

/// Options of `bellwether export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder under which each case becomes a folder, as `bellwether rank --cases` reads it.
    #[arg(long, value_name = "DIR")]
    cases: PathBuf,
    /// One incident alone, even when nobody named its cause.
    #[arg(long, value_name = "ID")]
    incident: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Runs the command. A case whose data the store no longer has is passed over with a word.
///
/// # Errors
/// When the server cannot be reached, nothing is to be written, or a file cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let ids = match &args.incident {
        Some(id) => vec![id.clone()],
        None => judged(args)?,
    };
    let mut written = 0;
    for id in ids {
        let case: Case = args.server.get(&path(&["incidents", &id, "case"]), &[])?;
        if case.columns.is_empty() {
            complain(&format!("{id}: the store no longer holds its metrics; passed over"))?;
        } else if case.cause.is_some() || args.incident.is_some() {
            case.write(&args.cases)?;
            written += 1;
        }
    }
    if written == 0 {
        bail!("no incident has a cause that people named; `bellwether feedback ID --cause SERVICE` names one");
    }
    line(&format!("{written} written under {}", args.cases.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Incidents on which somebody's verdict may stand.
fn judged(args: &Args) -> anyhow::Result<Vec<String>> {
    let all: Vec<Incident> = args.server.get("/api/v1/incidents", &[("past", "true".to_owned())])?;
    let mut ids = Vec::new();
    for incident in all {
        let words: Vec<serde_json::Value> = args.server.get(&path(&["incidents", &incident.id, "words"]), &[])?;
        if words.iter().any(|word| word["said"]["kind"] == "cause" && word["taken_back"] == false) {
            ids.push(incident.id);
        }
    }
    Ok(ids)
}
