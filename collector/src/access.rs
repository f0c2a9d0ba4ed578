//! How a server is reached: what we show it, and whom we trust. The settings are those of Prometheus.

use std::path::{Path, PathBuf};

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, Identity, RequestBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::source::secret::Secret;

/// User and password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// The password, written here.
    pub password: Option<Secret>,
    /// File the password is read from each time it is shown.
    pub password_file: Option<PathBuf>,
}

/// Credentials in the header `Authorization`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Authorization {
    /// Kind of credentials. Default `Bearer`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The credentials, written here.
    pub credentials: Option<Secret>,
    /// File the credentials are read from each time it is shown.
    pub credentials_file: Option<PathBuf>,
}

impl Default for Authorization {
    fn default() -> Self {
        Self { kind: "Bearer".to_owned(), credentials: None, credentials_file: None }
    }
}

/// How TLS is spoken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file of the authorities to trust, in place of those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our own certificate, for servers that ask for one. With `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file of our own key. With `cert_file`.
    pub key_file: Option<PathBuf>,
    /// Whether any certificate is taken. Default false.
    pub insecure_skip_verify: bool,
}

/// Why a server cannot be reached as configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A file of the configuration cannot be read.
    #[error("could not read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A setting cannot be used.
    #[error("{setting} cannot be used: {detail}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

/// What is wrong with the settings, in words; neither files nor the network are touched.
pub(crate) fn problem_of(
    basic_auth: Option<&BasicAuth>,
    authorization: Option<&Authorization>,
    tls: &TlsConfig,
) -> Option<String> {
    let twice = |written: &Option<Secret>, file: &Option<PathBuf>| written.is_some() && file.is_some();
    let checks = [
        (basic_auth.is_some() && authorization.is_some(), "write basic_auth or authorization, not both"),
        (
            basic_auth.is_some_and(|auth| twice(&auth.password, &auth.password_file)),
            "write password or password_file, not both",
        ),
        (
            authorization.is_some_and(|auth| twice(&auth.credentials, &auth.credentials_file)),
            "write credentials or credentials_file, not both",
        ),
        (tls.cert_file.is_some() != tls.key_file.is_some(), "cert_file and key_file go together"),
    ];
    checks.into_iter().find(|(wrong, _)| *wrong).map(|(_, text)| text.to_owned())
}

/// The client that speaks TLS as `tls` says. Where nothing is reached by TLS, `needs_tls` is false: the authorities of the
/// system need not be there then.
pub(crate) async fn client(builder: ClientBuilder, tls: &TlsConfig, needs_tls: bool) -> Result<Client, AccessError> {
    let TlsConfig { ca_file, cert_file, key_file, insecure_skip_verify } = tls;
    let mut builder = builder.user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION"))).no_proxy();
    if let Some(path) = ca_file {
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(&read(path).await?).map_err(unusable)?);
    } else if !needs_tls {
        builder = builder.tls_certs_only([]);
    }
    if *insecure_skip_verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let (Some(cert), Some(key)) = (cert_file, key_file) {
        let pem = [read(cert).await?, read(key).await?].join(&b'\n');
        builder = builder.identity(Identity::from_pem(&pem).map_err(unusable)?);
    }
    builder.build().map_err(unusable)
}

fn unusable(error: reqwest::Error) -> AccessError {
    let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    AccessError::Setting { setting: "tls_config", detail: format!("{error}{cause}") }
}

/// The request with the credentials that are configured, if any.
pub(crate) async fn authorize(
    request: RequestBuilder,
    basic_auth: Option<&BasicAuth>,
    authorization: Option<&Authorization>,
) -> Result<RequestBuilder, AccessError> {
    if let Some(BasicAuth { username, password, password_file }) = basic_auth {
        let password = secret(password.as_ref(), password_file.as_deref()).await?;
        return Ok(request.basic_auth(username, password.as_ref().map(Secret::reveal)));
    }
    let Some(Authorization { kind, credentials, credentials_file }) = authorization else {
        return Ok(request);
    };
    let credentials = secret(credentials.as_ref(), credentials_file.as_deref()).await?.unwrap_or_default();
    let header = HeaderValue::from_str(&format!("{kind} {}", credentials.reveal()));
    let mut header = header.map_err(|_| AccessError::Setting {
        setting: "authorization",
        detail: "the credentials are not plain text".to_owned(),
    })?;
    header.set_sensitive(true);
    Ok(request.header(AUTHORIZATION, header))
}

/// A secret, from its file where there is one: read each time, so that it may change.
pub(crate) async fn secret(written: Option<&Secret>, file: Option<&Path>) -> Result<Option<Secret>, AccessError> {
    let Some(path) = file else { return Ok(written.cloned()) };
    let bytes = read(path).await?;
    Ok(Some(Secret::new(String::from_utf8_lossy(&bytes).trim())))
}

/// A whole file.
pub(crate) async fn read(path: &Path) -> Result<Vec<u8>, AccessError> {
    tokio::fs::read(path).await.map_err(|source| AccessError::File { path: path.to_owned(), source })
}
