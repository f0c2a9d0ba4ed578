//! `bellwether models`: the registry of models, of a running server or in a folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bellwether_models::series::Timestamp;
use bellwether_predictor::config::ModelsConfig;
use bellwether_predictor::read::chain;
use bellwether_predictor::registry::book::Order;
use bellwether_predictor::registry::manifest::Manifest;
use bellwether_predictor::registry::{Registry, RegistryError, seal};
use serde_json::{Value, json};

use super::client::{self, Server};
use super::output::{Format, line};
use crate::api::chart::clock;
use crate::pipeline;

/// Looks after the models of workloads.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Lists who serves each workload, and who runs in the shadow.
    List(All),
    /// Shows the models of a workload, or one version's manifest.
    Show(Show),
    /// Registers a model as a challenger.
    Register(Register),
    /// Makes a version champion: it serves from the next round on.
    Promote(Version),
    /// Makes the champion's predecessor champion again.
    Rollback(One),
    /// Keeps the champion: nothing moves it until it is unpinned.
    Pin(Version),
    /// Lets the champion be moved again.
    Unpin(Version),
    /// Drops a version: it forecasts no more, not even in shadow.
    Retire(Version),
    /// Reads every version anew and checks it.
    Verify(All),
    /// Shows what was done to the models of a workload, by whom and why.
    Audit(One),
}

/// Which registry.
#[derive(Debug, Clone, clap::Args)]
pub struct Where {
    /// Folder of a registry, in place of a running server's. A server that uses the folder sees the change within a minute.
    #[arg(long, value_name = "DIR")]
    registry: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
}

/// Who does it, and why; kept in the log.
#[derive(Debug, Clone, clap::Args)]
pub struct By {
    /// Who does it.
    #[arg(long, env = "USER", default_value = "", value_name = "NAME")]
    pub author: String,
    /// Why.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub note: String,
}

/// Options of `models list` and `verify`.
#[derive(Debug, clap::Args)]
pub struct All {
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    place: Where,
}

/// Options of `models show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The workload.
    workload: String,
    /// One of its versions.
    #[arg(id = "number", value_name = "VERSION")]
    version: Option<u64>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    place: Where,
}

/// Options of `models register`.
#[derive(Debug, clap::Args)]
pub struct Register {
    /// The workload.
    workload: String,
    /// The manifest (JSON), as `bellwether train` writes it.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The weights (safetensors).
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Private Ed25519 key (PEM) to sign with.
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    place: Where,
}

/// Options of the commands that move one version.
#[derive(Debug, clap::Args)]
pub struct Version {
    /// The workload.
    workload: String,
    /// The version.
    #[arg(id = "number", value_name = "VERSION")]
    version: u64,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    place: Where,
}

/// Options of `models rollback` and `audit`.
#[derive(Debug, clap::Args)]
pub struct One {
    /// The workload.
    workload: String,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    place: Where,
}

/// Runs the command.
///
/// # Errors
/// When the registry cannot be reached or refuses.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(All { output, place }) => standings(&place.list()?, *output)?,
        Command::Show(args) => show(args)?,
        Command::Register(args) => register(args)?,
        Command::Promote(args) => moved(args, "promote", Order::Promote(args.version))?,
        Command::Pin(args) => moved(args, "pin", Order::Pin(args.version))?,
        Command::Unpin(args) => moved(args, "unpin", Order::Unpin(args.version))?,
        Command::Retire(args) => moved(args, "retire", Order::Retire(args.version))?,
        Command::Rollback(One { workload, output, by, place }) => {
            standing(&place.order(workload, "rollback", Order::RollBack, by)?, *output)?;
        }
        Command::Verify(args) => return verify(args),
        Command::Audit(One { workload, output, place, .. }) => audit(&place.audit(workload)?, *output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(Show { workload, version, output, place }: &Show) -> anyhow::Result<()> {
    match version {
        Some(version) => line(&serde_json::to_string_pretty(&place.manifest(workload, *version)?)?),
        None => standing(&place.one(workload)?, *output),
    }
}

fn moved(args: &Version, name: &str, order: Order) -> anyhow::Result<()> {
    let path = format!("{}/{name}", args.version);
    standing(&args.place.order(&args.workload, &path, order, &args.by)?, args.output)
}

fn register(args: &Register) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&args.manifest)
        .with_context(|| format!("could not read {}", args.manifest.display()))?;
    let manifest: Manifest = serde_json::from_str(&text)
        .with_context(|| format!("{} is no manifest of a model", args.manifest.display()))?;
    let author = if manifest.author.is_empty() { args.by.author.clone() } else { manifest.author.clone() };
    let note = if args.by.note.is_empty() { manifest.note.clone() } else { args.by.note.clone() };
    let manifest = Manifest { author, note, ..manifest };
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("could not read {}", path.display()));
    let weights = args.weights.as_ref().map(read).transpose()?;
    let done = args.place.register(&args.workload, manifest, weights, args.sign_key.as_deref())?;
    told(&done, args.output)
}

