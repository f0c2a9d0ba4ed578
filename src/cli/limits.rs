//! `bellwether limits`.

use std::process::ExitCode;

use serde_json::Value;

use super::client::Server;
use super::output::{Format, line};

/// Options of `bellwether limits`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many of the largest metrics to list.
    #[arg(long, default_value_t = 10)]
    metrics: usize,
    /// How to print the answer.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// Runs the command. The exit code is 1 while something is contained.
///
/// # Errors
/// When the server cannot be reached.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let standing: Value = args.server.get("/api/v1/limits", &[("limit", args.metrics.to_string())])?;
    if args.output == Format::Json {
        line(&serde_json::to_string_pretty(&standing)?)?;
    } else {
        for (title, list, columns) in TABLES {
            let rows: Vec<Vec<String>> = elements(&standing[list]).map(|row| cells(row, columns)).collect();
            if rows.is_empty() {
                continue;
            }
            if args.output == Format::Table {
                line(&format!("{title}:"))?;
            }
            args.output.print(columns, &rows)?;
            line("")?;
        }
    }
    let contained = elements(&standing["explosions"]).any(|explosion| explosion["contained"] == true);
    Ok(ExitCode::from(u8::from(contained)))
}

/// Title, field of the answer, and columns.
const TABLES: [(&str, &str, &[&str]); 4] = [
    ("Limits (0 is none)", "limits", &["limit", "value", "used"]),
    ("Sources", "sources", &["source", "series", "waiting_bytes", "refused"]),
    ("Largest metrics", "metrics", &["source", "metric", "series"]),
    ("Running away", "explosions", &["source", "metric", "labels", "series", "limit", "setting", "contained"]),
];

fn elements(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn cells(row: &Value, columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| cell(&row[*column])).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(labels) => labels.iter().map(label).collect::<Vec<_>>().join(", "),
        Value::Object(counts) => counts.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn label(label: &Value) -> String {
    format!("{} (about {} values)", label["label"].as_str().unwrap_or_default(), label["values"])
}
