//! What control groups, of either version, tell of processor, memory, IO and pressure, under cAdvisor's names.
//!
//! The shell walks the tree, upper groups first, up to a number of groups; what the files mean is decided by pure code.
//!
//! Source: the kernel's documentation of cgroup v1 and v2, and the metric names that cAdvisor serves.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use super::texts::Told;

/// The files of one group, by name; of version 1 those of all its hierarchies.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cgroup {
    /// Its path below the root, `/` for the root.
    pub id: String,
    pub files: BTreeMap<&'static str, String>,
}

const FILES_V2: [&str; 12] = [
    "cpu.stat",
    "cpu.max",
    "memory.current",
    "memory.stat",
    "memory.swap.current",
    "memory.max",
    "memory.events",
    "io.stat",
    "pids.current",
    "cpu.pressure",
    "memory.pressure",
    "io.pressure",
];

/// Hierarchy, under each of its names, and the files in it.
const FILES_V1: [(&[&str], &[&str]); 4] = [
    (
        &["cpu", "cpu,cpuacct", "cpuacct"],
        &["cpu.stat", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpuacct.usage", "cpuacct.stat"],
    ),
    (&["memory"], &["memory.usage_in_bytes", "memory.stat", "memory.limit_in_bytes", "memory.failcnt"]),
    (&["blkio"], &["blkio.throttle.io_service_bytes", "blkio.throttle.io_serviced"]),
    (&["pids"], &["pids.current"]),
];

/// Clock ticks a second, as in `/proc/stat`.
const TICKS: f64 = 100.0;

/// A limit above this is none.
const UNLIMITED: f64 = (1u64 << 62) as f64;

/// The groups below `root`, each with its files: at most `most`, those of fewer levels first.
pub(super) fn read(root: &Path, most: usize) -> Vec<Cgroup> {
    if root.join("cgroup.controllers").exists() {
        return walk(root, most, &|folder, group| take(folder, &FILES_V2, group));
    }
    let (mut groups, mut places): (Vec<Cgroup>, BTreeMap<String, usize>) = Default::default();
    for (names, files) in FILES_V1 {
        for hierarchy in names.iter().map(|name| root.join(name)).filter(|path| path.is_dir()) {
            for found in walk(&hierarchy, most, &|folder, group| take(folder, files, group)) {
                match places.get(&found.id) {
                    Some(place) => groups[*place].files.extend(found.files),
                    None if groups.len() < most => {
                        places.insert(found.id.clone(), groups.len());
                        groups.push(found);
                    }
                    None => {}
                }
            }
        }
    }
    groups
}

fn walk(root: &Path, most: usize, take: &dyn Fn(&Path, &mut Cgroup)) -> Vec<Cgroup> {
    let (mut groups, mut ahead) = (Vec::new(), VecDeque::from([root.to_owned()]));
    while let Some(folder) = ahead.pop_front() {
        if groups.len() >= most {
            break;
        }
        let below = folder.strip_prefix(root).unwrap_or(&folder);
        let mut group = Cgroup { id: format!("/{}", below.display()), files: BTreeMap::new() };
        take(&folder, &mut group);
        if !group.files.is_empty() {
            groups.push(group);
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut folders: Vec<_> = folders.map(|entry| entry.path()).collect();
        folders.sort();
        ahead.extend(folders);
    }
    groups
}

fn take(folder: &Path, files: &[&'static str], group: &mut Cgroup) {
    for file in files {
        if let Ok(text) = std::fs::read_to_string(folder.join(file)) {
            group.files.insert(file, text);
        }
    }
}

/// Tells what a group tells. `disks` gives the name of a device by its numbers.
pub(super) fn tell(group: &Cgroup, disks: &BTreeMap<String, String>, told: &mut Told<'_>) {
    let mut group = Telling { group, disks, told };
    if group.group.files.contains_key("cpuacct.usage") || group.group.files.contains_key("memory.usage_in_bytes") {
        group.v1();
    } else {
        group.v2();
    }
}

struct Telling<'a, 'b> {
    group: &'a Cgroup,
    disks: &'a BTreeMap<String, String>,
    told: &'a mut Told<'b>,
}

impl Telling<'_, '_> {
    fn v2(&mut self) {
        let cpu = self.table("cpu.stat");
        for (key, name, factor) in [
            ("usage_usec", "cpu_usage_seconds_total", 1e-6),
            ("user_usec", "cpu_user_seconds_total", 1e-6),
            ("system_usec", "cpu_system_seconds_total", 1e-6),
            ("nr_periods", "cpu_cfs_periods_total", 1.0),
            ("nr_throttled", "cpu_cfs_throttled_periods_total", 1.0),
            ("throttled_usec", "cpu_cfs_throttled_seconds_total", 1e-6),
        ] {
            self.put(name, cpu.get(key).map(|value| value * factor));
        }
        let limit = self.file("cpu.max").to_owned();
        let mut limit = limit.split_ascii_whitespace().map(str::parse::<f64>);
        self.put("spec_cpu_quota", limit.next().and_then(Result::ok));
        self.put("spec_cpu_period", limit.next().and_then(Result::ok));
        let stat = self.table("memory.stat");
        self.memory(self.number("memory.current"), &stat, ["anon", "file", "inactive_file", "pgfault", "pgmajfault"]);
        self.put("memory_swap", self.number("memory.swap.current"));
        let most = self.group.files.get("memory.max").map(|text| text.trim().parse().unwrap_or(0.0));
        self.put("spec_memory_limit_bytes", most);
        let events = self.table("memory.events");
        self.put("oom_events_total", events.get("oom_kill").copied());
        self.io_v2();
        self.put("threads", self.number("pids.current"));
        for resource in ["cpu", "memory", "io"] {
            self.pressure(resource);
        }
    }

    fn v1(&mut self) {
        self.put("cpu_usage_seconds_total", self.number("cpuacct.usage").map(|nanos| nanos / 1e9));
        let ticks = self.table("cpuacct.stat");
        self.put("cpu_user_seconds_total", ticks.get("user").map(|ticks| ticks / TICKS));
        self.put("cpu_system_seconds_total", ticks.get("system").map(|ticks| ticks / TICKS));
        let cpu = self.table("cpu.stat");
        self.put("cpu_cfs_periods_total", cpu.get("nr_periods").copied());
        self.put("cpu_cfs_throttled_periods_total", cpu.get("nr_throttled").copied());
        self.put("cpu_cfs_throttled_seconds_total", cpu.get("throttled_time").map(|nanos| nanos / 1e9));
        self.put("spec_cpu_quota", self.number("cpu.cfs_quota_us").filter(|quota| *quota >= 0.0));
        self.put("spec_cpu_period", self.number("cpu.cfs_period_us"));
        let stat = self.table("memory.stat");
        let names = ["total_rss", "total_cache", "total_inactive_file", "total_pgfault", "total_pgmajfault"];
        self.memory(self.number("memory.usage_in_bytes"), &stat, names);
        self.put("memory_swap", stat.get("total_swap").copied());
        let most = self.number("memory.limit_in_bytes").map(|most| if most >= UNLIMITED { 0.0 } else { most });
        self.put("spec_memory_limit_bytes", most);
        self.put("memory_failcnt", self.number("memory.failcnt"));
        self.io_v1("blkio.throttle.io_service_bytes", "bytes_total");
        self.io_v1("blkio.throttle.io_serviced", "total");
        self.put("threads", self.number("pids.current"));
    }

    /// `names`: anonymous, cached, idle cached, page faults, those that had to read.
    fn memory(&mut self, used: Option<f64>, stat: &BTreeMap<String, f64>, names: [&str; 5]) {
        let [rss, cache, inactive, faults, major] = names.map(|name| stat.get(name).copied());
        self.put("memory_usage_bytes", used);
        self.put("memory_working_set_bytes", used.map(|used| (used - inactive.unwrap_or(0.0)).max(0.0)));
        self.put("memory_rss", rss);
        self.put("memory_cache", cache);
        for (kind, faults) in [("pgfault", faults), ("pgmajfault", major)] {
            if let Some(faults) = faults {
                let labels = [("failure_type", kind), ("scope", "hierarchy")];
                self.put_labelled("memory_failures_total", &labels, faults);
            }
        }
    }

    /// `8:0 rbytes=1 wbytes=2 rios=3 wios=4`
    fn io_v2(&mut self) {
        for line in self.file("io.stat").to_owned().lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(device) = words.next().map(|numbers| self.disk(numbers)) else { continue };
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                let name = match key {
                    "rbytes" => "fs_reads_bytes_total",
                    "wbytes" => "fs_writes_bytes_total",
                    "rios" => "fs_reads_total",
                    "wios" => "fs_writes_total",
                    _ => continue,
                };
                if let Ok(value) = value.parse() {
                    self.put_labelled(name, &[("device", &device)], value);
                }
            }
        }
    }

    /// `8:0 Read 123`
    fn io_v1(&mut self, file: &str, what: &str) {
        for line in self.file(file).to_owned().lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [numbers, direction, value] = words[..] else { continue };
            let direction = match direction {
                "Read" => "reads",
                "Write" => "writes",
                _ => continue,
            };
            if let Ok(value) = value.parse() {
                self.put_labelled(&format!("fs_{direction}_{what}"), &[("device", &self.disk(numbers))], value);
            }
        }
    }

    fn pressure(&mut self, resource: &str) {
        for line in self.file(&format!("{resource}.pressure")).to_owned().lines() {
            let name = match line.split_ascii_whitespace().next() {
                Some("some") => "waiting",
                Some("full") => "stalled",
                _ => continue,
            };
            let micros = line.rsplit_once("total=").and_then(|(_, number)| number.trim().parse::<f64>().ok());
            self.put(&format!("pressure_{resource}_{name}_seconds_total"), micros.map(|micros| micros / 1e6));
        }
    }

    fn disk(&self, numbers: &str) -> String {
        self.disks.get(numbers).map_or_else(|| numbers.to_owned(), |name| format!("/dev/{name}"))
    }

    fn file(&self, name: &str) -> &str {
        self.group.files.get(name).map_or("", String::as_str)
    }

    fn number(&self, file: &str) -> Option<f64> {
        self.file(file).trim().parse().ok()
    }

    /// Lines of a name and a number.
    fn table(&self, file: &str) -> BTreeMap<String, f64> {
        let row = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        self.file(file).lines().filter_map(row).collect()
    }

    fn put(&mut self, name: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.put_labelled(name, &[], value);
        }
    }

    fn put_labelled(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let id = [("id", self.group.id.as_str())];
        let labels: Vec<(&str, &str)> = id.into_iter().chain(labels.iter().copied()).collect();
        self.told.labelled(&format!("container_{name}"), &labels, value);
    }
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::{Labels, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn told(groups: &[Cgroup]) -> Vec<String> {
        let base = Labels::new([("job", "node")]);
        let mut told = Told::new(&base, Timestamp::from_secs(5));
        let disks = BTreeMap::from([("8:0".to_owned(), "sda".to_owned())]);
        groups.iter().for_each(|group| tell(group, &disks, &mut told));
        let batch = told.into_batch();
        batch
            .iter()
            .map(|series| format!("{} {}", series.labels.without(|n| n == "job"), series.samples[0].value))
            .collect()
    }

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    /// A tree of version 2 in the forms that the kernel's documentation gives.
    #[test]
    fn a_tree_of_version_2_is_read() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("cgroup.controllers", "cpu io memory pids\n"),
                ("cpu.stat", "usage_usec 9000000\nuser_usec 6000000\nsystem_usec 3000000\n"),
                (
                    "shop.slice/cpu.stat",
                    "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 1500000\n",
                ),
                ("shop.slice/cpu.max", "200000 100000\n"),
                ("shop.slice/memory.current", "1000\n"),
                ("shop.slice/memory.max", "max\n"),
                ("shop.slice/memory.stat", "anon 300\nfile 600\ninactive_file 250\npgfault 7\npgmajfault 1\n"),
                ("shop.slice/memory.swap.current", "50\n"),
                ("shop.slice/memory.events", "low 0\nhigh 0\nmax 0\noom 1\noom_kill 2\n"),
                ("shop.slice/io.stat", "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n"),
                ("shop.slice/pids.current", "12\n"),
                (
                    "shop.slice/memory.pressure",
                    "some avg10=0.00 avg60=0.00 avg300=0.00 total=2000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\n",
                ),
            ],
        );
        let lines = told(&read(root.path(), 10));
        for expected in [
            r#"container_cpu_usage_seconds_total{id="/"} 9"#,
            r#"container_cpu_usage_seconds_total{id="/shop.slice"} 2.5"#,
            r#"container_cpu_cfs_throttled_seconds_total{id="/shop.slice"} 1.5"#,
            r#"container_spec_cpu_quota{id="/shop.slice"} 200000"#,
            r#"container_memory_working_set_bytes{id="/shop.slice"} 750"#,
            r#"container_memory_rss{id="/shop.slice"} 300"#,
            r#"container_spec_memory_limit_bytes{id="/shop.slice"} 0"#,
            r#"container_oom_events_total{id="/shop.slice"} 2"#,
            r#"container_fs_writes_bytes_total{device="/dev/sda",id="/shop.slice"} 8192"#,
            r#"container_threads{id="/shop.slice"} 12"#,
            r#"container_pressure_memory_stalled_seconds_total{id="/shop.slice"} 1"#,
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected} is not among {lines:#?}");
        }
    }

    /// A tree of version 1, its texts as a machine with Linux 6.1 gave them, shortened.
    #[test]
    fn a_tree_of_version_1_is_read() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                (
                    "cpu/box/cpu.stat",
                    "nr_periods 20\nnr_throttled 5\nthrottled_time 2500000000\nnr_bursts 0\nburst_time 0\n",
                ),
                ("cpu/box/cpu.cfs_quota_us", "-1\n"),
                ("cpu/box/cpu.cfs_period_us", "100000\n"),
                ("cpuacct/box/cpuacct.usage", "26705475728602\n"),
                ("cpuacct/box/cpuacct.stat", "user 2447559\nsystem 222988\n"),
                ("memory/box/memory.usage_in_bytes", "22531575808\n"),
                ("memory/box/memory.limit_in_bytes", "9223372036854771712\n"),
                (
                    "memory/box/memory.stat",
                    "cache 11988992\nrss 13877248\ntotal_cache 2000\ntotal_rss 3000\ntotal_inactive_file 31575808\n",
                ),
                ("memory/box/memory.failcnt", "3\n"),
                (
                    "blkio/box/blkio.throttle.io_service_bytes",
                    "8:0 Read 4096\n8:0 Write 0\n8:0 Total 4096\nTotal 4096\n",
                ),
                ("pids/box/pids.current", "7\n"),
            ],
        );
        let lines = told(&read(root.path(), 10));
        for expected in [
            r#"container_cpu_usage_seconds_total{id="/box"} 26705.475728602"#,
            r#"container_cpu_user_seconds_total{id="/box"} 24475.59"#,
            r#"container_cpu_cfs_throttled_seconds_total{id="/box"} 2.5"#,
            r#"container_memory_working_set_bytes{id="/box"} 22500000000"#,
            r#"container_memory_rss{id="/box"} 3000"#,
            r#"container_spec_memory_limit_bytes{id="/box"} 0"#,
            r#"container_memory_failcnt{id="/box"} 3"#,
            r#"container_fs_reads_bytes_total{device="/dev/sda",id="/box"} 4096"#,
            r#"container_threads{id="/box"} 7"#,
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected} is not among {lines:#?}");
        }
        assert!(!lines.iter().any(|line| line.contains("spec_cpu_quota")), "-1 is no quota");
    }

    #[test]
    fn of_many_groups_the_upper_ones_are_read() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[("cgroup.controllers", "")]);
        for number in 0..20 {
            write(
                root.path(),
                &[(&format!("a/deep/{number}/pids.current"), "1"), (&format!("b{number:02}/pids.current"), "1")],
            );
        }
        let ids: Vec<String> = read(root.path(), 15).into_iter().map(|group| group.id).collect();
        assert!(ids.len() == 15 && ids.iter().all(|id| id.starts_with("/b")), "{ids:?}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "([a-z0-9:=. ]{0,20}\n){0,8}", v1: bool) {
            let names: Vec<&'static str> = match v1 {
                true => FILES_V1.iter().flat_map(|(_, files)| files.iter().copied()).collect(),
                false => FILES_V2.to_vec(),
            };
            let files = names.into_iter().map(|name| (name, text.clone())).collect();
            let _ = told(&[Cgroup { id: "/".to_owned(), files }]);
        }
    }
}
