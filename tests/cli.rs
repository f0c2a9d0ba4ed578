//! The command line as its user meets it: exit codes, messages, and where they go.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn bellwether(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bellwether")).args(arguments).output().expect("the binary runs")
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn check(text: &str) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bellwether.yaml");
    std::fs::write(&path, text).expect("a file");
    bellwether(&["check", "config", &path.to_string_lossy()])
}

#[test]
fn the_demo_s_configuration_and_an_empty_one_are_good() {
    let output = bellwether(&["check", "config", &in_repository("demo/bellwether.yaml").to_string_lossy()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("is good"));
    assert!(check("{}").status.success());
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_key() {
    let output = check("scrape_configs:\n  - job_name: node\n    scrape_intervall: 15s\n");
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(message.contains("bellwether.yaml:3:5"), "{message}");
    assert!(message.contains("did you mean \"scrape_interval\"?"), "{message}");
}

#[test]
fn a_wrong_type_is_named_with_its_place() {
    let output = check("workloads:\n  - name: web\n    demand: up\n    scale: { min: many }\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("bellwether.yaml:4:"), "{}", stderr(&output));
}

#[test]
fn every_fault_of_meaning_is_told_at_once() {
    let output = check(
        "workloads:\n  - { name: web, demand: 'sum(', scale: { min: 5, max: 2 } }\n  - { name: web, demand: up }\n",
    );
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(message.contains("not PromQL"), "{message}");
    assert!(message.contains("min 5 lies above max 2"), "{message}");
    assert!(message.contains("names must differ"), "{message}");
}

#[test]
fn a_file_that_is_not_there_is_said_to_be_missing() {
    let output = bellwether(&["check", "config", "/nowhere/bellwether.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nowhere/bellwether.yaml: could not read the file"), "{}", stderr(&output));
}

#[test]
fn the_schema_of_the_file_is_printed_as_json() {
    let output = bellwether(&["check", "config", "--schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(schema["properties"]["workloads"].is_object());
}

#[test]
fn asking_where_no_server_is_says_so() {
    let output = bellwether(&["query", "up", "--url", "http://127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("is `bellwether run` up?"), "{}", stderr(&output));
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = bellwether(&["completions", shell]);
        assert!(output.status.success() && output.stdout.len() > 1000, "{shell}");
    }
}

#[test]
fn a_wrong_call_ends_with_two() {
    assert_eq!(bellwether(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(bellwether(&["forecast", "--input", "/nowhere.csv", "--horizon", "3"]).status.code(), Some(2));
}
