//! The settings of the store in an InfluxDB 2 bucket.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{Authorization, TlsConfig};
use crate::source::secret::Secret;
use crate::store::remote::{LinkConfig, QueueConfig};

/// Settings of the store in a bucket of InfluxDB 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InfluxConfig {
    /// The server: `http://influxdb:8086`. Required.
    pub url: String,
    /// The organisation, by name. Required.
    pub org: String,
    /// The bucket; it must be there, and decides how long samples are kept. Required.
    pub bucket: String,
    /// A token that may read and write the bucket, written here; better from the environment: `${INFLUX_TOKEN}`.
    pub token: Option<Secret>,
    /// File the token is read from at start. Not beside `token`.
    pub token_file: Option<PathBuf>,
    /// PEM file of the authorities to trust with an `https` server, in place of those of the system.
    pub ca_file: Option<PathBuf>,
    /// Longest time a request may take. Default 30s.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Samples, one a line, in one write. Default 5000; 0 counts as 1.
    pub request_samples: usize,
    /// Directory of this machine for what waits to be sent and for what has been learnt. Default `./data`.
    pub path: PathBuf,
    /// What waits while the server cannot be reached.
    pub queue: QueueConfig,
}

impl Default for InfluxConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            org: String::new(),
            bucket: String::new(),
            token: None,
            token_file: None,
            ca_file: None,
            timeout: Duration::from_secs(30),
            request_samples: 5000,
            path: PathBuf::from("./data"),
            queue: QueueConfig::default(),
        }
    }
}

impl InfluxConfig {
    /// What is wrong with the settings, in words; neither files nor the network are touched.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.link(Secret::default()).faults();
        let has_path = reqwest::Url::parse(&self.url).is_ok_and(|url| !matches!(url.path(), "" | "/"));
        let checks = [
            (has_path, "url must be an address without a path: its client drops it"),
            (self.org.is_empty(), "org is missing: the name of the organisation"),
            (self.bucket.is_empty(), "bucket is missing: the name of the bucket"),
            (self.token.is_some() && self.token_file.is_some(), "write token or token_file, not both"),
            (!cfg!(feature = "influx"), "this program was built without the feature `influx`"),
        ];
        faults.extend(checks.into_iter().filter(|(wrong, _)| *wrong).map(|(_, text)| text.to_owned()));
        faults
    }

    /// How the server is reached with `token`.
    pub(super) fn link(&self, token: Secret) -> LinkConfig {
        let authorization =
            Authorization { kind: "Token".to_owned(), credentials: Some(token), credentials_file: None };
        LinkConfig {
            url: self.url.clone(),
            timeout: self.timeout,
            authorization: Some(authorization),
            tls_config: TlsConfig { ca_file: self.ca_file.clone(), ..TlsConfig::default() },
            ..LinkConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named_and_the_token_is_not_shown() {
        let read = |yaml: &str| serde_saphyr::from_str::<InfluxConfig>(yaml).unwrap();
        let good = read("{url: 'http://i:8086', org: o, bucket: b, token: hush}");
        assert!(!format!("{good:?}").contains("hush"));
        if cfg!(feature = "influx") {
            assert_eq!(good.faults(), Vec::<String>::new());
        }
        let told = read("{url: 'i:8086', token: a, token_file: b}").faults().join("; ");
        for expected in ["url \"i:8086\" must", "org is missing", "bucket is missing", "not both"] {
            assert!(told.contains(expected), "{told}");
        }
    }
}
