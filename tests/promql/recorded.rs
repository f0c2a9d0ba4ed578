//! What a Prometheus 2.42 scraped from node_exporter 1.5.0 and from itself every 15 s for 35 minutes of a working machine,
//! with node_exporter away for a while and started again: as the server sent it on by remote write, staleness markers
//! included. Recorded for this project; names of the machine are replaced.
//!
//! One series a line: its labels, the first time in milliseconds followed by distances, and the values.

use std::collections::BTreeMap;
use std::io::Read;

use bellwether_collector::store::SeriesSamples;
use bellwether_models::series::{Labels, Sample, Timestamp, stale_marker};
use flate2::read::GzDecoder;
use serde::Deserialize;

/// The whole recording lies in it, in seconds.
pub const START: i64 = 1_795_247_652;
/// See [`START`].
pub const END: i64 = 1_795_249_768;

#[derive(Deserialize)]
struct Line {
    labels: BTreeMap<String, String>,
    times: Vec<i64>,
    values: Vec<String>,
}

pub fn series() -> Vec<SeriesSamples> {
    let mut text = String::new();
    GzDecoder::new(&include_bytes!("scrapes.jsonl.gz")[..]).read_to_string(&mut text).expect("the recording is whole");
    text.lines().map(|line| one_series(serde_json::from_str(line).expect("a series"))).collect()
}

fn one_series(line: Line) -> SeriesSamples {
    let times = line.times.iter().scan(0, |at, step| {
        *at += step;
        Some(Timestamp::from_millis(*at))
    });
    let values =
        line.values.iter().map(|text| if text == "stale" { stale_marker() } else { text.parse().expect("a number") });
    let samples = times.zip(values).map(|(at, value)| Sample { at, value }).collect();
    SeriesSamples { labels: Labels::new(line.labels), samples }
}

/// Each metric as dashboards show its kind, and the idioms of well-known dashboards and alert rules.
pub fn expressions() -> Vec<String> {
    let series = series();
    let names: std::collections::BTreeSet<&str> = series.iter().map(|one| one.labels.metric_name()).collect();
    let mut all: Vec<String> =
        IDIOMS.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    for name in names {
        let counter = ["_total", "_count", "_sum", "_bucket"].iter().any(|suffix| name.ends_with(suffix));
        let shapes = if counter {
            [
                "sum by (job) (rate(#[5m]))",
                "increase(#[10m])",
                "irate(#[1m])",
                "resets(#[30m])",
                "max_over_time(rate(#[1m])[5m:30s])",
            ]
        } else {
            [
                "avg_over_time(#[5m])",
                "max by (instance) (#)",
                "delta(#[10m])",
                "deriv(#[5m])",
                "quantile_over_time(0.9, #[7m])",
            ]
        };
        all.extend(
            shapes
                .iter()
                .chain(&["#", "# offset 3m", "absent(#)", "timestamp(#)"])
                .map(|shape| shape.replace('#', name)),
        );
    }
    all
}

const IDIOMS: &str = r##"
up == 0
avg_over_time(up[10m]) < 1
changes(up[30m])
count by (job) (up)
100 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[2m])) * 100
sum by (instance, mode) (irate(node_cpu_seconds_total{mode!="idle"}[1m])) / on(instance) group_left count by (instance) (node_cpu_seconds_total{mode="idle"})
sum without (cpu, mode) (rate(node_cpu_seconds_total{mode=~"user|system|iowait"}[5m]))
count without (cpu, mode) (node_cpu_seconds_total{mode="idle"})
node_load1 / on(instance) count by (instance) (count by (cpu, instance) (node_cpu_seconds_total))
1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes
(node_memory_MemTotal_bytes - node_memory_MemFree_bytes - node_memory_Cached_bytes - node_memory_Buffers_bytes) / 1024 ^ 3
100 - (node_filesystem_avail_bytes{fstype!="tmpfs"} * 100 / node_filesystem_size_bytes)
predict_linear(node_filesystem_avail_bytes[15m], 4 * 3600) < 0
predict_linear(node_filesystem_avail_bytes[15m], 24 * 3600) > bool 1e9
rate(node_disk_read_bytes_total[2m]) + rate(node_disk_written_bytes_total[2m])
rate(node_disk_read_time_seconds_total[5m]) / rate(node_disk_reads_completed_total[5m])
topk(3, rate(node_disk_written_bytes_total[5m]))
sum by (instance) (rate(node_network_receive_bytes_total{device!="lo"}[1m])) * 8
rate(node_network_transmit_errs_total[2m]) / (rate(node_network_transmit_packets_total[2m]) > 0) > 0.01
node_network_up * on(instance, device) group_left(operstate, duplex) node_network_info
time() - node_boot_time_seconds
(time() - process_start_time_seconds) / 60
process_open_fds / process_max_fds > 0.001
histogram_quantile(0.9, rate(prometheus_http_request_duration_seconds_bucket[5m]))
histogram_quantile(0.5, sum by (le, handler) (rate(prometheus_http_request_duration_seconds_bucket[10m])))
histogram_quantile(0.99, sum by (le) (rate(prometheus_remote_storage_sent_batch_duration_seconds_bucket[5m])))
sum(rate(prometheus_remote_storage_sent_batch_duration_seconds_sum[5m])) / sum(rate(prometheus_remote_storage_sent_batch_duration_seconds_count[5m]))
prometheus_remote_storage_highest_timestamp_in_seconds - ignoring(remote_name, url) group_right prometheus_remote_storage_queue_highest_sent_timestamp_seconds
rate(prometheus_tsdb_head_samples_appended_total[5m])
sum by (code) (increase(prometheus_http_requests_total[20m]))
label_replace(node_exporter_build_info, "minor", "$1", "version", "(\\d+\\.\\d+).*")
count by (version) ({__name__=~".+_build_info"})
count by (__name__) ({job="node"})
max(count by (__name__) ({__name__=~".+"}))
sum by (job) (scrape_samples_scraped)
max_over_time(scrape_duration_seconds[10m]) / avg_over_time(scrape_duration_seconds[10m])
avg_over_time(node_load1[10m:1m]) - node_load1 offset 10m
stddev_over_time(node_load1[20m]) / avg_over_time(node_load1[20m])
(node_load1 - avg_over_time(node_load1[20m])) / stddev_over_time(node_load1[20m])
holt_winters(node_load1[20m], 0.3, 0.1)
node_load1 > 1 and node_load5 > 1 unless node_load15 > 4
quantile by (instance) (0.9, rate(node_cpu_seconds_total[5m]))
quantile_over_time(0.95, node_load1[30m])
rate(node_context_switches_total[1m]) / rate(node_context_switches_total[1m] offset 5m)
resets(node_network_receive_bytes_total[30m]) + changes(process_start_time_seconds[30m]) > 0
absent(up{job="node"} == 1)
absent_over_time(node_load1[2m])
sum by (quantile) (go_gc_duration_seconds)
bottomk(2, go_memstats_alloc_bytes) or topk(1, go_memstats_sys_bytes)
clamp_max(rate(node_pressure_cpu_waiting_seconds_total[1m]), 1)
round(node_memory_MemAvailable_bytes / 1e6, 10)
node_time_seconds - timestamp(node_time_seconds)
day_of_week(node_time_seconds) + hour(node_time_seconds) / 24
min_over_time((sum(rate(node_cpu_seconds_total{mode="idle"}[1m])))[15m:1m])
"##;
