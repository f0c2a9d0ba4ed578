//! Asks a running server, for the commands that look at the live system.

use anyhow::{Context, bail};
use bellwether_predictor::registry::encoded;
use serde::de::DeserializeOwned;

/// Where the server is and how to be let in.
#[derive(Debug, Clone, clap::Args)]
pub struct Server {
    /// Address of the running server.
    #[arg(long, env = "BELLWETHER_URL", default_value = "http://127.0.0.1:9494", value_name = "URL")]
    pub url: String,
    /// File that holds the bearer token, when the server asks for one.
    #[arg(long, env = "BELLWETHER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<std::path::PathBuf>,
}

impl Server {
    /// Fetches `path` with `query` and reads the JSON answer.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or answers something else.
    pub fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        crate::telemetry::install_cryptography();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.fetch(path, query))
    }

    /// Fetches `path` as it is.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub fn get_bytes(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        crate::telemetry::install_cryptography();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let url = self.address(path);
        runtime.block_on(self.answer(&url, reqwest::Client::new().get(&url)))
    }

    /// Posts `body` to `path` and reads the JSON answer.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<T> {
        crate::telemetry::install_cryptography();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let url = self.address(path);
        runtime.block_on(self.ask(&url, reqwest::Client::new().post(&url).json(body)))
    }

    async fn fetch<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        let url = self.address(path);
        self.ask(&url, reqwest::Client::new().get(&url).query(query)).await
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url.trim_end_matches('/'))
    }

    async fn ask<T: DeserializeOwned>(&self, url: &str, request: reqwest::RequestBuilder) -> anyhow::Result<T> {
        let body = self.answer(url, request).await?;
        serde_json::from_slice(&body).with_context(|| format!("{url} did not answer as Bellwether does"))
    }

    async fn answer(&self, url: &str, mut request: reqwest::RequestBuilder) -> anyhow::Result<Vec<u8>> {
        if let Some(file) = &self.token_file {
            let token = std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?;
            request = request.bearer_auth(token.trim());
        }
        let answer = request.send().await.with_context(|| {
            format!("could not reach {}; is `bellwether run` up? --url names another address", self.url)
        })?;
        let status = answer.status();
        let body = answer.bytes().await.with_context(|| format!("the answer of {url} broke off"))?;
        if !status.is_success() {
            bail!("{url} answered {status}: {}", reason(&String::from_utf8_lossy(&body)));
        }
        Ok(body.to_vec())
    }
}

/// The path under `/api/v1` that these parts make, whatever letters they are written with.
#[must_use]
pub fn path(parts: &[&str]) -> String {
    parts.iter().fold("/api/v1".to_owned(), |path, part| path + "/" + &encoded(part))
}

/// The sentence within an error answer, or its first line.
fn reason(body: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let sentence = json.as_ref().and_then(|value| value.get("error")?.as_str());
    sentence.unwrap_or_else(|| body.lines().next().unwrap_or("")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_part_of_a_path_whatever_letters_it_is_written_with() {
        let of = |name| path(&["workloads", name, "what-if"]);
        assert_eq!(of("checkout"), "/api/v1/workloads/checkout/what-if");
        assert_eq!(of("shop/web ?#%ä"), "/api/v1/workloads/shop%2Fweb%20%3F%23%25%C3%A4/what-if");
    }
}
