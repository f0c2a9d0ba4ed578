//! Sets the weights of services in routes of Kubernetes' Gateway API.
//!
//! Only weights of the `backendRefs` that are named change; a weight of 0, by which somebody took a service out, stays. A drain
//! sets 0 as well, and an annotation of the route says which zeros are ours to take back. Each write rests on a reading and
//! names its version: when somebody else wrote in between, it is read and reckoned anew.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Routing;
use crate::config::HttpRouteConfig;

/// Annotation of a route that lists the weights we set to 0, each as `rule/service`, separated by commas.
pub const DRAINED: &str = "bellwether.dev/drained";

/// The weights that are 0 because we drained them: the place of the rule, and the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zeros(BTreeSet<String>);

impl Zeros {
    /// As the annotation lists them.
    #[must_use]
    pub fn read(annotation: Option<&str>) -> Self {
        let names = annotation.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
        Self(names.map(str::to_owned).collect())
    }

    /// The annotation; `None` when there are none, which takes it away.
    #[must_use]
    pub fn annotation(&self) -> Option<String> {
        let all: Vec<&str> = self.0.iter().map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join(","))
    }
}

/// A weight that is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of which service.
    pub service: String,
    /// As it is; 1 where the route says nothing.
    pub from: u64,
    /// As it shall be.
    pub to: u64,
}

/// Sets in `rules`, as the API writes them, the weights that `routing` wants, and tells what changed; `zeros` are ours, and
/// kept up to date. A backend of which nothing was ever known keeps the weight it has, unless it is drained.
pub fn reweigh(rules: &mut Value, zeros: &mut Zeros, route: &HttpRouteConfig, routing: &Routing) -> Vec<Change> {
    let mut changes = Vec::new();
    let rules = rules.as_array_mut().into_iter().flatten().enumerate();
    let refs = rules.filter_map(|(place, rule)| Some((place, rule.get_mut("backendRefs")?.as_array_mut()?)));
    for (place, reference) in refs.flat_map(|(place, refs)| refs.iter_mut().map(move |r| (place, r))) {
        let Some(to) = wanted(reference, route, routing) else { continue };
        let service = reference["name"].as_str().unwrap_or_default().to_owned();
        let from = reference.get("weight").map_or(Some(1), Value::as_u64).unwrap_or(0);
        let zero = format!("{place}/{service}");
        if from > 0 && to > 0 {
            zeros.0.remove(&zero); // somebody else took it back
        }
        if from == to || (from == 0 && !zeros.0.contains(&zero)) {
            continue;
        }
        let _ = if to == 0 { zeros.0.insert(zero) } else { zeros.0.remove(&zero) };
        reference["weight"] = json!(to);
        changes.push(Change { service, from, to });
    }
    changes
}

fn wanted(reference: &Value, route: &HttpRouteConfig, routing: &Routing) -> Option<u64> {
    let is = |field: &str, usual: &str| reference.get(field).and_then(Value::as_str).unwrap_or(usual) == usual;
    let name = reference.get("name")?.as_str()?;
    let ours = is("kind", "Service") && is("group", "") && is("namespace", &route.namespace);
    let service = route.services.iter().find(|service| ours && service.service == name)?;
    let share = routing.weight(&service.backend);
    if share <= 0.0 {
        return Some(0);
    }
    let full = f64::from(service.weight.max(1));
    routing.knows(&service.backend).then(|| (share * full).round().clamp(1.0, full) as u64)
}

#[cfg(feature = "kubernetes")]
pub use shell::{Steered, steer};

#[cfg(feature = "kubernetes")]
mod shell {
    use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
    use kube::{Client, Error, ResourceExt};
    use serde_json::json;

    use super::{Change, DRAINED, Zeros, reweigh};
    use crate::actuate::kubernetes::PAUSED;
    use crate::config::{HttpRouteConfig, Mode};
    use crate::route::Routing;

    /// How often a write is tried anew on what lies there then.
    const TRIES: usize = 4;

    /// What became of a route.
    #[derive(Debug)]
    pub enum Steered {
        /// Its weights are as wanted.
        Unchanged,
        /// Its annotations say that it is to be left alone.
        LeftAlone,
        /// So much was changed, or would be.
        Changed(Vec<Change>),
        /// Somebody else changed it each time.
        Contested,
        /// It is no longer ours to change.
        NotChosen,
    }

