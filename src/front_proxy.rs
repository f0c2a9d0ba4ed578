//! The door of the external metrics API: TLS, and only for the front proxy of a Kubernetes API server.
//!
//! An API server that passes requests on has already asked who sends them and whether they may. It shows a certificate of the
//! authority for front proxies; nobody else is answered, for whoever reaches this door could give any name. See "Configure
//! the Aggregation Layer" in the documentation of Kubernetes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use bellwether_scheduler::actuate::external_metrics::status;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::server::{Patience, accept, http};

/// How often the files are read again: certificates are renewed while we run.
pub const READ_EVERY: Duration = Duration::from_secs(60);
/// What a client may ask for before it has asked anything.
const PATIENCE: Patience = Patience { head: Duration::from_secs(30), connections: 256 };
/// How long who is refused may keep its place, to read why.
const REFUSED_FOR: Duration = Duration::from_secs(5);

/// Where the API `external.metrics.k8s.io` is answered: one such API per cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalMetricsConfig {
    /// Address to listen on, such as `0.0.0.0:9498`; port 0 takes any free one.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// PEM file of our certificate, and those between it and its root. It names `SERVICE.NAMESPACE.svc`. Read again each
    /// minute, as are the other files.
    pub cert_file: PathBuf,
    /// PEM file of its key.
    pub key_file: PathBuf,
    /// PEM file of the authorities for front proxies: `requestheader-client-ca-file` of the config map
    /// `extension-apiserver-authentication` in the namespace `kube-system`.
    pub requestheader_client_ca_file: PathBuf,
    /// Common names that a front proxy's certificate may have: `requestheader-allowed-names` of that config map. Default
    /// `front-proxy-client`, as kubeadm makes it; an empty list takes every certificate of those authorities.
    #[serde(default = "front_proxy_client")]
    pub requestheader_allowed_names: Vec<String>,
}

fn front_proxy_client() -> Vec<String> {
    vec!["front-proxy-client".to_owned()]
}

/// The door while it is open.
#[derive(Debug)]
pub struct FrontProxyDoor {
    /// Where it listens; the real port when 0 was asked for.
    pub address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl FrontProxyDoor {
    /// Answers `routes` to the front proxies that `config` names, whose files are read again after each `reread_every`.
    ///
    /// # Errors
    /// When a file cannot be used or the address cannot be had.
    pub async fn open(config: &ExternalMetricsConfig, routes: Router, reread_every: Duration) -> anyhow::Result<Self> {
        let tls = watch::Sender::new(Arc::new(read(config).context("external_metrics")?));
        let listener = TcpListener::bind(config.listen).await;
        let remedy = || format!("could not listen on {}; choose another external_metrics.listen", config.listen);
        let listener = listener.with_context(remedy)?;
        metrics::gauge!("bellwether_external_metrics_certificates_usable").set(1.0);
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let door = Door { names: config.requestheader_allowed_names.clone().into(), routes, tls: tls.subscribe() };
        let (rereads, served) = (reread(config.clone(), tls, reread_every), serve(listener, door, stop.clone()));
        let task = tokio::spawn(async move {
            tokio::select! { () = rereads => {} () = served => {} }
        });
        Ok(Self { address, stop, task })
    }

    /// Takes no more requests, lets those under way end (for ten seconds), and returns.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if timeout(Duration::from_secs(10), &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// What each connection is met with.
#[derive(Clone)]
struct Door {
    names: Arc<[String]>,
    routes: Router,
    tls: watch::Receiver<Arc<ServerConfig>>,
}

async fn serve(listener: TcpListener, door: Door, stop: CancellationToken) {
    let (open, room) = (GracefulShutdown::new(), Arc::new(Semaphore::new(PATIENCE.connections)));
    loop {
        let (stream, place) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let (door, watcher) = (door.clone(), open.watcher());
        tokio::spawn(async move {
            if let Some(Admitted { stream, routes, stays }) = door.admit(stream).await {
                let http = http(PATIENCE);
                let service = TowerToHyperService::new(routes);
                let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
                let _ = timeout(stays, watcher.watch(connection)).await; // a client that broke off is no news
            }
            drop(place);
        });
    }
    drop(listener);
    open.shutdown().await;
}

/// A client, what it may see, and for how long.
struct Admitted {
    stream: TlsStream<TcpStream>,
    routes: Router,
    stays: Duration,
}

impl Door {
    async fn admit(&self, stream: TcpStream) -> Option<Admitted> {
        let acceptor = TlsAcceptor::from(self.tls.borrow().clone());
        let stream = match timeout(PATIENCE.head, acceptor.accept(stream)).await.ok()? {
            Ok(stream) => stream,
            Err(error) => {
                count("no_tls");
                debug!(%error, "no TLS with a client of the external metrics API");
                return None;
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let (routes, stays) = match refusal(shown, &self.names) {
            None => {
                count("admitted");
                (self.routes.clone(), Duration::MAX)
            }
            Some((code, why)) => {
                count("refused");
                warn!(why, "a client of the external metrics API is refused");
                (Router::new().fallback(async move || status(code, &why)), REFUSED_FOR)
            }
        };
        Some(Admitted { stream, routes, stays })
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("bellwether_external_metrics_connections_total", "outcome" => outcome).increment(1);
}

/// Why who shows this verified certificate is not answered.
fn refusal(shown: Option<&CertificateDer<'_>>, names: &[String]) -> Option<(StatusCode, String)> {
    let Some(shown) = shown else {
        let why = "show the certificate of the cluster's front proxy: only it is answered here";
        return Some((StatusCode::UNAUTHORIZED, why.to_owned()));
    };
    let name = common_name(shown);
    let named = names.is_empty() || name.as_ref().is_some_and(|name| names.contains(name));
    let name = name.unwrap_or_default();
    (!named)
        .then(|| (StatusCode::FORBIDDEN, format!("{name:?} is not among external_metrics.requestheader_allowed_names")))
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let name = certificate.tbs_certificate().subject().common_name().ok()??;
    Some(name.into())
}

/// Follows renewed certificates. While the files cannot be used, what was read last is.
async fn reread(config: ExternalMetricsConfig, tls: watch::Sender<Arc<ServerConfig>>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let config = config.clone();
        let Ok(found) = tokio::task::spawn_blocking(move || read(&config)).await else { continue };
        metrics::gauge!("bellwether_external_metrics_certificates_usable").set(f64::from(u8::from(found.is_ok())));
        match found {
            Ok(found) => drop(tls.send_replace(Arc::new(found))),
            Err(error) => warn!(
                error = format!("{error:#}"),
                "the files of external_metrics cannot be used; those read before serve"
            ),
        }
    }
}

fn read(config: &ExternalMetricsConfig) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in certificates(&config.requestheader_client_ca_file)? {
        let path = config.requestheader_client_ca_file.display();
        roots.add(root).with_context(|| format!("{path} holds a certificate of no authority"))?;
    }
    // Who shows none is told so in words, not by a broken connection.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = verifier.allow_unauthenticated().build().context("requestheader_client_ca_file cannot be used")?;
    let key = PrivateKeyDer::from_pem_file(&config.key_file);
    let key = key.with_context(|| format!("could not read a key in {}", config.key_file.display()))?;
    let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = tls.with_client_cert_verifier(verifier).with_single_cert(certificates(&config.cert_file)?, key);
    let mut tls = tls.context("cert_file and key_file do not belong together")?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.with_context(|| format!("could not read certificates in {}", path.display()))?;
    anyhow::ensure!(!found.is_empty(), "{} holds no certificate in PEM form", path.display());
    Ok(found)
}
