//! A build without the feature `kubernetes` finds no workloads.

use std::convert::Infallible;

use crate::cluster::ClusterConfig;
use crate::config::Config;

/// There is none.
pub struct Discovery(Infallible);

impl Discovery {
    /// Nothing, where nothing is asked for.
    ///
    /// # Errors
    /// When workloads are to be found by annotation.
    pub async fn start(config: &ClusterConfig) -> anyhow::Result<Option<Self>> {
        anyhow::ensure!(config.discover.is_none(), "kubernetes.discover: this build has no feature kubernetes");
        Ok(None)
    }

    /// Never called.
    pub async fn begin(&mut self, _: &Config) -> Config {
        match self.0 {}
    }

    /// Never returns.
    pub async fn changed(&mut self) {
        match self.0 {}
    }

    /// Never called.
    pub fn complete(&mut self, _: &Config) -> Config {
        match self.0 {}
    }
}