/// Prints what was registered.
pub(super) fn told(manifest: &Value, output: Format) -> anyhow::Result<()> {
    match output {
        Format::Json => line(&serde_json::to_string_pretty(manifest)?),
        _ => line(&format!(
            "registered {}/{} ({}); it runs in the shadow until it is promoted",
            text(&manifest["workload"]),
            manifest["version"],
            text(&manifest["kind"])
        )),
    }
}

fn verify(All { output, place }: &All) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    for standing in place.list()? {
        let workload = text(&standing["workload"]);
        let outcome = place.verify(&workload);
        let said = outcome.as_ref().map_or_else(|error| format!("{error:#}"), |good| format!("{good} good"));
        rows.push((outcome.is_ok(), vec![workload, said]));
    }
    let all_good = rows.iter().all(|(good, _)| *good);
    output.print(&["workload", "versions"], &rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>())?;
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One workload: in JSON the object itself.
fn standing(found: &Value, output: Format) -> anyhow::Result<()> {
    if output == Format::Json {
        return line(&serde_json::to_string_pretty(found)?);
    }
    standings(std::slice::from_ref(found), output)
}

fn standings(found: &[Value], output: Format) -> anyhow::Result<()> {
    if output == Format::Json {
        return line(&serde_json::to_string_pretty(found)?);
    }
    let rows: Vec<Vec<String>> = found.iter().flat_map(places).collect();
    output.print(&["workload", "version", "kind", "state", "since", "pinball", "coverage p95", "outcomes"], &rows)
}

/// The champion and the challengers of a workload, one a row.
fn places(standing: &Value) -> Vec<Vec<String>> {
    let pinned = standing["pinned"] == json!(true);
    let champion = (if pinned { "champion, pinned" } else { "champion" }, &standing["champion"]);
    let challengers = standing["challengers"].as_array().into_iter().flatten().map(|place| ("challenger", place));
    let row = |(state, place): (&str, &Value)| {
        let number = |field: &str| place["live"][field].as_f64().map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"));
        let since = place["since"].as_i64().map_or_else(|| "-".to_owned(), |at| clock(Timestamp::from_millis(at)));
        let origins = place["live"]["origins"].as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string());
        let version = place["version"].to_string();
        vec![
            text(&standing["workload"]),
            version,
            text(&place["kind"]),
            state.to_owned(),
            since,
            number("pinball"),
            number("coverage_p95"),
            origins,
        ]
    };
    std::iter::once(champion).chain(challengers).map(row).collect()
}

