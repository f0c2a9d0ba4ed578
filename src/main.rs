//! The `bellwether` command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match bellwether::cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("bellwether: {error:#}\n"));
            ExitCode::from(2)
        }
    }
}
