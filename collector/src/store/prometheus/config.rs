//! The settings of the store on a Prometheus-compatible server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{Authorization, BasicAuth, TlsConfig};
use crate::source::secret::Secret;
use crate::store::remote::{LinkConfig, QueueConfig};

/// Settings of the store on a server that speaks Prometheus' query API and remote write: Prometheus, Thanos, Mimir,
/// VictoriaMetrics. Queries are evaluated there; our own series are written back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrometheusConfig {
    /// The server, with the path under which its query API lies: `http://prometheus:9090`,
    /// `https://mimir.example/prometheus`. Required.
    pub url: String,
    /// Where remote write is received. Default: `url` with `/api/v1/write`.
    pub write_url: Option<String>,
    /// Whose samples are kept. Default `own`.
    pub accept: Accept,
    /// User and password. Not beside `authorization`.
    pub basic_auth: Option<BasicAuth>,
    /// Credentials in the header `Authorization`. Not beside `basic_auth`.
    pub authorization: Option<Authorization>,
    /// Further headers of every request, such as `X-Scope-OrgID`. Default none.
    pub headers: BTreeMap<String, Secret>,
    /// How TLS is spoken with an `https` server.
    pub tls_config: TlsConfig,
    /// Longest time a request may take; a query may take longer when the engine's timeout allows it. Default 30s.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Samples in one request of remote write. Default 5000; 0 counts as 1.
    pub request_samples: usize,
    /// Directory of this machine for what waits to be sent and for what has been learnt. Default `./data`.
    pub path: PathBuf,
    /// What waits while the server cannot be reached.
    pub queue: QueueConfig,
}

/// Whose samples are kept on the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    /// Only Bellwether's own series and the events it is told: the server has all others already. Scrapes are refused in
    /// the configuration, pushes when they come.
    #[default]
    Own,
    /// Whatever is scraped and pushed goes through to the server too.
    All,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            write_url: None,
            accept: Accept::Own,
            basic_auth: None,
            authorization: None,
            headers: BTreeMap::new(),
            tls_config: TlsConfig::default(),
            timeout: Duration::from_secs(30),
            request_samples: 5000,
            path: PathBuf::from("./data"),
            queue: QueueConfig::default(),
        }
    }
}

impl PrometheusConfig {
    /// What is wrong with the settings, in words; neither files nor the network are touched.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.query_link().faults();
        if self.write_url.is_some() {
            let of_write = self.write_link().faults();
            faults.extend(of_write.into_iter().filter(|fault| fault.starts_with("url ")).map(|f| format!("write_{f}")));
        }
        faults
    }

    pub(super) fn query_link(&self) -> LinkConfig {
        self.link(self.url.clone())
    }

    pub(super) fn write_link(&self) -> LinkConfig {
        let url = format!("{}/api/v1/write", self.url.trim_end_matches('/'));
        self.link(self.write_url.clone().unwrap_or(url))
    }

    fn link(&self, url: String) -> LinkConfig {
        LinkConfig {
            url,
            timeout: self.timeout,
            basic_auth: self.basic_auth.clone(),
            authorization: self.authorization.clone(),
            headers: self.headers.clone(),
            tls_config: self.tls_config.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(yaml: &str) -> String {
        serde_saphyr::from_str::<PrometheusConfig>(yaml).unwrap().faults().join("; ")
    }

    #[test]
    fn what_cannot_work_is_named_and_secrets_are_not_shown() {
        let good = "{url: 'https://m.example/prometheus', basic_auth: {username: u, password: p1}, headers: {X-Scope-OrgID: t1}}";
        assert_eq!(faults(good), "");
        let shown = format!("{:?}", serde_saphyr::from_str::<PrometheusConfig>(good).unwrap());
        assert!(!shown.contains("p1") && !shown.contains("t1"), "{shown}");
        for (yaml, expected) in [
            ("{}", "url \"\" must be an address"),
            ("{url: 'prometheus:9090'}", "begins with http://"),
            ("{url: 'http://p', write_url: 'p'}", "write_url \"p\" must"),
            ("{url: 'http://p', timeout: 0s}", "timeout must not be 0"),
            ("{url: 'http://p', basic_auth: {username: u}, authorization: {credentials: c}}", "not both"),
            ("{url: 'http://p', tls_config: {cert_file: c}}", "go together"),
            ("{url: 'http://p', headers: {'a b': c}}", "\"a b\" is no header"),
        ] {
            assert!(faults(yaml).contains(expected), "{yaml}: {}", faults(yaml));
        }
    }
}
