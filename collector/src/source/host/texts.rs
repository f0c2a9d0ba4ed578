//! What the kernel's texts mean: pure.
//!
//! Source: the manual page proc(5), the kernel's documentation of iostats and psi, and the metric names that
//! node_exporter 1.5 serves.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bellwether_models::series::{Labels, METRIC_NAME, Sample, Timestamp};
use regex::Regex;

use super::cgroups::{self, Cgroup};
use super::network::NetworkTexts;
use crate::store::{Batch, SeriesSamples};

/// The texts of one look; empty where there was none.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    pub stat: String,
    pub meminfo: String,
    pub loadavg: String,
    pub vmstat: String,
    pub file_nr: String,
    pub net_dev: String,
    pub diskstats: String,
    /// By resource.
    pub pressure: [(&'static str, String); 3],
    /// System, node name, release, version, domain.
    pub uname: [String; 5],
    pub filesystems: Vec<Filesystem>,
    /// Bits of entropy at hand, and the most there may be.
    pub entropy: [String; 2],
    pub network: NetworkTexts,
    pub cgroups: Vec<Cgroup>,
}

/// Where a file system is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub device: String,
    pub mountpoint: String,
    pub fstype: String,
    pub read_only: bool,
}

/// A mount and its space, unless it would not tell.
#[derive(Clone, Debug)]
pub(super) struct Filesystem {
    pub mount: Mount,
    pub space: Option<Space>,
}

/// Space in blocks, and files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    pub block: u64,
    pub size: u64,
    pub free: u64,
    pub available: u64,
    pub files: u64,
    pub files_free: u64,
}

/// Clock ticks a second in `/proc/stat`: 100 on every Linux a program sees.
const TICKS_PER_SECOND: f64 = 100.0;

const SECTOR_BYTES: f64 = 512.0;

const CPU_MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

const NET_COLUMNS: [&str; 16] = [
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
];

/// Name and factor of each column after the device's name.
const DISK_COLUMNS: [(&str, f64); 17] = [
    ("reads_completed_total", 1.0),
    ("reads_merged_total", 1.0),
    ("read_bytes_total", SECTOR_BYTES),
    ("read_time_seconds_total", 0.001),
    ("writes_completed_total", 1.0),
    ("writes_merged_total", 1.0),
    ("written_bytes_total", SECTOR_BYTES),
    ("write_time_seconds_total", 0.001),
    ("io_now", 1.0),
    ("io_time_seconds_total", 0.001),
    ("io_time_weighted_seconds_total", 0.001),
    ("discards_completed_total", 1.0),
    ("discards_merged_total", 1.0),
    ("discarded_sectors_total", 1.0),
    ("discard_time_seconds_total", 0.001),
    ("flush_requests_total", 1.0),
    ("flush_requests_time_seconds_total", 0.001),
];

