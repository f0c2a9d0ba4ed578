//! The HTTP connection to a store's server: credentials, TLS, time limits, bounded answers.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, redirect};

use crate::access::{self, AccessError, Authorization, BasicAuth, TlsConfig};
use crate::source::secret::Secret;

/// Largest answer read.
const MAX_ANSWER_BYTES: usize = 1 << 30;
/// Bytes of an answer shown in an error.
const MAX_SHOWN_BYTES: usize = 300;

/// How a server is reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkConfig {
    /// Its address, with the path under which its API lies.
    pub url: String,
    /// Longest time a request may take.
    pub timeout: Duration,
    /// User and password.
    pub basic_auth: Option<BasicAuth>,
    /// Credentials in the header `Authorization`.
    pub authorization: Option<Authorization>,
    /// Further headers.
    pub headers: BTreeMap<String, Secret>,
    /// How TLS is spoken.
    pub tls_config: TlsConfig,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A file or setting by which the server is reached cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The server was not reached, or did not answer in time.
    #[error("no answer from {url}")]
    Transport {
        /// The address.
        url: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// As `Transport`, for a request of another client.
    #[error("no answer from {url}")]
    Lost {
        /// The address.
        url: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server answered with an error.
    #[error("{url} answered {status}: {detail}{}", hint(*status))]
    Status {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        detail: String,
        /// When it asks to be tried again.
        retry_after: Option<Duration>,
    },
    /// The answer is longer than is held in memory.
    #[error("the answer of {url} is longer than {limit} bytes")]
    TooLong {
        /// The address.
        url: String,
        /// Most bytes read.
        limit: usize,
    },
    /// The answer is not what the protocol says.
    #[error("the answer of {url} cannot be read: {detail}")]
    Answer {
        /// The address.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// What may help with a status, after a semicolon.
fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => "; check the credentials of the store and what they allow",
        404 => "; check the store's url and its path",
        _ => "",
    }
}

/// A server and the client to reach it with.
#[derive(Clone, Debug)]
pub(in crate::store) struct Link {
    client: Client,
    config: LinkConfig,
}

impl Link {
    /// Reads the files of `tls_config` and builds the client.
    pub async fn new(config: LinkConfig) -> Result<Self, LinkError> {
        let builder = Client::builder().redirect(redirect::Policy::none()).gzip(true);
        let client = access::client(builder, &config.tls_config, !config.url.starts_with("http:")).await?;
        Ok(Self { client, config })
    }

    /// The address of `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.config.url.trim_end_matches('/'))
    }

    /// A POST to `path` with credentials and headers.
    pub async fn post(&self, path: &str) -> Result<RequestBuilder, LinkError> {
        let request = self.client.post(self.url(path)).timeout(self.config.timeout).headers(self.headers()?);
        let LinkConfig { basic_auth, authorization, .. } = &self.config;
        Ok(access::authorize(request, basic_auth.as_ref(), authorization.as_ref()).await?)
    }

    /// Sends; an answer that is no success is an error.
    pub async fn send(&self, path: &str, request: RequestBuilder) -> Result<Response, LinkError> {
        let response = request.send().await.map_err(|source| self.lost(path, source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
        let retry_after = retry_after.map(Duration::from_secs);
        let body = self.body(path, response).await.unwrap_or_default();
        Err(LinkError::Status { url: self.url(path), status, detail: shown(&body), retry_after })
    }

    /// The whole body, within bounds.
    pub async fn body(&self, path: &str, mut response: Response) -> Result<Vec<u8>, LinkError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|source| self.lost(path, source))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(LinkError::TooLong { url: self.url(path), limit: MAX_ANSWER_BYTES });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The connection broke.
    pub fn lost(&self, path: &str, source: reqwest::Error) -> LinkError {
        LinkError::Transport { url: self.url(path), source: source.without_url() }
    }

    fn headers(&self) -> Result<HeaderMap, AccessError> {
        let bad = |name: &str| AccessError::Setting { setting: "headers", detail: format!("{name:?} is no header") };
        let mut headers = HeaderMap::new();
        for (name, value) in &self.config.headers {
            let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| bad(name))?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(name))?, value);
        }
        Ok(headers)
    }
}

impl LinkConfig {
    /// What is wrong with the settings, in words; neither files nor the network are touched.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let is_url = reqwest::Url::parse(&self.url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        let checks = [
            (!is_url, format!("url {:?} must be an address that begins with http:// or https://", self.url)),
            (self.timeout.is_zero(), "timeout must not be 0".to_owned()),
        ];
        let mut faults: Vec<String> = checks.into_iter().filter(|(wrong, _)| *wrong).map(|(_, text)| text).collect();
        faults.extend(access::problem_of(self.basic_auth.as_ref(), self.authorization.as_ref(), &self.tls_config));
        let odd = |(name, value): &(&String, &Secret)| {
            HeaderName::from_bytes(name.as_bytes()).is_err() || HeaderValue::from_str(value.reveal()).is_err()
        };
        faults.extend(self.headers.iter().filter(odd).map(|(name, _)| format!("headers: {name:?} is no header")));
        faults
    }
}

/// The beginning of an answer in one line.
pub(in crate::store) fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_SHOWN_BYTES)]);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::routing::post;

    use super::*;

    /// Answers with the headers it was shown, or with an error.
    async fn server() -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shown = async |headers: HeaderMap| {
            let text = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
            format!("{} {}", text("authorization"), text("x-scope-orgid"))
        };
        let busy = async || (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")], "slow\n down");
        let router = axum::Router::new().route("/shown", post(shown)).route("/busy", post(busy));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    async fn asked(link: &Link, path: &str) -> Result<String, LinkError> {
        let answer = link.send(path, link.post(path).await?).await?;
        Ok(String::from_utf8(link.body(path, answer).await?).unwrap())
    }

    #[tokio::test]
    async fn credentials_and_headers_go_with_every_request_and_their_files_are_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "one\n").unwrap();
        let config = LinkConfig {
            url: server().await,
            timeout: Duration::from_secs(10),
            authorization: Some(Authorization { credentials_file: Some(file.clone()), ..Authorization::default() }),
            headers: [("X-Scope-OrgID".to_owned(), Secret::new("ops"))].into(),
            ..LinkConfig::default()
        };
        let link = Link::new(config.clone()).await.unwrap();
        assert_eq!(asked(&link, "/shown").await.unwrap(), "Bearer one ops");
        std::fs::write(&file, "two").unwrap();
        assert_eq!(asked(&link, "/shown").await.unwrap(), "Bearer two ops");
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(asked(&link, "/shown").await, Err(LinkError::Access(AccessError::File { .. }))));

        let basic = BasicAuth { username: "u".to_owned(), password: Some(Secret::new("p")), password_file: None };
        let link = Link::new(LinkConfig { authorization: None, basic_auth: Some(basic), ..config }).await.unwrap();
        assert_eq!(asked(&link, "/shown").await.unwrap(), "Basic dTpw ops");
        let error = asked(&link, "/busy").await.unwrap_err();
        let LinkError::Status { status: 429, retry_after: Some(after), detail, .. } = &error else { panic!("{error}") };
        assert_eq!((after.as_secs(), detail.as_str()), (7, "slow down"));
        assert!(asked(&link, "/none").await.unwrap_err().to_string().contains("check the store's url"));
    }
}
