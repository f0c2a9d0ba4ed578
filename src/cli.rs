//! The command line: one file per command.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub mod backends;
pub mod backtest;
pub mod check;
pub mod client;
pub mod decisions;
pub mod demo;
pub mod detect;
pub mod explain;
pub mod export;
pub mod forecast;
pub mod history;
pub mod incidents;
pub mod limits;
pub mod models;
pub mod output;
pub mod people;
pub mod query;
pub mod rank;
mod report;
pub mod run;
pub mod scaling;
pub mod simulate;
pub mod store;
pub mod train;
pub mod what_if;

/// Watches a cluster, forecasts its load, scales before the load arrives, and names what broke first.
#[derive(Debug, Parser)]
#[command(name = "bellwether", version, about, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Replays recorded data through the whole system and tells what it sees.
    Demo(demo::Args),
    /// Runs the system on the wall clock, from a configuration file.
    Run(run::Args),
    /// Checks a file without running anything.
    #[command(subcommand)]
    Check(check::Command),
    /// Asks a running server a PromQL question.
    Query(query::Args),
    /// Shows the limits of a running server, who uses them, and what runs away.
    Limits(limits::Args),
    /// Explains an incident or a decision of a running server.
    Explain(explain::Args),
    /// Lists the incidents of a running server.
    Incidents(incidents::Args),
    /// Lists the newest decisions of a running server.
    Decisions(decisions::Args),
    /// Stops the scaling of one workload, in one direction or both, until it is resumed or for a time.
    Pause(scaling::PauseArgs),
    /// Stops all scaling at once.
    Freeze(scaling::FreezeArgs),
    /// Ends a pause of one workload; without a name, the freeze.
    Resume(scaling::ResumeArgs),
    /// Takes a backend out of service until a deadline: its weight goes down step by step, and comes back.
    Drain(backends::DrainArgs),
    /// Calls a drain off.
    Undrain(backends::UndrainArgs),
    /// Lists the backends of a running server, their weights and drains.
    Backends(backends::Args),
    /// Asks what would be decided under other settings or another demand. Nothing is done.
    WhatIf(what_if::Args),
    /// Takes an incident on: chats and pagers are not reminded of it any more.
    Ack(people::AckArgs),
    /// Says what an incident really was: a false alarm, or which service broke first.
    Feedback(people::FeedbackArgs),
    /// Announces, lists or ends times in which trouble is expected.
    #[command(subcommand)]
    Maintenance(people::MaintenanceCommand),
    /// Writes incidents whose cause people named as labelled cases.
    Export(export::Args),
    /// Forecasts the series of a file with calibrated quantiles.
    Forecast(forecast::Args),
    /// Scores forecasts at past origins of a file, seeing only what was known then.
    Backtest(backtest::Args),
    /// Trains the network behind the model `lstm`, anew or on from one that is there.
    Train(train::Args),
    /// Looks after the models of workloads: who serves, who runs in the shadow, and how that came about.
    #[command(subcommand)]
    Models(models::Command),
    /// Scores every row of a file (or a tree of files) by how unlikely it is on its own past.
    Detect(detect::Args),
    /// Ranks the root causes of recorded incidents.
    Rank(rank::Args),
    /// Compares scaling policies on a demand trace at equal cost.
    Simulate(simulate::Args),
    /// Looks after the embedded store.
    #[command(subcommand)]
    Store(store::Command),
    /// Prints a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Runs the command. Exit codes: 0 done, 1 it failed or found what it looks for, 2 the call or its input is wrong.
    ///
    /// # Errors
    /// Whatever kept the command from its work, for people to read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Demo(args) => demo::run(&args),
            Command::Run(args) => run::run(&args),
            Command::Check(command) => check::run(&command),
            Command::Query(args) => query::run(&args),
            Command::Limits(args) => limits::run(&args),
            Command::Explain(args) => explain::run(&args),
            Command::Incidents(args) => incidents::run(&args),
            Command::Decisions(args) => decisions::run(&args),
            Command::Pause(args) => scaling::pause(&args),
            Command::Freeze(args) => scaling::freeze(&args),
            Command::Resume(args) => scaling::resume(&args),
            Command::Drain(args) => backends::drain(&args),
            Command::Undrain(args) => backends::undrain(&args),
            Command::Backends(args) => backends::list(&args),
            Command::WhatIf(args) => what_if::run(&args),
            Command::Ack(args) => people::ack(&args),
            Command::Feedback(args) => people::feedback(&args),
            Command::Maintenance(command) => people::maintenance(&command),
            Command::Export(args) => export::run(&args),
            Command::Forecast(args) => forecast::run(&args),
            Command::Backtest(args) => backtest::run(&args),
            Command::Train(args) => train::run(&args),
            Command::Models(command) => models::run(&command),
            Command::Detect(args) => detect::run(&args),
            Command::Rank(args) => rank::run(&args),
            Command::Simulate(args) => simulate::run(&args),
            Command::Store(command) => store::run(&command),
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "bellwether", &mut std::io::stdout());
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
