//! A door in front of a server that can be shut: what a network or a restart does to a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// A part of an address that is another one at the server.
#[derive(Clone, Copy)]
pub struct Renamed {
    /// As it is asked for.
    pub from: &'static str,
    /// As the server knows it.
    pub to: &'static str,
}

/// Passes requests on to a server while it is open, answers 503 while it is shut.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    server: String,
    client: reqwest::Client,
    open: AtomicBool,
    renamed: Option<Renamed>,
}

/// One address for two servers: what is written by the API of InfluxDB 2 goes to the first, all else to the second.
pub async fn split(writes_to: &str, renamed: Option<Renamed>, asks: &str) -> String {
    let write = axum::routing::any(pass).with_state(Gate::open(writes_to, renamed));
    super::http::serve(Router::new().route("/api/v2/write", write).fallback(pass).with_state(Gate::open(asks, None)))
        .await
}

impl Gate {
    /// An open gate before `server`, and its address.
    pub async fn before(server: &str) -> (Self, String) {
        let gate = Self::open(server, None);
        let router = Router::new().fallback(pass).with_state(gate.clone());
        (gate, super::http::serve(router).await)
    }

    fn open(server: &str, renamed: Option<Renamed>) -> Self {
        let (server, client) = (server.to_owned(), super::http::client());
        Self(Arc::new(Inner { server, client, open: AtomicBool::new(true), renamed }))
    }

    /// Opens or shuts it.
    pub fn set_open(&self, open: bool) {
        self.0.open.store(open, Ordering::SeqCst);
    }
}

async fn pass(State(gate): State<Gate>, request: Request) -> Response {
    if !gate.0.open.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, "shut").into_response();
    }
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let path = gate.0.renamed.map_or(path.to_owned(), |renamed| path.replace(renamed.from, renamed.to));
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
