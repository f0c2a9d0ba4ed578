//! A fake of the Kubernetes API, as far as discovery asks it: lists in pages, watches with bookmarks, versions that are gone,
//! outages. Its objects are typed by `k8s-openapi`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use k8s_openapi::serde::Serialize;
use k8s_openapi::{Metadata, Resource};
use serde_json::{Value, json};
use tokio::sync::watch;

/// The fake; cloning it gives another handle to the same.
#[derive(Clone)]
pub struct FakeKubernetesApi {
    cluster: Arc<Mutex<Cluster>>,
    /// Counts changes, so that watches wake.
    changed: watch::Sender<u64>,
    url: String,
}

#[derive(Default)]
struct Cluster {
    version: u64,
    /// By kind, then by namespace and name.
    objects: BTreeMap<&'static str, BTreeMap<(String, String), Value>>,
    api_versions: BTreeMap<&'static str, &'static str>,
    /// Version, kind, what happened, object.
    events: Vec<(u64, &'static str, &'static str, Value)>,
    /// Watches from before this version are told that it is gone.
    oldest: u64,
    down: bool,
    requests: Vec<String>,
}

impl FakeKubernetesApi {
    /// Starts with nothing in it.
    pub async fn start() -> Self {
        let mut fake = Self {
            cluster: Arc::new(Mutex::new(Cluster { version: 1, ..Cluster::default() })),
            changed: watch::channel(0).0,
            url: String::new(),
        };
        fake.url = crate::support::http::serve(Router::new().fallback(answer).with_state(fake.clone())).await;
        fake
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Puts an object in, or another in its place.
    pub fn apply<K>(&self, object: &K)
    where
        K: Resource + Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta> + Serialize,
    {
        let key =
            (object.metadata().namespace.clone().unwrap_or_default(), object.metadata().name.clone().expect("a name"));
        self.change(|cluster| {
            cluster.version += 1;
            let mut value = serde_json::to_value(object).expect("an object is JSON");
            value["metadata"]["resourceVersion"] = json!(cluster.version.to_string());
            cluster.api_versions.insert(K::KIND, K::API_VERSION);
            let known = cluster.objects.entry(K::KIND).or_default().insert(key, value.clone()).is_some();
            let what = if known { "MODIFIED" } else { "ADDED" };
            cluster.events.push((cluster.version, K::KIND, what, value));
        });
    }

    /// Takes an object out.
    pub fn delete<K: Resource>(&self, namespace: &str, name: &str) {
        self.change(|cluster| {
            cluster.version += 1;
            let objects = cluster.objects.entry(K::KIND).or_default();
            let object = objects.remove(&(namespace.to_owned(), name.to_owned())).expect("the object is there");
            cluster.events.push((cluster.version, K::KIND, "DELETED", object));
        });
    }

    /// Forgets what happened: whoever watched from before is told that its version is gone.
    pub fn compact(&self) {
        self.change(|cluster| {
            cluster.version += 1;
            cluster.oldest = cluster.version;
            cluster.events.clear();
        });
    }

    /// Whether it answers at all. Going down ends every watch.
    pub fn set_down(&self, down: bool) {
        self.change(|cluster| cluster.down = down);
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.cluster.lock().expect("not poisoned").requests.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Cluster)) {
        change(&mut self.cluster.lock().expect("not poisoned"));
        self.changed.send_modify(|count| *count += 1);
    }
}

/// The kinds served, by the last part of their path.
const KINDS: [(&str, &str); 6] = [
    ("nodes", "Node"),
    ("pods", "Pod"),
    ("services", "Service"),
    ("endpoints", "Endpoints"),
    ("endpointslices", "EndpointSlice"),
    ("ingresses", "Ingress"),
];

