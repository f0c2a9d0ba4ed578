//! Sets the weights of services in routes of Kubernetes' Gateway API.
//!
//! Only weights of the `backendRefs` that are named change; a weight of 0, by which somebody took a service out, stays. A drain
//! sets 0 as well, and an annotation of the route says which zeros are ours to take back. Each write rests on a reading and
//! names its version: when somebody else wrote in between, it is read and reckoned anew.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Routing;
use crate::config::HttpRouteConfig;

/// Annotation of a route that lists the weights we set to 0, each as `rule/service:port`, separated by commas.
pub const DRAINED: &str = "bellwether.dev/drained";

/// The weights that are 0 because we drained them, or of whose backend nothing is known and that come back from it: the rule,
/// by its name or a digest of its matches, and the service with its port. A second of the same is marked `+1`, and so on.
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
/// kept up to date. A backend of which nothing was ever known keeps the weight it has, unless it is drained or comes back.
pub fn reweigh(rules: &mut Value, zeros: &mut Zeros, route: &HttpRouteConfig, routing: &Routing) -> Vec<Change> {
    let mut changes = Vec::new();
    let (mut rule_keys, mut keys) = (Keys::default(), Keys::default());
    for rule in rules.as_array_mut().into_iter().flatten() {
        let rule_key = rule_keys.next(rule_key(rule));
        for reference in rule.get_mut("backendRefs").and_then(Value::as_array_mut).into_iter().flatten() {
            let key = keys.next(format!("{rule_key}/{}", service_key(reference)));
            changes.extend(reweigh_one(reference, key, zeros, route, routing));
        }
    }
    zeros.0.retain(|zero| keys.0.contains(zero)); // whoever adds it again says anew what it gets
    changes
}

fn reweigh_one(
    reference: &mut Value,
    key: String,
    zeros: &mut Zeros,
    route: &HttpRouteConfig,
    routing: &Routing,
) -> Option<Change> {
    let wanted = wanted(reference, zeros.0.contains(&key), route, routing)?;
    let from = reference.get("weight").map_or(Some(1), Value::as_u64).unwrap_or(0);
    if from == 0 && !zeros.0.contains(&key) {
        return None;
    }
    if wanted.to == 0 {
        zeros.0.insert(key);
    } else if !wanted.returning {
        zeros.0.remove(&key);
    }
    (from != wanted.to).then(|| {
        reference["weight"] = json!(wanted.to);
        Change { service: reference["name"].as_str().unwrap_or_default().to_owned(), from, to: wanted.to }
    })
}

/// What tells one from another where several may be alike, whatever is put in front of them.
#[derive(Default)]
struct Keys(BTreeSet<String>);

impl Keys {
    fn next(&mut self, key: String) -> String {
        let (mut free, mut more) = (key.clone(), 0);
        while !self.0.insert(free.clone()) {
            more += 1;
            free = format!("{key}+{more}");
        }
        free
    }
}

