//! Objects that carry annotations of ours, and what is told beside them.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::{Client, Error, ResourceExt};

/// Objects in one answer of the API.
const PAGE: u32 = 500;
/// Kinds that are looked at, all of the API `apps/v1`.
const KINDS: [&str; 2] = ["Deployment", "StatefulSet"];

/// An object with at least one annotation under the prefix that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotated {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The annotations under that prefix, without it.
    pub annotations: BTreeMap<String, String>,
}

impl fmt::Display for Annotated {
    /// `Deployment shop/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Finds annotated objects of a cluster.
#[derive(Clone)]
pub struct Annotations {
    client: Client,
    namespaces: Vec<String>,
    prefix: &'static str,
}

impl Annotations {
    /// Those whose names begin with `prefix`, in `namespaces`; none named means all there are.
    #[must_use]
    pub fn new(client: Client, namespaces: Vec<String>, prefix: &'static str) -> Self {
        Self { client, namespaces, prefix }
    }

    /// Every Deployment and StatefulSet that has some, in order.
    ///
    /// # Errors
    /// When one of the lists cannot be had: part of a cluster is never taken for all of it.
    pub async fn found(&self) -> Result<Vec<Annotated>, Error> {
        let mut found = Vec::new();
        for kind in KINDS {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
            let within = |namespace: &String| Api::namespaced_with(self.client.clone(), namespace, &resource);
            let apis: Vec<Api<DynamicObject>> = match self.namespaces.as_slice() {
                [] => vec![Api::all_with(self.client.clone(), &resource)],
                some => some.iter().map(within).collect(),
            };
            for api in apis {
                self.list(&api, kind, &mut found).await?;
            }
        }
        found.sort_by(|a, b| (&a.namespace, &a.name, &a.kind).cmp(&(&b.namespace, &b.name, &b.kind)));
        Ok(found)
    }

    async fn list(&self, api: &Api<DynamicObject>, kind: &str, into: &mut Vec<Annotated>) -> Result<(), Error> {
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let listed = api.list_metadata(&page).await?;
            for object in &listed.items {
                let ours =
                    |(key, value): (&String, &String)| Some((key.strip_prefix(self.prefix)?.to_owned(), value.clone()));
                let annotations: BTreeMap<_, _> = object.annotations().iter().filter_map(ours).collect();
                if !annotations.is_empty() {
                    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                    into.push(Annotated { kind: kind.to_owned(), namespace, name, annotations });
                }
            }
            match listed.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => page = page.continue_token(&next),
                None => return Ok(()),
            }
        }
    }

    /// Writes a warning beside `object`, where those look who wrote its annotations.
    ///
    /// # Errors
    /// When the API does not take it.
    pub async fn warn(&self, object: &Annotated, reason: &str, message: &str) -> Result<(), Error> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &object.namespace);
        events.create(&PostParams::default(), &warning(object, reason, message)).await.map(drop)
    }
}

fn warning(object: &Annotated, reason: &str, message: &str) -> Event {
    let now = Some(Time(jiff::Timestamp::now()));
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}.", object.name)),
            namespace: Some(object.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some(object.kind.clone()),
            name: Some(object.name.clone()),
            namespace: Some(object.namespace.clone()),
            ..ObjectReference::default()
        },
        reason: Some(reason.to_owned()),
        message: Some(message.chars().take(1024).collect()),
        type_: Some("Warning".to_owned()),
        source: Some(EventSource { component: Some("bellwether".to_owned()), host: None }),
        count: Some(1),
        first_timestamp: now.clone(),
        last_timestamp: now,
        ..Event::default()
    }
}
