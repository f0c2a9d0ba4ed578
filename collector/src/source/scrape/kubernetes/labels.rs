//! Kubernetes objects into targets with the labels that Prometheus gives them: pure.
//!
//! Source: the section `kubernetes_sd_config` of Prometheus' configuration reference.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EndpointAddress, EndpointPort, Endpoints, Node, ObjectReference, Pod, Service,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort as SlicePort, EndpointSlice};
use k8s_openapi::api::networking::v1::{Ingress, IngressRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::config::Role;
use crate::source::scrape::config::TargetGroup;

const PREFIX: &str = "__meta_kubernetes_";

/// Under which label a slice names its service.
const SERVICE_OF_SLICE: &str = "kubernetes.io/service-name";

/// The objects of a cluster as last seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    pub nodes: Vec<Arc<Node>>,
    pub pods: Vec<Arc<Pod>>,
    pub services: Vec<Arc<Service>>,
    pub endpoints: Vec<Arc<Endpoints>>,
    pub slices: Vec<Arc<EndpointSlice>>,
    pub ingresses: Vec<Arc<Ingress>>,
}

type Pairs = BTreeMap<String, String>;

/// The targets of a role, each with its labels. Node labels are added where there are nodes and the role is another.
pub(super) fn groups(role: Role, objects: &Objects) -> Vec<TargetGroup> {
    let nodes: HashMap<&str, &Node> =
        objects.nodes.iter().filter_map(|node| Some((node.metadata.name.as_deref()?, &**node))).collect();
    let related = Related { nodes, pods: by_name(&objects.pods), services: by_name(&objects.services) };
    match role {
        Role::Node => objects.nodes.iter().filter_map(|node| of_node(node)).collect(),
        Role::Pod => objects.pods.iter().flat_map(|pod| of_pod(pod, &related)).collect(),
        Role::Service => objects.services.iter().flat_map(|service| of_service(service)).collect(),
        Role::Endpoints => objects.endpoints.iter().flat_map(|endpoints| of_endpoints(endpoints, &related)).collect(),
        Role::EndpointSlice => objects.slices.iter().flat_map(|slice| of_slice(slice, &related)).collect(),
        Role::Ingress => objects.ingresses.iter().flat_map(|ingress| of_ingress(ingress)).collect(),
    }
}

/// Objects that others refer to, by namespace and name.
struct Related<'a> {
    nodes: HashMap<&'a str, &'a Node>,
    pods: HashMap<(&'a str, &'a str), &'a Pod>,
    services: HashMap<(&'a str, &'a str), &'a Service>,
}

fn by_name<K: kube::Resource>(objects: &[Arc<K>]) -> HashMap<(&str, &str), &K> {
    objects.iter().filter_map(|object| Some((name_of(object.meta())?, &**object))).collect()
}

fn name_of(meta: &ObjectMeta) -> Option<(&str, &str)> {
    Some((meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref()?))
}

fn target(address: String, labels: Pairs) -> TargetGroup {
    TargetGroup { targets: vec![address], labels }
}

fn put(labels: &mut Pairs, name: &str, value: impl ToString) {
    labels.insert(format!("{PREFIX}{name}"), value.to_string());
}

fn put_some(labels: &mut Pairs, name: &str, value: Option<impl ToString>) {
    if let Some(value) = value {
        put(labels, name, value);
    }
}

/// Host and port, an IPv6 address in brackets.
fn host_port(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What may stand in a label's name.
fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// The name, labels and annotations of an object of a kind.
fn put_meta(labels: &mut Pairs, kind: &str, meta: &ObjectMeta) {
    put_some(labels, &format!("{kind}_name"), meta.name.as_ref());
    for (what, pairs) in [("label", &meta.labels), ("annotation", &meta.annotations)] {
        for (name, value) in pairs.iter().flatten() {
            let name = sanitized(name);
            put(labels, &format!("{kind}_{what}_{name}"), value);
            put(labels, &format!("{kind}_{what}present_{name}"), true);
        }
    }
}

fn with_namespace(meta: &ObjectMeta) -> Pairs {
    let mut labels = Pairs::new();
    put_some(&mut labels, "namespace", meta.namespace.as_ref());
    labels
}

/// Kinds of a node's addresses, the one to scrape first.
const ADDRESS_KINDS: [&str; 6] = ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];