/// Partitions and devices without hardware behind them.
static PASSED_DISKS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(?:ram|loop|fd|(?:h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$").ok());

/// File systems that hold no data of their own.
const PASSED_FSTYPES: [&str; 25] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
    "efivarfs",
];

const PASSED_MOUNTPOINTS: [&str; 6] =
    ["/dev", "/proc", "/sys", "/run/credentials", "/var/lib/docker", "/var/lib/containers/storage"];

/// The mounts worth measuring, each mountpoint once.
pub(super) fn mounts(text: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in text.lines().filter_map(mount) {
        mounts.retain(|earlier| earlier.mountpoint != mount.mountpoint);
        mounts.push(mount);
    }
    mounts
}

fn mount(line: &str) -> Option<Mount> {
    let mut words = line.split_ascii_whitespace();
    let (device, mountpoint) = (unescape(words.next()?), unescape(words.next()?));
    let (fstype, options) = (words.next()?, words.next()?);
    let below =
        |passed: &&str| mountpoint.strip_prefix(*passed).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if PASSED_FSTYPES.contains(&fstype) || PASSED_MOUNTPOINTS.iter().any(below) {
        return None;
    }
    let read_only = options.split(',').any(|option| option == "ro");
    Some(Mount { device, mountpoint: mountpoint.clone(), fstype: fstype.to_owned(), read_only })
}

/// Undoes the octal escapes of blanks in a mount table.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

impl Texts {
    /// The machine's name.
    pub(super) fn nodename(&self) -> &str {
        &self.uname[1]
    }

    /// All samples, at one time, each with the labels of `base`.
    pub(super) fn samples(&self, base: &Labels, at: Timestamp) -> Batch {
        let mut told = Told::new(base, at);
        told.number("node_time_seconds", at.as_secs_f64());
        self.uname(&mut told);
        self.stat(&mut told);
        self.memory(&mut told);
        self.load(&mut told);
        self.counters(&mut told);
        self.network(&mut told);
        self.disks(&mut told);
        self.pressure(&mut told);
        self.filesystems(&mut told);
        self.network.tell(&mut told);
        for (name, text) in ["available", "pool_size"].into_iter().zip(&self.entropy) {
            if let Ok(bits) = text.trim().parse::<f64>() {
                told.number(&format!("node_entropy_{name}_bits"), bits);
            }
        }
        let disks = self.disk_names();
        for group in &self.cgroups {
            cgroups::tell(group, &disks, &mut told);
        }
        told.batch
    }

    fn uname(&self, told: &mut Told<'_>) {
        let [sysname, nodename, release, version, domainname] = &self.uname;
        if nodename.is_empty() {
            return;
        }
        let labels = [
            ("sysname", sysname.as_str()),
            ("nodename", nodename),
            ("release", release),
            ("version", version),
            ("domainname", domainname),
            ("machine", std::env::consts::ARCH),
        ];
        told.labelled("node_uname_info", &labels, 1.0);
    }

    fn stat(&self, told: &mut Told<'_>) {
        for line in self.stat.lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(name) = words.next() else { continue };
            let numbers: Vec<f64> = words.map_while(|word| word.parse().ok()).collect();
            match (name, numbers.first()) {
                (name, Some(_)) if name.len() > 3 && name.starts_with("cpu") => cpu(&name[3..], &numbers, told),
                ("btime", Some(value)) => told.number("node_boot_time_seconds", *value),
                ("ctxt", Some(value)) => told.number("node_context_switches_total", *value),
                ("intr", Some(value)) => told.number("node_intr_total", *value),
                ("processes", Some(value)) => told.number("node_forks_total", *value),
                ("procs_running", Some(value)) => told.number("node_procs_running", *value),
                ("procs_blocked", Some(value)) => told.number("node_procs_blocked", *value),
                _ => {}
            }
        }
    }

    fn memory(&self, told: &mut Told<'_>) {
        for line in self.meminfo.lines() {
            let Some((name, rest)) = line.split_once(':') else { continue };
            let name = name.replace('(', "_").replace(')', "");
            let mut words = rest.split_ascii_whitespace();
            let Some(value) = words.next().and_then(|word| word.parse::<f64>().ok()) else { continue };
            match words.next() {
                Some("kB") => told.number(&format!("node_memory_{name}_bytes"), value * 1024.0),
                _ => told.number(&format!("node_memory_{name}"), value),
            }
        }
    }

    fn load(&self, told: &mut Told<'_>) {
        let values = self.loadavg.split_ascii_whitespace().map_while(|word| word.parse::<f64>().ok());
        for (name, value) in ["node_load1", "node_load5", "node_load15"].into_iter().zip(values) {
            told.number(name, value);
        }
    }

    fn counters(&self, told: &mut Told<'_>) {
        for line in self.vmstat.lines() {
            let Some((name, value)) = line.split_once(' ') else { continue };
            let wanted = ["oom_kill", "pgpg", "pswp"].iter().any(|start| name.starts_with(start))
                || (name.starts_with("pg") && name.contains("fault"));
            if let (true, Ok(value)) = (wanted, value.trim().parse::<f64>()) {
                told.number(&format!("node_vmstat_{name}"), value);
            }
        }
        let files: Vec<f64> = self.file_nr.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        if let [allocated, _, maximum] = files[..] {
            told.number("node_filefd_allocated", allocated);
            told.number("node_filefd_maximum", maximum);
        }
    }

    fn network(&self, told: &mut Told<'_>) {
        for line in self.net_dev.lines() {
            let Some((device, rest)) = line.rsplit_once(':') else { continue };
            let values = rest.split_ascii_whitespace().map_while(|word| word.parse::<f64>().ok());
            for (column, value) in NET_COLUMNS.iter().zip(values) {
                told.labelled(&format!("node_network_{column}_total"), &[("device", device.trim())], value);
            }
        }
    }

    fn disks(&self, told: &mut Told<'_>) {
        for line in self.diskstats.lines() {
            let mut words = line.split_ascii_whitespace().skip(2);
            let Some(device) = words.next() else { continue };
            if PASSED_DISKS.as_ref().is_some_and(|passed| passed.is_match(device)) {
                continue;
            }
            let values = words.map_while(|word| word.parse::<f64>().ok());
            for ((column, factor), value) in DISK_COLUMNS.iter().zip(values) {
                told.labelled(&format!("node_disk_{column}"), &[("device", device)], value * factor);
            }
        }
    }

    /// Names of devices by their numbers, `8:0`.
    fn disk_names(&self) -> BTreeMap<String, String> {
        let name = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            Some((format!("{}:{}", words.next()?, words.next()?), words.next()?.to_owned()))
        };
        self.diskstats.lines().filter_map(name).collect()
    }

    fn pressure(&self, told: &mut Told<'_>) {
        for (resource, text) in &self.pressure {
            for line in text.lines() {
                let name = match line.split_ascii_whitespace().next() {
                    Some("some") => "waiting",
                    Some("full") if *resource != "cpu" => "stalled", // for the CPU it has no meaning
                    _ => continue,
                };
                let micros = line.rsplit_once("total=").and_then(|(_, number)| number.trim().parse::<f64>().ok());
                if let Some(micros) = micros {
                    told.number(&format!("node_pressure_{resource}_{name}_seconds_total"), micros / 1e6);
                }
            }
        }
    }

    fn filesystems(&self, told: &mut Told<'_>) {
        for Filesystem { mount, space } in &self.filesystems {
            let labels =
                [("device", mount.device.as_str()), ("mountpoint", &mount.mountpoint), ("fstype", &mount.fstype)];
            let mut tell = |name: &str, value: f64| told.labelled(&format!("node_filesystem_{name}"), &labels, value);
            tell("device_error", f64::from(u8::from(space.is_none())));
            let Some(space) = space else { continue };
            let bytes = |blocks: u64| blocks as f64 * space.block as f64;
            tell("size_bytes", bytes(space.size));
            tell("free_bytes", bytes(space.free));
            tell("avail_bytes", bytes(space.available));
            tell("files", space.files as f64);
            tell("files_free", space.files_free as f64);
            tell("readonly", f64::from(u8::from(mount.read_only)));
        }
    }
}

