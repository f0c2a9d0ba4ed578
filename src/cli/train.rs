//! `bellwether train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bellwether_models::duration;
use bellwether_models::forecast::neural::{Checkpoint, Course, Network, News, Training, install, learn};
use bellwether_models::series::Window;
use bellwether_predictor::registry::manifest::{Artefact, Kind, Manifest, Scores};
use bellwether_predictor::registry::seal::{Trust, sha256};
use bellwether_predictor::registry::training::{Task, Trained};
use indicatif::ProgressBar;
use serde_json::Value;

use super::client::Server;
use super::history::Told;
use super::models::{By, Where, told};
use super::output::{Format, complain};
use crate::table;

/// Batches that fit a network to one workload, where it starts from a trained one.
const TUNING: usize = 120;
/// Longest note about the files that were learnt from, in bytes.
const LONGEST_NOTE: usize = 3000;

/// Options of `bellwether train`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("from where").required(true).multiple(true)))]
pub struct Args {
    /// CSV files, or folders whose CSV files are taken (`.gz` too), in the forms `forecast` reads: they are read one by one
    /// while learning goes on. Files count alike, however many series they hold.
    #[arg(long, value_name = "PATH", num_args = 1.., group = "from where", conflicts_with_all = ["workload", "all"])]
    data: Vec<PathBuf>,
    /// Workloads of the running server, each of which gets a model from its own history there.
    #[arg(long, value_name = "NAME", group = "from where")]
    workload: Vec<String>,
    /// Every workload of the running server.
    #[arg(long, group = "from where", conflicts_with = "workload")]
    all: bool,
    /// What to make of a workload's history.
    #[arg(long, value_enum, default_value_t)]
    kind: Made,
    /// How much of a workload's history to take, such as 14d. Default: the history its forecasts learn from.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    last: Option<Duration>,
    /// Share of a workload's history at its end that stays unseen, to score the model beside the champion.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    held_out: f64,
    /// Share of each series of the files that is learnt from, counted from its beginning; the rest stays unseen for scoring.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    share: f64,
    /// Batches to learn from. Some thousands make a network, some dozens fit a trained one to new series. Default 3000 for
    /// files, 120 for a workload.
    #[arg(long, value_name = "N")]
    batches: Option<usize>,
    /// Origins in a batch.
    #[arg(long, value_name = "N", default_value_t = Training::default().batch)]
    batch: usize,
    /// The same seed and data give the same network on the same machine with `RAYON_NUM_THREADS=1`.
    #[arg(long, value_name = "N", default_value_t = Training::default().seed)]
    seed: u64,
    /// Looks (of twenty on the whole way) at what learning holds out without betterment, after which it stops.
    #[arg(long, value_name = "N", default_value_t = Course::default().patience)]
    patience: usize,
    /// Numbers of series held in memory at once, in millions (8 MB each); beyond it files take turns.
    #[arg(long, value_name = "N", default_value_t = Course::default().pool >> 20)]
    pool: usize,
    /// A network to go on from. Default for a workload: that of its champion, else the one that comes with the program.
    #[arg(long, value_name = "FILE", conflicts_with = "fresh")]
    from: Option<PathBuf>,
    /// Starts from fresh weights.
    #[arg(long)]
    fresh: bool,
    /// File that is replaced at every look, so that `--resume` can go on from it.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Goes on from `--checkpoint`, where there is one.
    #[arg(long, requires = "checkpoint")]
    resume: bool,
    /// Where the network goes (safetensors); beside it a manifest with the ending `.json`.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["register", "registry"])]
    output: Option<PathBuf>,
    /// Registers the model with the running server, as a challenger of its workload.
    #[arg(long, conflicts_with = "data")]
    register: bool,
    /// Registers the model in a registry's folder.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["register", "data"])]
    registry: Option<PathBuf>,
    /// Private Ed25519 key (PEM) to sign with.
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    server: Server,
}

