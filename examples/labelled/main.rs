//! What detection is worth on public labelled data, by the measures of the field.
//!
//! `cargo run --release --example labelled -- [--forest] DATA [SET...]` reads `DATA/nab/{windows.json,data/*/*.csv}`,
//! `DATA/ms_cloud/data/*/*.csv.gz`, and `DATA/{smd,asd}/*/{train,test,test_label}.csv.gz` with `interpretation.json`,
//! as many of them as are there, and scores every row by the live code. Each figure is given for all files and for two
//! halves of them, so that what was chosen on one can be judged on the other. `--forest` judges rows by an isolation forest
//! too.

mod nab;
mod ranges;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use bellwether::table::{self, Table};
use bellwether_models::detect::{Detector, Multivariate, Params, RowMethod, Univariate};

/// Share of normal rows that may be flagged where events found are counted.
const FALSE_ROWS: f64 = 0.001;

/// What came of one file or machine.
struct Outcome {
    vus_pr: f64,
    events: f64,
    hit_rates: Vec<f64>,
}

#[derive(serde::Deserialize)]
struct Explained {
    start: usize,
    end: usize,
    dims: Vec<usize>,
}

fn main() -> anyhow::Result<()> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let forest = args.iter().any(|arg| arg == "--forest");
    args.retain(|arg| arg != "--forest");
    let mut args = args.into_iter();
    let data = PathBuf::from(args.next().context("usage: labelled DATA [--forest] [nab|ms_cloud|smd|asd]...")?);
    let sets: Vec<String> = args.collect();
    let chosen = |set: &str| (sets.is_empty() || sets.iter().any(|s| s == set)) && data.join(set).is_dir();
    if chosen("nab") {
        numenta(&data.join("nab"))?;
    }
    if chosen("ms_cloud") {
        let outcomes = each(&files_below(&data.join("ms_cloud/data"))?, cloud)?;
        report("ms_cloud", &outcomes.into_iter().flatten().collect::<Vec<_>>());
    }
    for set in ["smd", "asd"].into_iter().filter(|set| chosen(set)) {
        let machines = listing(&data.join(set))?;
        report(set, &each(&machines, |folder| machine(folder, RowMethod::default()))?);
        if forest {
            report(&format!("{set}, forest"), &each(&machines, |folder| machine(folder, RowMethod::Forest))?);
        }
    }
    Ok(())
}

fn report(set: &str, outcomes: &[Outcome]) {
    let half = |parity: usize| outcomes.iter().enumerate().filter(move |(k, _)| k % 2 == parity).map(|(_, o)| o);
    line(set, &outcomes.iter().collect::<Vec<_>>());
    line("  even", &half(0).collect::<Vec<_>>());
    line("  odd", &half(1).collect::<Vec<_>>());
}

fn line(name: &str, outcomes: &[&Outcome]) {
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let vus_pr = mean(outcomes.iter().map(|o| o.vus_pr).collect());
    let events = mean(outcomes.iter().map(|o| o.events).collect());
    let hits: Vec<f64> = outcomes.iter().flat_map(|o| o.hit_rates.iter().copied()).collect();
    let hits = if hits.is_empty() { String::new() } else { format!(" HitRate {:.3}", mean(hits)) };
    println!("{name:12} n={:<3} VUS-PR {vus_pr:.3} events at 0.1 % {events:.3}{hits}", outcomes.len());
}

