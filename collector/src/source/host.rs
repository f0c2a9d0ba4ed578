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

mod cgroups;
mod network;
mod texts;

use network::NetworkTexts;
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
    /// Where the kernel shows its devices. Default `/sys`; `/host/sys` where a container sees the machine's there.
    pub sys_path: PathBuf,
    /// Control groups whose use is shown, under cAdvisor's names, those of fewer levels first: about 25 series each. Default
    /// 50; 0 shows none.
    pub max_cgroups: usize,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(15),
            job: "node".to_owned(),
            instance: None,
            proc_path: PathBuf::from("/proc"),
            sys_path: PathBuf::from("/sys"),
            max_cgroups: 50,
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
    let paths = config.clone();
    let texts = tokio::task::spawn_blocking(move || read(&paths)).await.unwrap_or_default();
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

fn read(config: &HostConfig) -> Texts {
    let proc_path = &config.proc_path;
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
        entropy: ["entropy_avail", "poolsize"].map(|name| word(&format!("sys/kernel/random/{name}"))),
        network: network_texts(config),
        cgroups: cgroups::read(&config.sys_path.join("fs/cgroup"), config.max_cgroups),
    }
}

fn network_texts(config: &HostConfig) -> NetworkTexts {
    let text = |name: &str| std::fs::read_to_string(config.proc_path.join(name)).unwrap_or_default();
    // the first process sees the machine's network, not that of a container
    let net = |name: &str| {
        Some(text(&format!("1/net/{name}"))).filter(|t| !t.is_empty()).unwrap_or_else(|| text(&format!("net/{name}")))
    };
    let devices = std::fs::read_dir(config.sys_path.join("class/net")).into_iter().flatten().flatten();
    let files = network::INTERFACE_NUMBERS.iter().map(|(file, _)| *file).chain(network::INTERFACE_WORDS);
    let interface = |folder: &Path| {
        let known = files.clone().filter_map(|file| Some((file, std::fs::read_to_string(folder.join(file)).ok()?)));
        known.collect()
    };
    NetworkTexts {
        netstat: net("netstat"),
        snmp: net("snmp"),
        snmp6: net("snmp6"),
        sockstat: net("sockstat"),
        sockstat6: net("sockstat6"),
        softnet: net("softnet_stat"),
        arp: net("arp"),
        conntrack: ["count", "max"].map(|name| text(&format!("sys/net/netfilter/nf_conntrack_{name}"))),
        interfaces: devices
            .filter(|device| device.path().is_dir())
            .map(|device| (device.file_name().to_string_lossy().into_owned(), interface(&device.path())))
            .collect(),
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
