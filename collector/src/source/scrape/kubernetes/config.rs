//! Which objects of a Kubernetes cluster are targets: Prometheus' own `kubernetes_sd_configs` syntax.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{Authorization, BasicAuth, TlsConfig};

/// Targets found through the API of a Kubernetes cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSdConfig {
    /// What becomes targets: `node`, `pod`, `service`, `endpoints`, `endpointslice` or `ingress`. Required.
    pub role: Role,
    /// Address of the API, `https://host:port`. Default: that of the cluster this process runs in.
    #[serde(default)]
    pub api_server: Option<String>,
    /// A kubeconfig file, in place of `api_server` and what goes with it.
    #[serde(default)]
    pub kubeconfig_file: Option<PathBuf>,
    /// Namespaces looked at. Default all.
    #[serde(default)]
    pub namespaces: Namespaces,
    /// Narrows what is watched, by role. Default everything.
    #[serde(default)]
    pub selectors: Vec<RoleSelector>,
    /// Labels of related objects that are added.
    #[serde(default)]
    pub attach_metadata: AttachMetadata,
    /// User and password for `api_server`.
    #[serde(default)]
    pub basic_auth: Option<BasicAuth>,
    /// Bearer token for `api_server`. A file is read again as it changes.
    #[serde(default)]
    pub authorization: Option<Authorization>,
    /// How TLS is spoken with `api_server`.
    #[serde(default)]
    pub tls_config: TlsConfig,
}

/// What becomes a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Each node, at its kubelet.
    Node,
    /// Each port of each container of each pod.
    #[default]
    Pod,
    /// Each port of each service.
    Service,
    /// Each address and port behind a service.
    Endpoints,
    /// As `endpoints`, from the newer objects.
    EndpointSlice,
    /// Each path of each ingress.
    Ingress,
}

impl Role {
    /// The roles whose objects are watched for it, its own first.
    pub(in super::super) fn watched(self) -> &'static [Self] {
        match self {
            Self::Node => &[Self::Node],
            Self::Pod => &[Self::Pod],
            Self::Service => &[Self::Service],
            Self::Endpoints => &[Self::Endpoints, Self::Service, Self::Pod],
            Self::EndpointSlice => &[Self::EndpointSlice, Self::Service, Self::Pod],
            Self::Ingress => &[Self::Ingress],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Endpoints => "endpoints",
            Self::EndpointSlice => "endpointslice",
            Self::Ingress => "ingress",
        }
    }
}

/// Namespaces looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Namespaces {
    /// Whether the namespace of this process, or of the kubeconfig's context, is among them. Default false.
    pub own_namespace: bool,
    /// Their names. Default none; with `own_namespace` false too: all namespaces.
    pub names: Vec<String>,
}

/// Narrows the objects of one role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleSelector {
    /// Which objects: the role itself or one that is watched for it. Required.
    pub role: Role,
    /// A label selector, such as `app in (web, api)`. Default none.
    #[serde(default)]
    pub label: Option<String>,
    /// A field selector, such as `spec.nodeName=node-7`. Default none.
    #[serde(default)]
    pub field: Option<String>,
}

/// Labels of related objects that are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AttachMetadata {
    /// Whether the node's labels are added, for the roles `pod`, `endpoints` and `endpointslice`. Needs the right to watch
    /// nodes. Default false.
    pub node: bool,
}

/// What is wrong with a section, and how to right it.
pub(in super::super) fn problem_of(config: &KubernetesSdConfig) -> Option<String> {
    if cfg!(not(feature = "kubernetes")) {
        return Some("kubernetes_sd_configs: this build is without the feature kubernetes".to_owned());
    }
    let has_auth =
        config.basic_auth.is_some() || config.authorization.is_some() || config.tls_config != TlsConfig::default();
    if config.api_server.is_none() && has_auth {
        return Some("kubernetes_sd_configs: basic_auth, authorization and tls_config need an api_server".to_owned());
    }
    if config.api_server.is_some() && config.kubeconfig_file.is_some() {
        return Some("kubernetes_sd_configs: write api_server or kubeconfig_file, not both".to_owned());
    }
    if config.basic_auth.is_some() && config.authorization.is_some() {
        return Some("kubernetes_sd_configs: write basic_auth or authorization, not both".to_owned());
    }
    let odd = config.api_server.as_ref().filter(|url| !url.starts_with("http://") && !url.starts_with("https://"));
    if let Some(url) = odd {
        return Some(format!("kubernetes_sd_configs: api_server {url:?} must begin with http:// or https://"));
    }
    let watched = config.role.watched();
    let stray = config.selectors.iter().find(|selector| !watched.contains(&selector.role))?;
    Some(format!(
        "kubernetes_sd_configs: a selector of role {} has no effect with role {}",
        stray.role.name(),
        config.role.name()
    ))
}