fn of_node(node: &Node) -> Option<TargetGroup> {
    let status = node.status.as_ref()?;
    let mut addresses: BTreeMap<&str, &str> = BTreeMap::new();
    for address in status.addresses.iter().flatten() {
        addresses.entry(&address.type_).or_insert(&address.address);
    }
    let address = ADDRESS_KINDS.iter().find_map(|kind| addresses.get(kind))?;
    let port = status.daemon_endpoints.as_ref().and_then(|daemons| Some(daemons.kubelet_endpoint.as_ref()?.port));
    let mut labels = node_labels(node);
    put_some(&mut labels, "node_provider_id", node.spec.as_ref().and_then(|spec| spec.provider_id.as_ref()));
    for (kind, address) in &addresses {
        put(&mut labels, &format!("node_address_{}", sanitized(kind)), address);
    }
    labels.insert("instance".to_owned(), node.metadata.name.clone().unwrap_or_default());
    Some(target(host_port(address, port.unwrap_or(0)), labels))
}

fn node_labels(node: &Node) -> Pairs {
    let mut labels = Pairs::new();
    put_meta(&mut labels, "node", &node.metadata);
    labels
}

impl Related<'_> {
    /// Adds the labels of a node, where nodes are known.
    fn put_node(&self, labels: &mut Pairs, name: Option<&str>) {
        if let Some(node) = name.and_then(|name| self.nodes.get(name)) {
            labels.extend(node_labels(node));
        }
    }

    fn pod(&self, reference: Option<&ObjectReference>) -> Option<&Pod> {
        let reference = reference.filter(|reference| reference.kind.as_deref() == Some("Pod"))?;
        let key = (reference.namespace.as_deref().unwrap_or(""), reference.name.as_deref()?);
        self.pods.get(&key).copied()
    }

    /// The name of the node that an address refers to.
    fn node_of<'a>(reference: Option<&'a ObjectReference>, node: Option<&'a String>) -> Option<&'a str> {
        match reference.filter(|reference| reference.kind.as_deref() == Some("Node")) {
            Some(reference) => reference.name.as_deref(),
            None => node.map(String::as_str),
        }
    }
}

fn of_pod(pod: &Pod, related: &Related<'_>) -> Vec<TargetGroup> {
    let Some(ip) = pod_ip(pod) else { return Vec::new() };
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut base = with_namespace(&pod.metadata);
    base.extend(pod_labels(pod));
    related.put_node(&mut base, spec.node_name.as_deref());
    let init = spec.init_containers.iter().flatten().map(|container| (container, true));
    let containers = spec.containers.iter().map(|container| (container, false)).chain(init);
    containers.flat_map(|(container, init)| of_container(pod, ip, container, init, &base)).collect()
}

fn of_container(pod: &Pod, ip: &str, container: &Container, init: bool, base: &Pairs) -> Vec<TargetGroup> {
    let mut labels = base.clone();
    put_container(&mut labels, container);
    put(&mut labels, "pod_container_init", init);
    put_some(&mut labels, "pod_container_id", container_id(pod, container, init));
    let ports = container.ports.as_deref().unwrap_or_default();
    if ports.is_empty() {
        return vec![target(ip.to_owned(), labels)];
    }
    let of_port = |port: &ContainerPort| {
        let mut labels = labels.clone();
        put_port(&mut labels, port);
        target(host_port(ip, port.container_port), labels)
    };
    ports.iter().map(of_port).collect()
}

