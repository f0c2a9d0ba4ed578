//! The server for those who ask over gRPC rather than being told.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::Request;
use futures::Stream;
use prost::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tonic::server::Grpc;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Response, Status};
use tonic_prost::ProstCodec;
use tracing::warn;

/// Connections that say nothing for so long are asked whether they are still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Requests of one connection that are answered at once; the rest wait.
const AT_ONCE: usize = 256;

/// Where gRPC is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpcConfig {
    /// Address to listen on, such as `127.0.0.1:9497`; port 0 takes any free one.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Our certificate. Left out: no TLS.
    #[serde(default)]
    pub tls: Option<GrpcTls>,
}

/// How TLS is spoken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpcTls {
    /// PEM file of our certificate and those between it and its root.
    pub cert_file: PathBuf,
    /// PEM file of its key.
    pub key_file: PathBuf,
    /// PEM file of the roots that clients' certificates must come from. Left out: clients show none.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
}

/// Why gRPC is not answered.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The address cannot be had.
    #[error("could not listen for gRPC on {address}; choose another address")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("could not read {path}, which grpc.tls names")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Certificate and key cannot be used.
    #[error("the certificate and key of grpc.tls cannot be used")]
    Tls(#[source] tonic::transport::Error),
}

/// A server that runs until it is dropped: then it takes no more connections, and those there are end with what is under way.
#[derive(Debug)]
pub struct GrpcServer {
    address: SocketAddr,
    /// Its end stops the server.
    _stop: oneshot::Sender<()>,
}

impl GrpcServer {
    /// Answers `routes` as `config` says.
    ///
    /// # Errors
    /// [`GrpcError`], which names what stands in the way.
    pub fn start(config: &GrpcConfig, routes: axum::Router) -> Result<Self, GrpcError> {
        let listen = |source| GrpcError::Listen { address: config.listen, source };
        let incoming = TcpIncoming::bind(config.listen).map_err(listen)?.with_nodelay(Some(true));
        let address = incoming.local_addr().map_err(listen)?;
        let mut server =
            Server::builder().http2_keepalive_interval(Some(KEEP_ALIVE)).concurrency_limit_per_connection(AT_ONCE);
        if let Some(tls) = &config.tls {
            server = server.tls_config(read_tls(tls)?).map_err(GrpcError::Tls)?;
        }
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { drop(stopped.await) };
        let serving = server.add_routes(Routes::from(routes)).serve_with_incoming_shutdown(incoming, stopped);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                warn!(error = &error as &dyn std::error::Error, "gRPC is answered no more");
            }
        });
        Ok(Self { address, _stop: stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The answer to a call.
pub(crate) type Answer = axum::http::Response<tonic::body::Body>;

/// Answers a call of one message with one message.
pub(crate) async fn unary<Q, A>(request: Request, answer: impl Fn(Q) -> Result<A, Status> + Clone) -> Answer
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    let service = tower::service_fn(move |request: tonic::Request<Q>| {
        std::future::ready(answer(request.into_inner()).map(Response::new))
    });
    Grpc::new(ProstCodec::<A, Q>::default()).unary(service, request).await
}

/// Answers a call of one message with many.
pub(crate) async fn streaming<Q, A, S>(request: Request, answer: impl Fn(Q) -> Result<S, Status> + Clone) -> Answer
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
{
    let service = tower::service_fn(move |request: tonic::Request<Q>| {
        std::future::ready(answer(request.into_inner()).map(Response::new))
    });
    Grpc::new(ProstCodec::<A, Q>::default()).server_streaming(service, request).await
}

fn read_tls(tls: &GrpcTls) -> Result<ServerTlsConfig, GrpcError> {
    let identity = Identity::from_pem(read(&tls.cert_file)?, read(&tls.key_file)?);
    let config = ServerTlsConfig::new().identity(identity);
    match &tls.client_ca_file {
        Some(path) => Ok(config.client_ca_root(Certificate::from_pem(read(path)?))),
        None => Ok(config),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, GrpcError> {
    std::fs::read(path).map_err(|source| GrpcError::File { path: path.to_owned(), source })
}
