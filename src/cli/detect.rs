//! `bellwether detect`: anomaly scores for the rows of recorded tables, by the code that runs live.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bellwether_models::detect::{Detector, Params, RowMethod, RowScore, Rows, Score, Why};
use bellwether_models::duration;
use indicatif::{ProgressBar, ProgressStyle};

use crate::table::{self, Table};

/// Metrics that an explanation names.
const MOST_EXPLAINED: usize = 10;

/// Options of `bellwether detect`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("from").required(true)))]
pub struct Args {
    /// A table to score: `timestamp,value`, or wide with one column a metric; CSV, also gzipped.
    #[arg(long, value_name = "FILE", group = "from")]
    input: Option<PathBuf>,
    /// A tree of such tables (*.csv, *.csv.gz); the output is a tree of the same shape. Other files are passed over.
    #[arg(long, value_name = "DIR", group = "from", requires = "output_dir")]
    input_dir: Option<PathBuf>,
    /// History to learn from before the first row of the input; with the same columns.
    #[arg(long, value_name = "FILE", requires = "input")]
    train: Option<PathBuf>,
    /// CSV file to write; standard output when left out.
    #[arg(long, value_name = "FILE", conflicts_with = "input_dir")]
    output: Option<PathBuf>,
    /// Folder to write the tree of results to.
    #[arg(long, value_name = "DIR", requires = "input_dir")]
    output_dir: Option<PathBuf>,
    /// Adds one column per metric: its part in the score of the row.
    #[arg(long)]
    contributions: bool,
    /// Judges rows of several metrics by an isolation forest, for comparison; the default finds more.
    #[arg(long)]
    isolation_forest: bool,
    /// Instead of scores, says why this row of the input is scored as it is; the first row of data is 1.
    #[arg(long, value_name = "ROW", conflicts_with_all = ["input_dir", "output", "contributions"])]
    explain: Option<usize>,
}

impl Args {
    fn params(&self) -> Params {
        let rows = if self.isolation_forest { RowMethod::Forest } else { RowMethod::default() };
        Params { rows, ..Params::default() }
    }
}

/// Runs the command.
///
/// # Errors
/// When its input cannot be read or its output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match (&args.input, &args.input_dir, &args.output_dir) {
        (Some(input), _, _) => one(args, input)?,
        (None, Some(from), Some(to)) => tree(args, from, to)?,
        _ => bail!("give --input, or --input-dir and --output-dir"),
    }
    Ok(ExitCode::SUCCESS)
}

fn one(args: &Args, input: &Path) -> anyhow::Result<()> {
    let table = table::read(input)?;
    let train = args.train.as_deref().map(table::read).transpose()?;
    if let Some(row) = args.explain {
        print!("{}", explain(&table, train.as_ref(), row, args.params())?);
        return Ok(());
    }
    let rows = table.times.len() + train.as_ref().map_or(0, |train| train.times.len());
    let bar = progress(rows as u64, "rows");
    match &args.output {
        Some(path) => write_to(path, |out| score(&table, train.as_ref(), args, out, &bar))?,
        None => score(&table, train.as_ref(), args, &mut std::io::stdout().lock(), &bar)?,
    }
    bar.finish_and_clear();
    Ok(())
}

