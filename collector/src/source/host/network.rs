//! What the kernel tells of interfaces, sockets and protocols: pure.
//!
//! Source: the kernel's documentation of `/sys/class/net` and `/proc/net`, and the metric names that node_exporter 1.5 serves.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use super::texts::Told;

/// Bytes of a page of memory: 4096 wherever node_exporter's dashboards were made.
const PAGE_BYTES: f64 = 4096.0;

/// The texts of one look; empty where there was none.
#[derive(Clone, Debug, Default)]
pub(super) struct NetworkTexts {
    pub netstat: String,
    pub snmp: String,
    pub snmp6: String,
    pub sockstat: String,
    pub sockstat6: String,
    pub softnet: String,
    pub arp: String,
    /// Entries of connection tracking, and the most there may be.
    pub conntrack: [String; 2],
    /// Files of each interface, by its name and theirs.
    pub interfaces: BTreeMap<String, BTreeMap<&'static str, String>>,
}

/// File and metric of what an interface tells in numbers.
pub(super) const INTERFACE_NUMBERS: [(&str, &str); 17] = [
    ("addr_assign_type", "address_assign_type"),
    ("carrier", "carrier"),
    ("carrier_changes", "carrier_changes_total"),
    ("carrier_down_count", "carrier_down_changes_total"),
    ("carrier_up_count", "carrier_up_changes_total"),
    ("dev_id", "device_id"),
    ("dormant", "dormant"),
    ("flags", "flags"),
    ("ifindex", "iface_id"),
    ("iflink", "iface_link"),
    ("link_mode", "iface_link_mode"),
    ("mtu", "mtu_bytes"),
    ("name_assign_type", "name_assign_type"),
    ("netdev_group", "net_dev_group"),
    ("speed", "speed_bytes"),
    ("tx_queue_len", "transmit_queue_length"),
    ("type", "protocol_type"),
];

/// What it tells in words.
pub(super) const INTERFACE_WORDS: [&str; 5] = ["address", "broadcast", "duplex", "ifalias", "operstate"];

/// Megabits in bytes.
const MEGABIT: f64 = 1e6 / 8.0;

/// Counters of protocols that node_exporter shows.
static SHOWN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let names = [
        ".*_(InErrors|InErrs)",
        "Ip_Forwarding",
        "Ip(6|Ext)_(In|Out)Octets",
        "Icmp6?_(In|Out)Msgs",
        "TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts)",
        "Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)",
        "Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors)",
    ];
    Regex::new(&format!("^(?:{})$", names.join("|"))).ok()
});

impl NetworkTexts {
    pub(super) fn tell(&self, told: &mut Told<'_>) {
        for (device, files) in &self.interfaces {
            interface(device, files, told);
        }
        protocols(&self.netstat, told);
        protocols(&self.snmp, told);
        protocols6(&self.snmp6, told);
        sockets(&self.sockstat, told);
        sockets(&self.sockstat6, told);
        softnet(&self.softnet, told);
        neighbours(&self.arp, told);
        for (name, text) in
            ["node_nf_conntrack_entries", "node_nf_conntrack_entries_limit"].into_iter().zip(&self.conntrack)
        {
            if let Ok(value) = text.trim().parse::<f64>() {
                told.number(name, value);
            }
        }
    }
}

fn interface(device: &str, files: &BTreeMap<&'static str, String>, told: &mut Told<'_>) {
    let word = |file: &str| files.get(file).map_or("", |text| text.trim());
    let mut tell =
        |name: &str, value: f64| told.labelled(&format!("node_network_{name}"), &[("device", device)], value);
    for (file, name) in INTERFACE_NUMBERS {
        let Some(value) = number(word(file)) else { continue };
        tell(name, if file == "speed" { value * MEGABIT } else { value });
    }
    tell("up", f64::from(u8::from(word("operstate") == "up")));
    let labels: Vec<(&str, &str)> =
        INTERFACE_WORDS.iter().map(|file| (*file, word(file))).chain([("device", device)]).collect();
    told.labelled("node_network_info", &labels, 1.0);
}

/// Decimal, or hexadecimal after `0x`.
fn number(text: &str) -> Option<f64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(|number| number as f64),
        None => text.parse().ok(),
    }
}

/// Pairs of lines: names, then values, both behind the protocol.
fn protocols(text: &str, told: &mut Told<'_>) {
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks_exact(2) {
        let Some((protocol, names)) = pair[0].split_once(':') else { continue };
        let values = pair[1].split_once(':').map_or("", |(_, values)| values);
        for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
            protocol_counter(&format!("{protocol}_{name}"), value, told);
        }
    }
}

/// Lines of a name, such as `Ip6InOctets`, and a value.
fn protocols6(text: &str, told: &mut Told<'_>) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let parts = words.next().and_then(|name| Some(name.split_at(name.find('6')? + 1)));
        if let (Some((protocol, name)), Some(value)) = (parts, words.next()) {
            protocol_counter(&format!("{protocol}_{name}"), value, told);
        }
    }
}

fn protocol_counter(name: &str, value: &str, told: &mut Told<'_>) {
    if SHOWN.as_ref().is_some_and(|shown| shown.is_match(name))
        && let Ok(value) = value.parse::<f64>()
    {
        told.number(&format!("node_netstat_{name}"), value);
    }
}

/// `TCP: inuse 5 orphan 0 mem 1`
fn sockets(text: &str, told: &mut Told<'_>) {
    for line in text.lines() {
        let Some((protocol, rest)) = line.split_once(':') else { continue };
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        for pair in words.chunks_exact(2) {
            let Ok(value) = pair[1].parse::<f64>() else { continue };
            told.number(&format!("node_sockstat_{protocol}_{}", pair[0]), value);
            if pair[0] == "mem" {
                told.number(&format!("node_sockstat_{protocol}_mem_bytes"), value * PAGE_BYTES);
            }
        }
    }
}

/// Hexadecimal columns, a line for each processor.
fn softnet(text: &str, told: &mut Told<'_>) {
    for (line, words) in text.lines().map(str::split_ascii_whitespace).enumerate() {
        let columns: Vec<u32> = words.map_while(|word| u32::from_str_radix(word, 16).ok()).collect();
        let cpu = columns.get(12).map_or(line, |cpu| *cpu as usize).to_string();
        for (name, value) in ["processed", "dropped", "times_squeezed"].into_iter().zip(&columns) {
            told.labelled(&format!("node_softnet_{name}_total"), &[("cpu", &cpu)], f64::from(*value));
        }
    }
}

fn neighbours(text: &str, told: &mut Told<'_>) {
    let mut entries: BTreeMap<&str, u32> = BTreeMap::new();
    for device in text.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next_back()) {
        *entries.entry(device).or_default() += 1;
    }
    for (device, count) in entries {
        told.labelled("node_arp_entries", &[("device", device)], f64::from(count));
    }
}
