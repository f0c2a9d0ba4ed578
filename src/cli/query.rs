//! `bellwether query`.

use std::process::ExitCode;

use anyhow::{Context, bail};
use bellwether_models::duration;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::client::Server;
use super::output::Format;
use crate::table::parse_time;

/// Options of `bellwether query`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The PromQL expression.
    expression: String,
    /// Instant to evaluate at (unix seconds or ISO 8601); the server's present by default.
    #[arg(long, conflicts_with_all = ["start", "end", "step"])]
    time: Option<String>,
    /// First instant of a range.
    #[arg(long, requires_all = ["end", "step"])]
    start: Option<String>,
    /// Last instant of a range.
    #[arg(long, requires = "start")]
    end: Option<String>,
    /// Distance between the points of a range, such as 30s.
    #[arg(long, requires = "start")]
    step: Option<String>,
    /// How to print the answer.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Deserialize)]
struct Answer {
    data: Data,
    /// What is to be known of the answer, such as that a part of it is missing.
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses the expression.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut query = vec![("query", args.expression.clone())];
    let path = match (&args.start, &args.end, &args.step) {
        (Some(start), Some(end), Some(step)) => {
            let step = duration::parse(step).with_context(|| "--step")?;
            query.extend([("start", seconds(start, "--start")?), ("end", seconds(end, "--end")?)]);
            query.push(("step", step.as_secs_f64().to_string()));
            "/api/v1/query_range"
        }
        _ => {
            if let Some(time) = &args.time {
                query.push(("time", seconds(time, "--time")?));
            }
            "/api/v1/query"
        }
    };
    if args.output == Format::Json {
        let answer: Value = args.server.get(path, &query)?;
        super::output::line(&serde_json::to_string_pretty(&answer)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer: Answer = args.server.get(path, &query)?;
    for warning in &answer.warnings {
        super::output::complain(&format_args!("warning: {warning}"))?;
    }
    args.output.print(&["series", "timestamp", "value"], &rows(&answer.data)?)?;
    Ok(ExitCode::SUCCESS)
}

fn seconds(text: &str, option: &str) -> anyhow::Result<String> {
    let at = parse_time(text).with_context(|| format!("{option}: {text:?} is not a time"))?;
    Ok(at.as_secs_f64().to_string())
}

fn rows(data: &Data) -> anyhow::Result<Vec<Vec<String>>> {
    match data.result_type.as_str() {
        "scalar" | "string" => Ok(vec![point(String::new(), &data.result)]),
        "vector" | "matrix" => {
            let series = data.result.as_array().map(Vec::as_slice).unwrap_or_default();
            Ok(series.iter().flat_map(series_rows).collect())
        }
        other => bail!("the server answered with a result of type {other:?}, which this command does not know"),
    }
}

fn series_rows(series: &Value) -> Vec<Vec<String>> {
    let name = series.get("metric").and_then(Value::as_object).map(notation).unwrap_or_default();
    let many = series.get("values").and_then(Value::as_array);
    let points = many.map_or_else(|| series.get("value").into_iter().collect(), |all| all.iter().collect::<Vec<_>>());
    points.into_iter().map(|value| point(name.clone(), value)).collect()
}

fn point(name: String, pair: &Value) -> Vec<String> {
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    vec![name, text(pair.get(0)), text(pair.get(1))]
}

fn notation(labels: &Map<String, Value>) -> String {
    let pairs = labels.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
    bellwether_models::series::Labels::new(pairs).to_string()
}
