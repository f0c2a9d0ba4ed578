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

/// A metric that tells of calls, with the labels that name both ends. An empty caller is the service label's.
struct Source {
    metric: &'static str,
    caller: &'static str,
    callee: &'static str,
    tells: Tells,
}

/// How a metric tells that there is such a call.
#[derive(Clone, Copy)]
enum Tells {
    /// It counts them.
    ByRising,
    /// It is there.
    ByBeing,
}

const fn counts(metric: &'static str, caller: &'static str, callee: &'static str) -> Source {
    Source { metric, caller, callee, tells: Tells::ByRising }
}

/// A service stands on its host as it stands on what it calls: the host's trouble is the service's.
const fn stands_on(callee: &'static str) -> Source {
    Source { metric: "target_info", caller: "job", callee, tells: Tells::ByBeing }
}

/// Names of metrics and labels are those of the projects' documentation: Istio standard metrics; Tempo and the
/// OpenTelemetry Collector's service graph; Linkerd proxy metrics; Envoy cluster statistics; OpenTelemetry semantic
/// conventions for HTTP and RPC clients, whose caller is the resource's `service.name` (`job`), and for resources, whose
/// attributes are the labels of `target_info`.
const SOURCES: [Source; 11] = [
    counts("istio_requests_total", "source_workload", "destination_workload"),
    counts("istio_tcp_connections_opened_total", "source_workload", "destination_workload"),
    counts("traces_service_graph_request_total", "client", "server"),
    counts("response_total", "deployment", "dst_deployment"),
    counts("envoy_cluster_upstream_rq_total", "", "envoy_cluster_name"),
    counts("http_client_request_duration_seconds_count", "", "server_address"),
    counts("http_client_request_duration_seconds_count", "job", "server_address"),
    counts("rpc_client_duration_milliseconds_count", "", "server_address"),
    counts("rpc_client_duration_milliseconds_count", "job", "server_address"),
    stands_on("k8s_node_name"),
    stands_on("host_name"),
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
        let metric = match self.tells {
            Tells::ByRising => format!("increase({}[10m]) > 0", self.metric),
            Tells::ByBeing => format!("last_over_time({}[10m])", self.metric),
        };
        let query = format!("group by ({caller}, {}) ({metric})", self.callee);
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

/// The service behind the name of a cluster, host or job: the first label of its DNS name, without the namespace that
/// OpenTelemetry puts before it. Envoy under Istio writes `outbound|80||cart.shop.svc.cluster.local`. An address of numbers
/// stays whole.
fn service(name: &str) -> &str {
    let host = name.rsplit(['|', '/']).next().unwrap_or(name);
    if host.parse::<std::net::IpAddr>().is_ok() { host } else { host.split('.').next().unwrap_or(host) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bellwether_collector::query::EngineConfig;
    use bellwether_collector::store::memory::MemoryStore;
    use bellwether_collector::store::{SeriesSamples, Store};
    use bellwether_models::series::Sample;

    use super::*;

    #[tokio::test]
    async fn callers_and_hosts_are_read_from_what_opentelemetry_says_of_a_resource() {
        let now = Timestamp::from_secs(1_700_000_000);
        let series = |labels: Labels, values: [f64; 2]| SeriesSamples {
            labels,
            samples: [(60, values[0]), (30, values[1])]
                .map(|(ago, value)| Sample { at: now - Duration::from_secs(ago), value })
                .into(),
        };
        let metric = |name: &str| Labels::metric(name).with("job", "shop/web").with("instance", "pod-1");
        let calls = |to: &str| metric("http_client_request_duration_seconds_count").with("server_address", to);
        let store = Arc::new(MemoryStore::default());
        let all = vec![
            series(metric("target_info").with("host_name", "n7.example.org").with("k8s_node_name", "n7"), [1.0, 1.0]),
            series(calls("cart.shop.svc"), [3.0, 9.0]),
            series(calls("idle"), [3.0, 3.0]),
        ];
        store.append(all).await.unwrap();
        let engine = Engine::new(store, EngineConfig::default());
        let mut discovered = Discovered::default();
        assert!(discovered.refresh(now, "service", &engine).await);
        assert_eq!(discovered.calls().collect::<Vec<_>>(), [("web", "cart"), ("web", "n7")]);
    }

    #[test]
    fn names_of_clusters_and_hosts_become_services() {
        let names = ["outbound|80||cart.shop.svc.cluster.local", "cart.shop", "shop/cart", "cart", "10.0.0.7"];
        assert_eq!(names.map(service), ["cart", "cart", "cart", "cart", "10.0.0.7"]);
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
