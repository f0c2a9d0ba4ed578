//! The store in a bucket of InfluxDB 2: held to the laws over the fake and, where one is named, over a real server; its
//! writes judged by VictoriaMetrics and InfluxDB 1; the fake's answers judged by the official clients.

use std::collections::BTreeMap;
use std::time::Duration;

use bellwether_collector::source::secret::Secret;
use bellwether_collector::store::influx::{self, InfluxConfig};
use bellwether_collector::store::laws::{self, Promises, Values};
use bellwether_collector::store::{SampleRefusal, SeriesSamples, Store, TimeRange};
use bellwether_models::series::{Labels, Sample, Timestamp, stale_marker};
use serde_json::{Value, json};

use crate::support::gate::{Gate, Renamed, split};
use crate::support::influx2::{BUCKET, Influx2, ORG, TOKEN};
use crate::support::system::System;
use crate::support::{Peer, Program, http, node, python, require_peer};
use crate::{round, until};

const PROMISES: Promises =
    Promises { out_of_order_window: false, any_time: true, values: Values::Bits, keeps_house: false };

/// A store that knows the fake's token, with a queue of its own that outlives it.
async fn store_at(url: &str, folder: &std::path::Path) -> impl Store + use<> {
    http::install_cryptography();
    let config = InfluxConfig {
        url: url.to_owned(),
        org: ORG.to_owned(),
        bucket: BUCKET.to_owned(),
        token: Some(Secret::new(TOKEN)),
        path: folder.to_owned(),
        ..InfluxConfig::default()
    };
    influx::open(config).await.expect("the store opens")
}

