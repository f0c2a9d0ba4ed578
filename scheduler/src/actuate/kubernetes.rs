//! Sets the replicas of an object of Kubernetes through its scale subresource.
//!
//! Each write rests on a reading: the version that was read goes with it, and when somebody else wrote in between nothing is
//! written. An object that belongs to a Horizontal Pod Autoscaler or to KEDA is left alone, as is one whose annotations say so.

mod election;

use std::sync::Arc;

use async_trait::async_trait;
use bellwether_models::series::Timestamp;
use k8s_openapi::api::autoscaling::v1::{HorizontalPodAutoscaler, Scale};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Error, ResourceExt};
use serde_json::json;
use tracing::debug;

pub use election::Election;

use super::{ActError, Actuator, Applied, Effect};
use crate::config::KubernetesConfig;
use crate::plan::Decision;

/// An annotation of the object that stops us: `"true"`.
pub const PAUSED: &str = "bellwether.dev/paused";
/// How often a write is tried anew on what lies there then.
const TRIES: usize = 3;
/// As whom we write.
const MANAGER: &str = "bellwether";

/// See the module.
pub struct Kubernetes {
    client: Client,
    config: KubernetesConfig,
    api: Api<DynamicObject>,
    election: Option<Arc<Election>>,
}

impl Kubernetes {
    /// An actuator for the object that `config` names.
    #[must_use]
    pub fn new(client: Client, config: KubernetesConfig) -> Self {
        let api = Api::namespaced_with(client.clone(), &config.namespace, &resource(&config));
        Self { client, config, api, election: None }
    }

    /// The same, which writes only while `election` is won: asked again after what a write rests on was read, for the process
    /// may have slept since it was asked before.
    #[must_use]
    pub fn chosen_by(self, election: Option<Arc<Election>>) -> Self {
        Self { election, ..self }
    }

