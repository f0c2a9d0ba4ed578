//! Listens, and serves until told to stop.
//!
//! A client that dawdles over the head of a request is sent away, and there are only so many connections at once: who holds
//! many open and says nothing cannot keep others out for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// A listening server.
#[derive(Debug)]
pub struct Server {
    /// Where it listens; the real port when 0 was asked for.
    pub address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// How much a client may ask of the server before it has asked anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Longest time for the head of a request, and between two requests of a connection.
    pub head: Duration,
    /// Most connections at once; others wait to be accepted.
    pub connections: usize,
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
    pub fn start(listener: TcpListener, router: Router, patience: Patience) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router, patience, stop.clone()));
        Ok(Self { address, stop, task })
    }

    /// Takes no more requests, lets those under way end (for ten seconds), and returns.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(Duration::from_secs(10), &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Time to wait when no connection can be accepted, as when files run out.
const NO_CONNECTION: Duration = Duration::from_millis(100);

/// What speaks HTTP with clients of so much patience.
pub(crate) fn http(patience: Patience) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(patience.head);
    http.http2().timer(TokioTimer::new()).keep_alive_interval(patience.head).keep_alive_timeout(patience.head);
    http
}

async fn serve(listener: TcpListener, router: Router, patience: Patience, stop: CancellationToken) {
    let http = http(patience);
    let (open, room) = (GracefulShutdown::new(), Arc::new(Semaphore::new(patience.connections.max(1))));
    loop {
        let (stream, place) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = open.watch(connection);
        tokio::spawn(async move {
            let _ = connection.await; // a client that broke off is no news
            drop(place);
        });
    }
    drop(listener);
    open.shutdown().await;
}

/// The next client, once there is room for it.
pub(crate) async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    let place = room.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                return (stream, place);
            }
            Err(error) => {
                warn!(%error, "could not accept a connection");
                tokio::time::sleep(NO_CONNECTION).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn started(connections: usize) -> Server {
        let listener = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let router = Router::new().route("/", axum::routing::get(async || "here\n"));
        Server::start(listener, router, Patience { head: Duration::from_millis(200), connections }).unwrap()
    }

    #[tokio::test]
    async fn who_dawdles_over_a_request_is_sent_away_and_makes_room_for_others() {
        let server = started(1).await;
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        let mut other = TcpStream::connect(server.address).await.unwrap();
        other.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        other.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("here\n"), "{answer}");
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains("here"), "the slow one was served");
        server.shutdown().await;
    }
}
