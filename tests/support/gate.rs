//! A door in front of a server that can be shut: what a network or a restart does to a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// Passes requests on to a server while it is open, answers 503 while it is shut.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    server: String,
    client: reqwest::Client,
    open: AtomicBool,
    passed: AtomicUsize,
}

impl Gate {
    /// An open gate before `server`, and its address.
    pub async fn before(server: &str) -> (Self, String) {
        let inner = Inner {
            server: server.to_owned(),
            client: super::http::client(),
            open: AtomicBool::new(true),
            passed: AtomicUsize::new(0),
        };
        let gate = Self(Arc::new(inner));
        let router = Router::new().fallback(pass).with_state(gate.clone());
        (gate, super::http::serve(router).await)
    }

    /// Opens or shuts it.
    pub fn set_open(&self, open: bool) {
        self.0.open.store(open, Ordering::SeqCst);
    }

    /// Requests that were passed on.
    pub fn passed(&self) -> usize {
        self.0.passed.load(Ordering::SeqCst)
    }
}

async fn pass(State(gate): State<Gate>, request: Request) -> Response {
    if !gate.0.open.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, "shut").into_response();
    }
    gate.0.passed.fetch_add(1, Ordering::SeqCst);
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut headers = head.headers;
    headers.remove("host");
    let sent = gate.0.client.request(head.method, format!("{}{path}", gate.0.server)).headers(headers).body(body);
    match sent.send().await {
        Ok(answer) => {
            let (status, mut headers) = (answer.status(), answer.headers().clone());
            headers.remove("transfer-encoding");
            headers.remove("content-length");
            headers.remove("content-encoding"); // the client has unpacked it
            (status, headers, Body::from(answer.bytes().await.unwrap_or_default())).into_response()
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
