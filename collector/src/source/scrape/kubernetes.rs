//! Targets from the API of a Kubernetes cluster: lists once, then watches; a list too old is asked for anew.
//!
//! While the API is away what it said last stays. What its objects mean is decided by pure code in `labels`.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use metrics::counter;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tracing::warn;

use super::config::TargetGroup;
use crate::kubernetes::{self, Access, AccessError};

pub mod config;
mod labels;

use config::{KubernetesSdConfig, Role};
use labels::Objects;

/// Time between two attempts to set up a client.
const TRY_AGAIN: Duration = Duration::from_secs(15);

/// The clusters that a job looks at.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    watched: Vec<(KubernetesSdConfig, Watched)>,
    /// The last targets of configurations that were replaced, by role: they stay until what came in their place has listed.
    replaced: Vec<(Role, Vec<TargetGroup>)>,
}

#[derive(Debug)]
enum Watched {
    Cluster(Cluster),
    /// There is no client, since this instant.
    Failed(Instant),
}

impl Clusters {
    /// Watches what the configurations name and no other; gives the targets of all.
    pub(super) async fn refresh(&mut self, configs: &[KubernetesSdConfig]) -> Vec<TargetGroup> {
        let (kept, gone) =
            std::mem::take(&mut self.watched).into_iter().partition(|(known, _)| configs.contains(known));
        self.watched = kept;
        self.replaced.extend(gone.iter().map(|(config, watched)| (config.role, watched.groups(config.role))));
        for config in configs {
            self.watch(config).await;
        }
        let listing =
            |role: Role| self.watched.iter().any(|(config, watched)| config.role == role && !watched.is_complete());
        self.replaced.retain(|(role, _)| listing(*role));
        let present = self.watched.iter().flat_map(|(config, watched)| watched.groups(config.role));
        present.chain(self.replaced.iter().flat_map(|(_, groups)| groups.clone())).collect()
    }

    async fn watch(&mut self, config: &KubernetesSdConfig) {
        let place = self.watched.iter().position(|(known, _)| known == config);
        let waits = |watched: &Watched| match watched {
            Watched::Cluster(_) => true,
            Watched::Failed(since) => since.elapsed() < TRY_AGAIN,
        };
        if place.is_some_and(|place| waits(&self.watched[place].1)) {
            return;
        }
        let watched = match Cluster::watch(config).await {
            Ok(cluster) => Watched::Cluster(cluster),
            Err(error) => {
                counter!("bellwether_scrape_kubernetes_errors_total", "reason" => "client").increment(1);
                warn!(error = &error as &dyn std::error::Error, "no client of the Kubernetes API; trying again");
                Watched::Failed(Instant::now())
            }
        };
        match place {
            Some(place) => self.watched[place].1 = watched,
            None => self.watched.push((config.clone(), watched)),
        }
    }
}

impl Watched {
    fn is_complete(&self) -> bool {
        matches!(self, Self::Cluster(cluster) if cluster.is_complete())
    }

    fn groups(&self, role: Role) -> Vec<TargetGroup> {
        match self {
            Self::Cluster(cluster) => labels::groups(role, &cluster.objects()),
            Self::Failed(_) => Vec::new(),
        }
    }
}

/// The objects that one configuration looks at. Dropping it ends the watches.
#[derive(Debug)]
struct Cluster {
    nodes: Followed<Node>,
    pods: Followed<Pod>,
    services: Followed<Service>,
    endpoints: Followed<Endpoints>,
    slices: Followed<EndpointSlice>,
    ingresses: Followed<Ingress>,
    _watches: JoinSet<()>,
}

impl Cluster {
    async fn watch(config: &KubernetesSdConfig) -> Result<Self, AccessError> {
        let access = Access {
            api_server: config.api_server.clone(),
            kubeconfig_file: config.kubeconfig_file.clone(),
            basic_auth: config.basic_auth.clone(),
            authorization: config.authorization.clone(),
            tls_config: config.tls_config.clone(),
        };
        let client = kubernetes::client(&access).await?;
        let mut follow = Follow { config, client, watches: JoinSet::new() };
        Ok(Self {
            nodes: follow.nodes(),
            pods: follow.namespaced(Role::Pod),
            services: follow.namespaced(Role::Service),
            endpoints: follow.namespaced(Role::Endpoints),
            slices: follow.namespaced(Role::EndpointSlice),
            ingresses: follow.namespaced(Role::Ingress),
            _watches: follow.watches,
        })
    }

