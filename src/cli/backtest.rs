//! `bellwether backtest`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bellwether_models::backtest::{Board, Plan};
use bellwether_models::forecast::calendar::{Calendar, InCalendar};
use bellwether_models::forecast::{Choice, FitError, Fitted, Forecast, Forecaster, Quantile};
use bellwether_models::series::Window;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use super::forecast::{Days, ForecastCsv, Span, say};
use super::report::{self, Made, Replayed};
use crate::table;

/// Options of `bellwether backtest`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// CSV (`.gz` too): `timestamp,value`, long `series,timestamp,value`, or wide with one column a series.
    #[arg(long, value_name = "FILE", required_unless_present = "manifest", requires = "horizon")]
    input: Option<PathBuf>,
    /// CSV `series,file,step_s,seasons,horizon,context,origins` that says everything per series; `;` inside lists,
    /// `file` relative to the manifest.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["input", "horizon", "season", "origins", "stride"])]
    manifest: Option<PathBuf>,
    /// How far ahead, in steps of the series (`12`) or as a duration (`1h`).
    #[arg(long, value_name = "STEPS|DURATION")]
    horizon: Option<Span>,
    /// Lengths of the seasons, in steps or as durations, separated by commas; found in the data when left out.
    #[arg(long, value_name = "P[,P2]", value_delimiter = ',')]
    season: Vec<Span>,
    /// How many origins, counted from the end of each series.
    #[arg(long, value_name = "K", default_value_t = 10)]
    origins: usize,
    /// Distance between origins; the horizon by default.
    #[arg(long, value_name = "STEPS|DURATION")]
    stride: Option<Span>,
    /// Models to score, separated by commas: combination, light, thorough, naive, seasonal_naive, profile, ets, mstl,
    /// theta, arima, sarima, ridge, regression, lstm; without_NAME is the combination without a member, or without one
    /// of the steps settling, weighing and widths. The forecasts of the first are written.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "combination,seasonal_naive,naive")]
    model: Vec<Choice>,
    #[command(flatten)]
    days: Days,
    /// A network made by `bellwether train` for the model lstm, in place of the one that comes with the program.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Where the CSV `series,origin,step,timestamp,mean,p10,p50,p90,p95` goes; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where a report with plots of the first model goes: one HTML file that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Replays every series and prints a score table, to standard error when standard output carries the forecasts. Exit
