//! The whole system among real servers: what they send arrives, what is wrong reaches Alertmanager and leaves it again.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use bellwether::config::Config;
use bellwether::pipeline::Pipeline;
use bellwether_collector::ingest::Clock;
use bellwether_models::series::Timestamp;
use serde_json::Value;
use support::http::client;
use support::shop::{batch, symptom};
use support::system::System;
use support::{Peer, Program, require_peer};

const ALERTMANAGER: &str = "
route: { receiver: none, group_wait: 1s }
receivers: [{ name: none }]
";

async fn json(client: &reqwest::Client, url: &str) -> Value {
    match client.get(url).send().await {
        Ok(answer) => answer.json().await.unwrap_or(Value::Null),
        Err(_) => Value::Null,
    }
}

/// The value of an instant query that gives one series.
async fn ask(client: &reqwest::Client, system: &System, query: &str) -> Option<f64> {
    let request = client.get(system.url("/api/v1/query")).query(&[("query", query)]);
    let answer: Value = request.send().await.ok()?.json().await.ok()?;
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_system_scrapes_and_is_written_to_and_is_reloaded() {
    require_peer!(Program::NodeExporter, Program::Prometheus);
    let client = client();
    let node = Peer::node_exporter();
    let folder = tempfile::tempdir().expect("a folder");
    let scrape = |job: &str| {
        format!(
            "scrape_configs: [{{ job_name: {job}, scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{{ targets: ['{}'] }}] }}]\n",
            node.address()
        )
    };
    let config = format!("cadence: 1s\n{}", scrape("ours"));
    let system = System::start(folder.path(), &config, &client).await;
    let prometheus = Peer::prometheus(&format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs: [{{ job_name: theirs, static_configs: [{{ targets: ['{}'] }}] }}]\nremote_write: [{{ url: '{}', queue_config: {{ batch_send_deadline: 1s }} }}]\n",
        node.address(),
        system.url("/api/v1/write")
    ));
    system.until("the scrape shows", async || ask(&client, &system, "up{job=\"ours\"}").await == Some(1.0)).await;
    system
        .until("Prometheus' samples show", async || ask(&client, &system, "up{job=\"theirs\"}").await == Some(1.0))
        .await;
    let all_of = |job: &str| format!("count({{job={job:?},__name__=~\"node_.*\"}})");
    let (ours, theirs) = (all_of("ours"), all_of("theirs"));
    system
        .until("both ways carry the same series", async || {
            let (ours, theirs) = (ask(&client, &system, &ours).await, ask(&client, &system, &theirs).await);
            ours.is_some_and(|count| count > 100.0) && ours == theirs
        })
        .await;
    assert!(ask(&client, &system, "node_memory_MemTotal_bytes{job=\"ours\"}").await.is_some_and(|bytes| bytes > 1e8));
    drop(prometheus);

    let path = folder.path().join("bellwether.yaml");
    let before = std::fs::read_to_string(&path).expect("the configuration");
    std::fs::write(&path, format!("{before}\nunknown_key: 1\n")).expect("a bad configuration");
    let refused = client.post(system.url("/-/reload")).send().await.expect("an answer");
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.expect("a text").contains("unknown_key"));
    std::fs::write(&path, before.replace("job_name: ours", "job_name: renamed")).expect("a good configuration");
    assert_eq!(client.post(system.url("/-/reload")).send().await.expect("an answer").status(), 200);
    system
        .until("the new job is scraped", async || ask(&client, &system, "up{job=\"renamed\"}").await == Some(1.0))
        .await;
    system.until("the old job has ended", async || ask(&client, &system, "up{job=\"ours\"}").await.is_none()).await;
    let metrics = client.get(system.url("/metrics")).send().await.expect("metrics").text().await.expect("a text");
    assert!(metrics.contains("bellwether_predictor_ticks_total"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_one_alert_with_its_cause_and_is_resolved() {
    require_peer!(Program::Alertmanager);
    let client = client();
    let alertmanager = Peer::alertmanager(ALERTMANAGER);
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "store: {{ embedded: {{ path: {:?} }} }}\nworkloads:\n  - {{ name: shop, demand: sum(requests), symptoms: ['latency{{service=\"shop\"}}'], depends_on: [cart] }}\nalerts: {{ alertmanagers: ['{}'], resend_interval: 1s }}\n",
        folder.path().join("data"),
        alertmanager.url("")
    );
    let config = Config::parse("test.yaml".as_ref(), &text).expect("a good configuration");
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let course = symptom(Timestamp::from_millis(wall), 12 * 60);
    let told = Arc::new(AtomicI64::new(0));
    let time = told.clone();
    let clock: Clock = Arc::new(move || Timestamp::from_millis(time.load(Ordering::Relaxed)));
    let mut pipeline = Pipeline::open(&config, clock).await.expect("a pipeline");
    let active = alertmanager.url("/api/v2/alerts?active=true");
    let mut shown = Vec::new();
    let live = course.len() - 90;
    for (index, (at, latency)) in course.iter().enumerate() {
        told.store(at.as_millis(), Ordering::Relaxed);
        pipeline.ingest.append("test", batch(*at, *latency)).await.expect("the store takes it");
        if index < live {
            continue;
        }
        let (snapshot, _) = pipeline.tick(*at).await;
        pipeline.settle().await;
        if snapshot.incidents.iter().any(|incident| incident.resolved_at.is_none()) {
            let alerts = json(&client, &active).await.as_array().cloned().unwrap_or_default();
            shown.extend(alerts);
        }
    }
    let identities: std::collections::BTreeSet<String> =
        shown.iter().map(|alert| alert["labels"].to_string()).collect();
    assert_eq!(identities.len(), 1, "not exactly one alert: {identities:?}");
    let told = shown.last().expect("an alert")["annotations"].to_string();
    assert!(told.contains("cart") && told.contains("queue_length"), "the cause is not named: {told}");
    assert_eq!(json(&client, &active).await, Value::Array(Vec::new()), "it is still active after its end");
}
