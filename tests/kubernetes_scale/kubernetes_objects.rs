//! A fake of the Kubernetes API, as far as scaling asks it: objects that are made, read, listed, replaced and patched with
//! optimistic locking, their scale subresource, dry runs, rights. Its answers are typed by `k8s-openapi` on the other side,
//! the same tests run against a real API by `make test-kubernetes`, and its answers are held to those recorded of one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A token that may do everything, and one that may do nothing.
pub const ADMIN: &str = "admintok";
pub const PLAIN: &str = "plaintok";

#[derive(Clone, Default)]
pub struct FakeObjects(Arc<Mutex<Objects>>);

/// What befalls a request.
#[derive(Clone, Copy)]
pub enum Trouble {
    /// It is answered so much later, with what was there when it came.
    Late(Duration),
    /// The server says that it cannot.
    Unavailable,
}

#[derive(Default)]
struct Objects {
    version: u64,
    by_path: BTreeMap<String, Value>,
    /// Successful writes: method and path.
    writes: Vec<String>,
    troubles: Vec<(Method, &'static str, Trouble)>,
}

/// Most objects in one answer of metadata alone, whatever was asked for: lists are read to their end.
const PAGE: usize = 2;

/// The collections that are served; any other is not known to this cluster.
const COLLECTIONS: [&str; 6] = [
    "/apis/apps/v1/namespaces/NS/deployments",
    "/apis/apps/v1/namespaces/NS/statefulsets",
    "/apis/autoscaling/v1/namespaces/NS/horizontalpodautoscalers",
    "/apis/coordination.k8s.io/v1/namespaces/NS/leases",
    "/api/v1/namespaces/NS/events",
    "/api/v1/namespaces",
];

/// What is asked of an object or a collection.
struct Asked<'a> {
    method: &'a Method,
    dry: bool,
    metadata_alone: bool,
    /// Where in a list the answer begins.
    begin: usize,
    body: &'a Bytes,
}

impl FakeObjects {
    /// Starts with nothing in it; gives its address too.
    pub async fn start() -> (Self, String) {
        let fake = Self::default();
        let url = crate::support::http::serve(Router::new().fallback(answer).with_state(fake.clone())).await;
        (fake, url)
    }

    /// From now on requests by `method` to what ends with `path` have `trouble`.
    pub fn trouble(&self, method: Method, path: &'static str, trouble: Trouble) {
        self.0.lock().expect("not poisoned").troubles.push((method, path, trouble));
    }

    /// Successful writes so far.
    pub fn writes(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").writes.clone()
    }
}

async fn answer(State(fake): State<FakeObjects>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a small body");
    let token = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or("");
    if token == format!("Bearer {PLAIN}") {
        return failure(403, "Forbidden", "this user may do nothing");
    }
    if token != format!("Bearer {ADMIN}") {
        return failure(401, "Unauthorized", "Unauthorized");
    }
    let said = |key: &str| parts.uri.query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix(key)));
    let asked = Asked {
        method: &parts.method,
        dry: said("dryRun=") == Some("All"),
        metadata_alone: parts
            .headers
            .get(header::ACCEPT)
            .is_some_and(|a| a.to_str().is_ok_and(|a| a.contains("as=Partial"))),
        begin: said("continue=").map_or(0, |place| place.parse().expect("a place in a list")),
        body: &body,
    };
    let (answer, trouble) = {
        let mut objects = fake.0.lock().expect("not poisoned");
        let trouble = objects.trouble(&parts.method, parts.uri.path());
        if let Some(Trouble::Unavailable) = trouble {
            return failure(503, "ServiceUnavailable", "the server is currently unable to handle the request");
        }
        (objects.answer(&asked, parts.uri.path()), trouble)
    };
    if let Some(Trouble::Late(late)) = trouble {
        tokio::time::sleep(late).await;
    }
    answer
}

impl Objects {
    fn trouble(&self, method: &Method, path: &str) -> Option<Trouble> {
        let meets = |(of, end, _): &&(Method, &str, Trouble)| of == method && path.ends_with(end);
        self.troubles.iter().find(meets).map(|(_, _, trouble)| *trouble)
    }

