//! `bellwether check`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::output::line;
use crate::config::Config;

/// What to check.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Reads a configuration file and says what is wrong with it. Touches neither the network nor the store.
    Config {
        /// The configuration file.
        #[arg(default_value = "bellwether.yaml")]
        file: PathBuf,
        /// Print the JSON schema of the file instead.
        #[arg(long)]
        schema: bool,
    },
}

/// Runs the command: 0 when the file is good, 1 with every fault on stderr when it is not.
///
/// # Errors
/// When the answer cannot be printed.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let Command::Config { file, schema } = command;
    if *schema {
        line(&serde_json::to_string_pretty(&schemars::schema_for!(Config))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    match Config::load(file) {
        Ok(config) => {
            line(&format!(
                "{} is good: {} scrape jobs, {} workloads",
                file.display(),
                config.scrape_configs.len(),
                config.workloads.len()
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(faults) => {
            for fault in faults {
                super::output::complain(&fault)?;
            }
            Ok(ExitCode::FAILURE)
        }
    }
}
