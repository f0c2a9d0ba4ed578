//! What a Kubernetes API answers to each question of ours: the fake says the same as the recorded real one.
//!
//! `make record-kubernetes-answers` asks a real API server and writes `tests/data/kubernetes/answers.json` anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kubernetes_objects::{ADMIN, PLAIN};
use crate::world::World;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kubernetes/answers.json");
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

const METADATA_LIST_ONLY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

#[derive(Debug, Serialize, Deserialize)]
struct Table {
    /// The version of the server that was asked.
    server: String,
    answers: BTreeMap<String, Answer>,
}

/// One answer, without what differs from server to server and from day to day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Answer {
    code: u16,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Each field with its type; `[]` for any member of a list.
    fields: BTreeSet<String>,
}

impl Answer {
    fn of(code: u16, text: &str) -> Self {
        let Ok(body) = serde_json::from_str::<Value>(text) else {
            return Self { code, kind: "text".to_owned(), api_version: None, reason: None, fields: BTreeSet::new() };
        };
        let named = |field: &str| body[field].as_str().map(str::to_owned);
        let mut fields = BTreeSet::new();
        gather(&body, String::new(), &mut fields);
        let (kind, api_version) = (named("kind").unwrap_or_default(), named("apiVersion"));
        Self { code, kind, api_version, reason: named("reason"), fields }
    }
}

fn gather(value: &Value, path: String, into: &mut BTreeSet<String>) {
    let of_type = match value {
        Value::Object(members) => {
            // Who wrote which field, in a form of its own: nothing of ours reads it.
            for (key, member) in members.iter().filter(|(key, _)| *key != "managedFields") {
                let key = if path == ".metadata.annotations" || path == ".metadata.labels" { "*" } else { key };
                gather(member, format!("{path}.{key}"), into);
            }
            return;
        }
        Value::Array(members) => return members.iter().for_each(|member| gather(member, format!("{path}[]"), into)),
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null => "null",
    };
    into.insert(format!("{} {of_type}", path.trim_start_matches('.')));
}

/// Asks one thing after the other, and keeps the answers.
struct Inquiry<'a> {
    world: &'a World,
    client: reqwest::Client,
    answers: BTreeMap<String, Answer>,
}

impl Inquiry<'_> {
    async fn ask(&mut self, name: &str, method: Method, path: &str, token: &str, body: Option<(&str, Value)>) -> Value {
        let url = format!("{}{}", self.world.url, path.replace("NS", &self.world.namespace));
        let mut request = self.client.request(method, url).bearer_auth(token);
        match body {
            Some((kind, body)) => request = request.header("Content-Type", kind).body(body.to_string()),
            None if name.starts_with("list") && name.contains("metadata alone") => {
                request = request.header("Accept", METADATA_LIST_ONLY);
            }
            None if name.contains("metadata alone") => request = request.header("Accept", METADATA_ONLY),
            None => {}
        }
        let response = request.send().await.expect("an answer");
        let (code, text) = (response.status().as_u16(), response.text().await.expect("text"));
        assert!(self.answers.insert(name.to_owned(), Answer::of(code, &text)).is_none(), "{name} is asked twice");
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// All that scaling and leading ask of an API.
async fn inquire(world: &World) -> BTreeMap<String, Answer> {
    let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().expect("a client");
    let mut inquiry = Inquiry { world, client, answers: BTreeMap::new() };
    world.deploy("web", 4).await;
    scales(&mut inquiry).await;
    owners(&mut inquiry).await;
    leases(&mut inquiry).await;
    events(&mut inquiry).await;
    inquiry.answers
}

async fn scales(inquiry: &mut Inquiry<'_>) {
    let deployments = "/apis/apps/v1/namespaces/NS/deployments";
    let (web, nowhere) = (format!("{deployments}/web"), format!("{deployments}/nowhere/scale"));
    let scale = format!("{web}/scale");
    let dry = format!("{scale}?dryRun=All&fieldManager=bellwether");
    let read = inquiry.ask("get a scale", Method::GET, &scale, ADMIN, None).await;
    let change = |replicas: u32| {
        Some((
            MERGE,
            json!({ "metadata": { "resourceVersion": read["metadata"]["resourceVersion"] }, "spec": { "replicas": replicas } }),
        ))
    };
    inquiry.ask("get a deployment, its metadata alone", Method::GET, &web, ADMIN, None).await;
    inquiry.ask("list deployments, their metadata alone", Method::GET, deployments, ADMIN, None).await;
    inquiry.ask("list deployments without the right", Method::GET, deployments, PLAIN, None).await;
    inquiry.ask("try a change of scale", Method::PATCH, &dry, ADMIN, change(9)).await;
    inquiry.ask("change a scale on its present version", Method::PATCH, &scale, ADMIN, change(6)).await;
    inquiry.ask("change a scale on an old version", Method::PATCH, &scale, ADMIN, change(8)).await;
    inquiry.ask("get a missing scale", Method::GET, &nowhere, ADMIN, None).await;
    inquiry.ask("change a missing scale", Method::PATCH, &nowhere, ADMIN, change(8)).await;
    inquiry.ask("get a scale without the right", Method::GET, &scale, PLAIN, None).await;
    inquiry.ask("change a scale without the right", Method::PATCH, &scale, PLAIN, change(8)).await;
    inquiry.ask("get a scale as nobody", Method::GET, &scale, "nobody", None).await;
}

async fn owners(inquiry: &mut Inquiry<'_>) {
    let autoscalers = "/apis/autoscaling/v1/namespaces/NS/horizontalpodautoscalers";
    let autoscaler = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "owner" },
        "spec": { "maxReplicas": 9, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" } },
    });
    inquiry.ask("make an autoscaler", Method::POST, autoscalers, ADMIN, Some((JSON, autoscaler))).await;
    inquiry.ask("list autoscalers", Method::GET, autoscalers, ADMIN, None).await;
    inquiry.ask("list autoscalers without the right", Method::GET, autoscalers, PLAIN, None).await;
    let unknown = "/apis/keda.sh/v1alpha1/namespaces/NS/scaledobjects";
    inquiry.ask("list a kind that is not known", Method::GET, unknown, ADMIN, None).await;
}

