//! Which store keeps the samples, from the configuration.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bellwether_collector::store::SharedStore;
use bellwether_collector::store::embedded::{EmbeddedConfig, EmbeddedStore};
use bellwether_collector::store::influx::InfluxConfig;
use bellwether_collector::store::prometheus::{self, Accept, PrometheusConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::warn;

/// Where samples are kept: one of these. Without any, the built-in store with its defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// The built-in store.
    pub embedded: EmbeddedConfig,
    /// A bucket of InfluxDB 2.
    pub influx: Option<InfluxConfig>,
    /// A server that speaks Prometheus' query API and remote write.
    pub prometheus: Option<PrometheusConfig>,
}

impl StoreConfig {
    /// What is wrong with the settings, in words; neither files nor the network are touched.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let of_influx = self.influx.iter().flat_map(|c| c.faults().into_iter().map(|f| format!("store.influx: {f}")));
        let of_prometheus =
            self.prometheus.iter().flat_map(|c| c.faults().into_iter().map(|f| format!("store.prometheus: {f}")));
        let written = [
            self.embedded != EmbeddedConfig::default() && self.is_elsewhere(),
            self.influx.is_some(),
            self.prometheus.is_some(),
        ];
        let several = written.into_iter().filter(|is_written| *is_written).count() > 1;
        let one = several.then(|| "store: write one of embedded, influx and prometheus, not several".to_owned());
        one.into_iter().chain(of_influx).chain(of_prometheus).collect()
    }

    /// The directory of this machine for what has been learnt.
    #[must_use]
    pub fn folder(&self) -> &Path {
        let elsewhere = self.influx.as_ref().map(|c| &c.path).or(self.prometheus.as_ref().map(|c| &c.path));
        elsewhere.unwrap_or(&self.embedded.path)
    }

    /// Why samples of others are not taken, if they are not: the server has them already, and nothing is stored twice.
    #[must_use]
    pub fn refuses_others(&self) -> Option<String> {
        let config = self.prometheus.as_ref().filter(|config| config.accept == Accept::Own)?;
        Some(format!(
            "samples are kept on {}: have them scraped or sent there, or set store.prometheus.accept to all",
            config.url
        ))
    }

    /// Whether a server keeps the samples.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.influx.is_some() || self.prometheus.is_some()
    }

    /// Opens the store. A server need not be there yet: what comes meanwhile waits on disk.
    ///
    /// # Errors
    /// When the store cannot be used as configured.
    pub async fn open(&self) -> anyhow::Result<SharedStore> {
        let store = if let Some(config) = &self.prometheus {
            Arc::new(prometheus::open(config.clone()).await.context("could not open the store")?) as SharedStore
        } else if let Some(config) = &self.influx {
            influx(config.clone()).await?
        } else {
            let config = self.embedded.clone();
            let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(config)).await?;
            return Ok(Arc::new(opened.context("could not open the store")?));
        };
        if let Err(error) = store.check().await {
            let error = &error as &dyn std::error::Error;
            warn!(error, "the store's server cannot be used yet; samples wait on disk until it can");
        }
        Ok(store)
    }
}

#[cfg(feature = "influx")]
async fn influx(config: InfluxConfig) -> anyhow::Result<SharedStore> {
    let opened = bellwether_collector::store::influx::open(config).await;
    Ok(Arc::new(opened.context("could not open the store")?))
}

#[cfg(not(feature = "influx"))]
async fn influx(_config: InfluxConfig) -> anyhow::Result<SharedStore> {
    anyhow::bail!("this program was built without the feature `influx`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> StoreConfig {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn one_store_is_chosen_and_says_where_it_keeps_its_own() {
        assert_eq!(read("{}").folder(), Path::new("./data"));
        assert_eq!(read("{embedded: {path: a}}").folder(), Path::new("a"));
        assert_eq!(read("{prometheus: {url: 'http://p', path: b}}").folder(), Path::new("b"));
        let both = read("{embedded: {path: a}, prometheus: {url: 'http://p'}}").faults();
        assert!(both[0].contains("not several"), "{both:?}");
        let bad = read("{prometheus: {url: p}}").faults();
        assert!(bad[0].starts_with("store.prometheus: url"), "{bad:?}");
    }

    #[test]
    fn samples_of_others_are_refused_only_where_they_are_kept_already() {
        assert!(read("{prometheus: {url: 'http://p'}}").refuses_others().unwrap().contains("http://p"));
        assert!(read("{prometheus: {url: 'http://p', accept: all}}").refuses_others().is_none());
        assert!(read("{}").refuses_others().is_none());
    }
}
