//! `bellwether forecast`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bellwether_models::duration;
use bellwether_models::forecast::calendar::{Calendar, InCalendar};
use bellwether_models::forecast::{Choice, Fitted, Forecast, Forecaster, Horizon, Quantile};
use bellwether_models::series::{Step, Timestamp, Window};
use bellwether_predictor::config::CalendarConfig;
use indicatif::ProgressBar;

use crate::table;

/// Options of `bellwether forecast`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// CSV (`.gz` too): `timestamp,value`, long `series,timestamp,value`, or wide with one column a series.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// How far ahead, in steps of the series (`12`) or as a duration (`1h`).
    #[arg(long, value_name = "STEPS|DURATION")]
    horizon: Span,
    /// Lengths of the seasons, in steps or as durations, separated by commas; found in the data when left out.
    #[arg(long, value_name = "P[,P2]", value_delimiter = ',')]
    season: Vec<Span>,
    /// One model instead of the combination: naive, seasonal_naive, profile, ets, mstl, theta, arima, sarima, ridge,
    /// regression, lstm; or another combination: light, thorough, without_NAME.
    #[arg(long, value_name = "NAME", default_value = "combination")]
    model: Choice,
    #[command(flatten)]
    days: Days,
    /// A network made by `bellwether train` for the model lstm, in place of the one that comes with the program.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Where the CSV `series,origin,step,timestamp,mean,p10,p50,p90,p95` goes; `-` is standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
}

/// Forecasts every series of the file. Exit code 1 when no series could be forecast.
///
/// # Errors
/// When its input cannot be read or its output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    super::train::use_weights(args.weights.as_deref())?;
    let series = table::read_series(&args.input)?;
    let mut csv = ForecastCsv::create(&args.output)?;
    let progress = super::backtest::progress(series.len());
    let mut done = 0usize;
    for named in progress.wrap_iter(series.iter()) {
        match one(&named.window()?, args) {
            Ok(forecast) => {
                let origin = forecast.start.since(named.times[0]).as_millis() / forecast.step.as_millis() as u128;
                csv.write(&named.name, origin as usize, &forecast)?;
                done += 1;
            }
            Err(error) => say(&progress, &format!("{}: no forecast: {error:#}", named.name)),
        }
    }
    csv.finish()?;
    Ok(if done > 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn one(window: &Window, args: &Args) -> anyhow::Result<Forecast> {
    let horizon = args.horizon.as_horizon(window.step)?;
    let method = args.model.method(horizon, &Span::as_seasons(&args.season, window.step)?);
    let fitted = InCalendar { method, calendar: args.days.calendar()? }.fit(window)?;
    Ok(fitted.forecast(horizon, &Quantile::STANDARD))
}

/// Where and how the people behind the series live.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Days {
    /// Time zone by whose clock days begin and clocks change, such as Europe/Berlin; UTC when left out.
    #[arg(long, value_name = "NAME")]
    time_zone: Option<String>,
    /// Dates that are like Saturdays and Sundays, past and to come, such as 2026-12-25, separated by commas.
    #[arg(long, value_name = "DATES", value_delimiter = ',')]
    holidays: Vec<jiff::civil::Date>,
}

impl Days {
    pub(super) fn calendar(&self) -> anyhow::Result<Calendar> {
        if self.time_zone.is_none() && self.holidays.is_empty() {
            return Ok(Calendar::default());
        }
        let time_zone = self.time_zone.clone().unwrap_or_else(|| "UTC".to_owned());
        let days = CalendarConfig { time_zone, holidays: self.holidays.clone(), ..CalendarConfig::default() };
        let Some(_) = days.zone() else {
            bail!("{:?} is no time zone; give a name of the IANA database such as Europe/Berlin", days.time_zone);
        };
        Ok(days.calendar())
    }
}

/// Tells people something without disturbing the progress bar or standard output.
pub(super) fn say(progress: &ProgressBar, text: &str) {
    progress.suspend(|| {
        let _ = writeln!(std::io::stderr(), "bellwether: {text}");
    });
}

/// A number of steps, or a time that becomes one on the grid of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Span {
    Steps(usize),
    Time(std::time::Duration),
}

impl std::str::FromStr for Span {
    type Err = duration::NotADuration;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Steps).or_else(|_| duration::parse(text).map(Self::Time))
    }
}