/// code 1 when no forecast could be made.
///
/// # Errors
/// When its input cannot be read or its output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    super::train::use_weights(args.weights.as_deref())?;
    let tasks = match (&args.manifest, &args.input) {
        (Some(manifest), _) => manifest_tasks(manifest)?,
        (None, Some(input)) => input_tasks(input, args)?,
        (None, None) => bail!("give --input or --manifest"),
    };
    let mut csv = args.output.as_deref().map(ForecastCsv::create).transpose()?;
    let forecasts = tasks.iter().map(|task| task.plan.origins.len()).sum::<usize>();
    let progress = progress(forecasts * args.model.len());
    let (mut boards, mut replayed, calendar) = (Vec::new(), Vec::new(), args.days.calendar()?);
    for (rank, model) in args.model.iter().enumerate() {
        let mut board = Scored::new(*model);
        for task in &tasks {
            let made = board.play(task, &calendar, csv.as_mut().filter(|_| rank == 0), &progress)?;
            if rank == 0 && args.html.is_some() {
                replayed.push(Replayed { series: task.series.clone(), window: task.window.clone(), made });
            }
        }
        boards.push(board);
    }
    progress.finish_and_clear();
    csv.map(ForecastCsv::finish).transpose()?;
    let table = render(&boards);
    if let (Some(html), Some(model)) = (&args.html, args.model.first()) {
        std::fs::write(html, report::page(&model.to_string(), &table, &replayed))
            .with_context(|| format!("could not write {}", html.display()))?;
    }
    if args.output.as_deref() == Some(Path::new("-")) {
        say(&progress, &table)
    } else {
        print(&table)?
    }
    let none = boards.first().is_none_or(|scored| scored.board.forecasts == 0);
    Ok(if none { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    std::io::stdout().write_all(text.as_bytes()).context("could not write to standard output")
}

/// A bar on standard error that is hidden where no one looks.
pub(super) fn progress(len: usize) -> ProgressBar {
    let bar = ProgressBar::new(len as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed} left {eta} {msg}");
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}

/// What is to be replayed of one series.
struct Task {
    series: String,
    window: Window,
    seasons: Vec<usize>,
    plan: Plan,
}

fn input_tasks(input: &Path, args: &Args) -> anyhow::Result<Vec<Task>> {
    let horizon = args.horizon.context("give --horizon")?;
    if args.origins == 0 {
        bail!("--origins must be at least 1: without an origin there is nothing to score");
    }
    let task = |named: table::NamedSeries| -> anyhow::Result<Task> {
        let window = named.window()?;
        let horizon = horizon.as_horizon(window.step)?;
        let stride = args.stride.map_or(Ok(horizon.steps()), |stride| stride.steps(window.step))?;
        let plan = Plan::last(window.len(), args.origins, stride, horizon);
        Ok(Task { series: named.name, seasons: Span::as_seasons(&args.season, window.step)?, window, plan })
    };
    table::read_series(input)?.into_iter().map(task).collect()
}

/// One row of a manifest.
#[derive(Debug, Deserialize)]
struct Row {
    series: String,
    file: String,
    seasons: String,
    horizon: usize,
    context: usize,
    origins: String,
}

fn manifest_tasks(manifest: &Path) -> anyhow::Result<Vec<Task>> {
    let mut rows =
        csv::Reader::from_path(manifest).with_context(|| format!("could not open {}", manifest.display()))?;
    rows.deserialize()
        .map(|row| {
            let row: Row = row.with_context(|| format!("could not read {}", manifest.display()))?;
            manifest_task(manifest, &row).with_context(|| format!("{}: series {:?}", manifest.display(), row.series))
        })
        .collect()
}

fn manifest_task(manifest: &Path, row: &Row) -> anyhow::Result<Task> {
    let file = manifest.parent().unwrap_or(Path::new("")).join(&row.file);
    let named = table::read_series(&file)?.into_iter().next().context("the file holds no series")?;
    let window = named.window()?;
    let horizon = Span::Steps(row.horizon).as_horizon(window.step)?;
    let origins = list(&row.origins)?;
    if let Some(origin) = origins.iter().find(|o| **o > window.len()) {
        bail!("origin {origin} lies beyond the {} points of {}", window.len(), file.display());
    }
    let plan = Plan { origins, context: row.context, horizon };
    Ok(Task { series: row.series.clone(), window, seasons: list(&row.seasons)?, plan })
}

fn list(text: &str) -> anyhow::Result<Vec<usize>> {
    let number = |part: &str| part.trim().parse().with_context(|| format!("{part:?} is not a whole number"));
    text.split(';').filter(|part| !part.trim().is_empty()).map(number).collect()
}

/// The scores of one model over all series, and what they cost.
struct Scored {
    model: Choice,
    board: Board,
    cpu_seconds: f64,
}

impl Scored {
    fn new(model: Choice) -> Self {
        Self { model, board: Board::default(), cpu_seconds: 0.0 }
    }

    /// Replays one series, writing the forecasts where they are wanted; gives them too.
    fn play(
        &mut self,
        task: &Task,
        calendar: &Calendar,
        mut csv: Option<&mut ForecastCsv>,
        bar: &ProgressBar,
    ) -> anyhow::Result<Vec<Made>> {
        let Self { model, board, cpu_seconds: spent } = self;
        let method = model.method(task.plan.horizon, &task.seasons);
        let method = InCalendar { method, calendar: calendar.clone() };
        let mut replayed = Vec::new();
        let make = |history: &Window| {
            let before = cpu_seconds();
            let made = method
                .fit(history)
                .map(|fitted| (fitted.forecast(task.plan.horizon, &Quantile::STANDARD), fitted.live().shares()));
            *spent += cpu_seconds() - before;
            bar.inc(1);
            made
        };
        let heard = |origin: usize, made: Result<(Forecast, Vec<(String, f64)>), FitError>| {
            match made {
                Ok((forecast, shares)) => {
                    if let Some(csv) = csv.as_deref_mut() {
                        csv.write(&task.series, origin, &forecast)?;
                    }
                    replayed.push(Made { origin, forecast, shares });
                }
                Err(error) => say(bar, &format!("{} at origin {origin}: no {model} forecast: {error}", task.series)),
            }
            anyhow::Ok(())
        };
        board.play(&task.window, &task.seasons, &task.plan, make, heard)?;
        Ok(replayed)
    }

    fn row(&self) -> String {
        let told = self.board.summary();
        format!(
            "{:<16}{:>9}{:>9}{:>9}{:>9}{:>9}{:>11}{:>9}{:>12}\n",
            self.model.to_string(),
            shown(told.mase),
            shown(told.wql),
            shown(told.coverage),
            shown(told.least_coverage),
            shown(told.margin),
            self.board.forecasts,
            self.board.refused,
            format!("{:.2}", self.cpu_seconds),
        )
    }
}

fn render(boards: &[Scored]) -> String {
    let head = format!(
        "{:<16}{:>9}{:>9}{:>9}{:>9}{:>9}{:>11}{:>9}{:>12}\n",
        "model", "gm MASE", "gm WQL", "<=p95", "least", "over p95", "forecasts", "refused", "CPU seconds"
    );
    boards.iter().fold(head, |text, board| text + &board.row())
}

fn shown(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.4}"))
}

