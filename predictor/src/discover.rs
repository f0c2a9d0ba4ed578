//! Who calls whom, as service meshes, proxies and tracers tell in their metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use bellwether_collector::query::{Engine, Value};
use bellwether_models::series::{Labels, Timestamp};
use metrics::{counter, gauge};
use tracing::debug;

use crate::read;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// A call that was not seen for so long is no call any more.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Most calls that are kept.
const MOST_CALLS: usize = 10_000;
/// Values that stand for nobody in particular.
const NOBODY: [&str; 4] = ["", "unknown", "user", "PassthroughCluster"];

/// A metric that counts calls, with the labels that name both ends. An empty caller is the service label's.
struct Source {
    metric: &'static str,
    caller: &'static str,
    callee: &'static str,
}

/// Names of metrics and labels are those of the projects' documentation: Istio standard metrics; Tempo and the
/// OpenTelemetry Collector's service graph; Linkerd proxy metrics; Envoy cluster statistics; OpenTelemetry semantic
/// conventions for HTTP and RPC clients.
const SOURCES: [Source; 7] = [
    Source { metric: "istio_requests_total", caller: "source_workload", callee: "destination_workload" },
    Source { metric: "istio_tcp_connections_opened_total", caller: "source_workload", callee: "destination_workload" },
    Source { metric: "traces_service_graph_request_total", caller: "client", callee: "server" },
    Source { metric: "response_total", caller: "deployment", callee: "dst_deployment" },
    Source { metric: "envoy_cluster_upstream_rq_total", caller: "", callee: "envoy_cluster_name" },
    Source { metric: "http_client_request_duration_seconds_count", caller: "", callee: "server_address" },
    Source { metric: "rpc_client_duration_milliseconds_count", caller: "", callee: "server_address" },
];

/// Calls seen in metrics, each with when it was last seen.
#[derive(Clone, Debug, Default)]
pub struct Discovered {
    calls: BTreeMap<(String, String), Timestamp>,
    looked_at: Option<Timestamp>,
}

impl Discovered {
    /// Looks again when it is time to; says whether the calls have changed. `service_label` names the service of a
    /// series whose metric does not name the caller itself.
    pub async fn refresh(&mut self, now: Timestamp, service_label: &str, engine: &Engine) -> bool {
        if self.looked_at.is_some_and(|at| at <= now && now.since(at) < LOOK_EVERY) {
            return false;
        }
        self.looked_at = Some(now);
        let mut seen = Vec::new();
        for source in &SOURCES {
            seen.extend(source.look(now, service_label, engine).await);
        }
        self.take_in(now, seen)
    }

    /// Every call, as `(caller, callee)`.
    pub fn calls(&self) -> impl Iterator<Item = (&str, &str)> {
        self.calls.keys().map(|(caller, callee)| (caller.as_str(), callee.as_str()))
    }

    fn take_in(&mut self, now: Timestamp, seen: Vec<(String, String)>) -> bool {
        let before = self.calls.len();
        let mut new = 0;
        for call in seen {
            let room = self.calls.len() < MOST_CALLS || self.calls.contains_key(&call);
            new += usize::from(room && self.calls.insert(call, now).is_none());
        }
        self.calls.retain(|_, last| now.since(*last) < FORGET_AFTER);
        gauge!("bellwether_predictor_calls_discovered").set(self.calls.len() as f64);
        new > 0 || self.calls.len() != before
    }
}

impl Source {
    async fn look(&self, now: Timestamp, service_label: &str, engine: &Engine) -> Vec<(String, String)> {
        let caller = if self.caller.is_empty() { service_label } else { self.caller };
        let query = format!("group by ({caller}, {}) (increase({}[10m]) > 0)", self.callee, self.metric);
        match engine.instant(&query, now).await {
            Ok(Value::Vector(found)) => found.iter().filter_map(|one| call(&one.labels, caller, self.callee)).collect(),
            Ok(_) => Vec::new(),
            Err(error) => {
                counter!("bellwether_predictor_call_read_failures_total").increment(1);
                debug!(query, error = %read::chain(&error), "could not look for calls; they are looked for again");
                Vec::new()
            }
        }
    }
}

/// The call that a series tells of; none where an end is nobody in particular, or both are the same.
fn call(labels: &Labels, caller: &str, callee: &str) -> Option<(String, String)> {
    let (caller, callee) = (service(labels.get(caller)?), service(labels.get(callee)?));
    let known = |name: &str| !NOBODY.contains(&name);
    (known(caller) && known(callee) && caller != callee).then(|| (caller.to_owned(), callee.to_owned()))
}

/// The service behind the name of a cluster or host: the first label of its DNS name. Envoy under Istio writes
/// `outbound|80||cart.shop.svc.cluster.local`. An address of numbers stays whole.
fn service(name: &str) -> &str {
    let host = name.rsplit('|').next().unwrap_or(name);
    if host.parse::<std::net::IpAddr>().is_ok() { host } else { host.split('.').next().unwrap_or(host) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_clusters_and_hosts_become_services() {
        let names = ["outbound|80||cart.shop.svc.cluster.local", "cart.shop", "cart", "10.0.0.7"];
        assert_eq!(names.map(service), ["cart", "cart", "cart", "10.0.0.7"]);
    }

    #[test]
    fn a_call_needs_two_ends_that_are_somebody() {
        let told = |from: &str, to: &str| call(&Labels::new([("client", from), ("server", to)]), "client", "server");
        assert_eq!(told("web", "cart"), Some(("web".to_owned(), "cart".to_owned())));
        assert_eq!([told("user", "web"), told("web", "unknown"), told("web", "web")], [None, None, None]);
        assert_eq!(call(&Labels::metric("x"), "client", "server"), None);
    }

    #[test]
    fn a_call_is_remembered_for_a_day() {
        let mut discovered = Discovered::default();
        let at = |hours: i64| Timestamp::from_secs(hours * 3600);
        let seen = || vec![("web".to_owned(), "cart".to_owned())];
        assert!(discovered.take_in(at(0), seen()));
        assert!(!discovered.take_in(at(1), seen()));
        assert!(!discovered.take_in(at(24), Vec::new()), "seen 23 hours ago");
        assert!(discovered.take_in(at(25), Vec::new()));
        assert_eq!(discovered.calls().count(), 0);
    }
}