impl Span {
    /// Whole steps, rounded up, at least one.
    pub(super) fn steps(self, step: Step) -> anyhow::Result<usize> {
        let steps = match self {
            Self::Steps(steps) => steps,
            Self::Time(time) => (time.as_millis() as u64).div_ceil(step.as_millis() as u64) as usize,
        };
        if !(1..=1_000_000).contains(&steps) {
            bail!("a span of {steps} steps makes no sense; give 1 to 1000000 steps or a duration such as 1h");
        }
        Ok(steps)
    }

    pub(super) fn as_horizon(self, step: Step) -> anyhow::Result<Horizon> {
        Horizon::new(self.steps(step)?).context("a horizon has at least one step")
    }

    pub(super) fn as_seasons(seasons: &[Self], step: Step) -> anyhow::Result<Vec<usize>> {
        seasons.iter().map(|season| season.steps(step)).collect()
    }
}

/// Forecasts as CSV `series,origin,step,timestamp,mean,p10,p50,p90,p95`.
pub(super) struct ForecastCsv {
    rows: csv::Writer<Box<dyn Write>>,
    path: PathBuf,
}

impl ForecastCsv {
    /// Opens `path`; `-` is standard output.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let sink: Box<dyn Write> = if path == Path::new("-") {
            Box::new(std::io::stdout())
        } else {
            let file = File::create(path).with_context(|| format!("could not create {}", path.display()))?;
            Box::new(BufWriter::new(file))
        };
        let mut csv = Self { rows: csv::Writer::from_writer(sink), path: path.to_owned() };
        csv.row(&["series", "origin", "step", "timestamp", "mean", "p10", "p50", "p90", "p95"].map(str::to_owned))?;
        Ok(csv)
    }

    /// Writes one row for each step of `forecast`, made when `origin` observations were known.
    pub(super) fn write(&mut self, series: &str, origin: usize, forecast: &Forecast) -> anyhow::Result<()> {
        let paths = Quantile::STANDARD.map(|level| forecast.quantile(level));
        for (k, mean) in forecast.mean.iter().enumerate() {
            let mut row = vec![series.to_owned(), origin.to_string(), (k + 1).to_string()];
            row.push(seconds(forecast.time_of(k)));
            row.extend(std::iter::once(mean).chain(paths.iter().map(|path| &path[k])).map(f64::to_string));
            self.row(&row)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.rows.flush().with_context(|| format!("could not write {}", self.path.display()))
    }

    fn row(&mut self, cells: &[String]) -> anyhow::Result<()> {
        self.rows.write_record(cells).with_context(|| format!("could not write {}", self.path.display()))
    }
}

/// Unix seconds, with a fraction only where there is one.
fn seconds(at: Timestamp) -> String {
    let millis = at.as_millis();
    if millis % 1000 == 0 { (millis / 1000).to_string() } else { at.as_secs_f64().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_in_steps_or_as_a_duration() {
        let five_minutes = Step::from_secs(300);
        let steps = |text: &str| text.parse::<Span>().unwrap().steps(five_minutes).ok();
        assert_eq!(steps("12"), Some(12));
        assert_eq!(steps("1h"), Some(12));
        assert_eq!(steps("7m"), Some(2));
        assert_eq!(steps("0"), None);
        assert!("soon".parse::<Span>().is_err());
    }

    #[test]
    fn an_unknown_time_zone_is_refused_with_an_example() {
        let days = Days { time_zone: Some("Mars/Olympus".to_owned()), holidays: vec![] };
        assert!(days.calendar().unwrap_err().to_string().contains("Europe/Berlin"));
        assert!(Days::default().calendar().unwrap().is_empty());
    }

    #[test]
    fn every_series_is_written_in_the_agreed_form() {
        let dir = tempfile::tempdir().unwrap();
        let (input, output) = (dir.path().join("in.csv"), dir.path().join("out.csv"));
        let mut text = "timestamp,web,db\n".to_owned();
        (0..60).for_each(|i| text.push_str(&format!("{},{},{}\n", 600 + i * 60, i % 6 + 10, 5)));
        std::fs::write(&input, text).unwrap();
        let season = vec![Span::Steps(6)];
        let args = Args {
            input,
            horizon: Span::Steps(2),
            season,
            model: Choice::Combination,
            days: Days::default(),
            weights: None,
            output: output.clone(),
        };
        run(&args).unwrap();
        let written = std::fs::read_to_string(output).unwrap();
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines[0], "series,origin,step,timestamp,mean,p10,p50,p90,p95");
        assert!(lines[1].starts_with("web,60,1,4200,") && lines[2].starts_with("web,60,2,4260,"), "{written}");
        assert_eq!(lines[3], "db,60,1,4200,5,5,5,5,5");
        assert_eq!(lines.len(), 5);
    }
}
