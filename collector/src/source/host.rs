//! Metrics of the machine we run on, under node_exporter's names, so that dashboards and rules made for it work.
//!
//! The shell reads `/proc` and asks file systems for their size; what the texts mean is decided by pure code in
//! `texts`. What a machine does not tell is left out; on systems without `/proc` there is nothing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bellwether_models::series::{Labels, Sample, stale_marker};
use metrics::counter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::ingest::Ingest;
use crate::store::{Batch, SeriesSamples};

mod texts;

use texts::{Filesystem, Mount, Texts};

const ORIGIN: &str = "host";

/// How this machine is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// Whether it is watched at all. Default true.
    pub enabled: bool,
    /// Time between two looks. Default 15s; at least 1s.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// Label `job` of its series. Default `node`.
    pub job: String,
    /// Label `instance` of its series. Default: the machine's name.
    pub instance: Option<String>,
    /// Where the kernel's texts are. Default `/proc`; `/host/proc` where a container sees the machine's there.
    pub proc_path: PathBuf,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(15),
            job: "node".to_owned(),
            instance: None,
            proc_path: PathBuf::from("/proc"),
        }
    }
}

/// Watches this machine until the future is dropped; returns at once when it is not enabled.
pub async fn run(config: HostConfig, ingest: Ingest) {
    if !config.enabled {
        return;
    }
    let mut shown = HashSet::new();
    let mut ticks = tokio::time::interval(config.interval.max(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let mut batch = observe(&config, &ingest).await;
        mark_vanished(&mut batch, &mut shown);
        let patience = ticks.period().mul_f64(0.9);
        if let Err(error) = ingest.append_patiently(ORIGIN, batch, patience).await {
            warn!(error = &error as &dyn std::error::Error, "samples of this machine were not kept");
        }
    }
}

/// One look at the machine.
pub async fn observe(config: &HostConfig, ingest: &Ingest) -> Batch {
    let path = config.proc_path.clone();
    let texts = tokio::task::spawn_blocking(move || read(&path)).await.unwrap_or_default();
    let instance = config.instance.clone().unwrap_or_else(|| texts.nodename().to_owned());
    let base = Labels::new([("job", config.job.as_str()), ("instance", &instance)]);
    let batch = texts.samples(&base, ingest.now());
    if batch.len() < 2 {
        counter!("bellwether_host_unreadable_total").increment(1);
    }
    batch
}

/// Ends the series that the last batch had and this one has not.
fn mark_vanished(batch: &mut Batch, shown: &mut HashSet<Labels>) {
    let Some(at) = batch.first().and_then(|series| series.samples.first()).map(|sample| sample.at) else { return };
    let present: HashSet<Labels> = batch.iter().map(|series| series.labels.clone()).collect();
    let marker =
        |labels: &Labels| SeriesSamples { labels: labels.clone(), samples: vec![Sample { at, value: stale_marker() }] };
    batch.extend(shown.difference(&present).map(marker));
    *shown = present;
}

fn read(proc_path: &Path) -> Texts {
    let text = |name: &str| std::fs::read_to_string(proc_path.join(name)).unwrap_or_default();
    let word = |name: &str| text(name).trim().to_owned();
    let mounts = Some(text("1/mounts")).filter(|mounts| !mounts.is_empty()).unwrap_or_else(|| text("self/mounts"));
    Texts {
        stat: text("stat"),
        meminfo: text("meminfo"),
        loadavg: text("loadavg"),
        vmstat: text("vmstat"),
        file_nr: text("sys/fs/file-nr"),
        net_dev: Some(text("1/net/dev")).filter(|dev| !dev.is_empty()).unwrap_or_else(|| text("net/dev")),
        diskstats: text("diskstats"),
        pressure: ["cpu", "memory", "io"].map(|resource| (resource, text(&format!("pressure/{resource}")))),
        uname: ["ostype", "hostname", "osrelease", "version", "domainname"]
            .map(|name| word(&format!("sys/kernel/{name}"))),
        filesystems: texts::mounts(&mounts).into_iter().map(measure).collect(),
    }
}

/// Asks a file system for its size; a failure is told as such.
fn measure(mount: Mount) -> Filesystem {
    let space = rustix::fs::statvfs(&mount.mountpoint).ok().map(|stat| texts::Space {
        block: stat.f_frsize,
        size: stat.f_blocks,
        free: stat.f_bfree,
        available: stat.f_bavail,
        files: stat.f_files,
        files_free: stat.f_ffree,
    });
    Filesystem { mount, space }
}
