//! The process on a disk that fills up, and its backups.

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::routing::get;
use support::system::System;

const SERIES: u64 = 200;
/// What a scrape adds about itself: `up` and four more.
const ABOUT_ITSELF: u64 = 5;

/// A small file system of its own, taken away when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, saying so, where this process may not mount.
    fn at(path: &Path, megabytes: u32) -> Option<Self> {
        std::fs::create_dir_all(path).expect("a folder");
        let options = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(path.to_owned()));
        }
        let _ = writeln!(std::io::stderr(), "SKIPPED: no file system can be mounted here; only root may");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

/// A target that counts how often it was asked.
async fn target(scrapes: Arc<AtomicU64>) -> String {
    let answer = move || {
        let scrape = scrapes.fetch_add(1, Ordering::SeqCst);
        let lines: String = (0..SERIES).map(|i| format!("disk_test{{i=\"{i}\"}} {}\n", scrape * SERIES + i)).collect();
        async move { lines }
    };
    support::http::serve(Router::new().route("/metrics", get(answer))).await
}

/// Scrapes the target; seldom, so that no scrape fails on a machine with much to do.
fn scraping(address: &str) -> String {
    format!(
        "host: {{ enabled: false }}\ncadence: 1s\nscrape_configs:\n  - job_name: target\n    scrape_interval: 3s\n    \
         scrape_timeout: 3s\n    static_configs: [{{ targets: ['{}'] }}]\n",
        address.trim_start_matches("http://")
    )
}

async fn text(client: &reqwest::Client, url: String) -> String {
    let Ok(answer) = client.get(url).send().await else { return String::new() };
    answer.text().await.unwrap_or_default()
}

/// The sum of a counter over all origins that scrape.
async fn counted(client: &reqwest::Client, system: &System, name: &str) -> u64 {
    let prefix = format!("{name}{{source=\"scrape:");
    let text = text(client, system.url("/metrics")).await;
    let values = text.lines().filter(|line| line.starts_with(&prefix)).filter_map(|line| line.rsplit(' ').next());
    values.filter_map(|value| value.parse::<f64>().ok()).map(|value| value as u64).sum()
}

/// How many samples of the target the store holds.
async fn held(client: &reqwest::Client, system: &System) -> u64 {
    let body = text(client, system.url("/api/v1/query?query=sum(count_over_time(disk_test[1h]))")).await;
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(answer["status"], "success", "{body}");
    answer["data"]["result"][0]["value"][1].as_str().map_or(0, |number| number.parse().expect("a number"))
}

async fn is_ready(client: &reqwest::Client, system: &System) -> bool {
    client.get(system.url("/-/ready")).send().await.is_ok_and(|answer| answer.status().is_success())
}

#[tokio::test]
async fn on_a_full_disk_it_says_so_stays_up_counts_what_is_lost_and_resumes_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(_disk) = SmallDisk::at(&folder.path().join("data"), 6) else { return };
    let client = support::http::client();
    let scrapes = Arc::new(AtomicU64::new(0));
    let address = target(scrapes.clone()).await;
    let config = scraping(&address);
    let system = System::start(folder.path(), &config, &client).await;
    system.until("samples are held", async || held(&client, &system).await > SERIES).await;

    let filler = folder.path().join("data/filler");
    let mut full = std::fs::File::create(&filler).expect("a file");
    while full.write_all(&[0; 4096]).is_ok() {}
    system.until("it is not ready", async || !is_ready(&client, &system).await).await;
    let lost = "bellwether_ingest_samples_lost_total";
    system.until("samples are lost", async || counted(&client, &system, lost).await > 0).await;
    assert!(held(&client, &system).await > 0, "questions are answered all the while");

    drop(full);
    std::fs::remove_file(filler).expect("room");
    system.until("it is ready again", async || is_ready(&client, &system).await).await;
    let every_sample_is_counted_once = async || {
        let before = scrapes.load(Ordering::SeqCst);
        let kept = counted(&client, &system, "bellwether_ingest_samples_total").await;
        let lost = counted(&client, &system, lost).await;
        let held = held(&client, &system).await;
        before == scrapes.load(Ordering::SeqCst)
            && kept + lost == before * (SERIES + ABOUT_ITSELF)
            && held == kept / (SERIES + ABOUT_ITSELF) * SERIES
    };
    system.until("every sample is counted as kept or as lost", every_sample_is_counted_once).await;
    let before = held(&client, &system).await;
    drop(system);
    let system = System::start(folder.path(), "host: { enabled: false }\ncadence: 1s\n", &client).await;
    assert!(held(&client, &system).await >= before, "what was acknowledged is there after a restart");
}

#[tokio::test]
async fn a_backup_of_the_running_server_can_be_started_from() {
    let (folder, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let client = support::http::client();
    let scrapes = Arc::new(AtomicU64::new(0));
    let address = target(scrapes.clone()).await;
    let config = scraping(&address);
    let root = second.path().display();
    let settings = format!(", backup_root: '{root}'");
    let system = System::start_storing(folder.path(), &settings, &config, &client).await;
    system.until("samples are held", async || held(&client, &system).await > SERIES).await;
    let before = held(&client, &system).await;
    let upgrade =
        serde_json::json!({ "by": "kim", "to": 4_102_444_800_000_i64, "services": ["shop"], "note": "upgrade" });
    let kept = client.post(system.url("/api/v1/maintenance")).json(&upgrade).send().await.expect("an answer");
    assert!(kept.status().is_success(), "{}", kept.text().await.unwrap_or_default());

    let back_up = |to: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        command.args(["store", "backup", "--to"]).arg(to).args(["--url", &system.url("")]);
        command.output().expect("the binary runs")
    };
    let done = back_up(&second.path().join("data"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).contains("linked"), "{}", String::from_utf8_lossy(&done.stdout));
    let elsewhere = back_up(&folder.path().join("elsewhere"));
    assert!(!elsewhere.status.success());
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("backup_root"));
    let after = held(&client, &system).await;

    let again = System::start(second.path(), "host: { enabled: false }\ncadence: 1s\n", &client).await;
    let restored = held(&client, &again).await;
    assert!((before..=after + SERIES).contains(&restored), "{restored}, not between {before} and {after}");
    let kept = client.get(again.url("/api/v1/maintenance")).send().await.expect("an answer");
    assert!(kept.text().await.expect("a text").contains("upgrade"), "the word of people is in the backup");
}