    /// Brings one route to the weights that `routing` wants; in another mode than `act` as a dry run.
    /// `may_act` is asked before each write, for the process may have slept since what it rests on was read.
    ///
    /// # Errors
    /// As the cluster answers.
    pub async fn steer(
        client: &Client,
        route: &HttpRouteConfig,
        routing: &Routing,
        may_act: impl Fn() -> bool,
    ) -> Result<Steered, Error> {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &route.namespace, &resource(route));
        for _ in 0..TRIES {
            let mut read = api.get(&route.name).await?;
            if read.annotations().get(PAUSED).is_some_and(|value| value == "true") {
                return Ok(Steered::LeftAlone);
            }
            let mut rules = read.data["spec"]["rules"].take();
            let mut zeros = Zeros::read(read.annotations().get(DRAINED).map(String::as_str));
            let before = zeros.clone();
            let changes = reweigh(&mut rules, &mut zeros, route, routing);
            if changes.is_empty() {
                return Ok(Steered::Unchanged);
            }
            let mut metadata = json!({ "resourceVersion": read.resource_version() });
            if zeros != before {
                metadata["annotations"] = json!({ DRAINED: zeros.annotation() });
            }
            let patch = json!({ "metadata": metadata, "spec": { "rules": rules } });
            let dry_run = route.mode != Mode::Act;
            let manager = Some("bellwether".to_owned());
            let params = PatchParams { dry_run, field_manager: manager, ..PatchParams::default() };
            if !may_act() {
                return Ok(Steered::NotChosen);
            }
            match api.patch(&route.name, &params, &Patch::Merge(patch)).await {
                Err(Error::Api(status)) if status.is_conflict() => {}
                outcome => return outcome.map(|_| Steered::Changed(changes)),
            }
        }
        Ok(Steered::Contested)
    }

    fn resource(route: &HttpRouteConfig) -> ApiResource {
        let (group, version) = route.api_version.rsplit_once('/').unwrap_or(("", &route.api_version));
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, "HTTPRoute"), "httproutes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> HttpRouteConfig {
        serde_json::from_value(json!({
            "namespace": "shop", "name": "web", "services": [
                { "service": "blue", "backend": "a" }, { "service": "green", "backend": "b", "weight": 10 },
            ]
        }))
        .expect("a route")
    }

    fn routing() -> Routing {
        let known = |name: &str| (name.to_owned(), bellwether_models::series::Timestamp::from_secs(0));
        Routing {
            weights: [("a".to_owned(), 0.501), ("b".to_owned(), 0.001)].into(),
            known_at: [known("a"), known("b")].into(),
            ..Routing::default()
        }
    }

    #[test]
    fn only_the_weights_of_named_services_change_and_none_to_nothing() {
        let mut rules = json!([
            { "matches": [{ "path": { "value": "/" } }], "backendRefs": [
                { "name": "blue", "port": 80, "weight": 100, "filters": [] },
                { "name": "green", "port": 80 },
                { "name": "canary", "port": 80, "weight": 5 },
            ] },
            { "backendRefs": [{ "name": "blue", "namespace": "elsewhere", "weight": 7 }, { "name": "blue", "kind": "Bucket" }] },
            { "filters": [{ "type": "RequestRedirect" }] },
        ]);
        let mut expected = rules.clone();
        expected[0]["backendRefs"][0]["weight"] = json!(50);
        let mut zeros = Zeros::default();
        let changes = reweigh(&mut rules, &mut zeros, &route(), &routing());
        assert_eq!(rules, expected, "green is at its least, which the route says by saying nothing");
        assert_eq!(changes, [Change { service: "blue".to_owned(), from: 100, to: 50 }]);
        assert!(reweigh(&mut rules, &mut zeros, &route(), &routing()).is_empty(), "twice is once");
        assert_eq!(zeros.annotation(), None);
    }

    #[test]
    fn what_somebody_took_out_and_what_was_never_known_is_left_as_it_is() {
        let mut rules = json!([{ "backendRefs": [{ "name": "blue", "weight": 0 }, { "name": "green", "weight": 9 }] }]);
        let before = rules.clone();
        let mut routing = routing();
        routing.known_at.remove("b");
        let mut zeros = Zeros::default();
        assert!(reweigh(&mut rules, &mut zeros, &route(), &routing).is_empty());
        assert_eq!(rules, before);
        for nonsense in [json!(null), json!([1, { "backendRefs": 3 }, { "backendRefs": [null, { "name": 4 }] }])] {
            assert!(reweigh(&mut nonsense.clone(), &mut zeros, &route(), &routing).is_empty());
        }
    }

    #[test]
    fn a_drained_service_gets_nothing_and_only_our_own_zeros_are_taken_back() {
        let services = |first: u64, second: u64| {
            let rule = |weight: u64| json!({ "backendRefs": [{ "name": "blue", "weight": weight }, { "name": "green", "weight": 9 }] });
            json!([rule(first), rule(second)])
        };
        let drained = Routing { weights: [("a".to_owned(), 0.0)].into(), ..Routing::default() };
        let (mut rules, mut zeros) = (services(100, 0), Zeros::default());
        reweigh(&mut rules, &mut zeros, &route(), &drained);
        assert_eq!(rules, services(0, 0), "though nothing was ever known of it");
        assert_eq!(zeros.annotation().as_deref(), Some("0/blue"));
        let mut zeros = Zeros::read(zeros.annotation().as_deref());
        let mut back = routing();
        back.known_at.remove("b");
        reweigh(&mut rules, &mut zeros, &route(), &back);
        assert_eq!((rules, zeros.annotation()), (services(50, 0), None), "somebody else's stays");
        let mut zeros = Zeros::read(Some("0/blue"));
        assert!(reweigh(&mut services(50, 0), &mut zeros, &route(), &back).is_empty());
        assert_eq!(zeros, Zeros::default(), "what others took back is ours no longer");
    }

    #[cfg(feature = "kubernetes")]
    #[tokio::test]
    async fn nothing_is_written_again_once_another_was_chosen() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

        use axum::response::IntoResponse;

        let writes = Arc::new(AtomicU32::new(0));
        let counted = writes.clone();
        let contested = move |request: axum::http::Request<kube::client::Body>| {
            let answer = if request.method() == "GET" {
                let rules = json!([{ "backendRefs": [{ "name": "blue", "weight": 100 }] }]);
                axum::Json(json!({ "metadata": { "name": "web" }, "spec": { "rules": rules } })).into_response()
            } else {
                counted.fetch_add(1, SeqCst);
                let conflict = json!({ "status": "Failure", "reason": "Conflict", "message": "changed", "code": 409 });
                (axum::http::StatusCode::CONFLICT, axum::Json(conflict)).into_response()
            };
            async { Ok::<_, std::convert::Infallible>(answer) }
        };
        let client = kube::Client::new(tower::service_fn(contested), "shop");
        let outcome = steer(&client, &route(), &routing(), || writes.load(SeqCst) < 2).await;
        assert!(matches!(outcome, Ok(Steered::NotChosen)), "{outcome:?}");
        assert_eq!(writes.load(SeqCst), 2);
    }
}
