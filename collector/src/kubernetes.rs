//! A client of a Kubernetes API: the one place that decides where the API is and who we are.

pub mod annotated;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, Request};
use kube::client::{Body, ClientBuilder};
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, KubeconfigError, NamedAuthInfo, NamedCluster,
    NamedContext,
};
use kube::{Client, Config};
use tower::util::MapRequestLayer;

use crate::access::{self, Authorization, BasicAuth, TlsConfig};
use crate::source::secret::Secret;

/// Where an API is and who we are to it. With neither a server nor a file: the cluster this process runs in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    /// Address of the API.
    pub api_server: Option<String>,
    /// A kubeconfig file.
    pub kubeconfig_file: Option<PathBuf>,
    /// User and password, for `api_server`.
    pub basic_auth: Option<BasicAuth>,
    /// A bearer token, for `api_server`.
    pub authorization: Option<Authorization>,
    /// How TLS is spoken, with `api_server`.
    pub tls_config: TlsConfig,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Neither a server nor a file is named, and this process runs in no cluster.
    #[error("this process runs in no cluster; write api_server or kubeconfig_file")]
    NoCluster(#[source] kube::config::InClusterError),
    /// The file, or what was written in its place, cannot be used.
    #[error("the Kubernetes configuration cannot be used")]
    Kubeconfig(#[source] KubeconfigError),
    /// A file with a secret cannot be read.
    #[error(transparent)]
    Secret(#[from] access::AccessError),
    /// TLS cannot be set up.
    #[error("the client of the Kubernetes API cannot be made")]
    Client(#[source] Box<kube::Error>),
}

/// A client of the API that `access` names, and the namespace that counts as our own.
///
/// # Errors
/// [`AccessError`]; the API itself is not asked anything yet.
pub async fn client(access: &Access) -> Result<Client, AccessError> {
    let config = config(access).await?;
    let builder = ClientBuilder::try_from(config).map_err(|error| AccessError::Client(Box::new(error)))?;
    let file = access.authorization.as_ref().and_then(|authorization| authorization.credentials_file.clone());
    let Some(file) = file.filter(|_| access.api_server.is_some()) else { return Ok(builder.build()) };
    let first = access::secret(None, Some(&file)).await?;
    let token = TokenFile { file, last: Arc::new(RwLock::new(first)) };
    Ok(builder.with_layer(&MapRequestLayer::new(move |request| token.sign(request))).build())
}

/// A token in a file, which is replaced while we run.
#[derive(Clone)]
struct TokenFile {
    file: PathBuf,
    /// What was in it last: a file that is being written just now is empty.
    last: Arc<RwLock<Option<Secret>>>,
}

impl TokenFile {
    fn sign(&self, mut request: Request<Body>) -> Request<Body> {
        if let Some(bearer) = self.bearer() {
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        request
    }

    fn bearer(&self) -> Option<HeaderValue> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        if !text.trim().is_empty() {
            *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(Secret::new(text.trim()));
        }
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", last.as_ref()?.reveal())).ok()?;
        bearer.set_sensitive(true);
        Some(bearer)
    }
}

async fn config(access: &Access) -> Result<Config, AccessError> {
    let kubeconfig = match (&access.api_server, &access.kubeconfig_file) {
        (None, None) => return Config::incluster().map_err(AccessError::NoCluster),
        (None, Some(path)) => Kubeconfig::read_from(path).map_err(AccessError::Kubeconfig)?,
        (Some(server), _) => written(server, access).await?,
    };
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(AccessError::Kubeconfig)
}

const NAME: &str = "api_server";

/// The kubeconfig that says what the settings say.
async fn written(server: &str, access: &Access) -> Result<Kubeconfig, AccessError> {
    let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let tls = &access.tls_config;
    let cluster = Cluster {
        server: Some(server.to_owned()),
        certificate_authority: text(&tls.ca_file),
        insecure_skip_tls_verify: Some(tls.insecure_skip_verify),
        ..Cluster::default()
    };
    let mut user =
        AuthInfo { client_certificate: text(&tls.cert_file), client_key: text(&tls.key_file), ..AuthInfo::default() };
    if let Some(BasicAuth { username, password, password_file }) = &access.basic_auth {
        user.username = Some(username.clone());
        user.password =
            access::secret(password.as_ref(), password_file.as_deref()).await?.map(|it| it.reveal().to_owned().into());
    }
    if let Some(Authorization { credentials, .. }) = &access.authorization {
        user.token = credentials.as_ref().map(|token| token.reveal().to_owned().into());
    }
    let context = Context { cluster: NAME.to_owned(), user: Some(NAME.to_owned()), ..Context::default() };
    Ok(Kubeconfig {
        clusters: vec![NamedCluster { name: NAME.to_owned(), cluster: Some(cluster), ..NamedCluster::default() }],
        auth_infos: vec![NamedAuthInfo { name: NAME.to_owned(), auth_info: Some(user), ..NamedAuthInfo::default() }],
        contexts: vec![NamedContext { name: NAME.to_owned(), context: Some(context), ..NamedContext::default() }],
        current_context: Some(NAME.to_owned()),
        ..Kubeconfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_anew_and_the_last_one_stands_while_its_file_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let token = TokenFile { file: file.clone(), last: Arc::new(RwLock::new(None)) };
        assert_eq!(token.bearer(), None);
        for (written, expected) in [("one\n", "Bearer one"), ("", "Bearer one"), ("two", "Bearer two")] {
            std::fs::write(&file, written).unwrap();
            assert_eq!(token.bearer().unwrap(), expected);
        }
        std::fs::remove_file(file).unwrap();
        assert_eq!(token.bearer().unwrap(), "Bearer two");
    }
}
