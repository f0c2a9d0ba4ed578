//! Load away from a backend before it is full: pure weights from predicted saturation.
//!
//! Weights move in steps. A step takes away at most a share of all weight, never from the last survivors, and gives
//! back slowly; between two thresholds nothing moves. When too many backends are saturated, moving load only moves the
//! pain, and every weight is full: an overload of the whole never empties the pool. A drain takes a backend out on demand;
//! nothing else brings a weight to nothing.

pub mod drain;
pub mod envoy;
pub mod gateway;
pub mod haproxy;
pub mod orca;
pub mod placement;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bellwether_models::forecast::Quantile;
use bellwether_models::outlook::{Foresight, Outlook, Snapshot};
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use self::drain::Drains;
use crate::config::{BackendConfig, RerouteConfig};

/// The weight of one backend and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    /// Which backend.
    pub backend: String,
    /// Share of its full weight, from 0 to 1; 0 only when it is drained.
    pub weight: f64,
    /// Expected load over capacity within the lead time; `None` when unknown.
    pub saturation: Option<f64>,
    /// Why it stands there.
    pub grounds: Grounds,
}

/// Why a weight stands where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grounds {
    /// It has room.
    Healthy,
    /// It will be full, and the weight follows.
    Saturating,
    /// It would lose weight, but as much as may be was taken from others in this step.
    CutLater,
    /// It would lose weight, but someone must survive.
    Survivor,
    /// It is between the two thresholds.
    Waiting,
    /// It has room again, and gets its weight back slowly.
    Restoring,
    /// So many are saturated that weights would not help.
    Panic,
    /// Nothing fresh is known of it.
    Unknown,
    /// It is being drained: its weight goes down, or is at nothing.
    Draining,
    /// It would be drained, but is needed.
    DrainSuspended,
}

/// What is true of the backend: `has room`.
impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "has room",
            Self::Saturating => "will be full, and the weight follows",
            Self::CutLater => "will be full; as much as may be was taken from others in this step",
            Self::Survivor => "will be full, but someone must survive",
            Self::Waiting => "is between the two thresholds",
            Self::Restoring => "gets its weight back slowly",
            Self::Panic => "so many are full that weights would not help",
            Self::Unknown => "nothing fresh is known of it",
            Self::Draining => "is being drained",
            Self::DrainSuspended => "would be drained, but is needed",
        })
    }
}

/// Weights with the time of the last step: the only memory of routing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Routing {
    weights: BTreeMap<String, f64>,
    known_at: BTreeMap<String, Timestamp>,
    stepped_at: Option<Timestamp>,
    /// Backends whose weight a drain took.
    #[serde(default)]
    drained: BTreeSet<String>,
}

/// The weights of `now`, in the order of the configuration, and the routing to go on from.
#[must_use]
pub fn weigh(
    snapshot: &Snapshot,
    routing: &Routing,
    drains: &Drains,
    config: &RerouteConfig,
    now: Timestamp,
) -> (Vec<Weight>, Routing) {
    let mut next = routing.clone();
    let saturations: Vec<Option<Saturation>> =
        config.backends.iter().map(|b| saturation(snapshot, b, config, now)).collect();
    let known = config.backends.iter().zip(&saturations).filter(|(_, s)| s.is_some());
    next.known_at.extend(known.map(|(backend, _)| (backend.name.clone(), now)));
    // A clock that was set back must not stop the steps until it is where it was.
    let step = routing.stepped_at.is_none_or(|at| now < at || now.since(at) >= config.step);
    let mut weights: Vec<Weight> = config
        .backends
        .iter()
        .zip(saturations)
        .map(|(backend, saturation)| match routing.drained.contains(&backend.name) {
            true => come_back(backend, saturation, routing, config),
            false => aim(backend, saturation, &next, config, now),
        })
        .map(|weight| obey(weight, routing, drains, now))
        .collect();
    keep_survivors(&mut weights, config);
    panic_if_all_are_full(&mut weights, config);
    limit_cut(&mut weights, routing, config);
    for weight in &mut weights {
        if !step && !is_sudden(weight, routing, config) {
            weight.weight = routing.weight(&weight.backend);
        }
        next.weights.insert(weight.backend.clone(), weight.weight);
        next.mark(weight);
    }
    if step {
        next.stepped_at = Some(now);
    }
    (weights, next)
}

impl Routing {
    /// The share of its full weight that `backend` has: full until something else is decided.
    #[must_use]
    pub fn weight(&self, backend: &str) -> f64 {
        self.weights.get(backend).copied().unwrap_or(1.0)
    }

    /// The shares of all backends of which something was decided.
    #[must_use]
    pub fn weights(&self) -> &BTreeMap<String, f64> {
        &self.weights
    }