    /// Why this object is not ours to scale, if it is not.
    async fn owner(&self) -> Result<Option<String>, Error> {
        let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &self.config.namespace);
        for autoscaler in autoscalers.list(&ListParams::default()).await? {
            let target = autoscaler.spec.as_ref().map(|spec| &spec.scale_target_ref);
            if target.is_some_and(|t| t.kind == self.config.kind && t.name == self.config.name) {
                return Ok(Some(format!("the HorizontalPodAutoscaler {}", autoscaler.name_any())));
            }
        }
        self.scaled_object().await
    }

    /// The ScaledObject of KEDA that owns it, where the cluster knows such objects.
    async fn scaled_object(&self) -> Result<Option<String>, Error> {
        let kind = GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject");
        let resource = ApiResource::from_gvk_with_plural(&kind, "scaledobjects");
        let objects: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.config.namespace, &resource);
        let listed = match objects.list(&ListParams::default()).await {
            Err(error) if is_missing(&error) => return Ok(None),
            listed => listed?,
        };
        let owns = |object: &DynamicObject| {
            let target = &object.data["spec"]["scaleTargetRef"];
            let kind = target["kind"].as_str().unwrap_or("Deployment");
            kind == self.config.kind && target["name"] == self.config.name.as_str()
        };
        Ok(listed.iter().find(|object| owns(object)).map(|object| format!("the ScaledObject {}", object.name_any())))
    }

    async fn set(&self, decision: &Decision, to: u32, effect: Effect) -> Result<Applied, ActError> {
        let failed = |error| self.failed(&decision.workload, error);
        let object = self.api.get_metadata(&self.config.name).await.map_err(failed)?;
        if object.annotations().get(PAUSED).is_some_and(|value| value == "true") {
            return Err(self.left_alone(decision, format!("its annotation {PAUSED} says so")));
        }
        if let Some(owner) = self.owner().await.map_err(failed)? {
            return Err(self.left_alone(decision, format!("{owner} scales it")));
        }
        let before = self.api.get_scale(&self.config.name).await.map_err(failed)?;
        let mut read = before.clone();
        for _ in 1..TRIES {
            if self.election.as_ref().is_some_and(|election| election.fence().is_none()) {
                return Err(ActError::NotChosen {
                    workload: decision.workload.clone(),
                    object: self.config.to_string(),
                });
            }
            match self.write(&read, to, effect).await {
                Err(Error::Api(status)) if status.is_conflict() => {}
                outcome => return outcome.map_err(failed).map(|written| self.applied(decision, written, effect)),
            }
            // A status that changed is no reason to give up; replicas that somebody else set are.
            read = self.api.get_scale(&self.config.name).await.map_err(failed)?;
            if asked_for(&read) != asked_for(&before) {
                break;
            }
        }
        Err(ActError::Contested { workload: decision.workload.clone(), object: self.config.to_string() })
    }

    /// `false` when it stood there already.
    async fn write(&self, read: &Scale, to: u32, effect: Effect) -> Result<bool, Error> {
        if asked_for(read) == Some(to) {
            return Ok(false);
        }
        let params = PatchParams { dry_run: effect == Effect::DryRun, ..PatchParams::apply(MANAGER) };
        let params = PatchParams { force: false, field_manager: Some(MANAGER.to_owned()), ..params };
        let patch =
            json!({ "metadata": { "resourceVersion": read.metadata.resource_version }, "spec": { "replicas": to } });
        self.api.patch_scale(&self.config.name, &params, &Patch::Merge(patch)).await.map(|_| true)
    }

    fn applied(&self, decision: &Decision, written: bool, effect: Effect) -> Applied {
        if effect == Effect::DryRun {
            return Applied::WouldApply;
        }
        if written {
            let (client, event) = (self.client.clone(), self.event(decision));
            let namespace = self.config.namespace.clone();
            // What people read beside the object. Without it the change stands all the same.
            tokio::spawn(async move {
                let events: Api<Event> = Api::namespaced(client, &namespace);
                if let Err(error) = events.create(&PostParams::default(), &event).await {
                    debug!(%error, "no event of a change could be written");
                }
            });
        }
        Applied::Accepted
    }

    fn event(&self, decision: &Decision) -> Event {
        let KubernetesConfig { namespace, name, api_version, kind, .. } = &self.config;
        let at = jiff::Timestamp::from_millisecond(decision.at.as_millis()).ok().map(Time);
        let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
        let count = |n: Option<u32>| n.map_or("?".to_owned(), |n| n.to_string());
        let message =
            format!("from {} to {} replicas: {}", count(decision.from), count(decision.to), reasons.join("; "));
        Event {
            metadata: ObjectMeta {
                // The same decision makes the same event.
                name: Some(format!("{name}.{:x}", decision.at.as_millis())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(api_version.clone()),
                kind: Some(kind.clone()),
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                ..ObjectReference::default()
            },
            reason: Some("ScaledAheadOfDemand".to_owned()),
            message: Some(message.chars().take(1024).collect()),
            type_: Some("Normal".to_owned()),
            source: Some(EventSource { component: Some(MANAGER.to_owned()), host: None }),
            count: Some(1),
            first_timestamp: at.clone(),
            last_timestamp: at,
            ..Event::default()
        }
    }

    fn left_alone(&self, decision: &Decision, why: String) -> ActError {
        ActError::LeftAlone { workload: decision.workload.clone(), object: self.config.to_string(), why }
    }

    fn failed(&self, workload: &str, error: Error) -> ActError {
        let (workload, object) = (workload.to_owned(), self.config.to_string());
        match &error {
            error if is_missing(error) => ActError::Missing { workload, object },
            Error::Api(status) if status.is_forbidden() => {
                ActError::NotPermitted { workload, object, why: status.message.clone() }
            }
            _ => ActError::Cluster { workload, object, source: Box::new(error) },
        }
    }
}

/// Of a kind of objects it does not know a server says so in plain text, which has no reason to go by.
fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.is_not_found() || status.code == 404)
}

#[async_trait]
impl Actuator for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    async fn observe(&self, workload: &str) -> Result<Option<u32>, ActError> {
        let scale = self.api.get_scale(&self.config.name).await.map_err(|error| self.failed(workload, error))?;
        Ok(asked_for(&scale))
    }

    async fn apply(&self, decision: &Decision, effect: Effect, _: Timestamp) -> Result<Applied, ActError> {
        match decision.to {
            Some(to) => self.set(decision, to, effect).await,
            None => Ok(Applied::Recorded),
        }
    }
}

/// Replicas that the object asks for.
fn asked_for(scale: &Scale) -> Option<u32> {
    u32::try_from(scale.spec.as_ref()?.replicas.unwrap_or(0)).ok()
}

fn resource(config: &KubernetesConfig) -> ApiResource {
    let (group, version) = config.api_version.rsplit_once('/').unwrap_or(("", &config.api_version));
    let kind = GroupVersionKind::gvk(group, version, &config.kind);
    match &config.plural {
        Some(plural) => ApiResource::from_gvk_with_plural(&kind, plural),
        None => ApiResource::from_gvk(&kind),
    }
}