fn tree(args: &Args, from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut files = Vec::new();
    tables_below(from, &mut files)?;
    if files.is_empty() {
        bail!("{}: there is no .csv or .csv.gz file below this folder", from.display());
    }
    let bar = progress(files.len() as u64, "files");
    for file in &files {
        let inside = file.strip_prefix(from).unwrap_or(file);
        let target = to.join(without_gz(inside));
        let table = table::read(file)?;
        write_to(&target, |out| score(&table, None, args, out, &ProgressBar::hidden()))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Scores every row of `table`, after learning from `train`, and writes one line a row.
fn score(
    table: &Table,
    train: Option<&Table>,
    args: &Args,
    out: &mut dyn Write,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let (mut rows, contributions) = (Rows::new(table.names.len(), args.params()), args.contributions);
    let mut values = Vec::new();
    if let Some(train) = train {
        same_columns(table, train)?;
        for (row, at) in train.times.iter().enumerate() {
            fill(&mut values, train, row);
            rows.train(*at, &values);
            tick(bar, row);
        }
    }
    write!(out, "timestamp,anomaly_score")?;
    if contributions {
        table.names.iter().try_for_each(|name| write!(out, ",{}", quoted(name)))?;
    }
    writeln!(out)?;
    for (row, text) in table.time_texts.iter().enumerate() {
        fill(&mut values, table, row);
        let scored = rows.observe(table.times[row], &values);
        write!(out, "{},{}", quoted(text), scored.as_unit())?;
        if contributions {
            scored.contributions.iter().try_for_each(|part| write!(out, ",{part}"))?;
        }
        writeln!(out)?;
        tick(bar, row);
    }
    Ok(())
}

/// Why `row` (from 1) is scored as it is, for people.
fn explain(table: &Table, train: Option<&Table>, row: usize, params: Params) -> anyhow::Result<String> {
    let Some(last) = row.checked_sub(1).filter(|last| *last < table.times.len()) else {
        bail!("{} has rows 1 to {}: there is no row {row} to explain", table.path.display(), table.times.len());
    };
    let (mut rows, mut values) = (Rows::new(table.names.len(), params), Vec::new());
    if let Some(train) = train {
        same_columns(table, train)?;
        for (row, at) in train.times.iter().enumerate() {
            fill(&mut values, train, row);
            rows.train(*at, &values);
        }
    }
    for (row, at) in table.times[..last].iter().enumerate() {
        fill(&mut values, table, row);
        rows.observe(*at, &values);
    }
    fill(&mut values, table, last);
    let text = match &mut rows {
        Rows::One(detector) => {
            let score = detector.observe(table.times[last], table.columns[0][last]);
            explain_one(table.columns[0][last], &score, &detector.why())
        }
        Rows::Many(detector) => explain_many(table, last, &detector.observe(table.times[last], &values)),
    };
    Ok(format!("row {row}, {}\n{text}", table.time_texts[last]))
}

fn explain_one(value: f64, score: &Score, why: &Why) -> String {
    let mut text = format!("value {value}, expected {}\n{}", score.expected, surprise(score.surprise));
    let kind = score.kind.map_or("none stands out".to_owned(), |kind| format!("{kind:?}"));
    let _ = writeln!(text, "kind of departure: {kind}");
    let _ = writeln!(
        text,
        "level {}, spread about it {}, usual error of what is expected {}",
        why.level, why.spread, why.error
    );
    let seasons: Vec<String> = why.seasons.iter().map(|period| duration::format(*period)).collect();
    let seasons = if seasons.is_empty() { "none found".to_owned() } else { seasons.join(", ") };
    let _ = writeln!(text, "seasons: {seasons}; the series is known: {}", why.maturity.name());
    let _ = writeln!(text, "surprise of each kind, before what is known already was held down:");
    for (kind, told) in &why.kinds {
        let _ = writeln!(text, "  {:12} {told:.2}", format!("{kind:?}"));
    }
    text
}

fn explain_many(table: &Table, row: usize, scored: &RowScore) -> String {
    let mut parts: Vec<(&str, f64, f64)> = (table.names.iter().zip(&table.columns).zip(&scored.contributions))
        .map(|((name, column), part)| (name.as_str(), column[row], *part))
        .collect();
    parts.sort_by(|a, b| b.2.total_cmp(&a.2));
    let whole: f64 = scored.contributions.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut text = surprise(scored.surprise);
    text.push_str("metrics by their part in the departure:\n");
    for (name, value, part) in parts.into_iter().take(MOST_EXPLAINED) {
        let _ = writeln!(text, "  {name:24} {value:<12} {:5.1} %", 100.0 * part / whole);
    }
    text
}

fn surprise(told: f64) -> String {
    let score = Score { surprise: told, ..Score::NONE }.as_unit();
    format!("score {score:.4}: surprise {told:.2}, seen on this history about once in {:.0} rows\n", 10f64.powf(told))
}

/// Puts row `row` of `table` into `values`.
fn fill(values: &mut Vec<f64>, table: &Table, row: usize) {
    values.clear();
    values.extend(table.columns.iter().map(|column| column[row]));
}

fn same_columns(table: &Table, train: &Table) -> anyhow::Result<()> {
    if table.names != train.names {
        bail!(
            "{} and {} have different columns ({} and {}); give the history of the same metrics in the same order",
            table.path.display(),
            train.path.display(),
            table.names.join(","),
            train.names.join(",")
        );
    }
    Ok(())
}

fn write_to(path: &Path, work: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    }
    let file = File::create(path).with_context(|| format!("could not create {}", path.display()))?;
    let mut out = BufWriter::new(file);
    work(&mut out)?;
    out.flush().with_context(|| format!("could not write {}", path.display()))
}

fn tables_below(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let listing = fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
    let mut entries: Vec<_> =
        listing.collect::<Result<_, _>>().with_context(|| format!("could not list {}", folder.display()))?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            tables_below(&path, found)?;
        } else if without_gz(&path).extension().is_some_and(|extension| extension == "csv") {
            found.push(path);
        }
    }
    Ok(())
}

