//! Official Python clients as senders, from the environment that `make peers` prepares.

use std::io::Write;
use std::path::{Path, PathBuf};

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
    let output = tokio::process::Command::new(python).arg(path).args(arguments).output().await.expect("Python starts");
    let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} {arguments:?}: {told}{wrong}");
    told.into_owned()
}
