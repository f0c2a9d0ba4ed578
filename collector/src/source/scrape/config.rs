//! What is scraped, and how: Prometheus' own `scrape_configs` syntax.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kubernetes::config::{self as kubernetes, KubernetesSdConfig};
use crate::access::{self, Authorization, BasicAuth, TlsConfig};
use crate::ingest::is_label_name;
use crate::source::relabel::{RelabelConfig, RelabelError, Relabeling};
use crate::source::size::ByteSize;

/// One job: a set of targets scraped alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScrapeConfig {
    /// Name of the job, unique; becomes the label `job`. Required.
    pub job_name: String,
    /// Time between two scrapes of a target. Default 1m; at least 1ms.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub scrape_interval: Duration,
    /// A scrape that takes longer has failed. Default: 10s, or the interval where that is shorter.
    #[serde(with = "bellwether_models::duration::as_optional_text")]
    #[schemars(with = "Option<String>")]
    pub scrape_timeout: Option<Duration>,
    /// Path asked for. Default `/metrics`.
    pub metrics_path: String,
    /// `http` or `https`. Default `http`.
    pub scheme: Scheme,
    /// Query parameters. Default none.
    pub params: BTreeMap<String, Vec<String>>,
    /// Whether labels in the scraped text win over those of the target. By default the target's win and the scraped
    /// ones are kept as `exported_…`.
    pub honor_labels: bool,
    /// Whether timestamps in the scraped text are used. Default true.
    pub honor_timestamps: bool,
    /// Targets written here. Default none.
    pub static_configs: Vec<TargetGroup>,
    /// Targets read from files. Default none.
    pub file_sd_configs: Vec<FileSdConfig>,
    /// Targets asked for over HTTP. Default none.
    pub http_sd_configs: Vec<HttpSdConfig>,
    /// Targets found through the API of a Kubernetes cluster. Default none.
    pub kubernetes_sd_configs: Vec<KubernetesSdConfig>,
    /// Rules for the targets, before they are scraped. Default none.
    pub relabel_configs: Vec<RelabelConfig>,
    /// Rules for the scraped series. Default none.
    pub metric_relabel_configs: Vec<RelabelConfig>,
    /// Most samples per scrape, after relabeling; beyond it the scrape fails. Default 0: no limit.
    pub sample_limit: usize,
    /// Most labels of a series; beyond it the scrape fails. Default 0: no limit.
    pub label_limit: usize,
    /// Longest label name in bytes; beyond it the scrape fails. Default 0: no limit.
    pub label_name_length_limit: usize,
    /// Longest label value in bytes; beyond it the scrape fails. Default 0: no limit.
    pub label_value_length_limit: usize,
    /// Most targets of the job; beyond it all of them fail. Default 0: no limit.
    pub target_limit: usize,
    /// Largest body, uncompressed: `10MB`, `512KB`; beyond it the scrape fails. Default 0: 1 GiB, above which no body is
    /// read whatever is written here.
    pub body_size_limit: ByteSize,
    /// User and password. Not beside `authorization`.
    pub basic_auth: Option<BasicAuth>,
    /// Credentials in the header `Authorization`. Not beside `basic_auth`.
    pub authorization: Option<Authorization>,
    /// How TLS is spoken with `https` targets.
    pub tls_config: TlsConfig,
    /// Whether redirects are followed. Default true.
    pub follow_redirects: bool,
}

impl Default for ScrapeConfig {
    fn default() -> Self {
        Self {
            job_name: String::new(),
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: None,
            metrics_path: "/metrics".to_owned(),
            scheme: Scheme::Http,
            params: BTreeMap::new(),
            honor_labels: false,
            honor_timestamps: true,
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            http_sd_configs: Vec::new(),
            kubernetes_sd_configs: Vec::new(),
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            target_limit: 0,
            body_size_limit: ByteSize::default(),
            basic_auth: None,
            authorization: None,
            tls_config: TlsConfig::default(),
            follow_redirects: true,
        }
    }
}

/// How a target is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// In the clear.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Targets with labels in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TargetGroup {
    /// Addresses, `host:port`.
    pub targets: Vec<String>,
    /// Labels added to each of them. Default none.
    pub labels: BTreeMap<String, String>,
}

