//! Listens, and serves until told to stop.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A listening server.
#[derive(Debug)]
pub struct Server {
    /// Where it listens; the real port when 0 was asked for.
    pub address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// When the address cannot be had; the message names it and the remedy.
    pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
        TcpListener::bind(address).await.with_context(|| {
            format!("could not listen on {address}; stop what holds it, or choose another server.listen (or --listen)")
        })
    }

    /// Serves `router` on `listener` in the background.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start(listener: TcpListener, router: Router) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
        Ok(Self { address, stop, task })
    }

    /// Takes no more requests, lets those under way end (for ten seconds), and returns.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(std::time::Duration::from_secs(10), &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}
