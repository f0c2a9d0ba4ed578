//! `bellwether ack`, `feedback` and `maintenance`: people's word.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bellwether_models::duration;
use bellwether_models::incident::{Maintenance, Said, Word};
use bellwether_models::series::Timestamp;
use serde_json::json;

use super::client::{Server, path};
use super::output::{Format, line};
use crate::api::chart::clock;
use crate::table;

/// Who speaks, and a remark.
#[derive(Debug, clap::Args)]
pub struct Speaker {
    /// Who says so; kept with what is said.
    #[arg(long, env = "USER", value_name = "NAME")]
    by: String,
    /// In your own words.
    #[arg(long, default_value = "", value_name = "TEXT")]
    note: String,
}

impl Speaker {
    /// Who speaks.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
    }

    /// In their own words.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }
}

/// Options of `bellwether ack`.
#[derive(Debug, clap::Args)]
pub struct AckArgs {
    /// The incident.
    id: String,
    #[command(flatten)]
    speaker: Speaker,
    #[command(flatten)]
    server: Server,
}

/// Options of `bellwether feedback`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("word").required(true)))]
pub struct FeedbackArgs {
    /// The incident; with --take-back, the word (as `bellwether explain` shows it).
    id: String,
    /// There was nothing.
    #[arg(long, group = "word")]
    false_alarm: bool,
    /// The service that really broke first.
    #[arg(long, value_name = "SERVICE", group = "word")]
    cause: Option<String>,
    /// Take the word back; an acknowledgement too.
    #[arg(long, group = "word")]
    take_back: bool,
    /// With --cause: the metric that shows it.
    #[arg(long, value_name = "METRIC", requires = "cause")]
    metric: Option<String>,
    #[command(flatten)]
    speaker: Speaker,
    #[command(flatten)]
    server: Server,
}

/// What to do with maintenance.
#[derive(Debug, clap::Subcommand)]
pub enum MaintenanceCommand {
    /// Announces one: its incidents are recorded, but open no alerts.
    Add {
        /// How long it lasts, e.g. 2h.
        #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
        lasts: Duration,
        /// When it begins: unix seconds or ISO 8601, UTC. Now by default.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        from: Option<Timestamp>,
        /// Workloads and services it covers, separated by commas. All by default.
        #[arg(long, value_name = "NAMES", value_delimiter = ',')]
        services: Vec<String>,
        /// Who announces or ends it.
        #[command(flatten)]
        speaker: Speaker,
        /// The running server.
        #[command(flatten)]
        server: Server,
    },
    /// Lists all, past and planned.
    List {
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        output: Format,
        /// The running server.
        #[command(flatten)]
        server: Server,
    },
    /// Ends one early, or calls it off.
    End {
        /// Which.
        id: String,
        /// Who announces or ends it.
        #[command(flatten)]
        speaker: Speaker,
        /// The running server.
        #[command(flatten)]
        server: Server,
    },
}

/// Runs `bellwether ack`.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub fn ack(args: &AckArgs) -> anyhow::Result<ExitCode> {
    let body = json!({ "by": args.speaker.by, "note": args.speaker.note });
    told(&args.server.post(&path(&["incidents", &args.id, "ack"]), &body)?)
}

/// Runs `bellwether feedback`.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub fn feedback(args: &FeedbackArgs) -> anyhow::Result<ExitCode> {
    let Speaker { by, note } = &args.speaker;
    if args.take_back {
        let body = json!({ "by": by, "note": note });
        return told(&args.server.post(&path(&["words", &args.id, "take-back"]), &body)?);
    }
    let body = match &args.cause {
        None => json!({ "by": by, "note": note, "verdict": "false_alarm" }),
        Some(service) => {
            json!({ "by": by, "note": note, "verdict": "cause", "service": service, "metric": args.metric })
        }
    };
    told(&args.server.post(&path(&["incidents", &args.id, "feedback"]), &body)?)
}

/// Runs `bellwether maintenance`.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub fn maintenance(command: &MaintenanceCommand) -> anyhow::Result<ExitCode> {
    match command {
        MaintenanceCommand::Add { lasts, from, services, speaker, server } => {
            let from = from.map_or_else(now, Ok)?;
            let body = json!({
                "by": speaker.by, "note": speaker.note, "from": from, "to": from + *lasts, "services": services,
            });
            let made: Maintenance = server.post("/api/v1/maintenance", &body)?;
            line(&format!("{} covers {} until {} UTC", made.id, covered(&made), clock(made.to)))?;
        }
        MaintenanceCommand::List { output, server } => {
            let all: Vec<Maintenance> = server.get("/api/v1/maintenance", &[])?;
            let header = ["id", "from", "to", "covers", "by", "ended", "note"];
            output.print(&header, &all.iter().map(row).collect::<Vec<_>>())?;
        }
        MaintenanceCommand::End { id, speaker, server } => {
            let body = json!({ "by": speaker.by, "note": speaker.note });
            let ended: Maintenance = server.post(&path(&["maintenance", id, "end"]), &body)?;
            line(&format!("{} is over", ended.id))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn told(word: &Word) -> anyhow::Result<ExitCode> {
    line(&format!("{} · {}", word.id, sentence(word)))?;
    Ok(ExitCode::SUCCESS)
}

/// A word as a sentence: who said what, and when.
#[must_use]
pub fn sentence(word: &Word) -> String {
    let said = match &word.said {
        Said::Acknowledged => "looks after it".to_owned(),
        Said::FalseAlarm => "says it was a false alarm".to_owned(),
        Said::Cause { service, metric: Some(metric) } => format!("says the cause was {service} ({metric})"),
        Said::Cause { service, metric: None } => format!("says the cause was {service}"),
        Said::TakenBack { word } => format!("takes {word} back"),
    };
    let note = if word.note.is_empty() { String::new() } else { format!(": {}", word.note) };
    format!("{} UTC · {} {said}{note}", clock(word.at), word.by)
}

fn covered(maintenance: &Maintenance) -> String {
    if maintenance.services.is_empty() { "everything".to_owned() } else { maintenance.services.join(", ") }
}

fn row(m: &Maintenance) -> Vec<String> {
    let ended = m.ended.as_ref().map_or_else(String::new, |ended| format!("{} by {}", clock(ended.at), ended.by));
    vec![m.id.clone(), clock(m.from), clock(m.to), covered(m), m.by.clone(), ended, m.note.clone()]
}

/// An instant as people write it.
///
/// # Errors
/// What may be written instead.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    table::parse_time(text).ok_or_else(|| format!("{text:?} is no time; write unix seconds or 2026-01-31T12:00:00Z"))
}

fn now() -> anyhow::Result<Timestamp> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock stands before 1970")?;
    Ok(Timestamp::from_millis(i64::try_from(since.as_millis())?))
}
