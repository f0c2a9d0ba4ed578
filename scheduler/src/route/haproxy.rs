//! Answers HAProxy's agent checks with weights.
//!
//! HAProxy connects each `agent-inter`, sends the text of `agent-send`, by which it names the server, and reads one
//! line: `75%` sets the server to that share of its configured weight (HAProxy configuration manual, `agent-check`).
//! Of a server we do not know we say nothing, and HAProxy leaves it as it is.
//!
//! A drained server is told `0%`: HAProxy opens no new sessions to it and leaves those that are open. The word `drain` would do
//! the same, but sticks, whatever share is told later, until somebody says `ready`; and `ready` would also lift what an operator
//! of HAProxy has set by hand. A share holds until the next one is told, and no answer can be missed for good.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::Weight;

const LONGEST_NAME: usize = 256;
const PATIENCE: Duration = Duration::from_secs(2);
const MOST_CONNECTIONS: usize = 256;

/// The weights that are answered, by backend.
pub type Weights = BTreeMap<String, f64>;

/// By name, as the responder answers them.
#[must_use]
pub fn by_name(weights: &[Weight]) -> Weights {
    weights.iter().map(|w| (w.backend.clone(), w.weight)).collect()
}

/// The answer for a server; `None` when nothing is known of it.
#[must_use]
pub fn answer(weights: &Weights, server: &str) -> Option<String> {
    let weight = weights.get(server.trim())?;
    let least = if *weight > 0.0 { 1.0 } else { 0.0 };
    Some(format!("{}%\n", (weight * 100.0).round().clamp(least, 100.0)))
}

/// A responder that runs until it is dropped.
#[derive(Debug)]
pub struct Responder {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Responder {
    /// Listens on `address` and answers with the newest of `weights`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(address: SocketAddr, weights: watch::Receiver<Weights>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(serve(listener, weights)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, weights: watch::Receiver<Weights>) {
    let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let weights = weights.clone();
                tokio::spawn(async move {
                    let outcome = tokio::time::timeout(PATIENCE, respond(stream, &weights)).await;
                    if !matches!(outcome, Ok(Ok(()))) {
                        debug!("agent check not answered");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "agent check not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn respond(mut stream: TcpStream, weights: &watch::Receiver<Weights>) -> io::Result<()> {
    let server = read_line(&mut stream).await?;
    let answer = answer(&weights.borrow(), &server);
    let known = if answer.is_some() { "true" } else { "false" };
    metrics::counter!("bellwether_scheduler_agent_checks_total", "known" => known).increment(1);
    if let Some(answer) = answer {
        stream.write_all(answer.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// Up to a line break, the end, or the longest name allowed.
async fn read_line(stream: &mut TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut chunk = [0; LONGEST_NAME];
    while line.len() < LONGEST_NAME && !line.contains(&b'\n') {
        match stream.read(&mut chunk).await? {
            0 => break,
            n => line.extend_from_slice(&chunk[..n]),
        }
    }
    let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}