async fn answer(
    State(fake): State<FakeKubernetesApi>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let path = request.uri().path().to_owned();
    {
        let mut cluster = fake.cluster.lock().expect("not poisoned");
        cluster.requests.push(request.uri().to_string());
        if cluster.down {
            return (StatusCode::SERVICE_UNAVAILABLE, "down").into_response();
        }
    }
    if path == "/version" {
        return axum::Json(json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0" })).into_response();
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let namespace =
        parts.iter().position(|part| *part == "namespaces").and_then(|at| parts.get(at + 1)).map(|n| (*n).to_owned());
    let Some((_, kind)) = KINDS.iter().find(|(plural, _)| parts.last() == Some(plural)) else {
        return status(404, "NotFound").into_response();
    };
    let wanted = Wanted { kind, namespace, label: query.get("labelSelector").cloned().unwrap_or_default() };
    if query.get("watch").is_some_and(|watch| watch != "0" && watch != "false") {
        return fake.watch(wanted, &query);
    }
    fake.list(&wanted, &query)
}

fn status(code: u16, reason: &str) -> (StatusCode, axum::Json<Value>) {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code, "message": reason });
    (StatusCode::from_u16(code).expect("a status"), axum::Json(status))
}

struct Wanted {
    kind: &'static str,
    namespace: Option<String>,
    /// `name=value` only.
    label: String,
}

impl Wanted {
    fn takes(&self, object: &Value) -> bool {
        let here =
            self.namespace.as_ref().is_none_or(|namespace| object["metadata"]["namespace"] == namespace.as_str());
        let labelled =
            self.label.split_once('=').is_none_or(|(name, value)| object["metadata"]["labels"][name] == value);
        here && labelled
    }
}

impl FakeKubernetesApi {
    /// In pages of two, whatever the limit: the rest is asked for by `continue`.
    fn list(&self, wanted: &Wanted, query: &HashMap<String, String>) -> Response {
        let cluster = self.cluster.lock().expect("not poisoned");
        let from: usize = query.get("continue").and_then(|token| token.parse().ok()).unwrap_or(0);
        let all: Vec<&Value> = cluster
            .objects
            .get(wanted.kind)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|o| wanted.takes(o))
            .collect();
        let page = if query.contains_key("limit") { 2 } else { usize::MAX };
        let items: Vec<&Value> = all.iter().skip(from).take(page).copied().collect();
        let mut metadata = json!({ "resourceVersion": cluster.version.to_string() });
        if from + items.len() < all.len() {
            metadata["continue"] = json!((from + items.len()).to_string());
        }
        let api_version = cluster.api_versions.get(wanted.kind).copied().unwrap_or("v1");
        axum::Json(json!({
            "kind": format!("{}List", wanted.kind), "apiVersion": api_version, "metadata": metadata, "items": items,
        }))
        .into_response()
    }

    /// One JSON object a line; a bookmark after each change of others.
    fn watch(&self, wanted: Wanted, query: &HashMap<String, String>) -> Response {
        let from: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
        let (fake, mut changed) = (self.clone(), self.changed.subscribe());
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::convert::Infallible>>(16);
        tokio::spawn(async move {
            let mut seen = from;
            loop {
                let (lines, ends) = fake.news(&wanted, &mut seen);
                for line in lines {
                    if sender.send(Ok(line)).await.is_err() {
                        return;
                    }
                }
                if ends
                    || tokio::select! { changed = changed.changed() => changed.is_err(), () = sender.closed() => true }
                {
                    return;
                }
            }
        });
        let stream =
            futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(stream)).into_response()
    }

    fn news(&self, wanted: &Wanted, seen: &mut u64) -> (Vec<Bytes>, bool) {
        let cluster = self.cluster.lock().expect("not poisoned");
        let line =
            |what: &str, object: &Value| Bytes::from(json!({ "type": what, "object": object }).to_string() + "\n");
        if cluster.down {
            return (Vec::new(), true);
        }
        if *seen < cluster.oldest {
            return (vec![line("ERROR", &status(410, "Expired").1.0)], true);
        }
        let new = cluster
            .events
            .iter()
            .filter(|(version, kind, _, object)| version > seen && *kind == wanted.kind && wanted.takes(object));
        let mut lines: Vec<Bytes> = new.map(|(_, _, what, object)| line(what, object)).collect();
        if lines.is_empty() && *seen < cluster.version {
            let api_version = cluster.api_versions.get(wanted.kind).copied().unwrap_or("v1");
            let bookmark = json!({ "kind": wanted.kind, "apiVersion": api_version, "metadata": { "resourceVersion": cluster.version.to_string() } });
            lines.push(line("BOOKMARK", &bookmark));
        }
        *seen = cluster.version;
        (lines, false)
    }
}
