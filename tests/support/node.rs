//! The official JavaScript client, from the environment that `make peers` prepares.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder that has the client; `None`, after saying so, where it is not installed. In CI that is a failure.
pub fn folder_with_client() -> Option<PathBuf> {
    let prepared = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/senders/js");
    let folder = std::env::var_os("BELLWETHER_TEST_NODE").map_or(prepared, PathBuf::from);
    if folder.join("node_modules/@influxdata/influxdb-client").is_dir() {
        return Some(folder);
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let why = "the JavaScript client is not installed; scripts/install-test-senders.sh installs it";
    let required = |name| std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0" && value != "false");
    assert!(!required("CI") && !required("BELLWETHER_REQUIRE_PEERS"), "{test}: {why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
    None
}

/// Runs a script of `tests/senders` with the client at hand and gives what it printed.
pub async fn run(folder: &Path, script: &str, arguments: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/senders").join(script);
    let mut node = tokio::process::Command::new("node");
    let output = node.arg(path).args(arguments).env("BELLWETHER_TEST_NODE_MODULES", folder).output().await;
    let output = output.expect("node starts");
    let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} {arguments:?}: {told}{wrong}");
    told.into_owned()
}