    /// Whether anything was ever known of `backend`.
    #[must_use]
    pub fn knows(&self, backend: &str) -> bool {
        self.known_at.contains_key(backend)
    }

    /// Whether `kept`, which was kept last, would mislead after a restart: its weights are others, or it says of a backend
    /// that it was last known at a time off by more than half of [`RerouteConfig::max_fact_age`].
    #[must_use]
    pub fn outgrew(&self, kept: &Self, config: &RerouteConfig) -> bool {
        let moved = |(backend, at): (&String, &Timestamp)| {
            kept.known_at.get(backend).is_none_or(|was| at.since(*was).max(was.since(*at)) > config.max_fact_age / 2)
        };
        self.weights != kept.weights || self.drained != kept.drained || self.known_at.iter().any(moved)
    }

    /// Remembers of a backend whether it is a drain that holds its weight down.
    fn mark(&mut self, weight: &Weight) {
        let held = match weight.grounds {
            Grounds::Draining => true,
            Grounds::Saturating | Grounds::CutLater => false,
            _ => self.drained.contains(&weight.backend),
        };
        if held && weight.weight < 1.0 {
            self.drained.insert(weight.backend.clone());
        } else {
            self.drained.remove(&weight.backend);
        }
    }
}

/// Load over capacity, now and to come; at least one of them is known.
#[derive(Clone, Copy)]
struct Saturation {
    now: Option<f64>,
    coming: Option<f64>,
}

impl Saturation {
    fn worst(self) -> f64 {
        self.now.into_iter().chain(self.coming).fold(0.0, f64::max)
    }

    /// The weight at which load would be down at `threshold`. The load of now is what the present weight draws; the
    /// forecast knows nothing of weights, and stands for the full one.
    fn share(self, threshold: f64, present: f64) -> f64 {
        self.room(threshold, present).min(present)
    }

    /// The same, where it may be more than the present one too.
    fn room(self, threshold: f64, present: f64) -> f64 {
        let room = |of: f64, saturation: Option<f64>| saturation.filter(|s| *s > threshold).map(|s| of * threshold / s);
        room(present, self.now).into_iter().chain(room(1.0, self.coming)).fold(1.0, f64::min)
    }
}

/// Saturation now and to come (p90), from fresh facts.
fn saturation(
    snapshot: &Snapshot,
    backend: &BackendConfig,
    config: &RerouteConfig,
    now: Timestamp,
) -> Option<Saturation> {
    let outlook = snapshot.backends.iter().find(|o| o.workload == backend.name)?;
    let fresh = |at: Timestamp| now.since(at).max(at.since(now)) <= config.max_fact_age;
    let present = outlook.demand.filter(|d| fresh(d.at) && d.value.is_finite()).map(|d| d.value);
    let coming =
        if fresh(outlook.made_at) { expected(outlook, backend.lead.unwrap_or(config.lead), now) } else { None };
    let over = |load: f64| (load / backend.capacity.value()).max(0.0);
    (present.is_some() || coming.is_some()).then(|| Saturation { now: present.map(over), coming: coming.map(over) })
}

fn expected(outlook: &Outlook, lead: Duration, now: Timestamp) -> Option<f64> {
    let Foresight::Forecast { forecast, .. } = &outlook.foresight else { return None };
    let step = forecast.step.times(1);
    let path = forecast.quantile(Quantile::STANDARD[2]);
    let points = path.iter().enumerate().map(|(i, value)| (forecast.time_of(i), *value));
    points
        .filter(|(at, value)| *at + step > now && *at < now + lead + step && value.is_finite())
        .map(|(_, value)| value)
        .reduce(f64::max)
}

/// Where one backend's weight wants to go, regardless of the others.
fn aim(
    backend: &BackendConfig,
    saturation: Option<Saturation>,
    routing: &Routing,
    config: &RerouteConfig,
    now: Timestamp,
) -> Weight {
    let present = routing.weight(&backend.name);
    let restored = (present + config.restore_at_once.value()).min(1.0);
    let worst = saturation.map(Saturation::worst);
    let (weight, grounds) = match saturation.zip(worst) {
        None if long_unknown(&backend.name, routing, config, now) => (restored, Grounds::Unknown),
        None => (present, Grounds::Unknown),
        Some((s, worst)) if worst > config.cut_above.value() => {
            (s.share(config.cut_above.value(), present).max(config.least_weight.value()), Grounds::Saturating)
        }
        Some((_, worst)) if worst >= config.restore_below.value() => (present, Grounds::Waiting),
        Some(_) if present < 1.0 => (restored, Grounds::Restoring),
        Some(_) => (1.0, Grounds::Healthy),
    };
    Weight { backend: backend.name.clone(), weight, saturation: worst, grounds }
}

