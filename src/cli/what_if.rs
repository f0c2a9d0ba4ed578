//! `bellwether what-if`.

use std::process::ExitCode;

use anyhow::Context;
use bellwether_scheduler::guard::Downstream;
use bellwether_scheduler::plan::Decision;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::{Server, path};
use super::output::line;
use crate::words;

/// Options of `bellwether what-if`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which workload.
    workload: String,
    /// A setting of its `scale` section and another value, as YAML: `target_utilisation=0.9`, `cost={too_few: 50}`. May be
    /// given again.
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, Value)>,
    /// Demand and forecast are multiplied by this.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    demand: f64,
    /// Print both decisions as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Serialize, Deserialize)]
struct Compared {
    now: Option<Decision>,
    then: Option<Decision>,
    #[serde(default)]
    downstream: Vec<Downstream>,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached, does not scale that workload, or refuses the settings.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let scale: serde_json::Map<String, Value> = args.set.iter().cloned().collect();
    let body = json!({ "scale": scale, "demand_factor": args.demand });
    let compared: Compared = args.server.post(&path(&["workloads", &args.workload, "what-if"]), &body)?;
    if args.json {
        line(&serde_json::to_string_pretty(&compared)?)?;
    } else {
        let said = |decision: &Option<Decision>| decision.as_ref().map(words::decision).unwrap_or_default();
        line(&format!("now:\n{}\nthen:\n{}", said(&compared.now), said(&compared.then)))?;
        for room in &compared.downstream {
            line(&words::downstream(room))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn setting(text: &str) -> anyhow::Result<(String, Value)> {
    let (key, value) = text.split_once('=').context("write KEY=VALUE")?;
    let value = serde_saphyr::from_str(value).with_context(|| format!("{value:?} is not YAML"))?;
    Ok((key.trim().to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_key_and_a_value_in_yaml() {
        assert_eq!(setting("max=40").unwrap(), ("max".to_owned(), json!(40)));
        assert_eq!(setting("cost={too_few: 50}").unwrap(), ("cost".to_owned(), json!({ "too_few": 50 })));
        assert_eq!(setting("startup=2m").unwrap(), ("startup".to_owned(), json!("2m")));
        assert!(setting("max").is_err());
    }
}