fn put_container(labels: &mut Pairs, container: &Container) {
    put(labels, "pod_container_name", &container.name);
    put_some(labels, "pod_container_image", container.image.as_ref());
}

fn put_port(labels: &mut Pairs, port: &ContainerPort) {
    put(labels, "pod_container_port_number", port.container_port);
    put_some(labels, "pod_container_port_name", port.name.as_ref());
    put_some(labels, "pod_container_port_protocol", port.protocol.as_ref());
}

fn container_id<'a>(pod: &'a Pod, container: &Container, init: bool) -> Option<&'a String> {
    let status = pod.status.as_ref()?;
    let all = if init { &status.init_container_statuses } else { &status.container_statuses };
    all.iter().flatten().find(|status| status.name == container.name)?.container_id.as_ref()
}

/// A pod that starts or was evicted has none.
fn pod_ip(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref().filter(|ip| !ip.is_empty())
}

fn pod_labels(pod: &Pod) -> Pairs {
    let mut labels = Pairs::new();
    put_meta(&mut labels, "pod", &pod.metadata);
    put_some(&mut labels, "pod_uid", pod.metadata.uid.as_ref());
    put_some(&mut labels, "pod_node_name", pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()));
    let controller = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    put_some(&mut labels, "pod_controller_kind", controller.map(|owner| &owner.kind));
    put_some(&mut labels, "pod_controller_name", controller.map(|owner| &owner.name));
    let status = pod.status.as_ref();
    put_some(&mut labels, "pod_ip", status.and_then(|status| status.pod_ip.as_ref()));
    put_some(&mut labels, "pod_host_ip", status.and_then(|status| status.host_ip.as_ref()));
    put_some(&mut labels, "pod_phase", status.and_then(|status| status.phase.as_ref()));
    let mut conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready =
        conditions.find(|condition| condition.type_ == "Ready").map(|condition| condition.status.to_lowercase());
    put(&mut labels, "pod_ready", ready.as_deref().unwrap_or("unknown"));
    labels
}

fn of_service(service: &Service) -> Vec<TargetGroup> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let mut base = service_labels(service);
    let kind = spec.type_.as_deref().unwrap_or_default();
    put(&mut base, "service_type", kind);
    if kind == "ExternalName" {
        put_some(&mut base, "service_external_name", spec.external_name.as_ref());
    } else {
        put_some(&mut base, "service_cluster_ip", spec.cluster_ip.as_ref());
    }
    if kind == "LoadBalancer" {
        put_some(&mut base, "service_loadbalancer_ip", spec.load_balancer_ip.as_ref());
    }
    let Some((namespace, name)) = name_of(&service.metadata) else { return Vec::new() };
    let of_port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        let mut labels = base.clone();
        put_some(&mut labels, "service_port_name", port.name.as_ref());
        put(&mut labels, "service_port_number", port.port);
        put_some(&mut labels, "service_port_protocol", port.protocol.as_ref());
        target(format!("{name}.{namespace}.svc:{}", port.port), labels)
    };
    spec.ports.iter().flatten().map(of_port).collect()
}

fn service_labels(service: &Service) -> Pairs {
    let mut labels = with_namespace(&service.metadata);
    put_meta(&mut labels, "service", &service.metadata);
    labels
}

/// Pods met behind a service, with the ports that are targets already.
#[derive(Default)]
struct Met<'a>(BTreeMap<(&'a str, &'a str), (&'a Pod, HashSet<i32>)>);

impl<'a> Met<'a> {
    /// Adds the labels of the pod and of its container that listens on `port`.
    fn meet(&mut self, labels: &mut Pairs, pod: &'a Pod, port: Option<i32>) {
        labels.extend(pod_labels(pod));
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let ports =
            containers.flat_map(|container| container.ports.iter().flatten().map(move |port| (container, port)));
        for (container, listening) in ports.filter(|(_, listening)| Some(listening.container_port) == port) {
            put_container(labels, container);
            put_port(labels, listening);
        }
        if let Some(key) = name_of(&pod.metadata) {
            self.0.entry(key).or_insert_with(|| (pod, HashSet::new())).1.extend(port);
        }
    }

