//! A receiver with an empty store behind it, on a clock that stands.

use std::cell::LazyCell;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use bellwether_collector::ingest::{Ingest, IngestConfig};
use bellwether_collector::source::push::{self, PushConfig};
use bellwether_collector::source::size::ByteSize;
use bellwether_collector::store::memory::MemoryStore;
use bellwether_collector::store::{SeriesSamples, Store, TimeRange};
use bellwether_models::series::{Labels, Timestamp};
use tower::ServiceExt;

/// What the clock shows.
pub const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
/// Most bytes a body may unpack to.
pub const UNPACKED: u64 = 1 << 20;

thread_local! {
    static RUNTIME: LazyCell<tokio::runtime::Runtime> = LazyCell::new(|| {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
    });
}

/// Runs a future to its end.
pub fn wait_for<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Series, milliseconds and bits of a sample: what must not change on the way.
pub type Kept = (Labels, i64, u64);

/// A receiver and what it has kept.
pub struct Door {
    store: Arc<MemoryStore>,
    router: Router,
}

impl Door {
    /// With nothing in it.
    pub fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let ingest = Ingest::with_clock(store.clone(), IngestConfig::default(), Arc::new(|| NOW));
        let config = PushConfig { max_unpacked_body: ByteSize::from_bytes(UNPACKED), ..PushConfig::default() };
        // Building the router may start a task, for which there must be a runtime.
        let router = wait_for(async { push::router_with(ingest, config) });
        Self { store, router }
    }

    /// Posts a body and gives status and text. No body may be answered as a fault of ours.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (StatusCode, String) {
        let request = headers.iter().fold(Request::post(path), |request, (name, value)| request.header(*name, *value));
        let request = request.body(Body::from(body)).expect("a request");
        let (status, bytes) = wait_for(async {
            let response = self.router.clone().oneshot(request).await.expect("the router answers");
            let status = response.status();
            (status, axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a short answer"))
        });
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!status.is_server_error(), "{path}: {status} {text}");
        (status, text)
    }

    /// All that was kept, in order.
    pub fn kept(&self) -> Vec<Kept> {
        let always = TimeRange { from: Timestamp::MIN, to: Timestamp::MAX };
        let all = wait_for(self.store.select(&[], always, usize::MAX)).expect("the store answers");
        flat(all)
    }
}

/// Samples one by one, in order.
pub fn flat(series: Vec<SeriesSamples>) -> Vec<Kept> {
    let one = |SeriesSamples { labels, samples }: SeriesSamples| {
        samples.into_iter().map(move |sample| (labels.clone(), sample.at.as_millis(), sample.value.to_bits()))
    };
    let mut all: Vec<Kept> = series.into_iter().flat_map(one).collect();
    all.sort();
    all
}