fn folder() -> std::path::PathBuf {
    tempfile::tempdir().expect("a folder").keep()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_influx_store_keeps_the_laws_of_stores_over_a_fake_of_influxdb_2() {
    laws::store_that(PROMISES, async || store_at(&Influx2::default().serve().await, &folder()).await).await;
}

/// `BELLWETHER_INFLUX_URL`, `_ORG` and `_TOKEN` (of an operator: it makes and removes buckets) name a real server.
#[tokio::test(flavor = "multi_thread")]
async fn the_influx_store_keeps_the_laws_of_stores_over_a_real_influxdb_2() {
    let named = |name: &str| std::env::var(format!("BELLWETHER_INFLUX_{name}")).ok();
    let (Some(url), Some(org), Some(token)) = (named("URL"), named("ORG"), named("TOKEN")) else {
        use std::io::Write;
        let why = "BELLWETHER_INFLUX_URL, _ORG and _TOKEN name no server";
        let _ = writeln!(std::io::stderr(), "SKIPPED the laws of stores over a real InfluxDB 2: {why}");
        return;
    };
    let client = http::client();
    let asked = async |request: reqwest::RequestBuilder| -> Value {
        let answer = request.header("Authorization", format!("Token {token}")).send().await.expect("an answer");
        answer.json().await.unwrap_or(Value::Null)
    };
    let orgs = asked(client.get(format!("{url}/api/v2/orgs")).query(&[("org", &org)])).await;
    let org_id = orgs["orgs"][0]["id"].as_str().expect("the organisation is there").to_owned();
    let made = std::sync::Mutex::new(Vec::new());
    laws::store_that(PROMISES, async || {
        let bucket = format!("bellwether-laws-{}", std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos());
        let request = client.post(format!("{url}/api/v2/buckets")).json(&json!({ "orgID": org_id, "name": bucket }));
        let id = asked(request).await["id"].as_str().expect("the bucket is made").to_owned();
        made.lock().expect("nobody panicked").push(id);
        let (url, org, token, path) = (url.clone(), org.clone(), Some(Secret::new(token.clone())), folder());
        let config = InfluxConfig { url, org, bucket, token, path, ..InfluxConfig::default() };
        influx::open(config).await.expect("the store opens")
    })
    .await;
    for id in made.into_inner().expect("nobody panicked") {
        asked(client.delete(format!("{url}/api/v2/buckets/{id}"))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_line_protocol_cannot_hold_come_back_and_are_found() {
    let store = store_at(&Influx2::default().serve().await, &folder()).await;
    let odd = Labels::metric("odd:name")
        .with("path", "C:\\temp\\")
        .with("text", "two\nlines, \"quoted\" = 50% %5C")
        .with("_field", "mine")
        .with("result", "ours")
        .with("money", "${x}");
    let batch = vec![SeriesSamples { labels: odd.clone(), samples: vec![sample(10, 1.5), sample(11, stale_marker())] }];
    store.append(batch.clone()).await.expect("append");
    let ever = TimeRange { from: Timestamp::MIN, to: Timestamp::MAX };
    let matchers = |pairs: &Labels| -> Vec<_> {
        pairs.iter().map(|(name, value)| bellwether_collector::store::Matcher::equal(name, value)).collect()
    };
    let found = store.select(&matchers(&odd), ever, 10).await.expect("select");
    assert_eq!(found[0].labels, odd);
    assert_eq!(found[0].samples[1].value.to_bits(), stale_marker().to_bits());
    let pattern = bellwether_collector::store::Matcher::regex("path", r"C:\\t.*\\").expect("a pattern");
    assert_eq!(store.series(&[pattern], ever).await.expect("series"), [odd]);
}

fn sample(at: i64, value: f64) -> Sample {
    Sample { at: Timestamp::from_secs(at), value }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_influxdb_is_away_samples_wait_on_disk_over_a_restart() {
    let fake = Influx2::default();
    let (gate, url) = Gate::before(&fake.serve().await).await;
    let folder = folder();
    let store = store_at(&url, &folder).await;
    gate.set_open(false);
    assert!(store.check().await.is_err());
    for at in 0..20 {
        assert_eq!(store.append(round(10, 1_700_000_000 + at)).await.expect("queued").written, 10);
    }
    drop(store);
    let store = store_at(&url, &folder).await;
    assert_eq!(store.stats().await.expect("stats").samples, 200);
    gate.set_open(true);
    until("the queue is empty", async || store.stats().await.expect("stats").samples == 0).await;
    let ever = TimeRange { from: Timestamp::MIN, to: Timestamp::MAX };
    let held = store.select(&[], ever, usize::MAX).await.expect("select");
    assert_eq!(held.iter().map(|series| series.samples.len()).collect::<Vec<_>>(), [20; 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_and_a_wrong_token_are_told() {
    http::install_cryptography();
    let url = Influx2::default().serve().await;
    let config = |bucket: &str, token: &str| InfluxConfig {
        url: url.clone(),
        org: ORG.to_owned(),
        bucket: bucket.to_owned(),
        token: Some(Secret::new(token)),
        path: folder(),
        ..InfluxConfig::default()
    };
    let error = influx::open(config("other", TOKEN)).await.err().expect("there is no such bucket").to_string();
    assert!(error.contains("no bucket \"other\""), "{error}");
    let store = influx::open(config(BUCKET, "wrong")).await.expect("it may be put right");
    let error = store.check().await.expect_err("the token is wrong");
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains("401") && cause.contains("credentials") && !cause.contains("wrong\""), "{cause}");
}

#[tokio::test(flavor = "multi_thread")]
async fn victoria_metrics_takes_what_the_influx_store_writes() {
    require_peer!(Program::VictoriaMetrics);
    let peer = Peer::victoria_metrics();
    let url = split(&peer.url(""), None, &Influx2::default().serve().await).await;
    let store = store_at(&url, &folder()).await;
    let labels = Labels::metric("up").with("zone", "eu west,1=a");
    let batch =
        vec![SeriesSamples { labels, samples: vec![sample(1_700_000_000, 0.25), sample(1_700_000_015, -3e-5)] }];
    assert_eq!(store.append(batch).await.expect("append").written, 2);
    let client = http::client();
    client.get(peer.url("/internal/force_flush")).send().await.expect("a flush");
    let export = client.get(peer.url("/api/v1/export")).query(&[("match[]", "up_value")]).send().await;
    let line: Value = export.expect("an answer").json().await.expect("one series");
    assert_eq!(line["metric"], json!({ "__name__": "up_value", "zone": "eu west,1=a" }));
    assert_eq!(line["values"], json!([0.25, -3e-5]));
    assert_eq!(line["timestamps"], json!([1_700_000_000_000_i64, 1_700_000_015_000_i64]));
}

#[tokio::test(flavor = "multi_thread")]
async fn influxdb_1_takes_every_line_and_a_line_that_it_refuses_costs_no_other() {
    require_peer!(Program::InfluxDb1);
    let peer = Peer::influxdb_1();
    let client = http::client();
    let ask = async |query: &str| -> Value {
        let request = client.post(peer.url("/query")).query(&[("db", "metrics"), ("epoch", "ms"), ("q", query)]);
        request.send().await.expect("an answer").json().await.expect("JSON")
    };
    ask("CREATE DATABASE metrics").await;
    let clash =
        client.post(peer.url("/write?db=metrics")).body("clash value=\"text\" 1700000000000000000").send().await;
    assert_eq!(clash.expect("an answer").status(), 204);
    let renamed = Renamed { from: "/api/v2/write?", to: "/write?db=metrics&" };
    let url = split(&peer.url(""), Some(renamed), &Influx2::default().serve().await).await;
    let store = store_at(&url, &folder()).await;
    let series = |name: &str, values: &[f64]| SeriesSamples {
        labels: Labels::metric(name).with("zone", "eu west,1=a").with("path", "C:\\"),
        samples: (0i64..).zip(values).map(|(i, value)| sample(1_700_000_000 + i, *value)).collect(),
    };
    let numbers = [0.1 + 0.2, 5e-324, f64::MAX, -0.5, 1e21];
    let appended =
        store.append(vec![series("fine", &numbers), series("clash", &[1.0]), series("odd", &[f64::NAN])]).await;
    let appended = appended.expect("append");
    assert_eq!((appended.written, appended.refused.len()), (6, 1));
    assert_eq!(appended.refused[0].0.metric_name(), "clash");
    assert_eq!(appended.refused[0].2, SampleRefusal::Unstorable);

    let held = ask("SELECT value, zone, path FROM fine").await;
    let rows = held["results"][0]["series"][0]["values"].as_array().expect("rows").clone();
    let values: Vec<f64> = rows.iter().map(|row| row[1].as_f64().expect("a number")).collect();
    assert_eq!(values, numbers);
    assert_eq!((&rows[0][2], &rows[0][3]), (&json!("eu west,1=a"), &json!("C:%5C")));
    let bits = ask("SELECT bits FROM odd").await["results"][0]["series"][0]["values"][0][1].as_i64();
    assert_eq!(bits, Some(f64::NAN.to_bits() as i64));
}

/// Answers as the public contract describes them: query, answer, whether the connection breaks behind it.
fn recorded_answers() -> Vec<(&'static str, String, bool)> {
    let head = |number: &str, tags: &str| {
        let count = tags.split(',').filter(|tag| !tag.is_empty()).count();
        format!(
            "#datatype,string,long,dateTime:RFC3339,{number},string,string{}\r\n#group,false,false,false,false,true,true{}\r\n#default,_result,,,,,{}\r\n,result,table,_time,_value,_field,_measurement{}\r\n",
            ",string".repeat(count),
            ",true".repeat(count),
            ",".repeat(count),
            tags.split(',').filter(|tag| !tag.is_empty()).map(|tag| format!(",{tag}")).collect::<String>()
        )
    };
    let (plain, of_jobs) = (head("double", ""), head("double", "job,zone"));
    let rows = "\
,,0,2023-11-14T22:13:20Z,1.5,value,up,api,eu\r\n,,0,2023-11-14T22:13:35.25Z,-2,value,up,api,eu\r\n,,1,2023-11-14T22:13:20Z,1e+21,value,up,web,us\r\n";
    let changed = head("long", "job");
    let quoted = ",,0,2023-11-14T22:13:20Z,7,value,up,\"a, \"\"b\"\"\nc\",\"x\r\ny\"\r\n";
    let error =
        "#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n,error,reference\r\n,out of memory,897\r\n";
    let whole = format!("{of_jobs}{rows}\r\n");
    vec![
        ("several tables", whole.clone(), false),
        (
            "a change of columns",
            format!(
                "{whole}{plain},,2,2023-11-14T22:13:20Z,3.25,value,down\r\n\r\n{changed},,3,2023-11-14T22:13:20Z,12,value,jobs,api\r\n\r\n"
            ),
            false,
        ),
        ("nothing", "\r\n".to_owned(), false),
        ("nothing at all", String::new(), false),
        ("quoted line breaks", format!("{of_jobs}{quoted}\r\n"), false),
        ("an error amid the answer", format!("{whole}{error}"), false),
        ("cut off within a row", whole[..whole.len() - 30].to_owned(), true),
        ("cut off behind a row", format!("{of_jobs}{rows}"), true),
    ]
}

/// Our own reader's rows in the form of the clients'.
fn rows(found: Vec<SeriesSamples>) -> Value {
    let of = |series: SeriesSamples| {
        let tags: BTreeMap<String, String> = series
            .labels
            .iter()
            .filter(|(name, _)| *name != "__name__")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let name = series.labels.metric_name().to_owned();
        series
            .samples
            .into_iter()
            .map(move |s| json!([name, tags, "value", s.at.as_millis(), s.value]))
            .collect::<Vec<_>>()
    };
    found.into_iter().flat_map(of).collect()
}

/// Whole numbers and floats of the same value are the same.
fn with_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(list) => list.iter().map(with_floats).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), with_floats(value))).collect(),
        other => other.clone(),
    }
}

fn answers(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| with_floats(&serde_json::from_str(line).expect("JSON"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_clients_and_our_reader_read_every_answer_alike() {
    let (Some(python), Some(node)) = (python::python_with_clients(), node::folder_with_client()) else { return };
    let fake = Influx2::default();
    let recorded = recorded_answers();
    for (query, answer, cut) in &recorded {
        fake.record(query, answer, *cut);
    }
    let url = fake.serve().await;
    let store = store_at(&url, &folder()).await;
    store.append(round(3, 1_700_000_000)).await.expect("append");
    let own = format!(
        "from(bucket: {BUCKET:?})\n  |> range(start: 2023-11-14T00:00:00Z, stop: 2023-11-15T00:00:00Z)\n  |> filter(fn: (r) => (r._field == \"value\" or r._field == \"bits\"))"
    );
    let mut arguments = vec![url.as_str(), TOKEN, ORG, own.as_str()];
    arguments.extend(recorded.iter().map(|(query, _, _)| *query));

    let by_python = answers(&python::run(&python, "query.py", &arguments).await);
    let by_node = answers(&node::run(&node, "influx.mjs", &[&["query"], arguments.as_slice()].concat()).await);

    let day = TimeRange { from: Timestamp::from_secs(1_699_920_000), to: Timestamp::from_secs(1_700_006_399) };
    let mut by_us = vec![with_floats(&rows(store.select(&[], day, 100).await.expect("select")))];
    for (_, answer, cut) in &recorded {
        let read = influx::read(answer.as_bytes(), 100).ok().filter(|_| !cut);
        by_us.push(read.map_or(json!("failed"), |found| with_floats(&rows(found))));
    }
    assert_eq!(by_us[0].as_array().map(Vec::len), Some(3));
    for (place, expected) in by_us.iter().enumerate() {
        let query = arguments[3 + place];
        assert_eq!(&by_python[place], expected, "Python reads {query}");
        assert_eq!(&by_node[place], expected, "JavaScript reads {query}");
    }
    assert_eq!(by_us.iter().filter(|answer| **answer == json!("failed")).count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_an_error_of_the_store() {
    let fake = Influx2::default();
    let url = fake.serve().await;
    let store = store_at(&url, &folder()).await;
    store.append(round(1, 1_700_000_000)).await.expect("append");
    let range = TimeRange { from: Timestamp::from_secs(1_700_000_000), to: Timestamp::from_secs(1_700_000_001) };
    let asked = "from(bucket: \"metrics\")\n  |> range(start: 2023-11-14T22:13:20Z, stop: 2023-11-14T22:13:21.001Z)\n  |> filter(fn: (r) => (r._field == \"value\" or r._field == \"bits\"))";
    assert_eq!(store.select(&[], range, 10).await.expect("a whole answer").len(), 1);
    for (query, answer, cut) in
        recorded_answers().into_iter().filter(|(query, _, _)| query.contains("cut off") || query.contains("error"))
    {
        fake.record(asked, &answer, cut);
        let outcome = tokio::time::timeout(Duration::from_secs(30), store.select(&[], range, 10)).await;
        assert!(outcome.expect("an end").is_err(), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_system_keeps_its_samples_in_influxdb_and_answers_promql_from_there() {
    let fake = Influx2::default();
    let folder = folder();
    std::fs::write(folder.join("token"), format!("{TOKEN}\n")).expect("a file");
    let store = format!(
        "influx: {{ url: '{}', org: {ORG}, bucket: {BUCKET}, token_file: {:?}, path: {:?} }}",
        fake.serve().await,
        folder.join("token"),
        folder.join("data")
    );
    let client = http::client();
    let system = System::start_on(&folder, &store, "cadence: 1s\nhost: { interval: 1s }\n", &client).await;
    let ask = async |query: &str| -> Option<f64> {
        let request = client.get(system.url("/api/v1/query")).query(&[("query", query)]);
        let answer: Value = request.send().await.ok()?.json().await.ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    };
    system
        .until("two beats are held", async || ask("count_over_time(bellwether_heartbeat[5m])").await >= Some(2.0))
        .await;
    system.until("this machine is watched", async || ask("sum(node_memory_MemTotal_bytes)").await > Some(1e8)).await;
    assert!(!system.log().contains(TOKEN));
}
