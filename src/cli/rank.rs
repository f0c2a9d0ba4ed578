//! `bellwether rank`: root causes of recorded incidents, a folder each.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bellwether_models::cause::{self, Cause, IncidentWindow, Ranking};
use bellwether_models::duration;
use bellwether_models::series::Timestamp;
use serde::Serialize;

use crate::table::{self, Table};

/// Options of `bellwether rank`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("input").required(true)))]
pub struct Args {
    /// One case: a folder with metrics.csv (or .csv.gz), inject_time.txt and, where known, symptom.txt and topology.csv.
    #[arg(long, value_name = "DIR", group = "input")]
    case: Option<PathBuf>,
    /// A tree of such folders, at any depth.
    #[arg(long, value_name = "TREE", group = "input")]
    cases: Option<PathBuf>,
    /// Where the onset comes from: inject_time.txt, or found from the metrics around the alarm.
    #[arg(long, value_enum, default_value = "given")]
    onset: Onset,
    /// With `--onset found`: how long after inject_time.txt the alarm was raised, e.g. 60s.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    alarm_delay: Duration,
    /// JSON file to write; standard output when left out.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Onset {
    Given,
    Found,
}

/// What is written for one case.
#[derive(Debug, Serialize)]
struct Report {
    ranks: Vec<String>,
    services: Vec<String>,
    confidence: f64,
    time_s: f64,
    evidence: Vec<Cause>,
    abstained: Option<String>,
    onset: Option<Timestamp>,
}