/// Seconds this thread has spent on a processor; wall time where the system does not tell.
fn cpu_seconds() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    nanos.map_or_else(|| START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64(), |nanos| nanos * 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(dir: &Path, rows: usize) -> PathBuf {
        let path = dir.join("load.csv");
        let rows: String = (0..rows).map(|i| format!("{},{}\n", i * 300, 20 + i % 12 + (i * 7) % 3)).collect();
        std::fs::write(&path, format!("timestamp,value\n{rows}")).unwrap();
        path
    }

    fn args(manifest: Option<PathBuf>, input: Option<PathBuf>, output: &Path) -> Args {
        let (season, model) = (vec![Span::Steps(12)], vec![Choice::Combination]);
        let horizon = Some(Span::Steps(3));
        Args {
            input,
            manifest,
            horizon,
            season,
            origins: 4,
            stride: None,
            model,
            days: Days::default(),
            weights: None,
            output: Some(output.to_owned()),
            html: None,
        }
    }

    #[test]
    fn a_manifest_and_the_same_by_options_write_the_same_forecasts() {
        let dir = tempfile::tempdir().unwrap();
        let input = series(dir.path(), 150);
        let manifest = dir.path().join("manifest.csv");
        let row = "load,load.csv,300,12,3,150,138;141;144;147";
        std::fs::write(&manifest, format!("series,file,step_s,seasons,horizon,context,origins\n{row}\n")).unwrap();
        let (one, other) = (dir.path().join("1.csv"), dir.path().join("2.csv"));
        let html = dir.path().join("report.html");
        run(&Args { html: Some(html.clone()), ..args(Some(manifest), None, &one) }).unwrap();
        run(&args(None, Some(input), &other)).unwrap();
        assert!(std::fs::read_to_string(html).unwrap().contains("<h2>load</h2>"));
        let written = std::fs::read_to_string(one).unwrap();
        assert_eq!(written, std::fs::read_to_string(other).unwrap());
        assert_eq!(written.lines().count(), 1 + 4 * 3);
    }

    #[test]
    fn no_origin_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let none = Args { origins: 0, ..args(None, Some(series(dir.path(), 150)), Path::new("-")) };
        assert!(run(&none).unwrap_err().to_string().contains("--origins must be at least 1"));
    }

    #[test]
    fn an_origin_beyond_the_series_is_named_with_its_manifest() {
        let dir = tempfile::tempdir().unwrap();
        series(dir.path(), 50);
        let manifest = dir.path().join("manifest.csv");
        let row = "load,load.csv,300,12,3,150,90";
        std::fs::write(&manifest, format!("series,file,step_s,seasons,horizon,context,origins\n{row}\n")).unwrap();
        let error = run(&args(Some(manifest), None, Path::new("-"))).unwrap_err();
        assert!(format!("{error:#}").contains("origin 90 lies beyond the 50 points"), "{error:#}");
    }
}
