//! Official Python clients as senders and as clients of gRPC, from the environment that `make peers` prepares.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The interpreter that has the clients; `None`, after saying so, where they are not installed. In CI that is a failure.
pub fn python_with_clients() -> Option<PathBuf> {
    let prepared = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/senders/bin/python");
    let python = std::env::var_os("BELLWETHER_TEST_PYTHON").map_or(prepared, PathBuf::from);
    if python.is_file() {
        return Some(python);
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let why = "the Python clients are not installed; scripts/install-test-senders.sh installs them";
    let required = |name| std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0" && value != "false");
    assert!(!required("CI") && !required("BELLWETHER_REQUIRE_PEERS"), "{test}: {why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
    None
}

/// Runs a script of `tests/senders` and gives what it printed.
pub async fn run(python: &Path, script: &str, arguments: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/senders").join(script);
    let output = Command::new(python).arg(path).args(arguments).output().await.expect("Python starts");
    let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} {arguments:?}: {told}{wrong}");
    told.into_owned()
}

/// A client that is spoken with in lines of JSON; killed when the test ends.
pub struct Talk {
    _process: Child,
    asks: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    /// Starts a script of `tests/senders`.
    pub fn start(python: &Path, script: &str, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/senders").join(script);
        let mut command = Command::new(python);
        let command = command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn().expect("Python starts");
        let asks = process.stdin.take().expect("a pipe");
        let answers = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Self { _process: process, asks, answers }
    }

    /// One line to it.
    pub async fn say(&mut self, line: &Value) {
        self.asks.write_all((line.to_string() + "\n").as_bytes()).await.expect("it listens");
    }

    /// One line from it.
    pub async fn hear(&mut self) -> Value {
        let line = tokio::time::timeout(Duration::from_secs(60), self.answers.next_line()).await;
        let line = line.expect("an answer in time").expect("readable").expect("it still runs");
        serde_json::from_str(&line).expect("JSON")
    }

    /// What it answers.
    pub async fn ask(&mut self, line: &Value) -> Value {
        self.say(line).await;
        self.hear().await
    }
}