    /// Targets for the ports of those pods that the service does not name.
    fn other_ports(self, base: &Pairs) -> Vec<TargetGroup> {
        let mut targets = Vec::new();
        for (pod, seen) in self.0.into_values() {
            let Some((ip, spec)) = pod_ip(pod).zip(pod.spec.as_ref()) else { continue };
            for container in &spec.containers {
                let unseen = container.ports.iter().flatten().filter(|port| !seen.contains(&port.container_port));
                for port in unseen {
                    let mut labels = base.clone();
                    labels.extend(pod_labels(pod));
                    put_container(&mut labels, container);
                    put_port(&mut labels, port);
                    targets.push(target(host_port(ip, port.container_port), labels));
                }
            }
        }
        targets
    }
}

fn of_endpoints(endpoints: &Endpoints, related: &Related<'_>) -> Vec<TargetGroup> {
    let mut base = with_namespace(&endpoints.metadata);
    put_meta(&mut base, "endpoints", &endpoints.metadata);
    if let Some(service) = name_of(&endpoints.metadata).and_then(|key| related.services.get(&key)) {
        base.extend(service_labels(service));
    }
    let (mut met, mut targets) = (Met::default(), Vec::new());
    for subset in endpoints.subsets.iter().flatten() {
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let addresses = ready.chain(subset.not_ready_addresses.iter().flatten().map(|address| (address, false)));
        for (address, ready) in addresses {
            for port in subset.ports.iter().flatten() {
                let mut labels = base.clone();
                put_address(&mut labels, address, port, ready);
                related
                    .put_node(&mut labels, Related::node_of(address.target_ref.as_ref(), address.node_name.as_ref()));
                if let Some(pod) = related.pod(address.target_ref.as_ref()) {
                    met.meet(&mut labels, pod, Some(port.port));
                }
                targets.push(target(host_port(&address.ip, port.port), labels));
            }
        }
    }
    targets.extend(met.other_ports(&base));
    targets
}

fn put_address(labels: &mut Pairs, address: &EndpointAddress, port: &EndpointPort, ready: bool) {
    put(labels, "endpoint_ready", ready);
    put_some(labels, "endpoint_port_name", port.name.as_ref());
    put_some(labels, "endpoint_port_protocol", port.protocol.as_ref());
    put_some(labels, "endpoint_node_name", address.node_name.as_ref());
    put_some(labels, "endpoint_hostname", address.hostname.as_ref());
    let reference = address.target_ref.as_ref();
    put_some(labels, "endpoint_address_target_kind", reference.and_then(|reference| reference.kind.as_ref()));
    put_some(labels, "endpoint_address_target_name", reference.and_then(|reference| reference.name.as_ref()));
}

fn of_slice(slice: &EndpointSlice, related: &Related<'_>) -> Vec<TargetGroup> {
    let mut base = with_namespace(&slice.metadata);
    put_meta(&mut base, "endpointslice", &slice.metadata);
    put(&mut base, "endpointslice_address_type", &slice.address_type);
    let named = slice.metadata.labels.iter().flatten().find(|(name, _)| *name == SERVICE_OF_SLICE);
    let key = named.map(|(_, service)| (slice.metadata.namespace.as_deref().unwrap_or(""), service.as_str()));
    if let Some(service) = key.and_then(|key| related.services.get(&key)) {
        base.extend(service_labels(service));
    }
    let (mut met, mut targets) = (Met::default(), Vec::new());
    for endpoint in &slice.endpoints {
        for port in slice.ports.iter().flatten() {
            for address in &endpoint.addresses {
                let mut labels = base.clone();
                put_endpoint(&mut labels, endpoint, port);
                let reference = endpoint.target_ref.as_ref();
                related.put_node(&mut labels, Related::node_of(reference, endpoint.node_name.as_ref()));
                if let Some(pod) = related.pod(reference) {
                    met.meet(&mut labels, pod, port.port);
                }
                let address = port.port.map_or_else(|| address.clone(), |port| host_port(address, port));
                targets.push(target(address, labels));
            }
        }
    }
    targets.extend(met.other_ports(&base));
    targets
}

