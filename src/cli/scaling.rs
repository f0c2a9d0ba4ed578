//! `bellwether pause`, `freeze` and `resume`.

use std::process::ExitCode;
use std::time::Duration;

use bellwether_models::duration;
use bellwether_scheduler::guard::{Control, Stop};
use serde_json::{Value, json};

use super::client::Server;
use super::output::line;
use super::people::Speaker;
use crate::api::chart::clock;

/// Options of `bellwether pause`.
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    /// Which workload.
    workload: String,
    /// Only growth, or only shrinking, is stopped. Both by default.
    #[arg(long, value_enum)]
    direction: Option<Way>,
    #[command(flatten)]
    order: Order,
}

/// Options of `bellwether freeze`.
#[derive(Debug, clap::Args)]
pub struct FreezeArgs {
    #[command(flatten)]
    order: Order,
}

/// Options of `bellwether resume`.
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// Which workload; left out: the freeze ends, pauses of single workloads stay.
    workload: Option<String>,
    /// Who says so.
    #[arg(long, env = "USER", value_name = "NAME")]
    by: String,
    #[command(flatten)]
    server: Server,
}

/// For how long something is stopped, who says so, and to whom.
#[derive(Debug, clap::Args)]
struct Order {
    /// How long, e.g. 2h; until it is resumed by default.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    lasts: Option<Duration>,
    #[command(flatten)]
    speaker: Speaker,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Way {
    Up,
    Down,
}

/// Runs `bellwether pause`.
///
/// # Errors
/// When the server cannot be reached or does not scale that workload.
pub fn pause(args: &PauseArgs) -> anyhow::Result<ExitCode> {
    let direction = args.direction.map(|way| format!("{way:?}").to_lowercase());
    stop(&args.order, json!({ "workload": args.workload, "direction": direction }))
}

/// Runs `bellwether freeze`.
///
/// # Errors
/// When the server cannot be reached.
pub fn freeze(args: &FreezeArgs) -> anyhow::Result<ExitCode> {
    stop(&args.order, json!({}))
}

/// Runs `bellwether resume`.
///
/// # Errors
/// When the server cannot be reached or does not scale that workload.
pub fn resume(args: &ResumeArgs) -> anyhow::Result<ExitCode> {
    let body = json!({ "workload": args.workload, "by": args.by });
    show(&args.server.post("/api/v1/scaling/resume", &body)?)
}

fn stop(order: &Order, mut body: Value) -> anyhow::Result<ExitCode> {
    body["by"] = json!(order.speaker.by());
    body["note"] = json!(order.speaker.note());
    body["for"] = json!(order.lasts.map(duration::format));
    show(&order.server.post("/api/v1/scaling/pause", &body)?)
}

/// What is stopped now.
fn show(control: &Control) -> anyhow::Result<ExitCode> {
    let all = control.all.iter().map(|stop| ("everything", stop));
    let stops = all.chain(control.workloads.iter().map(|(name, stop)| (name.as_str(), stop)));
    let lines: Vec<String> = stops.map(|(what, stop)| sentence(what, stop)).collect();
    line(if lines.is_empty() { "nothing is paused".to_owned() } else { lines.join("\n") }.as_str())?;
    Ok(ExitCode::SUCCESS)
}

fn sentence(what: &str, stop: &Stop) -> String {
    let direction = stop.direction.map(|d| format!(" {d}")).unwrap_or_default();
    let until = stop.until.map_or("until resumed".to_owned(), |until| format!("until {} UTC", clock(until)));
    format!("{what}: scaling{direction} is paused since {} UTC, {until} ({})", clock(stop.since), stop.note)
}