    /// Whether each list came once.
    fn is_complete(&self) -> bool {
        self.nodes.is_complete()
            && self.pods.is_complete()
            && self.services.is_complete()
            && self.endpoints.is_complete()
            && self.slices.is_complete()
            && self.ingresses.is_complete()
    }

    fn objects(&self) -> Objects {
        Objects {
            nodes: self.nodes.objects(),
            pods: self.pods.objects(),
            services: self.services.objects(),
            endpoints: self.endpoints.objects(),
            slices: self.slices.objects(),
            ingresses: self.ingresses.objects(),
        }
    }
}

/// The objects of one kind, from each namespace looked at.
#[derive(Debug)]
struct Followed<K: Resource<DynamicType = ()> + Clone + 'static>(Vec<reflector::Store<K>>);

impl<K: Resource<DynamicType = ()> + Clone + 'static> Followed<K> {
    fn is_complete(&self) -> bool {
        self.0.iter().all(|store| matches!(store.wait_until_ready().now_or_never(), Some(Ok(()))))
    }

    /// In order of namespace and name.
    fn objects(&self) -> Vec<Arc<K>> {
        let mut objects: Vec<Arc<K>> = self.0.iter().flat_map(reflector::Store::state).collect();
        let key = |object: &K| (object.meta().namespace.clone(), object.meta().name.clone());
        objects.sort_by_cached_key(|object| key(object));
        objects
    }
}

/// Starts watches.
struct Follow<'a> {
    config: &'a KubernetesSdConfig,
    client: Client,
    watches: JoinSet<()>,
}

impl Follow<'_> {
    /// Nodes: for their own role, or for their labels.
    fn nodes(&mut self) -> Followed<Node> {
        let attached = self.config.attach_metadata.node
            && matches!(self.config.role, Role::Pod | Role::Endpoints | Role::EndpointSlice);
        if !attached && self.config.role != Role::Node {
            return Followed(Vec::new());
        }
        let api = Api::all(self.client.clone());
        Followed(vec![self.follow(Role::Node, api)])
    }

    /// Objects that live in namespaces, if the role needs them.
    fn namespaced<K>(&mut self, role: Role) -> Followed<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        if !self.config.role.watched().contains(&role) {
            return Followed(Vec::new());
        }
        let namespaces = &self.config.namespaces;
        let own = namespaces.own_namespace.then(|| self.client.default_namespace().to_owned());
        let mut names: Vec<String> = namespaces.names.iter().cloned().chain(own).collect();
        names.sort();
        names.dedup();
        let client = self.client.clone();
        let apis: Vec<Api<K>> = match names.is_empty() {
            true => vec![Api::all(client)],
            false => names.iter().map(|name| Api::namespaced(client.clone(), name)).collect(),
        };
        Followed(apis.into_iter().map(|api| self.follow(role, api)).collect())
    }

    fn follow<K>(&mut self, role: Role, api: Api<K>) -> reflector::Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store();
        let selector = self.config.selectors.iter().find(|selector| selector.role == role);
        let what = watcher::Config {
            label_selector: selector.and_then(|selector| selector.label.clone()),
            field_selector: selector.and_then(|selector| selector.field.clone()),
            ..watcher::Config::default()
        };
        let kind = K::kind(&()).into_owned();
        let events = watcher(api, what)
            .default_backoff()
            .modify(|object: &mut K| object.managed_fields_mut().clear())
            .reflect(writer);
        self.watches.spawn(events.for_each(move |event| {
            if let Err(error) = event {
                counter!("bellwether_scrape_kubernetes_errors_total", "reason" => "watch").increment(1);
                warn!(
                    kind,
                    error = &error as &dyn std::error::Error,
                    "the Kubernetes API did not answer; its last objects stay"
                );
            }
            std::future::ready(())
        }));
        store
    }
}