fn put_endpoint(labels: &mut Pairs, endpoint: &Endpoint, port: &SlicePort) {
    put_some(labels, "endpointslice_port_name", port.name.as_ref());
    put_some(labels, "endpointslice_port_protocol", port.protocol.as_ref());
    put_some(labels, "endpointslice_port", port.port);
    put_some(labels, "endpointslice_port_app_protocol", port.app_protocol.as_ref());
    if let Some(conditions) = &endpoint.conditions {
        put_some(labels, "endpointslice_endpoint_conditions_ready", conditions.ready);
        put_some(labels, "endpointslice_endpoint_conditions_serving", conditions.serving);
        put_some(labels, "endpointslice_endpoint_conditions_terminating", conditions.terminating);
    }
    put_some(labels, "endpointslice_endpoint_hostname", endpoint.hostname.as_ref());
    put_some(labels, "endpointslice_endpoint_node_name", endpoint.node_name.as_ref());
    put_some(labels, "endpointslice_endpoint_zone", endpoint.zone.as_ref());
    let reference = endpoint.target_ref.as_ref();
    put_some(labels, "endpointslice_address_target_kind", reference.and_then(|reference| reference.kind.as_ref()));
    put_some(labels, "endpointslice_address_target_name", reference.and_then(|reference| reference.name.as_ref()));
    for (name, value) in endpoint.deprecated_topology.iter().flatten() {
        let name = sanitized(name);
        put(labels, &format!("endpointslice_endpoint_topology_{name}"), value);
        put(labels, &format!("endpointslice_endpoint_topology_present_{name}"), true);
    }
}

fn of_ingress(ingress: &Ingress) -> Vec<TargetGroup> {
    let Some(spec) = &ingress.spec else { return Vec::new() };
    let mut base = with_namespace(&ingress.metadata);
    put_meta(&mut base, "ingress", &ingress.metadata);
    put_some(&mut base, "ingress_class_name", spec.ingress_class_name.as_ref());
    let secured: Vec<&str> =
        spec.tls.iter().flatten().flat_map(|tls| tls.hosts.iter().flatten()).map(String::as_str).collect();
    let of_rule = |rule: &IngressRule| {
        let host = rule.host.as_deref().unwrap_or_default();
        let scheme = if secured.iter().any(|pattern| covers(pattern, host)) { "https" } else { "http" };
        let of_path = |path: String| {
            let mut labels = base.clone();
            put(&mut labels, "ingress_scheme", scheme);
            put(&mut labels, "ingress_host", host);
            put(&mut labels, "ingress_path", path);
            target(host.to_owned(), labels)
        };
        paths(rule).into_iter().map(of_path).collect::<Vec<_>>()
    };
    spec.rules.iter().flatten().flat_map(of_rule).collect()
}

/// The paths of a rule; `/` where it names none.
fn paths(rule: &IngressRule) -> Vec<String> {
    let Some(http) = &rule.http else { return vec!["/".to_owned()] };
    http.paths.iter().map(|path| path.path.clone().filter(|path| !path.is_empty()).unwrap_or("/".to_owned())).collect()
}

/// Whether a host is, or one label `*` of the pattern makes it, the host of a certificate.
fn covers(pattern: &str, host: &str) -> bool {
    if pattern == host {
        return true;
    }
    let wild = pattern.strip_prefix("*.").zip(host.split_once('.'));
    wild.is_some_and(|(parent, (first, rest))| !first.is_empty() && rest == parent)
}
