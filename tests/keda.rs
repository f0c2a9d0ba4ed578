//! KEDA's external scaler, asked by a real gRPC client that was generated from its definition.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bellwether_models::outlook::{Foresight, Observed, Outlook, Running, Snapshot};
use bellwether_models::series::{Labels, Timestamp};
use bellwether_scheduler::actuate::{SeriesSink, SinkError};
use bellwether_scheduler::config::{ActuatorConfig, Asked, GrpcConfig, GrpcTls, Mode};
use bellwether_scheduler::{Config, ScaleConfig, Service, Workload};
use serde_json::{Value, json};
use support::{Program, python, require_peer};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

struct Nowhere;

#[async_trait::async_trait]
impl SeriesSink for Nowhere {
    async fn write(&self, _: Timestamp, _: Vec<(Labels, f64)>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// The generated client.
struct Client {
    _process: Child,
    asks: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(python: &Path, arguments: &[String]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/senders/keda.py");
        let mut process = tokio::process::Command::new(python)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Python starts");
        let asks = process.stdin.take().expect("a pipe");
        let answers = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Self { _process: process, asks, answers }
    }

    async fn say(&mut self, call: &str, name: &str, more: Value) {
        let mut line = json!({ "call": call, "name": name });
        line.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.asks.write_all((line.to_string() + "\n").as_bytes()).await.expect("it listens");
    }

    async fn hear(&mut self) -> Value {
        let patience = std::time::Duration::from_secs(60);
        let line = tokio::time::timeout(patience, self.answers.next_line()).await.expect("an answer in time");
        serde_json::from_str(&line.expect("readable").expect("it still runs")).expect("JSON")
    }

    async fn ask(&mut self, call: &str, name: &str, more: Value) -> Value {
        self.say(call, name, more).await;
        self.hear().await
    }
}

fn workload(name: &str, mode: Mode) -> Workload {
    let scale = ScaleConfig {
        mode,
        min: 0,
        max: 50,
        capacity_per_replica: 10.0.try_into().ok(),
        actuator: Some(ActuatorConfig::Keda(Asked {})),
        ..ScaleConfig::default()
    };
    Workload { name: name.to_owned(), depends_on: Vec::new(), scale }
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

/// All demands at `now`; nothing is known of a workload that is left out.
fn facts(now: Timestamp, demands: &[(&str, f64)]) -> Snapshot {
    let seen = |value: f64| Some(Observed { at: now, value });
    let outlook = |(name, demand): &(&str, f64)| Outlook {
        workload: (*name).to_owned(),
        made_at: now,
        demand: seen(*demand),
        replicas: seen((demand / 8.0).ceil()),
        foresight: Foresight::Abstained { reason: "too few observations".to_owned() },
        model: bellwether_models::outlook::ModelRef::default(),
        anomalies: Vec::new(),
        running: Running::default(),
    };
    Snapshot { made_at: now, workloads: demands.iter().map(outlook).collect(), ..Snapshot::default() }
}

async fn service(tls: Option<GrpcTls>) -> Service {
    let config = Config {
        workloads: vec![
            workload("shop", Mode::Act),
            workload("idle", Mode::Act),
            workload("blind", Mode::Act),
            workload("watched", Mode::Shadow),
        ],
        grpc: Some(GrpcConfig { listen: "127.0.0.1:0".parse().expect("an address"), tls }),
        ..Config::default()
    };
    Service::new(config, Arc::new(Nowhere), None).await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_answers_a_generated_client_as_keda_expects() {
    let Some(python) = python::python_with_clients() else { return };
    support::http::install_cryptography();
    let mut service = service(None).await;
    let address = service.grpc_address().expect("it listens");
    let mut keda = Client::start(&python, &[address.to_string()]);

    let early = keda.ask("GetMetrics", "shop", json!({})).await;
    assert_eq!(early["code"], "NOT_FOUND", "before the first round nobody is known: {early}");

    service.tick(at(0), &facts(at(0), &[("shop", 60.0), ("idle", 0.0), ("watched", 60.0)])).await;
    let spec = keda.ask("GetMetricSpec", "shop", json!({})).await;
    let expected = json!([{ "metricName": "bellwether_desired_replicas", "targetSize": "1", "targetSizeFloat": 1.0 }]);
    assert_eq!(spec["ok"]["metricSpecs"], expected, "{spec}");
    let value = |replicas: u32| {
        json!([{
            "metricName": "bellwether_desired_replicas",
            "metricValue": replicas.to_string(),
            "metricValueFloat": f64::from(replicas),
        }])
    };
    let metric = json!({ "metric": "bellwether_desired_replicas" });
    let told = keda.ask("GetMetrics", "shop", metric.clone()).await;
    assert_eq!(told["ok"]["metricValues"], value(8), "{told}");
    assert_eq!(keda.ask("GetMetrics", "shop", metric.clone()).await, told, "asking again changes nothing");
    let by_metadata = keda.ask("GetMetrics", "any-object", json!({ "metadata": { "workload": "shop" } })).await;
    assert_eq!(by_metadata["ok"]["metricValues"], value(8), "{by_metadata}");
    assert_eq!(keda.ask("IsActive", "shop", json!({})).await["ok"]["result"], true);

    // Zero is said as zero only where it was decided; what is unknown is an error, which makes KEDA fall back.
    assert_eq!(keda.ask("IsActive", "idle", json!({})).await["ok"]["result"], false);
    assert_eq!(keda.ask("GetMetrics", "idle", metric).await["ok"]["metricValues"], value(0));
    for (name, code) in [("blind", "UNAVAILABLE"), ("watched", "FAILED_PRECONDITION"), ("stranger", "NOT_FOUND")] {
        let refused = keda.ask("IsActive", name, json!({})).await;
        assert_eq!(refused["code"], code, "{refused}");
        assert!(refused["text"].as_str().is_some_and(|text| text.contains(name)), "{refused}");
        assert_eq!(keda.ask("GetMetrics", name, json!({})).await["code"], code);
    }
    let wrong = keda.ask("GetMetrics", "shop", json!({ "metric": "cpu" })).await;
    assert_eq!(wrong["code"], "NOT_FOUND", "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_tell_the_present_state_at_once_and_then_each_change_only() {
    let Some(python) = python::python_with_clients() else { return };
    support::http::install_cryptography();
    let mut service = service(None).await;
    let address = service.grpc_address().expect("it listens");
    let mut keda = Client::start(&python, &[address.to_string()]);
    service.tick(at(0), &facts(at(0), &[("idle", 0.0)])).await;
    keda.say("StreamMetricSpec", "idle", json!({})).await;
    let spec = keda.hear().await;
    assert_eq!(spec["message"]["metricSpecs"][0]["targetSizeFloat"], 1.0, "{spec}");
    keda.say("StreamIsActive", "idle", json!({})).await;
    assert_eq!(keda.hear().await["message"]["result"], false);
    for secs in [15, 30, 45] {
        service.tick(at(secs), &facts(at(secs), &[("idle", 0.0)])).await;
    }
    service.tick(at(60), &facts(at(60), &[("idle", 40.0)])).await;
    assert_eq!(keda.hear().await["message"]["result"], true, "nothing was said in between");
    keda.say("StreamIsActive", "stranger", json!({})).await;
    assert_eq!(keda.hear().await["code"], "NOT_FOUND");
}

/// A root, and a certificate for 127.0.0.1 that it signed, used by both sides.
fn certificates(folder: &Path) -> [String; 3] {
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=root \
                    -keyout root.key -out root.pem \
                  && openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=us \
                    -keyout our.key -out our.csr \
                  && printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' >ext \
                  && openssl x509 -req -in our.csr -CA root.pem -CAkey root.key -CAcreateserial -days 2 -extfile ext \
                    -out our.pem";
    let made = Command::new("sh").args(["-c", script]).current_dir(folder).output().expect("a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    ["root.pem", "our.pem", "our.key"].map(|name| folder.join(name).display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_only_clients_with_a_certificate_of_the_named_root_are_answered() {
    require_peer!(Program::Openssl);
    let Some(python) = python::python_with_clients() else { return };
    support::http::install_cryptography();
    let folder = tempfile::tempdir().expect("a folder");
    let [root, cert, key] = certificates(folder.path());
    let tls = GrpcTls {
        cert_file: cert.clone().into(),
        key_file: key.clone().into(),
        client_ca_file: Some(root.clone().into()),
    };
    let mut service = service(Some(tls)).await;
    let address = service.grpc_address().expect("it listens").to_string();
    service.tick(at(0), &facts(at(0), &[("shop", 60.0)])).await;
    let mut keda = Client::start(&python, &[address.clone(), root, cert, key]);
    assert_eq!(keda.ask("IsActive", "shop", json!({})).await["ok"]["result"], true);
    let mut plain = Client::start(&python, &[address]);
    assert_eq!(plain.ask("IsActive", "shop", json!({})).await["code"], "UNAVAILABLE");
}
