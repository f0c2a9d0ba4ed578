//! `bellwether drain`, `undrain` and `backends`.

use std::process::ExitCode;
use std::time::Duration;

use bellwether_models::duration;
use bellwether_models::series::Timestamp;
use bellwether_scheduler::route::drain::{Drain, Turn};
use serde_json::json;

use super::client::{Server, path};
use super::output::{Format, line};
use super::people::moment;
use crate::api::backends::BackendLine;
use crate::api::chart::clock;
use crate::words;

/// Options of `bellwether drain`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("deadline").required(true)))]
pub struct DrainArgs {
    /// Which backend of `reroute.backends`.
    backend: String,
    /// How long, e.g. 2h. A drain always ends.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse, group = "deadline")]
    lasts: Option<Duration>,
    /// Until when: unix seconds or ISO 8601, UTC.
    #[arg(long, value_name = "TIME", value_parser = moment, group = "deadline")]
    until: Option<Timestamp>,
    /// Time in which its weight goes down to nothing; 0s: at once, as far as the largest cut lets. As configured by default
    /// (`reroute.drain.within`, 1m).
    #[arg(long = "by", value_name = "DURATION", value_parser = duration::parse)]
    within: Option<Duration>,
    /// Why, in your own words.
    #[arg(long, default_value = "", value_name = "TEXT")]
    reason: String,
    /// Who says so; kept with the drain.
    #[arg(long = "as", env = "USER", value_name = "NAME")]
    who: String,
    #[command(flatten)]
    server: Server,
}

/// Options of `bellwether undrain`.
#[derive(Debug, clap::Args)]
pub struct UndrainArgs {
    /// Which backend.
    backend: String,
    /// Who says so; kept with the drain.
    #[arg(long = "as", env = "USER", value_name = "NAME")]
    who: String,
    #[command(flatten)]
    server: Server,
}

/// Options of `bellwether backends`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What became of drains, newest first, rather than how the backends stand.
    #[arg(long)]
    drains: bool,
    /// With --drains: most turns to list.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "drains")]
    limit: usize,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// Runs `bellwether drain`.
///
/// # Errors
/// When the server cannot be reached, or refuses.
pub fn drain(args: &DrainArgs) -> anyhow::Result<ExitCode> {
    let body = json!({
        "for": args.lasts.map(duration::format), "until": args.until, "within": args.within.map(duration::format),
        "by": args.who, "reason": args.reason,
    });
    let drain: Drain = args.server.post(&path(&["backends", &args.backend, "drain"]), &body)?;
    line(&format!("{}: {}", drain.backend, words::drain(&drain)))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `bellwether undrain`.
///
/// # Errors
/// When the server cannot be reached, or the backend is not being drained.
pub fn undrain(args: &UndrainArgs) -> anyhow::Result<ExitCode> {
    let body = json!({ "by": args.who });
    let drain: Drain = args.server.post(&path(&["backends", &args.backend, "undrain"]), &body)?;
    line(&format!("{}: its weight comes back step by step", drain.backend))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `bellwether backends`.
///
/// # Errors
/// When the server cannot be reached.
pub fn list(args: &Args) -> anyhow::Result<ExitCode> {
    if args.drains {
        let turns: Vec<Turn> = args.server.get("/api/v1/drains", &[("limit", args.limit.to_string())])?;
        let row = |turn: &Turn| vec![clock(turn.at), turn.drain.backend.clone(), turn.to_string(), turn.id.clone()];
        args.output.print(&["at", "backend", "what", "id"], &turns.iter().map(row).collect::<Vec<_>>())?;
    } else {
        let backends: Vec<BackendLine> = args.server.get("/api/v1/backends", &[])?;
        let header = ["backend", "weight", "saturation", "why", "drain"];
        args.output.print(&header, &backends.iter().map(row).collect::<Vec<_>>())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(line: &BackendLine) -> Vec<String> {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let weight = &line.weight;
    vec![
        weight.backend.clone(),
        percent(weight.weight),
        weight.saturation.map_or("?".to_owned(), percent),
        weight.grounds.to_string(),
        line.drain.as_ref().map_or_else(String::new, words::drain),
    ]
}
