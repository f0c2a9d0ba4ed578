//! A fake of the Kubernetes API, as far as one `HTTPRoute` is asked for: read, and merge-patched with optimistic locking, with
//! dry runs, rights, and somebody else who writes at the same time.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

pub const TOKEN: &str = "gatewaytok";
const PATH: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/web";

#[derive(Clone)]
pub struct FakeGateway(Arc<Mutex<Held>>);

struct Held {
    route: Value,
    version: u64,
    /// How often somebody else writes between a reading and a writing.
    interferences: u32,
    writes: u32,
    dry_runs: u32,
}

impl FakeGateway {
    /// Holds a route with these rules; gives its address too.
    pub async fn start(rules: Value) -> (Self, String) {
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": "web", "namespace": "shop", "labels": { "team": "shop" } },
            "spec": { "hostnames": ["shop.example"], "parentRefs": [{ "name": "edge" }], "rules": rules },
        });
        let held = Held { route, version: 1, interferences: 0, writes: 0, dry_runs: 0 };
        let fake = Self(Arc::new(Mutex::new(held)));
        let url = crate::support::http::serve(Router::new().fallback(answer).with_state(fake.clone())).await;
        (fake, url)
    }

    /// The route as it lies there, without its version.
    pub fn route(&self) -> Value {
        self.0.lock().expect("not poisoned").route.clone()
    }

    /// Somebody else changes it.
    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut held = self.0.lock().expect("not poisoned");
        change(&mut held.route);
        held.version += 1;
    }

    /// The next `times` writings find that somebody else was faster.
    pub fn interfere(&self, times: u32) {
        self.0.lock().expect("not poisoned").interferences = times;
    }

    /// Writes, and dry runs, that were let through.
    pub fn counts(&self) -> (u32, u32) {
        let held = self.0.lock().expect("not poisoned");
        (held.writes, held.dry_runs)
    }
}

async fn answer(State(fake): State<FakeGateway>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a small body");
    let token = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or("");
    if token != format!("Bearer {TOKEN}") {
        return failure(403, "Forbidden", "httproutes is forbidden");
    }
    if parts.uri.path() != PATH {
        return failure(404, "NotFound", "no such route");
    }
    let dry = parts.uri.query().is_some_and(|query| query.contains("dryRun=All"));
    let mut held = fake.0.lock().expect("not poisoned");
    match parts.method {
        Method::GET => held.shown(),
        Method::PATCH if parts.headers[header::CONTENT_TYPE] == "application/merge-patch+json" => {
            held.patch(serde_json::from_slice(&body).expect("JSON"), dry)
        }
        _ => failure(405, "MethodNotAllowed", "not this way"),
    }
}

impl Held {
    fn shown(&self) -> Response {
        let mut route = self.route.clone();
        route["metadata"]["resourceVersion"] = json!(self.version.to_string());
        axum::Json(route).into_response()
    }

    fn patch(&mut self, patch: Value, dry: bool) -> Response {
        if self.interferences > 0 {
            self.interferences -= 1;
            self.version += 1;
        }
        if patch["metadata"]["resourceVersion"] != json!(self.version.to_string()) {
            return failure(409, "Conflict", "the object has been modified");
        }
        assert_eq!(patch["spec"].as_object().map(|spec| spec.len()), Some(1), "only the rules are sent: {patch}");
        if dry {
            self.dry_runs += 1;
        } else {
            self.writes += 1;
            self.version += 1;
            self.route["spec"]["rules"] = patch["spec"]["rules"].clone();
            for (name, value) in patch["metadata"]["annotations"].as_object().into_iter().flatten() {
                self.route["metadata"]["annotations"][name] = value.clone();
            }
        }
        self.shown()
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code,
        "message": message
    });
    (StatusCode::from_u16(code).expect("a status"), axum::Json(status)).into_response()
}