    fn answer(&mut self, asked: &Asked<'_>, path: &str) -> Response {
        let Asked { method, dry, metadata_alone, begin, body } = *asked;
        let (path, subresource) = path.strip_suffix("/scale").map_or((path, false), |path| (path, true));
        let parts: Vec<&str> = path.split('/').collect();
        let wild = |parts: &[&str]| {
            let named: Vec<&str> = (0..parts.len())
                .map(|i| if i > 0 && parts[i - 1] == "namespaces" && i + 1 < parts.len() { "NS" } else { parts[i] })
                .collect();
            named.join("/")
        };
        let sent = || serde_json::from_slice::<Value>(body).unwrap_or(Value::Null);
        if COLLECTIONS.contains(&wild(&parts).as_str()) {
            return match *method {
                Method::GET if metadata_alone => self.list_metadata(path, begin),
                Method::GET => self.list(path),
                Method::POST => self.create(path, sent(), dry),
                _ => failure(405, "MethodNotAllowed", "this is a collection"),
            };
        }
        let collection = parts[..parts.len() - 1].to_vec();
        if !COLLECTIONS.contains(&wild(&collection).as_str()) {
            // A kind it does not know has no answer in JSON.
            return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
        }
        if !self.by_path.contains_key(path) {
            return failure(404, "NotFound", &format!("{path} not found"));
        }
        let object = self.by_path[path].clone();
        match (method, subresource) {
            (&Method::GET, false) if metadata_alone => ok(&json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
            })),
            (&Method::GET, false) => ok(&object),
            (&Method::GET, true) => ok(&scale_of(&object)),
            (&Method::PATCH, false) => self.write(method, path, merged(object, sent()), dry, |o| o.clone()),
            (&Method::PUT, false) => self.write(method, path, sent(), dry, |o| o.clone()),
            (&Method::PATCH, true) => {
                let mut changed = object;
                let scale = sent();
                changed["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
                changed["spec"]["replicas"] = scale["spec"]["replicas"].clone();
                self.write(method, path, changed, dry, scale_of)
            }
            (&Method::DELETE, false) => {
                self.by_path.remove(path);
                ok(&json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }))
            }
            _ => failure(405, "MethodNotAllowed", "not this way"),
        }
    }

    fn list(&self, path: &str) -> Response {
        let within = |(key, _): &(&String, &Value)| key.rsplit_once('/').is_some_and(|(parent, _)| parent == path);
        let listed: Vec<&Value> = self.by_path.iter().filter(within).map(|(_, object)| object).collect();
        let named = |field: &str| listed.first().and_then(|one| one[field].as_str()).unwrap_or_default();
        let (kind, api_version) = (format!("{}List", named("kind")), named("apiVersion"));
        // What they are the list says once for all of them.
        let items: Vec<Value> = listed.iter().map(|one| without_type((*one).clone())).collect();
        let metadata = json!({ "resourceVersion": self.version.to_string() });
        ok(&json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items }))
    }

    fn list_metadata(&self, path: &str, begin: usize) -> Response {
        let within = |(key, _): &(&String, &Value)| key.rsplit_once('/').is_some_and(|(parent, _)| parent == path);
        let item = |(_, object): (&String, &Value)| json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] });
        let all: Vec<Value> = self.by_path.iter().filter(within).map(item).collect();
        let items: Vec<&Value> = all.iter().skip(begin).take(PAGE).collect();
        let mut metadata = json!({ "resourceVersion": self.version.to_string() });
        if begin + PAGE < all.len() {
            metadata["continue"] = json!((begin + PAGE).to_string());
        }
        ok(
            &json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items }),
        )
    }

    fn create(&mut self, path: &str, mut object: Value, dry: bool) -> Response {
        if let Some(prefix) = object["metadata"]["generateName"].as_str() {
            object["metadata"]["name"] = json!(format!("{prefix}{}", self.version));
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = format!("{path}/{name}");
        if self.by_path.contains_key(&key) {
            return failure(409, "AlreadyExists", &format!("{name} already exists"));
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        if path.ends_with("deployments") {
            object["metadata"]["generation"] = json!(1);
        }
        if let Some(namespace) = path.split("/namespaces/").nth(1).and_then(|rest| rest.split('/').next()) {
            object["metadata"]["namespace"] = json!(namespace);
        }
        if !dry {
            self.by_path.insert(key, object.clone());
            self.writes.push(format!("POST {path}"));
        }
        (StatusCode::CREATED, axum::Json(object)).into_response()
    }

    /// `object` is what shall lie there, with the version it rests on, if it names one.
    fn write(
        &mut self,
        method: &Method,
        path: &str,
        mut object: Value,
        dry: bool,
        shown: impl Fn(&Value) -> Value,
    ) -> Response {
        let rests_on = &object["metadata"]["resourceVersion"];
        if rests_on.is_string() && *rests_on != self.by_path[path]["metadata"]["resourceVersion"] {
            return failure(
                409,
                "Conflict",
                "the object has been modified; please apply your changes to the latest version",
            );
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if let Some(generation) = self.by_path[path]["metadata"]["generation"].as_u64() {
            let changed = object["spec"] != self.by_path[path]["spec"];
            object["metadata"]["generation"] = json!(generation + u64::from(changed));
        }
        if !dry {
            self.by_path.insert(path.to_owned(), object.clone());
            self.writes.push(format!("{method} {path}"));
        }
        ok(&shown(&object))
    }
}

fn without_type(mut object: Value) -> Value {
    object.as_object_mut().expect("an object").retain(|field, _| field != "kind" && field != "apiVersion");
    object
}

fn scale_of(object: &Value) -> Value {
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": { "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"],
                      "resourceVersion": object["metadata"]["resourceVersion"], "uid": object["metadata"]["uid"] },
        "spec": { "replicas": object["spec"]["replicas"] }, "status": { "replicas": 0, "selector": "app=web" },
    })
}

/// JSON merge patch (RFC 7396).
fn merged(mut into: Value, patch: Value) -> Value {
    match (&mut into, patch) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (key, value) in changes {
                if value.is_null() {
                    fields.remove(&key);
                } else {
                    let before = fields.remove(&key).unwrap_or(Value::Null);
                    fields.insert(key, merged(before, value));
                }
            }
            into
        }
        (_, patch) => patch,
    }
}

fn ok(value: &Value) -> Response {
    axum::Json(value).into_response()
}

fn failure(code: u16, reason: &str, message: &str) -> Response {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code, "message": message });
    (StatusCode::from_u16(code).expect("a status"), axum::Json(status)).into_response()
}
