//! From a discovered address to a target: pure.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bellwether_models::duration;
use bellwether_models::series::Labels;

use super::config::{Job, TargetGroup};

/// What one scrape loop scrapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Labels added to its series: without those that begin with `__`.
    pub labels: Labels,
    /// All labels before relabeling.
    pub discovered: Labels,
    /// What is asked for.
    pub url: String,
    /// Time between scrapes.
    pub interval: Duration,
    /// Longest time a scrape may take.
    pub timeout: Duration,
}

/// What tells the series of two targets apart.
pub(super) type Key = (String, Labels);

impl Target {
    /// The series it has: those of another target with the same key are the same.
    pub(super) fn key(&self) -> Key {
        (self.url.clone(), self.labels.clone())
    }
}

/// What became of the addresses of a job.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Its targets after relabeling, each once.
    pub targets: Vec<Target>,
    /// Labels of those that a rule drops, up to [`MAX_DROPPED`].
    pub dropped: Vec<Labels>,
    /// Why others cannot be scraped.
    pub refused: Vec<String>,
}

/// Dropped targets that are shown.
const MAX_DROPPED: usize = 1000;

/// The targets of a job.
pub(super) fn targets(job: &Job, groups: &[TargetGroup]) -> Found {
    let (mut found, mut known) = (Found::default(), HashSet::new());
    for group in groups {
        for address in &group.targets {
            let discovered = discovered(job, address, &group.labels);
            match target(job, &discovered) {
                Ok(Some(new)) => {
                    if known.insert(new.key()) {
                        found.targets.push(new);
                    }
                }
                Ok(None) if found.dropped.len() < MAX_DROPPED => found.dropped.push(discovered),
                Ok(None) => {}
                Err(problem) => found.refused.push(format!("{address}: {problem}")),
            }
        }
    }
    found
}

fn target(job: &Job, discovered: &Labels) -> Result<Option<Target>, String> {
    let Some(labels) = job.relabeling.apply(discovered.clone()) else { return Ok(None) };
    let time = |name: &str| {
        let text = labels.get(name).unwrap_or("");
        duration::parse(text).map_err(|error| format!("{name}: {error}"))
    };
    let (interval, timeout) = (time("__scrape_interval__")?, time("__scrape_timeout__")?);
    if interval.is_zero() || timeout.is_zero() || timeout > interval {
        return Err("relabeling must leave 0 < __scrape_timeout__ <= __scrape_interval__".to_owned());
    }
    let address = with_port(&labels)?;
    let url = url(job, &labels, &address)?;
    let kept = labels.without(|name| name.starts_with("__"));
    let labels = if kept.get("instance").is_some() { kept } else { kept.with("instance", &address) };
    Ok(Some(Target { labels, discovered: discovered.clone(), url, interval, timeout }))
}

fn discovered(job: &Job, address: &str, group: &BTreeMap<String, String>) -> Labels {
    let config = &job.config;
    let own = [
        ("job".to_owned(), config.job_name.clone()),
        ("__scheme__".to_owned(), config.scheme.name().to_owned()),
        ("__metrics_path__".to_owned(), config.metrics_path.clone()),
        ("__scrape_interval__".to_owned(), duration::format(config.scrape_interval)),
        ("__scrape_timeout__".to_owned(), duration::format(job.timeout())),
    ];
    let first = |values: &Vec<String>| values.first().cloned().unwrap_or_default();
    let params = config.params.iter().map(|(name, values)| (format!("__param_{name}"), first(values)));
    let group = group.iter().map(|(name, value)| (name.clone(), value.clone()));
    let address = [("__address__".to_owned(), address.to_owned())];
    Labels::new(own.into_iter().chain(params).chain(group).chain(address))
}

fn with_port(labels: &Labels) -> Result<String, String> {
    let address = labels.get("__address__").ok_or("relabeling left no __address__")?;
    if address.contains('/') {
        return Err("an address is host:port, without scheme or path".to_owned());
    }
    let after_brackets = address.rsplit(']').next().unwrap_or(address);
    if after_brackets.contains(':') {
        return Ok(address.to_owned());
    }
    let port = if labels.get("__scheme__") == Some("https") { 443 } else { 80 };
    Ok(format!("{address}:{port}"))
}

