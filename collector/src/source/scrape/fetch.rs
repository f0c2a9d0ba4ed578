//! Asks a target for its metrics over HTTP.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, Response, redirect};

use super::config::{Job, Scheme, ScrapeConfig};
use super::failure::ScrapeFailure;
use super::target::Target;
use crate::access;
use crate::source::exposition::Format;

/// Largest body read whatever the job says.
const MAX_BODY_BYTES: u64 = 1 << 30;

/// Longest time a server of targets may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

const ACCEPTED: &str = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// The HTTP client of one job.
#[derive(Clone, Debug)]
pub(super) struct Fetcher {
    client: Client,
    job: Arc<Job>,
}

/// What a target answered.
pub(super) struct Fetched {
    /// The text, uncompressed.
    pub body: Vec<u8>,
    /// How to read it.
    pub format: Format,
}

impl Fetcher {
    /// Reads the files of `tls_config` and builds the client.
    pub(super) async fn new(job: Arc<Job>) -> Result<Self, ScrapeFailure> {
        let client = client(&job.config).await?;
        Ok(Self { client, job })
    }

    /// One scrape, within the target's timeout.
    pub(super) async fn fetch(&self, target: &Target) -> Result<Fetched, ScrapeFailure> {
        match tokio::time::timeout(target.timeout, self.ask(target)).await {
            Ok(result) => result,
            Err(_) => Err(ScrapeFailure::Timeout { timeout: target.timeout }),
        }
    }

    /// The list of targets that a server gives.
    pub(super) async fn fetch_list(&self, url: &str) -> Result<Vec<u8>, ScrapeFailure> {
        let request = self.client.get(url).timeout(LIST_TIMEOUT).header(ACCEPT, "application/json");
        self.send(request, url).await.map(|fetched| fetched.body)
    }

    async fn ask(&self, target: &Target) -> Result<Fetched, ScrapeFailure> {
        let request = self
            .client
            .get(&target.url)
            .header(ACCEPT, ACCEPTED)
            .header("X-Prometheus-Scrape-Timeout-Seconds", target.timeout.as_secs_f64().to_string());
        self.send(request, &target.url).await
    }

    async fn send(&self, request: RequestBuilder, url: &str) -> Result<Fetched, ScrapeFailure> {
        let transport =
            |source: reqwest::Error| ScrapeFailure::Transport { url: url.to_owned(), source: source.without_url() };
        let config = &self.job.config;
        let response = access::authorize(request, config.basic_auth.as_ref(), config.authorization.as_ref())
            .await?
            .send()
            .await
            .map_err(transport)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(ScrapeFailure::Status { status: response.status().as_u16() });
        }
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let format = Format::of_content_type(content_type);
        let body = self.read(response, transport).await?;
        Ok(Fetched { body, format })
    }

    async fn read(
        &self,
        mut response: Response,
        transport: impl Fn(reqwest::Error) -> ScrapeFailure,
    ) -> Result<Vec<u8>, ScrapeFailure> {
        let limit = match self.job.config.body_size_limit.bytes() {
            0 => MAX_BODY_BYTES,
            limit => limit.min(MAX_BODY_BYTES),
        };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(&transport)? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(ScrapeFailure::BodySizeLimit { limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

async fn client(config: &ScrapeConfig) -> Result<Client, ScrapeFailure> {
    let redirects = if config.follow_redirects { redirect::Policy::limited(10) } else { redirect::Policy::none() };
    let builder = Client::builder().redirect(redirects).pool_idle_timeout(Duration::from_secs(300));
    Ok(access::client(builder, &config.tls_config, may_need_tls(config)).await?)
}

fn may_need_tls(config: &ScrapeConfig) -> bool {
    config.scheme == Scheme::Https
        || config.http_sd_configs.iter().any(|sd| sd.url.starts_with("https:"))
        || config.relabel_configs.iter().any(|rule| rule.target_label == "__scheme__")
}
