//! `bellwether decisions`.

use std::process::ExitCode;

use bellwether_scheduler::plan::Decision;

use super::client::Server;
use super::output::Format;
use crate::api::chart::clock;

/// Options of `bellwether decisions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Of this workload only.
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Most decisions to list.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
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
    let workload = args.workload.iter().map(|name| ("workload", name.clone()));
    let query: Vec<_> = workload.chain([("limit", args.limit.to_string())]).collect();
    let decisions: Vec<Decision> = args.server.get("/api/v1/decisions", &query)?;
    let header = ["at", "workload", "from", "to", "reactive", "mode", "why", "id"];
    let rows: Vec<Vec<String>> = decisions.iter().map(row).collect();
    args.output.print(&header, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn row(decision: &Decision) -> Vec<String> {
    let count = |replicas: Option<u32>| replicas.map_or("?".to_owned(), |n| n.to_string());
    vec![
        clock(decision.at),
        decision.workload.clone(),
        count(decision.from),
        count(decision.to),
        count(decision.reactive),
        format!("{:?}", decision.mode).to_lowercase(),
        decision.reasons.first().map(ToString::to_string).unwrap_or_default(),
        decision.id.clone(),
    ]
}