/// Targets kept in files by somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileSdConfig {
    /// Files ending in `.json`, `.yml` or `.yaml`; `*` may stand in the last part of a path. At least one.
    pub files: Vec<String>,
    /// Longest time until a change is seen. Default 5m; files are looked at every 5 s at least.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub refresh_interval: Duration,
}

impl Default for FileSdConfig {
    fn default() -> Self {
        Self { files: Vec::new(), refresh_interval: Duration::from_secs(300) }
    }
}

/// Targets that a server lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSdConfig {
    /// Where a JSON list of `{"targets": […], "labels": {…}}` is served. Asked with the job's TLS settings and
    /// credentials. Required.
    pub url: String,
    /// Time between two questions. Default 1m; at least 5s.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub refresh_interval: Duration,
}

impl Default for HttpSdConfig {
    fn default() -> Self {
        Self { url: String::new(), refresh_interval: Duration::from_secs(60) }
    }
}

/// Why a job cannot be scraped as configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeConfigError {
    /// `job_name` is missing.
    #[error("scrape job {index} has no job_name")]
    NoName {
        /// Place of the job in its list, from 0.
        index: usize,
    },
    /// Two jobs of one name.
    #[error("two scrape jobs are called {job:?}; give each its own job_name")]
    SameName {
        /// The name.
        job: String,
    },
    /// Interval and timeout do not go together.
    #[error("scrape job {job:?}: {problem}")]
    Setting {
        /// The job.
        job: String,
        /// What is wrong and how to right it.
        problem: String,
    },
    /// A rule of `relabel_configs` or `metric_relabel_configs`.
    #[error("scrape job {job:?}: {list} cannot be used")]
    Relabel {
        /// The job.
        job: String,
        /// Which list of rules.
        list: &'static str,
        /// The rule and its fault.
        #[source]
        source: RelabelError,
    },
}

/// Checks jobs without touching files or the network.
///
/// # Errors
/// [`ScrapeConfigError`] for the first job that cannot be scraped.
pub fn check(configs: &[ScrapeConfig]) -> Result<(), ScrapeConfigError> {
    jobs(configs).map(drop)
}

/// A job that passed all checks, its rules compiled.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub config: ScrapeConfig,
    pub relabeling: Relabeling,
    pub metric_relabeling: Relabeling,
}

pub(super) fn jobs(configs: &[ScrapeConfig]) -> Result<Vec<Job>, ScrapeConfigError> {
    let mut names = BTreeSet::new();
    for (index, config) in configs.iter().enumerate() {
        if config.job_name.is_empty() {
            return Err(ScrapeConfigError::NoName { index });
        }
        if !names.insert(&config.job_name) {
            return Err(ScrapeConfigError::SameName { job: config.job_name.clone() });
        }
    }
    configs.iter().map(job).collect()
}

fn job(config: &ScrapeConfig) -> Result<Job, ScrapeConfigError> {
    let job = || config.job_name.clone();
    let relabel = |rules: &[RelabelConfig], list| {
        Relabeling::new(rules).map_err(|source| ScrapeConfigError::Relabel { job: job(), list, source })
    };
    if let Some(problem) = problem_of(config) {
        return Err(ScrapeConfigError::Setting { job: job(), problem });
    }
    Ok(Job {
        relabeling: relabel(&config.relabel_configs, "relabel_configs")?,
        metric_relabeling: relabel(&config.metric_relabel_configs, "metric_relabel_configs")?,
        config: config.clone(),
    })
}

fn problem_of(config: &ScrapeConfig) -> Option<String> {
    problem_of_times(config)
        .or_else(|| access::problem_of(config.basic_auth.as_ref(), config.authorization.as_ref(), &config.tls_config))
        .or_else(|| problem_of_targets(config))
}

fn problem_of_times(config: &ScrapeConfig) -> Option<String> {
    if config.scrape_interval.is_zero() {
        return Some("scrape_interval must not be 0".to_owned());
    }
    match config.scrape_timeout {
        Some(timeout) if timeout.is_zero() => Some("scrape_timeout must not be 0".to_owned()),
        Some(timeout) if timeout > config.scrape_interval => {
            Some("scrape_timeout must not be longer than scrape_interval".to_owned())
        }
        _ => None,
    }
}