async fn leases(inquiry: &mut Inquiry<'_>) {
    let leases = "/apis/coordination.k8s.io/v1/namespaces/NS/leases";
    let one = format!("{leases}/bellwether");
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "bellwether" },
        "spec": { "holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z",
                  "acquireTime": "2026-01-01T00:00:00.000000Z", "leaseTransitions": 0 },
    });
    inquiry.ask("get a missing lease", Method::GET, &one, ADMIN, None).await;
    let made = inquiry.ask("make a lease", Method::POST, leases, ADMIN, Some((JSON, lease.clone()))).await;
    inquiry.ask("make a lease that is there", Method::POST, leases, ADMIN, Some((JSON, lease.clone()))).await;
    inquiry.ask("get a lease", Method::GET, &one, ADMIN, None).await;
    lease["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    lease["spec"]["holderIdentity"] = json!("b");
    inquiry.ask("replace a lease on its present version", Method::PUT, &one, ADMIN, Some((JSON, lease.clone()))).await;
    inquiry.ask("replace a lease on an old version", Method::PUT, &one, ADMIN, Some((JSON, lease))).await;
}

async fn events(inquiry: &mut Inquiry<'_>) {
    let events = "/api/v1/namespaces/NS/events";
    let mut event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "name": "web.1", "namespace": inquiry.world.namespace },
        "involvedObject": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": inquiry.world.namespace },
        "reason": "ScaledAheadOfDemand", "message": "from 4 to 8 replicas", "type": "Normal", "count": 1,
        "source": { "component": "bellwether" },
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
    });
    inquiry.ask("make an event", Method::POST, events, ADMIN, Some((JSON, event.clone()))).await;
    inquiry.ask("make an event that is there", Method::POST, events, ADMIN, Some((JSON, event.clone()))).await;
    event["metadata"] = json!({ "generateName": "web.", "namespace": inquiry.world.namespace });
    inquiry.ask("make an event of a generated name", Method::POST, events, ADMIN, Some((JSON, event))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_as_the_recorded_real_one_does() {
    let world = World::begin().await;
    let found = inquire(&world).await;
    if std::env::var_os("BELLWETHER_RECORD_ANSWERS").is_some() {
        assert!(world.fake.is_none(), "a fake is not recorded: name a real server in BELLWETHER_KUBERNETES_API");
        return record(&world, found).await;
    }
    let text = std::fs::read_to_string(TABLE).expect("the table");
    let recorded = serde_json::from_str::<Table>(&text).expect("a table").answers;
    assert!(found.keys().eq(recorded.keys()), "other questions were recorded: {:?}", recorded.keys());
    for (name, recorded) in &recorded {
        let told =
            |answer: &Answer| (answer.code, answer.kind.clone(), answer.api_version.clone(), answer.reason.clone());
        let found = &found[name];
        assert_eq!(told(found), told(recorded), "{name}");
        // A fake may leave fields out; what it has must be there in truth, and of that type.
        let invented: Vec<_> = found.fields.difference(&recorded.fields).collect();
        assert!(invented.is_empty(), "{name}: {invented:?}");
        if world.fake.is_none() {
            assert_eq!(found.fields, recorded.fields, "{name}");
        }
    }
}

async fn record(world: &World, answers: BTreeMap<String, Answer>) {
    let server = world.client(ADMIN).await.apiserver_version().await.expect("a version").git_version;
    let table = serde_json::to_string_pretty(&Table { server, answers }).expect("JSON");
    std::fs::create_dir_all(Path::new(TABLE).parent().expect("a folder")).expect("a folder");
    std::fs::write(TABLE, table + "\n").expect("written");
}
