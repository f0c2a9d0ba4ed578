//! `bellwether train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bellwether_models::forecast::neural::{Network, Training, install, train};
use bellwether_models::series::Window;
use serde::Serialize;

use crate::table;

/// Options of `bellwether train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// CSV files, or folders whose CSV files are taken (`.gz` too), in the forms `forecast` reads. Files count alike,
    /// however many series they hold.
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Share of each series that is learnt from, counted from its beginning; the rest stays unseen for scoring.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    share: f64,
    /// Batches to learn from. Some thousands make a network, some dozens with `--from` fit one to new series.
    #[arg(long, value_name = "N", default_value_t = Training::default().batches)]
    batches: usize,
    /// Origins in a batch.
    #[arg(long, value_name = "N", default_value_t = Training::default().batch)]
    batch: usize,
    /// The same seed and data give the same network on the same machine with `RAYON_NUM_THREADS=1`.
    #[arg(long, value_name = "N", default_value_t = Training::default().seed)]
    seed: u64,
    /// A network to go on from in place of fresh weights.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Where the network goes (safetensors); beside it a manifest with the ending `.json`.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// What a network was made of.
#[derive(Serialize)]
struct Manifest<'a> {
    sources: Vec<String>,
    share: f64,
    batches: usize,
    batch: usize,
    seed: u64,
    from: Option<&'a Path>,
}

/// Trains the network behind the model `lstm`.
///
/// # Errors
/// When the data cannot be read, is too short, or the network cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !(args.share > 0.0 && args.share <= 1.0) || args.batches == 0 || args.batch == 0 {
        bail!("--share must lie above 0 and be at most 1, --batches and --batch above 0");
    }
    let files = csv_files(&args.data)?;
    let sources = files.iter().map(|file| source(file, args.share)).collect::<anyhow::Result<Vec<_>>>()?;
    let start = args.from.as_deref().map(read).transpose()?;
    let training = Training { batches: args.batches, batch: args.batch, seed: args.seed };
    let progress = super::backtest::progress(args.batches);
    let heard = |done: usize, loss: f64| {
        progress.set_position(done as u64);
        progress.set_message(format!("loss {loss:.4}"));
    };
    let bytes = train(&sources, &training, start.as_ref(), heard)?;
    progress.finish_and_clear();
    write(&args.output, &bytes)?;
    let manifest = Manifest {
        sources: files.iter().filter_map(|f| Some(f.file_name()?.to_string_lossy().into_owned())).collect(),
        share: args.share,
        batches: args.batches,
        batch: args.batch,
        seed: args.seed,
        from: args.from.as_deref(),
    };
    let mut text = serde_json::to_string_pretty(&manifest)?;
    text.push('\n');
    write(&args.output.with_extension("json"), text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
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

fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(file, bytes).with_context(|| format!("could not write {}", file.display()))
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
    use super::*;

    fn args(data: &Path, output: &Path) -> Args {
        let (share, batches, batch, seed) = (1.0, 2, 4, 1);
        Args { data: vec![data.to_owned()], share, batches, batch, seed, from: None, output: output.to_owned() }
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
        assert!(manifest.contains("\"load.csv\"") && !manifest.contains("notes"), "{manifest}");
    }

    #[test]
    fn a_share_of_nothing_is_refused() {
        let refused = Args { share: 0.0, ..args(Path::new("/nowhere"), Path::new("/nowhere")) };
        assert!(run(&refused).unwrap_err().to_string().contains("--share"));
    }
}