/// The name of a rule; of one without, eight digits for what it matches.
fn rule_key(rule: &Value) -> String {
    if let Some(name) = rule.get("name").and_then(Value::as_str) {
        return name.to_owned();
    }
    let digest = Sha256::digest(rule.get("matches").map(Value::to_string).unwrap_or_default());
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn service_key(reference: &Value) -> String {
    let name = reference.get("name").and_then(Value::as_str).unwrap_or_default();
    let port = reference.get("port").and_then(Value::as_u64);
    port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
}

/// The weight that a service is to have.
struct Wanted {
    to: u64,
    /// Whether it is still on its way back from a drain, which nothing but our note says.
    returning: bool,
}

fn wanted(reference: &Value, noted: bool, route: &HttpRouteConfig, routing: &Routing) -> Option<Wanted> {
    let is = |field: &str, usual: &str| reference.get(field).and_then(Value::as_str).unwrap_or(usual) == usual;
    let name = reference.get("name")?.as_str()?;
    let ours = is("kind", "Service") && is("group", "") && is("namespace", &route.namespace);
    let service = route.services.iter().find(|service| ours && service.service == name)?;
    let (share, known) = (routing.weight(&service.backend), routing.knows(&service.backend));
    if share <= 0.0 {
        return Some(Wanted { to: 0, returning: false });
    }
    let full = f64::from(service.weight.max(1));
    let to = (share * full).round().clamp(1.0, full) as u64;
    (known || noted).then_some(Wanted { to, returning: !known && share < 1.0 })
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
            if changes.is_empty() && zeros == before {
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
        let noted = zeros.annotation().expect("a zero is noted");
        let mut zeros = Zeros::read(zeros.annotation().as_deref());
        let mut back = routing();
        back.known_at.remove("b");
        reweigh(&mut rules, &mut zeros, &route(), &back);
        assert_eq!((rules, zeros.annotation()), (services(50, 0), None), "somebody else's stays");
        let mut zeros = Zeros::read(Some(&noted));
        assert!(reweigh(&mut services(50, 0), &mut zeros, &route(), &back).is_empty());
        assert_eq!(zeros, Zeros::default(), "what others took back is ours no longer");
    }

    #[test]
    fn our_own_zero_is_taken_back_step_by_step_though_nothing_was_ever_known_of_the_backend() {
        let share = |of: f64| Routing { weights: [("a".to_owned(), of)].into(), ..Routing::default() };
        let (mut rules, mut zeros) =
            (json!([{ "backendRefs": [{ "name": "blue", "weight": 100 }] }]), Zeros::default());
        for (of, weight, ours) in
            [(0.0, 0, true), (0.1, 10, true), (0.9, 90, true), (1.0, 100, false), (0.5, 100, false)]
        {
            reweigh(&mut rules, &mut zeros, &route(), &share(of));
            assert_eq!(rules[0]["backendRefs"][0]["weight"], json!(weight), "at {of}");
            assert_eq!(zeros.annotation().is_some(), ours, "at {of}");
        }
    }

    #[test]
    fn zeros_are_ours_wherever_their_rule_stands_and_one_for_each_port() {
        let drained = Routing { weights: [("a".to_owned(), 0.0)].into(), ..Routing::default() };
        let paths = |path: &str| json!([{ "path": { "value": path } }]);
        let ports = json!([{ "name": "blue", "port": 80, "weight": 100 }, { "name": "blue", "port": 81, "weight": 0 }]);
        let mut rules =
            json!([{ "matches": paths("/"), "backendRefs": ports }, { "name": "shop", "backendRefs": ports }]);
        let mut zeros = Zeros::default();
        reweigh(&mut rules, &mut zeros, &route(), &drained);
        let theirs = json!({ "matches": paths("/new"), "backendRefs": [{ "name": "blue", "port": 80, "weight": 0 }] });
        rules.as_array_mut().expect("a list").insert(0, theirs.clone());
        let mut zeros = Zeros::read(zeros.annotation().as_deref());
        reweigh(&mut rules, &mut zeros, &route(), &routing());
        assert_eq!(rules[0], theirs, "somebody else's stays");
        for rule in [&rules[1], &rules[2]] {
            assert_eq!((&rule["backendRefs"][0]["weight"], &rule["backendRefs"][1]["weight"]), (&json!(50), &json!(0)));
        }
        assert_eq!(zeros, Zeros::default());
    }

    #[test]
    fn a_zero_whose_rule_is_gone_is_ours_no_longer() {
        let drained = Routing { weights: [("a".to_owned(), 0.0)].into(), ..Routing::default() };
        let mut zeros = Zeros::default();
        let with = |weight: u64| json!([{ "name": "shop", "backendRefs": [{ "name": "blue", "weight": weight }] }]);
        reweigh(&mut with(7), &mut zeros, &route(), &drained);
        reweigh(&mut json!([]), &mut zeros, &route(), &drained);
        assert!(
            reweigh(&mut with(0), &mut zeros, &route(), &routing()).is_empty(),
            "who wrote it again wrote the zero"
        );
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