/// Runs the command.
///
/// # Errors
/// When a case cannot be read or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut reports = BTreeMap::new();
    for folder in folders(args)? {
        let report = report(&folder, args).with_context(|| format!("could not rank {}", folder.display()))?;
        reports.insert(key(&folder)?, report);
    }
    let text = serde_json::to_string_pretty(&reports)? + "\n";
    match &args.output {
        Some(path) => fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?,
        None => std::io::stdout().write_all(text.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}

/// Folders of cases, in order of path.
fn folders(args: &Args) -> anyhow::Result<Vec<PathBuf>> {
    if let Some(case) = &args.case {
        return Ok(vec![case.clone()]);
    }
    let Some(tree) = &args.cases else { bail!("either --case or --cases is needed") };
    let mut found = Vec::new();
    collect(tree, &mut found)?;
    if found.is_empty() {
        bail!("{}: no folder below it holds metrics.csv or metrics.csv.gz", tree.display());
    }
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if metrics_file(folder).is_some() {
        found.push(folder.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        }
    }
    Ok(())
}

fn metrics_file(folder: &Path) -> Option<PathBuf> {
    ["metrics.csv.gz", "metrics.csv"].into_iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// `<dataset>/<case>`: the last two parts of the folder's path.
fn key(folder: &Path) -> anyhow::Result<String> {
    let folder = folder.canonicalize()?;
    let mut names = folder.iter().rev().map(|part| part.to_string_lossy().into_owned());
    let (case, dataset) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    Ok(format!("{dataset}/{case}"))
}

fn report(folder: &Path, args: &Args) -> anyhow::Result<Report> {
    let (names, mut window, injected) = read_case(folder)?;
    let started = Instant::now();
    if args.onset == Onset::Found {
        let alarm = window.row_at(injected + args.alarm_delay);
        window.onset_row = cause::onset::find(&window, alarm);
    }
    let ranking = cause::rank(&window);
    Ok(summarise(&names, &window, ranking, started.elapsed()))
}

fn summarise(names: &[String], window: &IncidentWindow, ranking: Ranking, took: Duration) -> Report {
    Report {
        ranks: ranking.metrics.iter().map(|(index, _)| names[*index].clone()).collect(),
        services: ranking.causes.iter().map(|cause| cause.service.clone()).collect(),
        confidence: ranking.confidence,
        time_s: took.as_secs_f64(),
        evidence: ranking.causes.into_iter().take(3).collect(),
        abstained: ranking.abstained,
        onset: window.times.get(window.onset_row).copied(),
    }
}

/// Column names, the window with the onset at the injection, and the time of the injection.
fn read_case(folder: &Path) -> anyhow::Result<(Vec<String>, IncidentWindow, Timestamp)> {
    let path = metrics_file(folder).context("there is neither metrics.csv.gz nor metrics.csv")?;
    let Table { times, names, columns, .. } = table::read(&path)?;
    let injected = read_text(folder, "inject_time.txt")?.context("inject_time.txt is missing")?;
    let injected = table::parse_time(&injected).with_context(|| format!("inject_time.txt: {injected:?} is no time"))?;
    let symptom = read_text(folder, "symptom.txt")?;
    let window = IncidentWindow::from_columns(times, &names, columns, injected)
        .with_context(|| format!("{} is no incident", path.display()))?
        .with_symptom(&names, symptom.as_deref())
        .with_calls(read_calls(folder)?);
    Ok((names, window, injected))
}

/// The trimmed text of a file, `None` when there is no such file or it is empty.
fn read_text(folder: &Path, name: &str) -> anyhow::Result<Option<String>> {
    let path = folder.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

/// Pairs of caller and callee, in order of the file; no file, no calls.
fn read_calls(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let path = folder.join("topology.csv");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let mut csv = csv::Reader::from_path(&path).with_context(|| format!("could not open {}", path.display()))?;
    let pairs = csv.deserialize::<(String, String)>();
    pairs.collect::<Result<_, _>>().with_context(|| format!("could not read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("shop/one");
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        (root, folder)
    }

    const METRICS: &str = "time,web_front_cpu,db_cpu\n0,1,1\n10,1.1,1\n20,0.9,1\n30,1,1\n40,1,9\n50,1.1,9\n60,1,9\n";

    fn args(case: Option<&Path>, cases: Option<&Path>, onset: Onset) -> Args {
        let owned = |path: Option<&Path>| path.map(Path::to_owned);
        Args { case: owned(case), cases: owned(cases), onset, alarm_delay: Duration::ZERO, output: None }
    }

    #[test]
    fn a_case_is_ranked_under_the_names_of_its_columns() {
        let (_root, folder) = case(&[("metrics.csv", METRICS), ("inject_time.txt", "35\n"), ("symptom.txt", "db_cpu")]);
        let report = report(&folder, &args(Some(&folder), None, Onset::Given)).unwrap();
        assert_eq!(report.services, ["db", "web_front"]);
        assert_eq!(report.ranks, ["db_cpu", "web_front_cpu"]);
        assert_eq!(report.onset, Some(Timestamp::from_secs(40)));
        assert_eq!(key(&folder).unwrap(), "shop/one");
    }

    #[test]
    fn a_late_alarm_still_finds_the_onset() {
        let (_root, folder) = case(&[("metrics.csv", METRICS), ("inject_time.txt", "35")]);
        let mut args = args(Some(&folder), None, Onset::Found);
        args.alarm_delay = Duration::from_secs(20);
        assert_eq!(report(&folder, &args).unwrap().onset, Some(Timestamp::from_secs(40)));
    }

    #[test]
    fn the_answer_is_never_read() {
        let (_root, folder) =
            case(&[("metrics.csv", METRICS), ("inject_time.txt", "35"), ("root_cause.json", "{broken")]);
        assert!(report(&folder, &args(Some(&folder), None, Onset::Given)).is_ok());
    }

    #[derive(serde::Deserialize)]
    struct Reference {
        onset_of_alarm_one_row_late: usize,
        scores: BTreeMap<String, f64>,
    }

    /// A recorded fault (`demo/data/README.md`) and what `models/tests/reference/cause.py` makes of it.
    fn recorded() -> (PathBuf, Reference) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let reference = fs::read_to_string(root.join("models/tests/reference/cause.json")).unwrap();
        (root.join("demo/data/fault"), serde_json::from_str(&reference).unwrap())
    }

    #[test]
    fn a_recorded_fault_is_scored_as_a_second_implementation_does() {
        let (folder, reference) = recorded();
        let (names, window, _) = read_case(&folder).unwrap();
        let ranking = cause::rank(&window);
        assert_eq!(ranking.metrics.len(), reference.scores.len());
        for (index, score) in &ranking.metrics {
            let expected = reference.scores[&names[*index]];
            assert!((score - expected).abs() <= 1e-6 * (1.0 + expected.abs()), "{}: {score} {expected}", names[*index]);
        }
        let alarm = window.onset_row + 1;
        assert_eq!(cause::onset::find(&window, alarm), reference.onset_of_alarm_one_row_late);
    }

    #[test]
    fn the_cause_of_a_recorded_fault_is_among_the_first_three() {
        let (folder, _) = recorded();
        for onset in [Onset::Given, Onset::Found] {
            let report = report(&folder, &args(Some(&folder), None, onset)).unwrap();
            assert!(report.services[..3].contains(&"currencyservice".to_owned()), "{:?}", report.services);
            assert!(report.evidence[0].summary.contains("rose from"), "{}", report.evidence[0].summary);
        }
    }

    #[test]
    fn a_tree_is_searched_and_a_broken_case_is_named() {
        let (root, folder) = case(&[("metrics.csv", METRICS)]);
        let args = args(None, Some(root.path()), Onset::Given);
        assert_eq!(folders(&args).unwrap(), [folder]);
        let error = format!("{:#}", run(&args).unwrap_err());
        assert!(error.contains("shop/one") && error.contains("inject_time.txt is missing"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        assert!(folders(&Args { cases: Some(empty.path().to_owned()), ..args }).is_err());
    }
}
