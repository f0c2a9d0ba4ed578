//! The cluster in which workloads are scaled: where it is, who we are to it, and who of several may act.

use std::path::PathBuf;
use std::time::Duration;

use bellwether_models::duration::as_text;
use bellwether_scheduler::config::LeaseConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Kubernetes API through which workloads are scaled. With neither a server nor a file: that of the cluster this process
/// runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// Address of the API, such as `https://10.0.0.1:6443`.
    pub api_server: Option<String>,
    /// A kubeconfig file, in place of the address.
    pub kubeconfig_file: Option<PathBuf>,
    /// File that holds our bearer token; read again as it changes. With `api_server`.
    pub token_file: Option<PathBuf>,
    /// PEM file of the authorities to trust, in place of those of the system. With `api_server`.
    pub ca_file: Option<PathBuf>,
    /// Whether any certificate is taken. Default false.
    pub insecure_skip_verify: bool,
    /// Makes annotated objects workloads, in shadow mode. Left out: annotations make none.
    pub discover: Option<DiscoverConfig>,
    /// The Lease by which one of several is chosen to act. Left out: nobody is asked, so run one only.
    pub lease: Option<LeaseConfig>,
}

/// Which Deployments and StatefulSets become workloads by their annotations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiscoverConfig {
    /// Namespaces that are looked in. Default none: in every one, which needs the right to list in the whole cluster.
    pub namespaces: Vec<String>,
    /// Time between two looks. Default 1m; at least 1s.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub every: Duration,
    /// Most workloads by annotation; more are refused. Default 500; 0 refuses all.
    pub most: usize,
}

impl Default for DiscoverConfig {
    fn default() -> Self {
        Self { namespaces: Vec::new(), every: Duration::from_secs(60), most: 500 }
    }
}

#[cfg(feature = "kubernetes")]
impl ClusterConfig {
    /// Where the API is and who we are to it.
    #[must_use]
    pub fn access(&self) -> bellwether_collector::kubernetes::Access {
        use bellwether_collector::access::{Authorization, TlsConfig};
        let token = |path: &PathBuf| Authorization { credentials_file: Some(path.clone()), ..Authorization::default() };
        bellwether_collector::kubernetes::Access {
            api_server: self.api_server.clone(),
            kubeconfig_file: self.kubeconfig_file.clone(),
            basic_auth: None,
            authorization: self.token_file.as_ref().map(token),
            tls_config: TlsConfig {
                ca_file: self.ca_file.clone(),
                insecure_skip_verify: self.insecure_skip_verify,
                ..TlsConfig::default()
            },
        }
    }
}
