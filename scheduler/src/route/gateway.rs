//! Sets the weights of services in routes of Kubernetes' Gateway API.
//!
//! Only weights of the `backendRefs` that are named change; a weight of 0, by which somebody took a service out, stays. Each
//! write rests on a reading and names its version: when somebody else wrote in between, it is read and reckoned anew.

use serde_json::{Value, json};

use super::Routing;
use crate::config::HttpRouteConfig;

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

/// Sets in `rules`, as the API writes them, the weights that `routing` wants, and tells what changed. A backend of which
/// nothing was ever known keeps the weight it has.
pub fn reweigh(rules: &mut Value, route: &HttpRouteConfig, routing: &Routing) -> Vec<Change> {
    let mut changes = Vec::new();
    let rules = rules.as_array_mut().into_iter().flatten();
    let refs = rules.filter_map(|rule| rule.get_mut("backendRefs")?.as_array_mut()).flatten();
    for reference in refs {
        let Some(to) = wanted(reference, route, routing) else { continue };
        let from = reference.get("weight").map_or(Some(1), Value::as_u64).unwrap_or(0);
        if from != 0 && from != to {
            reference["weight"] = json!(to);
            changes.push(Change { service: reference["name"].as_str().unwrap_or_default().to_owned(), from, to });
        }
    }
    changes
}

fn wanted(reference: &Value, route: &HttpRouteConfig, routing: &Routing) -> Option<u64> {
    let is = |field: &str, usual: &str| reference.get(field).and_then(Value::as_str).unwrap_or(usual) == usual;
    let name = reference.get("name")?.as_str()?;
    let ours = is("kind", "Service") && is("group", "") && is("namespace", &route.namespace);
    let service = route.services.iter().find(|service| ours && service.service == name)?;
    if !routing.knows(&service.backend) {
        return None;
    }
    let full = f64::from(service.weight.max(1));
    Some((routing.weight(&service.backend) * full).round().clamp(1.0, full) as u64)
}

#[cfg(feature = "kubernetes")]
pub use shell::{Steered, steer};

#[cfg(feature = "kubernetes")]
mod shell {
    use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
    use kube::{Client, Error, ResourceExt};
    use serde_json::json;

    use super::{Change, reweigh};
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
            let changes = reweigh(&mut rules, route, routing);
            if changes.is_empty() {
                return Ok(Steered::Unchanged);
            }
            let patch =
                json!({ "metadata": { "resourceVersion": read.resource_version() }, "spec": { "rules": rules } });
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
        let changes = reweigh(&mut rules, &route(), &routing());
        assert_eq!(rules, expected, "green is at its least, which the route says by saying nothing");
        assert_eq!(changes, [Change { service: "blue".to_owned(), from: 100, to: 50 }]);
        assert!(reweigh(&mut rules, &route(), &routing()).is_empty(), "twice is once");
    }

    #[test]
    fn what_somebody_took_out_and_what_was_never_known_is_left_as_it_is() {
        let mut rules = json!([{ "backendRefs": [{ "name": "blue", "weight": 0 }, { "name": "green", "weight": 9 }] }]);
        let before = rules.clone();
        let mut routing = routing();
        routing.known_at.remove("b");
        assert!(reweigh(&mut rules, &route(), &routing).is_empty());
        assert_eq!(rules, before);
        for nonsense in [json!(null), json!([1, { "backendRefs": 3 }, { "backendRefs": [null, { "name": 4 }] }])] {
            assert!(reweigh(&mut nonsense.clone(), &route(), &routing).is_empty());
        }
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