fn cpu(number: &str, ticks: &[f64], told: &mut Told<'_>) {
    for (mode, ticks) in CPU_MODES.iter().zip(ticks) {
        told.labelled("node_cpu_seconds_total", &[("cpu", number), ("mode", mode)], ticks / TICKS_PER_SECOND);
    }
    for (mode, ticks) in ["user", "nice"].iter().zip(ticks.iter().skip(CPU_MODES.len())) {
        told.labelled("node_cpu_guest_seconds_total", &[("cpu", number), ("mode", mode)], ticks / TICKS_PER_SECOND);
    }
}

/// Samples of one look, all at one time and with the same base of labels.
pub(super) struct Told<'a> {
    base: &'a Labels,
    at: Timestamp,
    batch: Batch,
}

impl<'a> Told<'a> {
    pub(super) fn new(base: &'a Labels, at: Timestamp) -> Self {
        Self { base, at, batch: Batch::new() }
    }

    #[cfg(test)]
    pub(super) fn into_batch(self) -> Batch {
        self.batch
    }

    pub(super) fn number(&mut self, name: &str, value: f64) {
        self.labelled(name, &[], value);
    }

    pub(super) fn labelled(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let named = [(METRIC_NAME, name)];
        let labels = Labels::new(self.base.iter().chain(labels.iter().copied()).chain(named));
        self.batch.push(SeriesSamples { labels, samples: vec![Sample { at: self.at, value }] });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(texts: &Texts) -> Vec<String> {
        let batch = texts.samples(&Labels::new([("job", "node")]), Timestamp::from_secs(5));
        let line =
            |series: &SeriesSamples| format!("{} {}", series.labels.without(|n| n == "job"), series.samples[0].value);
        batch.iter().map(line).collect()
    }

    #[test]
    fn each_text_becomes_the_series_of_node_exporter() {
        let texts = Texts {
            stat: "cpu  9 9 9 9\ncpu0 100 0 50 1000 1 2 3 4 7 8\nintr 17 1 2\nctxt 5\nbtime 99\nprocs_running 2\n"
                .into(),
            meminfo: "MemTotal:       1000 kB\nActive(anon):      2 kB\nHugePages_Total:       3\n".into(),
            loadavg: "0.5 1.25 2 1/187 21718\n".into(),
            vmstat: "nr_free_pages 1\npgfault 7\noom_kill 0\n".into(),
            file_nr: "1024\t0\t9000\n".into(),
            net_dev: "Inter-|   Receive\n face |bytes\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n".into(),
            diskstats: " 8 0 sda 10 1 20 3000 5 1 4 500 0 700 800\n 8 1 sda1 1 1 1 1\n 7 0 loop0 0 0 0 0\n".into(),
            pressure: [
                ("cpu", "some avg10=0.00 total=2500000\nfull avg10=0.00 total=9\n".into()),
                ("memory", "some total=1000000\nfull total=500000\n".into()),
                ("io", String::new()),
            ],
            ..Texts::default()
        };
        let told = told(&texts);
        for expected in [
            r#"node_cpu_seconds_total{cpu="0",mode="user"} 1"#,
            r#"node_cpu_seconds_total{cpu="0",mode="steal"} 0.04"#,
            r#"node_cpu_guest_seconds_total{cpu="0",mode="nice"} 0.08"#,
            "node_intr_total 17",
            "node_boot_time_seconds 99",
            "node_memory_MemTotal_bytes 1024000",
            "node_memory_Active_anon_bytes 2048",
            "node_memory_HugePages_Total 3",
            "node_load15 2",
            "node_vmstat_pgfault 7",
            "node_filefd_maximum 9000",
            r#"node_network_receive_multicast_total{device="eth0"} 8"#,
            r#"node_network_transmit_bytes_total{device="eth0"} 9"#,
            r#"node_disk_read_bytes_total{device="sda"} 10240"#,
            r#"node_disk_io_time_weighted_seconds_total{device="sda"} 0.8"#,
            "node_pressure_cpu_waiting_seconds_total 2.5",
            "node_pressure_memory_stalled_seconds_total 0.5",
            "node_time_seconds 5",
        ] {
            assert!(told.iter().any(|line| line == expected), "{expected} is not among {told:#?}");
        }
        assert!(!told.iter().any(|line| line.contains("sda1") || line.contains("loop0") || line.contains("nr_free")));
        assert_eq!(told.iter().filter(|line| line.contains("pressure_cpu")).count(), 1);
    }

    #[test]
    fn mounts_without_data_of_their_own_are_passed_over() {
        let text = "proc /proc proc rw 0 0\n/dev/vda / ext4 rw,relatime 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n\
                    /dev/vdb /mnt/my\\040disk xfs ro,noatime 0 0\ntmpfs /run tmpfs rw 0 0\n";
        let mounts = mounts(text);
        let points: Vec<_> = mounts.iter().map(|mount| (mount.mountpoint.as_str(), mount.read_only)).collect();
        assert_eq!(points, [("/", false), ("/mnt/my disk", true), ("/run", false)]);
        let space = Space { block: 4096, size: 100, free: 50, available: 40, files: 10, files_free: 5 };
        let texts = Texts {
            filesystems: vec![
                Filesystem { mount: mounts[0].clone(), space: Some(space) },
                Filesystem { mount: mounts[1].clone(), space: None },
            ],
            ..Texts::default()
        };
        let told = told(&texts);
        assert!(told.contains(
            &r#"node_filesystem_avail_bytes{device="/dev/vda",fstype="ext4",mountpoint="/"} 163840"#.to_owned()
        ));
        assert_eq!(told.iter().filter(|line| line.contains("my disk")).count(), 1);
        assert!(
            told.iter().any(|line| line.contains("my disk") && line.contains("device_error") && line.ends_with(" 1"))
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "([a-z0-9:() =.\t]{0,20}\n){0,8}") {
            let texts = Texts {
                stat: text.clone(), meminfo: text.clone(), loadavg: text.clone(), vmstat: text.clone(),
                file_nr: text.clone(), net_dev: text.clone(), diskstats: text.clone(),
                pressure: ["cpu", "memory", "io"].map(|resource| (resource, text.clone())),
                ..Texts::default()
            };
            prop_assert!(!told(&texts).is_empty());
            let _ = mounts(&text);
        }
    }
}