fn problem_of_targets(config: &ScrapeConfig) -> Option<String> {
    let bad_label =
        config.static_configs.iter().flat_map(|group| group.labels.keys()).find(|name| !is_label_name(name));
    if let Some(name) = bad_label {
        return Some(format!("{name:?} in static_configs is not a label name"));
    }
    let files: Vec<&String> = config.file_sd_configs.iter().flat_map(|sd| &sd.files).collect();
    if config.file_sd_configs.iter().any(|sd| sd.files.is_empty()) {
        return Some("file_sd_configs needs at least one file".to_owned());
    }
    let odd_url = |sd: &&HttpSdConfig| !sd.url.starts_with("http://") && !sd.url.starts_with("https://");
    if let Some(sd) = config.http_sd_configs.iter().find(odd_url) {
        return Some(format!("url {:?} in http_sd_configs must begin with http:// or https://", sd.url));
    }
    if let Some(problem) = config.kubernetes_sd_configs.iter().find_map(kubernetes::problem_of) {
        return Some(problem);
    }
    let odd = files.into_iter().find(|file| super::discovery::kind_of(file.as_ref()).is_none());
    odd.map(|file| format!("{file:?} in file_sd_configs must end in .json, .yml or .yaml"))
}

impl Job {
    /// The timeout, where none is written: 10 s, or the interval where that is shorter.
    pub(super) fn timeout(&self) -> Duration {
        let interval = self.config.scrape_interval;
        self.config.scrape_timeout.unwrap_or_else(|| interval.min(Duration::from_secs(10)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<ScrapeConfig, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_scrape_config_is_written_as_in_prometheus() {
        let config = read(concat!(
            "job_name: node\nscrape_interval: 15s\nscheme: https\nparams: {module: [a, b]}\nbody_size_limit: 10MB\n",
            "static_configs: [{targets: ['h:9100'], labels: {zone: eu}}]\n",
            "basic_auth: {username: u, password: p}\n",
            "relabel_configs: [{source_labels: [__address__], target_label: host, regex: '(.*):.*'}]\n",
            "metric_relabel_configs: [{action: drop, source_labels: [__name__], regex: 'go_.*'}]\n",
        ))
        .unwrap();
        check(std::slice::from_ref(&config)).unwrap();
        assert_eq!(config.scrape_interval, Duration::from_secs(15));
        assert_eq!(config.body_size_limit.bytes(), 10 << 20);
        assert_eq!(config.static_configs[0].labels["zone"], "eu");
        assert!(!format!("{config:?}").contains("\"p\""), "a secret is not shown");
    }

    #[test]
    fn what_cannot_be_scraped_is_refused_with_its_remedy() {
        let cases = [
            ("scrape_interval: 15s", "has no job_name"),
            ("{job_name: j, scrape_interval: 5s, scrape_timeout: 10s}", "must not be longer"),
            ("{job_name: j, scrape_interval: 0s}", "must not be 0"),
            ("{job_name: j, basic_auth: {username: u}, authorization: {credentials: x}}", "not both"),
            ("{job_name: j, relabel_configs: [{regex: '('}]}", "relabel_configs cannot be used"),
            ("{job_name: j, file_sd_configs: [{files: [a.toml]}]}", "must end in .json"),
            ("{job_name: j, http_sd_configs: [{url: 'sd:80'}]}", "must begin with http"),
            ("{job_name: j, tls_config: {key_file: k}}", "go together"),
            ("{job_name: j, kubernetes_sd_configs: [{role: pod, selectors: [{role: node}]}]}", "has no effect"),
            ("{job_name: j, kubernetes_sd_configs: [{role: pod, api_server: 'k8s:6443'}]}", "must begin with http"),
            ("{job_name: j, kubernetes_sd_configs: [{role: pod, basic_auth: {username: u}}]}", "need an api_server"),
            ("{job_name: j, static_configs: [{targets: [a], labels: {a-b: c}}]}", "not a label name"),
        ];
        for (yaml, expected) in cases {
            let error = check(&[read(yaml).unwrap()]).unwrap_err().to_string();
            assert!(error.contains(expected), "{yaml}: {error}");
        }
        let twice = [read("job_name: j").unwrap(), read("job_name: j").unwrap()];
        assert!(check(&twice).unwrap_err().to_string().contains("two scrape jobs"));
        assert!(read("{job_name: j, scrape_intervall: 5s}").unwrap_err().contains("scrape_intervall"));
    }
}