/// A kind of model that can be made of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Made {
    /// The recurrent network, fitted to the workload.
    #[default]
    Lstm,
    /// ARIMA, its orders searched.
    Arima,
}

/// Trains a network across files, or a model for workloads of a running server.
///
/// # Errors
/// When the data cannot be read, is too short, or the model cannot be written or is refused.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (share, held_out) = (args.share, args.held_out);
    if !(share > 0.0 && share <= 1.0) || args.batches == Some(0) || args.batch == 0 {
        bail!("--share must lie above 0 and be at most 1, --batches and --batch above 0");
    }
    if !(0.01..=0.5).contains(&held_out) || args.pool == 0 || args.patience == 0 {
        bail!("--held-out must lie between 0.01 and 0.5, --pool and --patience above 0");
    }
    if !args.data.is_empty() {
        from_files(args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut known = Told::all(&args.server)?;
    if let Some(missing) = args.workload.iter().find(|name| !known.iter().any(|told| told.name == **name)) {
        bail!("the server has no workload {missing:?}");
    }
    known.retain(|told| args.all || args.workload.contains(&told.name));
    if known.len() > 1 && (args.output.is_some() || args.checkpoint.is_some()) {
        bail!("--output and --checkpoint are for one workload; use --register or --registry for several");
    }
    let mut failed = 0;
    for told in &known {
        if let Err(error) = for_workload(args, told) {
            failed += 1;
            complain(&format_args!("{}: {error:#}", told.name))?;
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Learns across files, which are read one by one as they are needed.
fn from_files(args: &Args) -> anyhow::Result<()> {
    let files = csv_files(&args.data)?;
    let course = args.course(Training::default().batches);
    let start = args.begin(|| Ok(None))?;
    let mut next = 0;
    let mut supply = || {
        let file = files.get(next);
        next = if file.is_some() { next + 1 } else { 0 };
        file.map(|file| source(file, args.share)).transpose().map_err(|error| format!("{error:#}"))
    };
    let progress = super::backtest::progress(course.training.batches);
    let learnt = learn(&mut supply, &course, start, |news| args.hear(&progress, news));
    progress.finish_and_clear();
    let weights = learnt?.weights;
    let names = files.iter().filter_map(|f| Some(f.file_name()?.to_string_lossy().into_owned()));
    let mut names = names.collect::<Vec<_>>().join(", ");
    while names.len() > LONGEST_NOTE {
        names.pop();
    }
    let Training { batches, batch, seed } = course.training;
    let from = args.from.as_ref().map_or(String::new(), |from| format!(", from {}", from.display()));
    let note = format!("share {} of {names}; {batches} batches of {batch}{from}", args.share);
    let manifest = Manifest { seed: Some(seed), note, sha256: Some(sha256(&weights)), ..Manifest::new(Kind::Lstm) };
    args.write(&Trained { manifest, weights: Some(weights) })
}

/// Makes, scores, and hands over a model for one workload.
fn for_workload(args: &Args, told: &Told) -> anyhow::Result<()> {
    let history = told.demand(&args.server, args.last)?;
    let task = Task { workload: &told.name, history: &history, forecast: &told.forecast, held_out: args.held_out };
    let champion = champion(args, told).context("the champion could not be fetched")?;
    let (trained, parent) = match args.kind {
        Made::Arima => (task.arima()?, None),
        Made::Lstm => {
            let own = champion.network.is_some() && args.from.is_none() && !args.fresh;
            let course = args.course(if args.fresh { Training::default().batches } else { TUNING });
            let start = args.begin(|| {
                let own = champion.network.as_deref().cloned();
                Ok(own.or_else(Network::pretrained))
            })?;
            let progress = super::backtest::progress(course.training.batches);
            let trained = task.lstm(&course, start, |news| args.hear(&progress, news));
            progress.finish_and_clear();
            (trained?, own.then_some(champion.manifest.version))
        }
    };
    let beside = task.score(&champion).ok();
    compare(&told.name, &champion.manifest, beside, &trained.manifest)?;
    let By { author, note } = args.by.clone();
    let trained = Trained { manifest: Manifest { author, note, parent, ..trained.manifest }, ..trained };
    let place = match &args.registry {
        Some(folder) => Where::folder(folder, &args.server),
        None => Where::server(&args.server),
    };
    if args.register || args.registry.is_some() {
        let Trained { manifest, weights } = trained.clone();
        told_of(&place.register(&told.name, manifest, weights, args.sign_key.as_deref())?)?;
    }
    if args.output.is_some() { args.write(&trained) } else { Ok(()) }
}

fn told_of(manifest: &Value) -> anyhow::Result<()> {
    told(manifest, Format::Table)
}

/// What the model and the champion did on the same stretch that neither learnt from, on standard error.
fn compare(workload: &str, champion: &Manifest, beside: Option<Scores>, made: &Manifest) -> anyhow::Result<()> {
    let said = |scores: Option<Scores>| match scores {
        Some(Scores { pinball, mase, coverage_p95, origins, .. }) => {
            format!("pinball {pinball:.4}, MASE {mase:.3}, coverage of p95 {coverage_p95:.3} over {origins} origins")
        }
        None => "cannot be scored on this history".to_owned(),
    };
    let orders = made.parameters.orders.map_or(String::new(), |o| {
        let (p, d, q) = (o.ar, o.difference, o.ma);
        let (sp, sd, sq) = (o.seasonal_ar, o.seasonal_difference, o.seasonal_ma);
        format!(" ({p},{d},{q})({sp},{sd},{sq})[{}]", o.period)
    });
    complain(&format_args!("{workload}, new {}{orders}: {}", made.kind.name(), said(made.scores)))?;
    let which = format!("version {} ({})", champion.version, champion.kind.name());
    complain(&format_args!("{workload}, champion {which}: {}", said(beside)))
}

/// Who serves the workload now; in a folder, who serves there.
fn champion(args: &Args, told: &Told) -> anyhow::Result<Artefact> {
    let place = match &args.registry {
        Some(folder) => Where::folder(folder, &args.server),
        None => Where::server(&args.server),
    };
    let standing = place.one(&told.name)?;
    let version = standing["champion"]["version"].as_u64().unwrap_or(0);
    if version == 0 {
        return Ok(Artefact::built_in(&told.name));
    }
    let manifest: Manifest = serde_json::from_value(place.manifest(&told.name, version)?)?;
    let weights = manifest.sha256.as_ref().map(|_| place.weights(&told.name, version)).transpose()?;
    Ok(Artefact::read(manifest, weights.as_deref(), &Trust::default())?)
}

impl Args {
    fn course(&self, usual: usize) -> Course {
        let training = Training { batches: self.batches.unwrap_or(usual), batch: self.batch, seed: self.seed };
        Course { training, pool: self.pool << 20, patience: self.patience, ..Course::default() }
    }

    /// Where learning begins: at the checkpoint, at the network that is named, or at the usual one.
    fn begin(&self, usual: impl FnOnce() -> anyhow::Result<Option<Network>>) -> anyhow::Result<Option<Checkpoint>> {
        if let Some(file) = self.checkpoint.as_deref().filter(|file| self.resume && file.exists()) {
            let bytes = std::fs::read(file).with_context(|| format!("could not read {}", file.display()))?;
            let checkpoint = Checkpoint::from_bytes(&bytes);
            return checkpoint.map(Some).with_context(|| format!("{} is no checkpoint", file.display()));
        }
        let network = match &self.from {
            Some(file) => Some(read(file)?),
            None if self.fresh => None,
            None => usual()?,
        };
        Ok(network.as_ref().map(Checkpoint::begin))
    }

    /// Shows how far it has come and keeps a checkpoint at every look.
    fn hear(&self, progress: &ProgressBar, news: &News<'_>) {
        progress.set_position(news.batches as u64);
        match news.held_out {
            Some(held_out) => progress.set_message(format!("loss {:.4}, held out {held_out:.4}", news.loss)),
            None => progress.set_message(format!("loss {:.4}", news.loss)),
        }
        let Some(file) = self.checkpoint.as_deref().filter(|_| news.held_out.is_some()) else { return };
        let kept = news.checkpoint().map_err(anyhow::Error::from).and_then(|bytes| replace(file, &bytes));
        if let Err(error) = kept {
            progress.println(format!("no checkpoint: {error:#}"));
        }
    }

    fn write(&self, Trained { manifest, weights }: &Trained) -> anyhow::Result<()> {
        let Some(output) = &self.output else { return Ok(()) };
        if let Some(weights) = weights {
            replace(output, weights)?;
        }
        let mut text = serde_json::to_string_pretty(manifest)?;
        text.push('\n');
        replace(&output.with_extension("json"), text.as_bytes())
    }
}

/// Uses the network of a file in place of the one that comes with the program.
pub(super) fn use_weights(file: Option<&Path>) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    install(read(file)?).map_err(|_| anyhow::anyhow!("a network is in use already"))
}

fn read(file: &Path) -> anyhow::Result<Network> {
    let bytes = std::fs::read(file).with_context(|| format!("could not read {}", file.display()))?;
    Network::from_bytes(&bytes).with_context(|| format!("{} is no network", file.display()))
}

/// Writes beside and renames, so that a crash leaves the old file or the new one.
fn replace(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let beside = file.with_extension("part");
    let written = std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, file));
    written.with_context(|| format!("could not write {}", file.display()))
}

/// The files themselves, and those of the folders in order of name.
fn csv_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let listed = std::fs::read_dir(path).with_context(|| format!("could not list {}", path.display()))?;
        let found = listed.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>();
        let mut found = found.with_context(|| format!("could not list {}", path.display()))?;
        found.retain(|f| [".csv", ".csv.gz"].iter().any(|end| f.to_string_lossy().ends_with(end)));
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

fn source(file: &Path, share: f64) -> anyhow::Result<Vec<Window>> {
    let series = table::read_series(file)?;
    series
        .iter()
        .map(|named| {
            let mut window = named.window()?;
            window.values.truncate((window.len() as f64 * share) as usize);
            Ok(window)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches};

    use super::*;

    fn args(data: &Path, output: &Path) -> Args {
        let (data, output) = (data.to_string_lossy(), output.to_string_lossy());
        let words = ["train", "--data", &data, "--share", "1", "--batches", "2", "--batch", "4", "--output", &output];
        let command = Args::augment_args(clap::Command::new("train"));
        Args::from_arg_matches(&command.get_matches_from(words)).unwrap()
    }

    #[test]
    fn a_network_is_trained_from_a_folder_and_fitted_on() {
        let dir = tempfile::tempdir().unwrap();
        let rows: String = (0..400).map(|i| format!("{},{}\n", i * 3600, 20 + i % 24 + (i * i) % 5)).collect();
        std::fs::write(dir.path().join("load.csv"), format!("timestamp,value\n{rows}")).unwrap();
        std::fs::write(dir.path().join("notes.txt"), "no series").unwrap();
        let (first, second) = (dir.path().join("a.safetensors"), dir.path().join("b.safetensors"));
        run(&args(dir.path(), &first)).unwrap();
        run(&Args { from: Some(first.clone()), ..args(dir.path(), &second) }).unwrap();
        assert_ne!(read(&first).unwrap(), read(&second).unwrap());
        let manifest = std::fs::read_to_string(dir.path().join("b.json")).unwrap();
        assert!(manifest.contains(" of load.csv;") && !manifest.contains("notes"), "{manifest}");
    }

    #[test]
    fn a_share_of_nothing_is_refused() {
        let refused = Args { share: 0.0, ..args(Path::new("/nowhere"), Path::new("/nowhere")) };
        assert!(run(&refused).unwrap_err().to_string().contains("--share"));
    }
}