fn url(job: &Job, labels: &Labels, address: &str) -> Result<String, String> {
    let scheme = labels.get("__scheme__").unwrap_or("http");
    let path = labels.get("__metrics_path__").unwrap_or("/metrics");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut url =
        reqwest::Url::parse(&format!("{scheme}://{address}{slash}{path}")).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("scheme {scheme:?} is neither http nor https"));
    }
    let params = params(job, labels);
    if !params.is_empty() {
        url.query_pairs_mut().extend_pairs(params);
    }
    Ok(url.to_string())
}

/// The job's parameters, the first value of each replaced by what relabeling made of it.
fn params(job: &Job, labels: &Labels) -> Vec<(String, String)> {
    let mut params = job.config.params.clone();
    for (name, value) in labels.iter() {
        if let Some(param) = name.strip_prefix("__param_") {
            let values = params.entry(param.to_owned()).or_default();
            values.resize(values.len().max(1), String::new());
            values[0] = value.to_owned();
        }
    }
    params.into_iter().flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::config::jobs;
    use super::*;

    fn found(yaml: &str, addresses: &[&str]) -> (Vec<Target>, Vec<String>) {
        let job = jobs(&[serde_saphyr::from_str(yaml).unwrap()]).unwrap().remove(0);
        let group = TargetGroup {
            targets: addresses.iter().map(|address| (*address).to_owned()).collect(),
            labels: [("__meta_zone".to_owned(), "eu".to_owned())].into(),
        };
        let found = targets(&job, &[group]);
        assert!(found.targets.len() + found.dropped.len() + found.refused.len() <= addresses.len());
        (found.targets, found.refused)
    }

    #[test]
    fn an_address_becomes_a_target_with_job_and_instance() {
        let (targets, refused) = found("job_name: node", &["h:9100", "[::1]", "h:9100"]);
        assert_eq!(refused, [""; 0]);
        assert_eq!(
            targets.iter().map(|t| t.url.as_str()).collect::<Vec<_>>(),
            ["http://h:9100/metrics", "http://[::1]/metrics"]
        );
        assert_eq!(targets[0].labels.to_string(), r#"{instance="h:9100",job="node"}"#);
        assert_eq!(targets[1].labels.get("instance"), Some("[::1]:80"));
        assert_eq!((targets[0].interval.as_secs(), targets[0].timeout.as_secs()), (60, 10));
    }

    #[test]
    fn relabeling_rewrites_address_path_parameters_and_interval_or_drops() {
        let yaml = concat!(
            "job_name: probe\nscheme: https\nmetrics_path: probe\nparams: {module: [http_2xx], x: [a, b]}\n",
            "relabel_configs:\n",
            "- {source_labels: [__address__], target_label: __param_target}\n",
            "- {source_labels: [__param_target], target_label: instance}\n",
            "- {target_label: __address__, replacement: prober}\n",
            "- {source_labels: [__meta_zone], target_label: zone}\n",
            "- {target_label: __scrape_interval__, replacement: 30s}\n",
            "- {source_labels: [instance], regex: skip, action: drop}\n",
        );
        let (targets, _) = found(yaml, &["a b", "skip"]);
        assert_eq!(targets.len(), 1);
        assert_eq!(targets[0].url, "https://prober/probe?module=http_2xx&target=a+b&x=a&x=b");
        assert_eq!(targets[0].labels.to_string(), r#"{instance="a b",job="probe",zone="eu"}"#);
        assert_eq!(targets[0].interval.as_secs(), 30);
    }

    #[test]
    fn an_address_that_cannot_be_asked_is_named() {
        let (targets, refused) = found("job_name: node", &["http://h/metrics", "h:99999", "good:1"]);
        assert_eq!(targets.len(), 1);
        assert!(refused[0].starts_with("http://h/metrics: an address is host:port"), "{refused:?}");
        assert!(refused[1].starts_with("h:99999: invalid port"), "{refused:?}");
    }
}
