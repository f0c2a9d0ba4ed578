//! The smallest server: remote write and line protocol into an embedded store, and PromQL out of it.
//!
//! `cargo run -p bellwether-collector --example receive -- 127.0.0.1:9494 ./data`

use std::sync::Arc;

use bellwether_collector::ingest::{Ingest, IngestConfig};
use bellwether_collector::query::{self, Engine, EngineConfig};
use bellwether_collector::source::push;
use bellwether_collector::store::SharedStore;
use bellwether_collector::store::embedded::{EmbeddedConfig, EmbeddedStore};

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(path)) = (args.next(), args.next()) else {
        return Err("usage: receive ADDRESS DIRECTORY".into());
    };
    let store = EmbeddedStore::open(EmbeddedConfig { path: path.into(), ..EmbeddedConfig::default() })?;
    let config = IngestConfig { max_series: 10_000_000, max_series_per_metric: 0, ..IngestConfig::default() };
    let store: SharedStore = Arc::new(store);
    let engine = Engine::new(store.clone(), EngineConfig::default());
    let router = push::router(Ingest::new(store, config)).merge(query::http::router(engine));
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, router).await?;
    Ok(())
}
