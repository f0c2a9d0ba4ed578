//! What clients of Prometheus ask beside queries is answered in the same shape, and with the same facts, as by the real one.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use support::http::client;
use support::system::System;
use support::{Peer, Program, require_peer};

async fn json(client: &reqwest::Client, url: &str) -> Value {
    client.get(url).send().await.expect("an answer").json().await.expect("JSON")
}

/// Each path to a value with the kind of value that stands there. Names of labels and annotations are free.
fn shape(value: &Value) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    collect("", value, &mut paths);
    paths
}

const FREE: [&str; 4] = ["/labels", "/discoveredLabels", "/annotations", "/target"];

fn collect(path: &str, value: &Value, paths: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    paths.insert(format!("{path}: {kind}"));
    match value {
        Value::Array(list) => list.iter().for_each(|element| collect(&format!("{path}[]"), element, paths)),
        Value::Object(fields) if !FREE.iter().any(|free| path.ends_with(free)) => {
            fields.iter().for_each(|(name, field)| collect(&format!("{path}/{name}"), field, paths));
        }
        _ => {}
    }
}

/// What the real one answers and has no meaning here.
const LEFT_OUT: [&str; 1] = ["/data/headStats/chunkCount"];

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_states_have_the_shape_that_prometheus_gives_them() {
    require_peer!(Program::NodeExporter, Program::Prometheus);
    let (client, folder, node) = (client(), tempfile::tempdir().expect("a folder"), Peer::node_exporter());
    let job = format!(
        "scrape_configs: [{{ job_name: node, scrape_interval: 1s, scrape_timeout: 1s, \
         static_configs: [{{ targets: ['{}', 'dropped:1'] }}], \
         relabel_configs: [{{ source_labels: [__address__], regex: 'dropped.*', action: drop }}] }}]\n",
        node.address()
    );
    let workload = "cadence: 1s\nworkloads: [{ name: shop, demand: 'sum(rate(node_cpu_seconds_total[1m]))' }]\n";
    let system = System::start(folder.path(), &format!("{workload}{job}"), &client).await;
    let rules = folder.path().join("rules.yml");
    let rule = "groups: [{ name: g, rules: [{ alert: Never, expr: 'vector(1) > 2', annotations: { a: b } }] }]\n";
    std::fs::write(&rules, rule).expect("a rule file");
    let prometheus = Peer::prometheus(&format!("rule_files: [{rules:?}]\n{job}"));
    for url in [system.url("/api/v1/targets"), prometheus.url("/api/v1/targets")] {
        let up = async || json(&client, &url).await["data"]["activeTargets"][0]["health"] == "up";
        system.until("the exporter is scraped", up).await;
    }

    for path in [
        "/api/v1/targets",
        "/api/v1/targets?state=dropped",
        "/api/v1/targets/metadata?limit=3",
        "/api/v1/targets/metadata?metric=node_load1",
        "/api/v1/metadata?metric=node_load1",
        "/api/v1/rules",
        "/api/v1/rules?type=record",
        "/api/v1/alerts",
        "/api/v1/alertmanagers",
        "/api/v1/status/buildinfo",
        "/api/v1/status/config",
        "/api/v1/status/walreplay",
        "/api/v1/status/runtimeinfo",
        "/api/v1/status/tsdb",
        "/api/v1/query_exemplars?query=up&start=1&end=2",
        "/api/v1/targets/metadata?match_target=%7B",
    ] {
        let theirs = shape(&json(&client, &prometheus.url(path)).await);
        let ours = shape(&json(&client, &system.url(path)).await);
        let lacking: Vec<&String> =
            theirs.difference(&ours).filter(|path| !LEFT_OUT.iter().any(|left| path.starts_with(left))).collect();
        assert!(lacking.is_empty(), "{path} lacks {lacking:#?}\nours: {ours:#?}");
    }

    let described = async |base: String| -> BTreeMap<String, Value> {
        let all = json(&client, &format!("{base}/api/v1/metadata")).await;
        let fields = all["data"].as_object().cloned().unwrap_or_default();
        fields.into_iter().filter(|(name, _)| !name.starts_with("node_scrape_collector")).collect()
    };
    let (theirs, ours) = (described(prometheus.url("")).await, described(system.url("")).await);
    assert!(theirs.len() > 100, "{}", theirs.len());
    for (metric, texts) in &theirs {
        assert_eq!(ours.get(metric), Some(texts), "{metric}");
    }
}