/// Where the weight of a backend wants to go that a drain took, once nothing holds it down: back, whether anything is known
/// of it or not, for without load nothing may be, and as far as it would not be saturated.
fn come_back(
    backend: &BackendConfig,
    saturation: Option<Saturation>,
    routing: &Routing,
    config: &RerouteConfig,
) -> Weight {
    let present = routing.weight(&backend.name);
    let restored = (present + config.restore_at_once.value()).min(1.0);
    let room = saturation.map_or(1.0, |s| s.room(config.cut_above.value(), present)).max(config.least_weight.value());
    let grounds = if room < restored { Grounds::Saturating } else { Grounds::Restoring };
    let worst = saturation.map(Saturation::worst);
    Weight { backend: backend.name.clone(), weight: restored.min(room), saturation: worst, grounds }
}

/// What a drain makes of where a weight wants to go.
fn obey(weight: Weight, routing: &Routing, drains: &Drains, now: Timestamp) -> Weight {
    let present = routing.weight(&weight.backend);
    if let Some(ceiling) = drains.ceiling(&weight.backend, now) {
        return Weight { weight: weight.weight.min(present).min(ceiling), grounds: Grounds::Draining, ..weight };
    }
    match weight.grounds {
        Grounds::Healthy | Grounds::Restoring | Grounds::Unknown if drains.is_suspended(&weight.backend) => {
            let back = if routing.drained.contains(&weight.backend) { 1.0 } else { weight.weight };
            Weight { weight: back, grounds: Grounds::DrainSuspended, ..weight }
        }
        _ => weight,
    }
}

/// Whether a weight moves between steps too: when there is need of it, and when a drain that took all of it is over.
fn is_sudden(weight: &Weight, routing: &Routing, config: &RerouteConfig) -> bool {
    match weight.grounds {
        Grounds::Panic => true,
        Grounds::DrainSuspended => routing.drained.contains(&weight.backend),
        Grounds::Draining => false,
        _ => routing.weight(&weight.backend) < config.least_weight.value(),
    }
}

/// A cut must not outlive its grounds for ever.
fn long_unknown(backend: &str, routing: &Routing, config: &RerouteConfig, now: Timestamp) -> bool {
    routing.known_at.get(backend).is_none_or(|at| now.since(*at) > config.max_fact_age.saturating_mul(10))
}

/// The least saturated backends keep their full weight; whoever is drained is none of them.
fn keep_survivors(weights: &mut [Weight], config: &RerouteConfig) {
    let mut order: Vec<usize> = (0..weights.len()).filter(|i| weights[*i].grounds != Grounds::Draining).collect();
    let load = |w: &Weight| w.saturation.unwrap_or(0.0);
    order.sort_by(|a, b| load(&weights[*a]).total_cmp(&load(&weights[*b])));
    for index in order.into_iter().take(config.survivors) {
        let weight = &mut weights[index];
        if weight.weight < 1.0 && weight.grounds == Grounds::Saturating {
            (weight.weight, weight.grounds) = (1.0, Grounds::Survivor);
        }
    }
}

fn panic_if_all_are_full(weights: &mut [Weight], config: &RerouteConfig) {
    let mut serving: Vec<&mut Weight> = weights.iter_mut().filter(|w| w.grounds != Grounds::Draining).collect();
    let full = serving.iter().filter(|w| w.saturation.is_some_and(|s| s > config.cut_above.value())).count();
    if is_overload(full, serving.len(), config) {
        for weight in &mut serving {
            (weight.weight, weight.grounds) = (1.0, Grounds::Panic);
        }
    }
}

/// Whether so many `of` some backends are `full` that weights would not help.
fn is_overload(full: usize, of: usize, config: &RerouteConfig) -> bool {
    full > 1 && full as f64 >= config.panic_above.value() * of as f64
}

/// One step takes away at most a share of all weight, from the most saturated first.
fn limit_cut(weights: &mut [Weight], routing: &Routing, config: &RerouteConfig) {
    let mut budget = config.cut_at_once.value() * weights.len() as f64;
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|a, b| weights[*b].saturation.unwrap_or(0.0).total_cmp(&weights[*a].saturation.unwrap_or(0.0)));
    for index in order {
        let weight = &mut weights[index];
        let present = routing.weight(&weight.backend);
        let cut = present - weight.weight;
        if cut > budget {
            weight.weight = present - budget;
            if budget <= 0.0 && weight.grounds != Grounds::Draining {
                weight.grounds = Grounds::CutLater;
            }
        }
        budget -= (present - weight.weight).max(0.0);
    }
}

#[cfg(test)]
mod tests;
