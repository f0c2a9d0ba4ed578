//! `bellwether incidents`.

use std::process::ExitCode;

use bellwether_models::incident::{Incident, Severity, Status};

use super::client::Server;
use super::output::{Format, line};
use crate::api::chart::clock;

/// Options of `bellwether incidents`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// List those that are over too, the last 2000.
    #[arg(long)]
    past: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let query: &[(&str, String)] = if args.past { &[("past", "true".to_owned())] } else { &[] };
    let found: Vec<Incident> = args.server.get("/api/v1/incidents", query)?;
    let shown = found.iter().filter(|incident| args.past || incident.status == Status::Open);
    let shown: Vec<&Incident> = shown.collect();
    match args.output {
        Format::Json => line(&serde_json::to_string_pretty(&shown)?)?,
        Format::Table if shown.is_empty() => line("no incident is open")?,
        format => format.print(&HEADER, &shown.into_iter().map(row).collect::<Vec<_>>())?,
    }
    Ok(ExitCode::SUCCESS)
}

const HEADER: [&str; 7] = ["id", "state", "severity", "workload", "since", "first suspect", "sure"];

fn row(incident: &Incident) -> Vec<String> {
    let ranking = &incident.ranking;
    let state = if incident.status == Status::Open { "open" } else { "over" };
    let severity = if incident.severity == Severity::Critical { "critical" } else { "warning" };
    let suspect = ranking.causes.first().map_or("?", |cause| &cause.service);
    let sure = match &ranking.abstained {
        Some(_) => "not sure".to_owned(),
        None => format!("{:.0} %", ranking.confidence * 100.0),
    };
    let cells = [&incident.id, state, severity, &incident.workload, &clock(incident.onset), suspect, &sure];
    cells.map(str::to_owned).to_vec()
}