/// Runs `work` over `items` on two threads; the order is kept.
fn each<T: Send>(items: &[PathBuf], work: impl Fn(&Path) -> anyhow::Result<T> + Sync) -> anyhow::Result<Vec<T>> {
    let (next, done) = (Mutex::new(0), Mutex::new(BTreeMap::new()));
    let take = || {
        let mut next = next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let taken = *next;
        *next += 1;
        taken
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((k, item)) = Some(take()).and_then(|k| Some((k, items.get(k)?))) {
                    let result = work(item).with_context(|| item.display().to_string());
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(k, result);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_values().collect()
}

fn numenta(folder: &Path) -> anyhow::Result<()> {
    let windows: BTreeMap<String, Vec<[String; 2]>> =
        serde_json::from_slice(&std::fs::read(folder.join("windows.json"))?)?;
    let paths: Vec<PathBuf> = windows.keys().map(PathBuf::from).collect();
    let files = each(&paths, |path| {
        let name = path.display().to_string();
        let table = table::read(&folder.join("data").join(path))?;
        let row = |text: &str| {
            let at = table::parse_time(text)?;
            table.times.iter().position(|time| *time == at)
        };
        let spans = windows[&name].iter().filter_map(|[start, end]| Some([row(start)?, row(end)?])).collect();
        Ok(nab::Scored { scores: singly(&table), windows: spans, name })
    })?;
    let mut categories: Vec<&str> = files.iter().map(nab::Scored::category).collect();
    categories.dedup();
    let parity = |file: &nab::Scored| categories.iter().position(|c| *c == file.category()).unwrap_or(0) % 2;
    for profile in nab::PROFILES {
        let all: Vec<&nab::Scored> = files.iter().collect();
        let halves = [0, 1].map(|half| files.iter().filter(|f| parity(f) == half).collect::<Vec<_>>());
        let (threshold, whole) = nab::best(&all, profile);
        let [first, second] = halves.each_ref().map(|half| nab::best(half, profile));
        println!(
            "nab {:9} {whole:5.1} (at {threshold:.4}); halves of categories {:5.1} ({:5.1} at the other's threshold) {:5.1} ({:5.1})",
            profile.name,
            first.1,
            nab::at(&halves[0], profile, second.0),
            second.1,
            nab::at(&halves[1], profile, first.0),
        );
    }
    Ok(())
}

fn singly(table: &Table) -> Vec<f64> {
    let mut detector = Univariate::default();
    table.times.iter().zip(&table.columns[0]).map(|(at, value)| detector.observe(*at, *value).as_unit()).collect()
}

/// A series with a column of labels; nothing is said of one without any.
fn cloud(path: &Path) -> anyhow::Result<Option<Outcome>> {
    let table = table::read(path)?;
    let labels = labels(path)?;
    if !labels.contains(&true) {
        return Ok(None);
    }
    let scores = singly(&table);
    Ok(Some(Outcome {
        vus_pr: ranges::vus_pr(&labels, &scores, 20),
        events: ranges::events_found(&labels, &scores, FALSE_ROWS),
        hit_rates: Vec::new(),
    }))
}

/// The last column, as it is no metric.
fn labels(path: &Path) -> anyhow::Result<Vec<bool>> {
    let text = std::io::read_to_string(flate2::read::MultiGzDecoder::new(std::fs::File::open(path)?))?;
    let label = |line: &str| line.rsplit(',').next().and_then(|cell| cell.trim().parse::<f64>().ok());
    Ok(text.lines().skip(1).map(|line| label(line).is_some_and(|label| label > 0.0)).collect())
}

fn machine(folder: &Path, rows: RowMethod) -> anyhow::Result<Outcome> {
    let (train, test) = (table::read(&folder.join("train.csv.gz"))?, table::read(&folder.join("test.csv.gz"))?);
    let labels = labels(&folder.join("test_label.csv.gz"))?;
    let explained: Vec<Explained> = serde_json::from_slice(&std::fs::read(folder.join("interpretation.json"))?)?;
    let mut detector = Multivariate::new(test.names.len(), Params { rows, ..Params::default() });
    (0..train.times.len()).for_each(|row| detector.train(train.times[row], &values(&train, row)));
    let scored: Vec<_> =
        (0..test.times.len()).map(|row| detector.observe(test.times[row], &values(&test, row))).collect();
    let scores: Vec<f64> = scored.iter().map(|row| row.as_unit()).collect();
    let named = |event: &Explained| {
        let metrics: Vec<usize> = event.dims.iter().map(|dim| dim - 1).collect();
        let mut sums = vec![0.0; test.names.len()];
        for row in &scored[event.start..=event.end] {
            sums.iter_mut().zip(&row.contributions).for_each(|(sum, part)| *sum += part);
        }
        ranges::hit_rate(&metrics, &sums)
    };
    Ok(Outcome {
        vus_pr: ranges::vus_pr(&labels, &scores, 100),
        events: ranges::events_found(&labels, &scores, FALSE_ROWS),
        hit_rates: explained.iter().filter(|event| !event.dims.is_empty()).map(named).collect(),
    })
}

fn values(table: &Table, row: usize) -> Vec<f64> {
    table.columns.iter().map(|column| column[row]).collect()
}

fn listing(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    paths.retain(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "gz"));
    paths.sort();
    Ok(paths)
}

fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for domain in listing(folder)? {
        files.extend(listing(&domain)?);
    }
    Ok(files)
}
