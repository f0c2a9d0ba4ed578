//! `bellwether simulate`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bellwether_models::duration;
use bellwether_models::series::Window;
use bellwether_scheduler::ScaleConfig;
use bellwether_scheduler::simulate::{
    Report, Setting, html, run as simulate, usual_capacity, usual_policies, usual_scale, usual_targets,
};
use indicatif::{ProgressBar, ProgressStyle};

use super::client::{Server, path};
use super::history::Told;
use crate::table;

/// Options of `bellwether simulate`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("load").required(true)))]
pub struct Args {
    /// Demand to serve: CSV (`.gz` too) `timestamp,value`, one series.
    #[arg(long, value_name = "FILE", group = "load")]
    demand: Option<PathBuf>,
    /// A workload of the running server in its place: the demand that its store holds, with the workload's own settings,
    /// start-up time and capacity (as learnt, where they are) unless others are named.
    #[arg(long, value_name = "NAME", group = "load")]
    workload: Option<String>,
    /// How much of the workload's demand, such as 14d. Default: the history that its forecasts learn from.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with = "demand")]
    last: Option<Duration>,
    /// YAML with the `scale` section of a workload; what it leaves out has its default. Capacity, start-up time, bounds
    /// and costs come from the options beside it. Without a file: target_utilisation 0.7, floor_utilisation 0.95.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Time from asking for a replica until it serves. Default for a file: 120s.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    startup: Option<Duration>,
    /// Demand that one replica serves. Default for a file: a tenth of the 95th percentile of demand.
    #[arg(long, value_name = "DEMAND")]
    capacity: Option<f64>,
    /// Time between two decisions.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration::parse)]
    cadence: Duration,
    /// Age of the newest demand when a decision is made.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration::parse)]
    metric_age: Duration,
    /// Target utilisations of the plain autoscalers: first, last and step.
    #[arg(long, value_name = "FROM:TO:STEP", default_value = "0.3:0.95:0.05", value_parser = targets)]
    targets: Targets,
    /// Cost ratios of too few against too many replicas that our policy is run with, separated by commas.
    #[arg(long, value_name = "RATIOS", value_delimiter = ',', default_value = "1,2,5,10,20,50,100,200,500", value_parser = ratio)]
    costs: Vec<f64>,
    /// Simulates a trace coarser than the start-up time all the same: demand is linear between its points.
    #[arg(long)]
    coarse: bool,
    /// Where a self-contained page with figures goes.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Where the report goes as JSON; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Debug)]
struct Targets(Vec<f64>);

/// Runs the command.
///
/// # Errors
/// When its input cannot be read, when the trace cannot be simulated as asked, or when its output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Case { name, demand, scale, startup, capacity } = match (&args.workload, &args.demand) {
        (Some(workload), _) => live(args, workload)?,
        (None, Some(file)) => recorded(file)?,
        (None, None) => bail!("name a file with --demand or a workload of the running server with --workload"),
    };
    let scale = args.policy.as_deref().map(read_policy).transpose()?.unwrap_or(scale);
    let capacity = args.capacity.or(capacity).map_or_else(|| usual_capacity(&name, &demand), Ok)?;
    let startup = args.startup.unwrap_or(startup);
    let setting = Setting { startup, capacity, cadence: args.cadence, metric_age: args.metric_age };
    setting.check(&name, &demand, args.coarse)?;

    let mut policies = usual_policies(&setting, &scale, &args.targets.0, &args.costs);
    let progress = progress();
    let outcomes = simulate(&demand, &setting, &mut policies, |share| progress.set_position((share * 1000.0) as u64));
    progress.finish_and_clear();

    let report = Report::new(&name, &demand, &setting, &outcomes);
    write(&args.output, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    if let Some(path) = &args.html {
        write(path, &html::page(&report, &demand, &setting, &outcomes))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is simulated, as far as no option says otherwise.
struct Case {
    name: String,
    demand: Window,
    scale: ScaleConfig,
    startup: Duration,
    capacity: Option<f64>,
}

fn recorded(path: &Path) -> anyhow::Result<Case> {
    let mut series = table::read_series(path)?;
    let Some(only) = series.pop().filter(|_| series.is_empty()) else {
        bail!("{} holds {} series; demand is one", path.display(), series.len() + 1);
    };
    let demand = only.window()?;
    Ok(Case { name: only.name, demand, scale: usual_scale(), startup: Duration::from_secs(120), capacity: None })
}

/// What a running server has learnt of a workload.
#[derive(Default, serde::Deserialize)]
struct Learnt {
    startup_seconds: Option<f64>,
    capacity_per_replica: Option<f64>,
}

fn live(args: &Args, workload: &str) -> anyhow::Result<Case> {
    let mut all = Told::all(&args.server)?;
    let Some(place) = all.iter().position(|told| told.name == workload) else {
        let known: Vec<&str> = all.iter().map(|told| told.name.as_str()).collect();
        bail!("the server has no workload {workload:?}; it has {}", known.join(", "));
    };
    let told = all.swap_remove(place);
    let demand = told.demand(&args.server, args.last)?;
    let Some(scale) = told.scale else {
        return Ok(Case {
            name: told.name,
            demand,
            scale: usual_scale(),
            startup: Duration::from_secs(120),
            capacity: None,
        });
    };
    let learnt = match args.server.get(&path(&["workloads", workload, "learnt"]), &[]) {
        Err(error) if format!("{error:#}").contains("404") => Learnt::default(), // nothing was learnt yet
        told => told?,
    };
    let measured = learnt.startup_seconds.filter(|_| scale.learn_startup).map(Duration::try_from_secs_f64);
    let startup = measured.and_then(Result::ok).unwrap_or(scale.startup);
    let capacity = scale.capacity_per_replica.map(|given| given.value()).or(learnt.capacity_per_replica);
    Ok(Case { name: told.name, demand, scale, startup, capacity })
}

fn read_policy(path: &Path) -> anyhow::Result<ScaleConfig> {
    let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is not the scale section of a workload", path.display()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if path == Path::new("-") {
        use std::io::Write;
        return Ok(std::io::stdout().lock().write_all(text.as_bytes())?);
    }
    std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}

fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("simulating {wide_bar} {percent} %, {eta} left");
    ProgressBar::new(1000).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn targets(text: &str) -> Result<Targets, String> {
    let refuse = || format!("{text:?} is not FROM:TO:STEP with 0 < FROM <= TO <= 1 and STEP > 0");
    let parts: Vec<f64> = text.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| refuse())?;
    let [from, to, step] = parts[..] else { return Err(refuse()) };
    if !(0.0 < from && from <= to && to <= 1.0 && step > 0.0 && (to - from) / step < 1000.0) {
        return Err(refuse());
    }
    Ok(Targets(usual_targets(from, to, step)))
}

fn ratio(text: &str) -> Result<f64, String> {
    let value: f64 = text.trim().parse().map_err(|_| format!("{text:?} is not a number"))?;
    if value > 0.0 && value.is_finite() { Ok(value) } else { Err(format!("{value} is not a finite number above zero")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_counted_from_first_to_last() {
        assert_eq!(targets("0.3:0.95:0.05").unwrap().0.len(), 14);
        assert_eq!(targets("0.5:0.7:0.1").unwrap().0, [0.5, 0.6, 0.7]);
        for senseless in ["0.3:0.95", "0:1:0.1", "0.9:0.3:0.1", "0.3:0.9:0", "a:b:c", "0.1:1:1e-9", "NaN:1:0.1"] {
            assert!(targets(senseless).is_err(), "{senseless}");
        }
    }
}