fn without_gz(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|extension| extension == "gz") { path.with_extension("") } else { path.to_owned() }
}

/// A CSV cell, quoted where it must be.
fn quoted(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}

fn progress(len: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{wide_bar}} {{pos}}/{{len}} {what} {{eta}}"));
    ProgressBar::new(len).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn tick(bar: &ProgressBar, row: usize) {
    if row % 4096 == 4095 {
        bar.inc(4096);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bellwether_models::detect::{Change, Univariate, Watch};
    use bellwether_models::series::Labels;
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn detect(folder: &Path, line: &[&str]) -> anyhow::Result<ExitCode> {
        let full = line.iter().map(|word| word.replace("DIR", &folder.display().to_string()));
        run(&Line::try_parse_from(std::iter::once("detect".to_owned()).chain(full))?.args)
    }

    fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn scores(text: &str) -> Vec<f64> {
        text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect()
    }

    /// Two hundred rows around ten, the row at `spike` far away.
    fn wavy(spike: usize, header: &str) -> String {
        let row = |k: usize| if k == spike { 500.0 } else { 10.0 + (k as f64 * 0.7).sin() };
        let rows: String = (0..200).map(|k| format!("{},{}\n", k / 2 * 2, row(k))).collect();
        format!("{header}\n{rows}")
    }

    #[test]
    fn every_row_is_scored_in_order_repeated_times_too() {
        let folder = folder_with(&[("in.csv", &wavy(150, "timestamp,value"))]);
        detect(folder.path(), &["--input", "DIR/in.csv", "--output", "DIR/out.csv"]).unwrap();
        let text = fs::read_to_string(folder.path().join("out.csv")).unwrap();
        assert!(text.starts_with("timestamp,anomaly_score\n0,"));
        let scores = scores(&text);
        assert_eq!(scores.len(), 200);
        assert!(scores.iter().all(|score| (0.0..1.0).contains(score)));
        let highest = (0..200).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
        assert_eq!(highest, 150);
    }

    #[test]
    fn quiet_days_of_a_recorded_load_raise_no_alarm_at_one_false_alarm_a_week() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/data/demand.csv.gz");
        let load = table::read(&path).unwrap();
        let bars = bellwether_predictor::stream::thresholds(&bellwether_predictor::DetectionConfig::default(), 1);
        let mut watch = Watch::new(Labels::metric("load"), Univariate::default());
        let learnt = load.times[0] + Duration::from_secs(6 * 86_400);
        let quiet = learnt..learnt + Duration::from_secs(3 * 86_400);
        let mut rows = 0;
        for (at, value) in load.times.iter().zip(&load.columns[0]).filter(|(at, _)| **at < quiet.end) {
            let change = watch.feed(*at, *value, &bars).1;
            rows += usize::from(quiet.contains(at));
            assert!(!quiet.contains(at) || !matches!(change, Some(Change::Opened(_))), "{at:?}: {change:?}");
        }
        assert_eq!(rows, 3 * 1440);
    }

    #[test]
    fn a_score_does_not_depend_on_later_rows_or_on_labels() {
        let whole = wavy(150, "timestamp,value");
        let part: String = whole.lines().take(121).map(|line| format!("{line}\n")).collect();
        let labelled: String = whole
            .lines()
            .enumerate()
            .map(|(k, line)| format!("{line},{}\n", if k == 0 { "label" } else { "1" }))
            .collect();
        let folder = folder_with(&[("whole.csv", &whole), ("part.csv", &part), ("labelled.csv", &labelled)]);
        let read = |name: &str| {
            detect(folder.path(), &["--input", &format!("DIR/{name}"), "--output", "DIR/out.csv"]).unwrap();
            scores(&fs::read_to_string(folder.path().join("out.csv")).unwrap())
        };
        assert_eq!(read("whole.csv")[..120], read("part.csv")[..]);
        assert_eq!(read("whole.csv"), read("labelled.csv"));
    }

    #[test]
    fn a_tree_is_mirrored_and_other_files_are_passed_over() {
        let folder = folder_with(&[("in/a/x.csv", &wavy(9, "timestamp,value")), ("in/README.md", "no table")]);
        let mut gz = flate2::write::GzEncoder::new(
            File::create(folder.path().join("in/a/y.csv.gz")).unwrap(),
            Default::default(),
        );
        gz.write_all(wavy(9, "timestamp,value").as_bytes()).unwrap();
        gz.finish().unwrap();
        detect(folder.path(), &["--input-dir", "DIR/in", "--output-dir", "DIR/out"]).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join("out/a").join(name)).unwrap();
        assert_eq!(read("x.csv"), read("y.csv"));
        assert!(!folder.path().join("out/README.md").exists());
    }

    #[test]
    fn contributions_name_the_metric_that_departs_and_a_history_replaces_the_warm_up() {
        let table = |spike: Option<usize>| {
            let row = |k: usize| {
                let b = if spike == Some(k) { 90.0 } else { (k as f64 * 1.1).cos() };
                format!("{k},{},{b},5\n", (k as f64 * 0.7).sin())
            };
            (0..300).map(row).fold("t,a,b,c\n".to_owned(), |text, row| text + &row)
        };
        let folder = folder_with(&[("train.csv", &table(None)), ("test.csv", &table(Some(20)))]);
        let line =
            ["--input", "DIR/test.csv", "--train", "DIR/train.csv", "--output", "DIR/out.csv", "--contributions"];
        detect(folder.path(), &line).unwrap();
        let text = fs::read_to_string(folder.path().join("out.csv")).unwrap();
        assert!(text.starts_with("timestamp,anomaly_score,a,b,c\n"));
        let spike: Vec<f64> = text.lines().nth(21).unwrap().split(',').map(|cell| cell.parse().unwrap()).collect();
        assert!(spike[3] > spike[2] && spike[3] > spike[4], "{spike:?}");
        assert!(spike[1] > 0.4, "{spike:?}");
    }

    #[test]
    fn a_row_is_explained_by_the_kinds_of_departure_or_by_its_metrics() {
        let folder = folder_with(&[
            ("one.csv", &wavy(150, "timestamp,value")),
            ("many.csv", &wavy(150, "t,a").lines().map(|l| format!("{l},7\n")).collect::<String>()),
        ]);
        let told =
            |name: &str, row| explain(&table::read(&folder.path().join(name)).unwrap(), None, row, Params::default());
        let one = told("one.csv", 151).unwrap();
        assert!(one.contains("row 151, 150") && one.contains("value 500") && one.contains("Spike"), "{one}");
        assert!(told("one.csv", 120).unwrap().contains("none stands out"));
        let many = told("many.csv", 151).unwrap();
        let first = many.lines().nth(3).unwrap_or_default();
        assert_eq!(first.split_whitespace().collect::<Vec<_>>(), ["a", "500", "100.0", "%"], "{many}");
        assert!(format!("{:#}", told("one.csv", 201).unwrap_err()).contains("rows 1 to 200"));
        assert!(told("one.csv", 0).is_err());
    }

    #[test]
    fn wrong_input_is_named() {
        let folder =
            folder_with(&[("a.csv", "t,a,b\n0,1,2\n"), ("b.csv", "t,a,c\n0,1,2\n"), ("bad.csv", "t,v\n0,x\n")]);
        let error = |line: &[&str]| format!("{:#}", detect(folder.path(), line).unwrap_err());
        assert!(
            error(&["--input", "DIR/a.csv", "--train", "DIR/b.csv", "--output", "DIR/o"]).contains("different columns")
        );
        assert!(error(&["--input", "DIR/bad.csv", "--output", "DIR/o"]).contains("bad.csv:2"));
        assert!(error(&["--input", "DIR/none.csv", "--output", "DIR/o"]).contains("none.csv"));
        assert!(error(&["--input-dir", "DIR", "--output", "DIR/o"]).contains("--output"));
    }
}