fn audit(answer: &Value, output: Format) -> anyhow::Result<()> {
    if output == Format::Json {
        return line(&serde_json::to_string_pretty(answer)?);
    }
    let row = |entry: &Value| {
        let version = |field: &str| entry[field].as_u64().map_or_else(|| "-".to_owned(), |v| v.to_string());
        let at = clock(Timestamp::from_millis(entry["at"].as_i64().unwrap_or(0)));
        vec![at, text(&entry["who"]), text(&entry["action"]), version("from"), version("to"), text(&entry["note"])]
    };
    let rows: Vec<Vec<String>> = answer["entries"].as_array().into_iter().flatten().map(row).collect();
    output.print(&["at", "who", "action", "from", "to", "note"], &rows)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Where {
    /// The registry of a folder.
    pub(super) fn folder(folder: &Path, server: &Server) -> Self {
        Self { registry: Some(folder.to_owned()), server: server.clone() }
    }

    /// The registry of a running server.
    pub(super) fn server(server: &Server) -> Self {
        Self { registry: None, server: server.clone() }
    }

    /// Asks the registry of the folder, where one is named.
    fn in_folder<T>(
        &self,
        ask: impl AsyncFnOnce(Arc<Registry>) -> Result<T, RegistryError>,
    ) -> anyhow::Result<Option<T>> {
        let Some(folder) = &self.registry else { return Ok(None) };
        let config = ModelsConfig { directory: Some(folder.clone()), ..ModelsConfig::default() };
        let registry = pipeline::models(&config, None)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(async {
            registry.refresh().await?;
            ask(registry).await
        });
        answer.map(Some).map_err(|error| anyhow::anyhow!(chain(&error)))
    }

    fn list(&self) -> anyhow::Result<Vec<Value>> {
        let here = self.in_folder(async |registry| {
            Ok(registry.workloads().iter().map(|name| json!(registry.standing(name))).collect::<Vec<_>>())
        })?;
        match here {
            Some(found) => Ok(found),
            None => {
                let answer: Value = self.server.get("/api/v1/models", &[])?;
                Ok(answer["workloads"].as_array().cloned().unwrap_or_default())
            }
        }
    }

    pub(super) fn one(&self, workload: &str) -> anyhow::Result<Value> {
        match self.in_folder(async |registry| Ok(json!(registry.standing(workload))))? {
            Some(found) => Ok(found),
            None => self.server.get(&path(workload, ""), &[]),
        }
    }

    pub(super) fn manifest(&self, workload: &str, version: u64) -> anyhow::Result<Value> {
        match self.in_folder(async |registry| Ok(json!(registry.manifest(workload, version).await?)))? {
            Some(found) => Ok(found),
            None => self.server.get(&path(workload, &format!("/{version}")), &[]),
        }
    }

    /// The weights of a version.
    pub(super) fn weights(&self, workload: &str, version: u64) -> anyhow::Result<Vec<u8>> {
        match self.in_folder(async |registry| registry.weights(workload, version).await)? {
            Some(found) => Ok(found),
            None => self.server.get_bytes(&path(workload, &format!("/{version}/weights"))),
        }
    }

    fn audit(&self, workload: &str) -> anyhow::Result<Value> {
        match self.in_folder(async |registry| Ok(json!({ "entries": registry.audit(workload) })))? {
            Some(found) => Ok(found),
            None => self.server.get(&path(workload, "/audit"), &[]),
        }
    }

    fn order(&self, workload: &str, name: &str, order: Order, By { author, note }: &By) -> anyhow::Result<Value> {
        let here = self
            .in_folder(async |registry| Ok(json!(registry.carry_out(workload, order, author, note, now()).await?)))?;
        match here {
            Some(done) => Ok(done),
            None => self.server.post(&path(workload, &format!("/{name}")), &json!({ "author": author, "note": note })),
        }
    }

    /// Registers a model, signed where there is a key; gives its manifest.
    ///
    /// # Errors
    /// When it is refused.
    pub(super) fn register(
        &self,
        workload: &str,
        manifest: Manifest,
        weights: Option<Vec<u8>>,
        sign_key: Option<&Path>,
    ) -> anyhow::Result<Value> {
        let sum = weights.as_deref().map(seal::sha256);
        let manifest = Manifest { workload: workload.to_owned(), sha256: manifest.sha256.clone().or(sum), ..manifest };
        let sign = |key: &Path| seal::sign(&manifest.signed_bytes(), key);
        let signature = sign_key.map(sign).transpose()?.or_else(|| manifest.signature.clone());
        let manifest = Manifest { signature, ..manifest };
        let (own, bytes) = (manifest.clone(), weights.clone());
        let here = self.in_folder(async |registry| Ok(json!(registry.register(workload, own, bytes, now()).await?)))?;
        match here {
            Some(done) => Ok(done),
            None => {
                let weights = weights.map(|bytes| BASE64_STANDARD.encode(bytes));
                self.server.post(&path(workload, ""), &json!({ "manifest": manifest, "weights": weights }))
            }
        }
    }

    /// How many versions of a workload are good.
    fn verify(&self, workload: &str) -> anyhow::Result<usize> {
        if let Some(good) = self.in_folder(async |registry| registry.verify(workload).await)? {
            return Ok(good);
        }
        let answer: Value = self.server.get(&path(workload, "/verify"), &[])?;
        answer["good"].as_u64().and_then(|n| usize::try_from(n).ok()).context("the server told no number")
    }
}

fn path(workload: &str, rest: &str) -> String {
    client::path(&["models", workload]) + rest
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
