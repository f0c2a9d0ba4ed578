//! What is watched, how far ahead it is foreseen, and how eagerly an alarm is raised.

use std::collections::BTreeSet;
use std::time::Duration;

use bellwether_models::duration::as_text;
use bellwether_models::forecast::Horizon;
use bellwether_models::forecast::auto::Combination;
use bellwether_models::series::{Step, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::calendar::{CalendarConfig, KnownEvent, Weekday};
pub use crate::registry::config::{ModelsConfig, Promote, S3Config};

/// Everything the predictor is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What serves demand with replicas. Default none.
    pub workloads: Vec<Workload>,
    /// Servers among which traffic can be moved. Default none.
    pub backends: Vec<Backend>,
    /// Quantities that must not pass a limit. Default none.
    pub quantities: Vec<Quantity>,
    /// What is no workload but takes part in calls (databases, queues, services of others), so that causes can be
    /// followed through it. Default none.
    pub services: Vec<CalledService>,
    /// Spans that forecasts do not learn from: outages, load tests, migrations. Default none.
    pub set_aside: Vec<SetAside>,
    /// Time zones and days off that workloads name. Default none.
    pub calendars: Vec<CalendarConfig>,
    /// Known times out of the ordinary, past and to come: sales, broadcasts, closings of the books. Default none.
    pub events: Vec<KnownEvent>,
    /// How anomalies become incidents.
    pub detection: DetectionConfig,
    /// Where models are kept, and when one takes another's place.
    pub models: ModelsConfig,
}

/// A span of time that was not ordinary. Its values are shown and acted upon, but no forecast takes them for the usual
/// course: they count as gaps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetAside {
    /// Its beginning in RFC 3339, such as `2026-03-01T09:00:00Z`. Required.
    #[schemars(with = "String")]
    pub from: jiff::Timestamp,
    /// Its end, itself no longer in it; after `from`. Required.
    #[schemars(with = "String")]
    pub to: jiff::Timestamp,
    /// Names of the workloads and backends it concerns. Default none, which means all.
    pub names: Vec<String>,
}

impl SetAside {
    /// The span, where it concerns `name`.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<(Timestamp, Timestamp)> {
        let concerned = self.names.is_empty() || self.names.iter().any(|n| n == name);
        let at = |time: jiff::Timestamp| Timestamp::from_millis(time.as_millisecond());
        concerned.then(|| (at(self.from), at(self.to)))
    }
}

/// Something that is called, and may call in its turn, without being scaled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CalledService {
    /// The value of the service label of its series. Required.
    pub name: String,
    /// Workloads or services it calls. Default none.
    pub depends_on: Vec<String>,
}

/// Something that serves demand with replicas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// Its name, unique among workloads; also the value of the service label of its series. Required.
    pub name: String,
    /// PromQL for the demand users make of it, one series (never a utilisation, which saturates). Required.
    pub demand: String,
    /// PromQL for its replicas at present, one series. Default none: the replica count is then unknown.
    pub replicas: Option<String>,
    /// PromQL for the replicas that are ready to serve, one series. Default none: how long a replica takes to start is not
    /// learnt.
    pub ready: Option<String>,
    /// PromQL for how full its ready replicas are, one series: 1 is all they can bear. Default none: what a replica can serve
    /// is not learnt.
    pub utilisation: Option<String>,
    /// PromQL for what its users feel (latency, errors); each may give several series. Default none: no incidents.
    pub symptoms: Vec<String>,
    /// Shares of what goes wrong, judged by how many there were. Default none.
    pub ratios: Vec<Ratio>,
    /// Demand below which its symptoms say nothing, in the units of the demand query: too few requests make any latency
    /// or share wild. Default 0: they always count.
    pub min_volume: f64,
    /// Workloads or services it calls; their series are searched for causes, and theirs in turn. Default none.
    pub depends_on: Vec<String>,
    /// The name of the calendar its users live by. Default none: days and hours are those of UTC, and no day is special.
    pub calendar: Option<String>,
    /// How its demand is forecast.
    pub forecast: ForecastConfig,
}

/// A share of what goes wrong, as a symptom. What is scored is its lower bound at 95 % confidence, so that one failure of
/// three requests is no news, and a hundred of a thousand are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ratio {
    /// What people call it, such as `errors`. Required.
    pub name: String,
    /// PromQL for what goes wrong, per second. No series means none. Required.
    pub bad: String,
    /// PromQL for all there is, per second, with the same labels. Required.
    pub total: String,
}

/// A symptom: what is asked of the store, and under which name it is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// PromQL.
    pub query: String,
    /// Whether it is no symptom itself and only bears witness beside symptoms: it opens no incident alone, counts against
    /// no budget, and its gaps are no news.
    pub witness: bool,
}

impl Workload {
    /// Its symptoms as they are asked for, on a grid of `step`.
    #[must_use]
    pub fn asked(&self, step: Step) -> Vec<Asked> {
        let plain = self.symptoms.iter().map(|symptom| (symptom.clone(), symptom.clone()));
        let shares = self.ratios.iter().map(|ratio| (ratio.name.clone(), ratio.lower_bound(step)));
        plain
            .chain(shares)
            .map(|(name, query)| Asked { name, query: self.with_volume(query), witness: false })
            .collect()
    }

    fn with_volume(&self, query: String) -> String {
        if self.min_volume > 0.0 {
            format!("({query}) and on() (({}) >= {})", self.demand, self.min_volume)
        } else {
            query
        }
    }
}

/// Half the squared two-sided 95 % point of the standard normal distribution, and the point itself.
const HALF_Z2: f64 = 1.920_729;
const Z: f64 = 1.959_964;

impl Ratio {
    /// PromQL for the lower bound of the share.
    ///
    /// # Source
    /// Score interval (Wilson 1927), with both counts over one step.
    fn lower_bound(&self, step: Step) -> String {
        let seconds = step.as_secs_f64();
        let all = format!("((({}) * {seconds}))", self.total);
        let bad = format!("((({}) or (({}) * 0)) * {seconds})", self.bad, self.total);
        let quarter = HALF_Z2 / 2.0;
        let width = format!("sqrt(clamp_min({bad} * ({all} - {bad}) / {all}, 0) + {quarter})");
        format!("clamp_min(({bad} + {HALF_Z2} - {Z} * {width}) / ({all} + {}), 0)", 2.0 * HALF_Z2)
    }
}

/// A server among several that share traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backend {
    /// Its name, unique among backends. Required.
    pub name: String,
    /// PromQL for the load it carries, one series. Required.
    pub load: String,
    /// How its load is forecast.
    pub forecast: ForecastConfig,
}

/// Something that must not pass a limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quantity {
    /// Its name, unique among quantities. Required.
    pub name: String,
    /// PromQL for it, one series. Required.
    pub query: String,
    /// How it is forecast.
    pub forecast: ForecastConfig,
}

/// How a series is forecast.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForecastConfig {
    /// Distance between points of history and forecast; at least one second. Default 1m.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub step: Duration,
    /// How far ahead to look; rounded up to whole steps. Default 1h.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub horizon: Duration,
    /// How much of the past a model learns from; two weeks hold two weekly seasons. At most 50,000 steps. Default 14d.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub history: Duration,
    /// Longest time between two fits; between them a model takes in new points only, and a short history is fitted
    /// anew whenever it has grown by a quarter. Default 6h.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub refit_interval: Duration,
    /// How much processor time a fit may take. Default `thorough`.
    pub effort: Effort,
    /// How long after a deploy of the workload (a change event of the kind `deploy`) its demand is not learnt from, since
    /// restarts and cold caches are not its usual course. Default 5m; 0s learns from all of it.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub settle_after_deploy: Duration,
    /// Age of the newest observation above which no forecast is made. Default 10m; below one step, one step is taken.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub stale_after: Duration,
}

/// Which models are weighed against each other; times are for two thousand points on one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Naive, seasonal naive, profile and exponential smoothing: some milliseconds a fit, for thousands of series.
    Light,
    /// Also both regressions and the network: about a tenth of a second.
    Usual,
    /// Also ARIMA: some tenths of a second.
    #[default]
    Thorough,
}

impl Effort {
    /// What a fit costs beside a light one.
    #[must_use]
    pub fn cost(self) -> usize {
        match self {
            Self::Light => 1,
            Self::Usual => 25,
            Self::Thorough => 50,
        }
    }

    /// The models weighed against each other.
    #[must_use]
    pub fn method(self, horizon: Horizon) -> Combination {
        match self {
            Self::Light => Combination::light(horizon),
            Self::Usual => Combination::new(horizon),
            Self::Thorough => Combination::thorough(horizon),
        }
    }
}

impl Default for ForecastConfig {
    fn default() -> Self {
        Self {
            step: Duration::from_secs(60),
            horizon: Duration::from_secs(3600),
            history: Duration::from_secs(14 * 86_400),
            refit_interval: Duration::from_secs(6 * 3600),
            effort: Effort::Thorough,
            settle_after_deploy: Duration::from_secs(300),
            stale_after: Duration::from_secs(600),
        }
    }
}

impl ForecastConfig {
    /// The step as a grid distance; what cannot be one becomes a second.
    #[must_use]
    pub fn grid(&self) -> Step {
        grid(self.step)
    }

    /// The horizon in whole steps, at least one.
    #[must_use]
    pub fn horizon_steps(&self) -> Horizon {
        let steps = self.horizon.as_millis().div_ceil(self.grid().as_millis().unsigned_abs().into());
        let steps = usize::try_from(steps).unwrap_or(MOST_STEPS).clamp(1, MOST_STEPS);
        Horizon::new(steps).unwrap_or_else(|| unreachable!("clamped to at least one step"))
    }

    /// The history in whole steps, at least one.
    #[must_use]
    pub fn history_steps(&self) -> usize {
        steps_in(self.history, self.grid()).clamp(1, MOST_STEPS)
    }

    /// The age above which data is stale: at least one step.
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        self.stale_after.max(self.step)
    }
}

/// How anomalies become incidents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DetectionConfig {
    /// False alarms one is ready to bear in a week over the whole installation; the one knob of sensitivity. Above
    /// zero. Default 1.
    pub false_alarms_per_week: f64,
    /// Distance between the points at which symptoms are scored and causes are sought; at least one second. Default 1m.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub step: Duration,
    /// How much of the past a symptom that was never seen learns from at once, as far as the store holds it.
    /// Default 7d; 0s learns from what comes only.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub warm_up: Duration,
    /// How much of the time before an incident is taken as normal when causes are sought. Default 2h.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub reference: Duration,
    /// How far a symptom must lie from what was expected to count, as a share of that: 0.1 passes over what is a tenth
    /// off, however unusual. Default 0: all that is unusual counts.
    pub min_effect: f64,
    /// How long an incident stays open whose symptoms have fallen silent: it must not resolve just because its data
    /// vanished. Default 1h; 0s takes silence for quiet.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub hold_silent: Duration,
    /// Whether what a workload's forecast missed joins the evidence of its incidents, where it has symptoms. Default true.
    pub watch_forecasts: bool,
    /// Whether calls are read from the metrics of Istio, Linkerd, Envoy, service graphs and OpenTelemetry clients too,
    /// beside `depends_on`. Default true.
    pub discover_calls: bool,
    /// Label whose value names the service of a series. Default `service`.
    pub service_label: String,
    /// Most series one symptom may give; those beyond it are not scored, and counted. Default 100.
    pub max_series_per_symptom: usize,
    /// Most series searched for the causes of one incident; those beyond it are left out, and counted. Default 5000.
    pub max_series_per_incident: usize,
}

impl Default for DetectionConfig {
    fn default() -> Self {
        Self {
            false_alarms_per_week: 1.0,
            step: Duration::from_secs(60),
            warm_up: Duration::from_secs(7 * 86_400),
            reference: Duration::from_secs(2 * 3600),
            min_effect: 0.0,
            hold_silent: Duration::from_secs(3600),
            watch_forecasts: true,
            discover_calls: true,
            service_label: "service".to_owned(),
            max_series_per_symptom: 100,
            max_series_per_incident: 5000,
        }
    }
}

impl DetectionConfig {
    /// The step as a grid distance; what cannot be one becomes a second.
    #[must_use]
    pub fn grid(&self) -> Step {
        grid(self.step)
    }

    /// The warm-up in whole steps.
    #[must_use]
    pub fn warm_up_steps(&self) -> usize {
        steps_in(self.warm_up, self.grid()).min(MOST_STEPS)
    }
}

/// Most points of one window; more would be a history of years or a step too small.
const MOST_STEPS: usize = 50_000;

fn grid(step: Duration) -> Step {
    let millis = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
    Step::from_millis(millis).unwrap_or(Step::from_secs(1))
}

/// Whole steps in a span.
pub(crate) fn steps_in(span: Duration, step: Step) -> usize {
    usize::try_from(span.as_millis() / u128::from(step.as_millis().unsigned_abs())).unwrap_or(usize::MAX)
}

/// Why a configuration cannot be used. Paths are those of the configuration: `workloads[2].demand`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A name or a query that is needed is empty.
    #[error("{at} is missing; give it a value")]
    Missing {
        /// Where.
        at: String,
    },
    /// Two workloads, or two backends, share a name.
    #[error("{at} {name:?} is there already; names must differ")]
    Repeated {
        /// Where.
        at: String,
        /// The name.
        name: String,
    },
    /// A query is not PromQL.
    #[error("{at} is not PromQL: {reason}")]
    NotPromQl {
        /// Where.
        at: String,
        /// What the parser says.
        reason: String,
    },
    /// A number or a duration out of its range.
    #[error("{at} must be {must}")]
    OutOfRange {
        /// Where.
        at: String,
        /// The range.
        must: String,
    },
}

impl Config {
    /// Every fault of this configuration, without touching the network or the store.
    #[must_use]
    pub fn faults(&self) -> Vec<ConfigError> {
        let mut faults = Faults::default();
        for (index, workload) in self.workloads.iter().enumerate() {
            workload.check(&format!("workloads[{index}]"), &mut faults);
        }
        for (index, backend) in self.backends.iter().enumerate() {
            backend.check(&format!("backends[{index}]"), &mut faults);
        }
        for (index, quantity) in self.quantities.iter().enumerate() {
            let at = format!("limits[{index}]");
            faults.query(format!("{at}.query"), &quantity.query);
            quantity.forecast.check(&at, &mut faults);
        }
        faults.names("limits", self.quantities.iter().map(|q| q.name.as_str()));
        faults.names("workloads", self.workloads.iter().map(|w| w.name.as_str()));
        faults.names("backends", self.backends.iter().map(|b| b.name.as_str()));
        faults.names("services", self.services.iter().map(|s| s.name.as_str()));
        for (index, span) in self.set_aside.iter().enumerate() {
            faults.range(span.to > span.from, format!("set_aside[{index}].to"), "later than `from`");
        }
        faults.names("calendars", self.calendars.iter().map(|c| c.name.as_str()));
        for (index, calendar) in self.calendars.iter().enumerate() {
            let at = format!("calendars[{index}].time_zone");
            faults.range(calendar.zone().is_some(), at, "a name of the IANA database such as Europe/Berlin");
        }
        for (index, workload) in self.workloads.iter().enumerate() {
            let known = |name: &String| self.calendars.iter().any(|c| c.name == *name);
            let at = format!("workloads[{index}].calendar");
            faults.range(workload.calendar.as_ref().is_none_or(known), at, "the name of one of `calendars`");
        }
        for (index, event) in self.events.iter().enumerate() {
            event.check(&format!("events[{index}]"), &mut faults);
        }
        self.detection.check("detection", &mut faults);
        faults.0.extend(self.models.faults("models"));
        faults.0
    }
}

impl Workload {
    fn check(&self, at: &str, faults: &mut Faults) {
        faults.query(format!("{at}.demand"), &self.demand);
        let counts = [("replicas", &self.replicas), ("ready", &self.ready), ("utilisation", &self.utilisation)];
        for (name, query) in counts {
            if let Some(query) = query {
                faults.query(format!("{at}.{name}"), query);
            }
        }
        for (index, symptom) in self.symptoms.iter().enumerate() {
            faults.query(format!("{at}.symptoms[{index}]"), symptom);
        }
        for (index, ratio) in self.ratios.iter().enumerate() {
            let at = format!("{at}.ratios[{index}]");
            faults.range(!ratio.name.is_empty(), format!("{at}.name"), "a name such as errors");
            faults.query(format!("{at}.bad"), &ratio.bad);
            faults.query(format!("{at}.total"), &ratio.total);
        }
        faults.range(self.min_volume >= 0.0, format!("{at}.min_volume"), "a number, at least 0");
        self.forecast.check(&format!("{at}.forecast"), faults);
    }
}

impl KnownEvent {
    fn check(&self, at: &str, faults: &mut Faults) {
        faults.range(!self.name.is_empty(), format!("{at}.name"), "a name such as summer_sale");
        faults.range(self.to > self.from, format!("{at}.to"), "later than `from`");
        let sound = self.factor.is_none_or(|factor| factor.is_finite() && factor > 0.0);
        faults.range(sound, format!("{at}.factor"), "a number above zero, such as 1.5");
    }
}

impl Backend {
    fn check(&self, at: &str, faults: &mut Faults) {
        faults.query(format!("{at}.load"), &self.load);
        self.forecast.check(&format!("{at}.forecast"), faults);
    }
}

impl ForecastConfig {
    fn check(&self, at: &str, faults: &mut Faults) {
        faults.range(self.step >= Duration::from_secs(1), format!("{at}.step"), "at least 1s");
        faults.range(self.horizon >= self.step, format!("{at}.horizon"), "at least one step");
        faults.range(self.history > self.step, format!("{at}.history"), "longer than one step");
        let most = self.grid().times(MOST_STEPS);
        faults.range(self.history <= most, format!("{at}.history"), "at most 50,000 steps; lengthen the step");
        faults.range(self.horizon <= most, format!("{at}.horizon"), "at most 50,000 steps; lengthen the step");
        faults.range(!self.refit_interval.is_zero(), format!("{at}.refit_interval"), "longer than 0s");
    }
}

impl DetectionConfig {
    fn check(&self, at: &str, faults: &mut Faults) {
        let budget = self.false_alarms_per_week;
        faults.range(
            budget.is_finite() && budget > 0.0,
            format!("{at}.false_alarms_per_week"),
            "a number above zero; to silence a workload leave out its symptoms",
        );
        faults.range(self.step >= Duration::from_secs(1), format!("{at}.step"), "at least 1s");
        faults.range(self.reference >= 10 * self.step, format!("{at}.reference"), "at least ten steps");
        faults.range(self.min_effect >= 0.0, format!("{at}.min_effect"), "a share, at least 0");
        faults.range(is_label_name(&self.service_label), format!("{at}.service_label"), "a label name such as service");
        faults.range(self.max_series_per_symptom > 0, format!("{at}.max_series_per_symptom"), "above zero");
        faults.range(self.max_series_per_incident > 0, format!("{at}.max_series_per_incident"), "above zero");
    }
}

fn is_label_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(legal)
}

#[derive(Default)]
struct Faults(Vec<ConfigError>);

impl Faults {
    fn query(&mut self, at: String, query: &str) {
        if query.trim().is_empty() {
            self.0.push(ConfigError::Missing { at });
        } else if let Err(reason) = promql_parser::parser::parse(query) {
            self.0.push(ConfigError::NotPromQl { at, reason });
        }
    }

    fn range(&mut self, holds: bool, at: String, must: &str) {
        if !holds {
            self.0.push(ConfigError::OutOfRange { at, must: must.to_owned() });
        }
    }

    fn names<'a>(&mut self, list: &str, names: impl Iterator<Item = &'a str>) {
        let mut seen = BTreeSet::new();
        for (index, name) in names.enumerate() {
            let at = format!("{list}[{index}].name");
            if name.is_empty() {
                self.0.push(ConfigError::Missing { at });
            } else if !seen.insert(name) {
                self.0.push(ConfigError::Repeated { at, name: name.to_owned() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout() -> Workload {
        Workload {
            name: "checkout".to_owned(),
            demand: r#"sum(rate(http_requests_total{service="checkout"}[1m]))"#.to_owned(),
            ..Workload::default()
        }
    }

    #[test]
    fn a_workload_needs_a_name_and_a_demand_only() {
        let config = Config { workloads: vec![checkout()], ..Config::default() };
        assert_eq!(config.faults(), []);
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let broken = Workload {
            demand: "sum(rate(".to_owned(),
            symptoms: vec!["up".to_owned(), String::new()],
            forecast: ForecastConfig {
                step: Duration::from_secs(60),
                horizon: Duration::from_secs(1),
                ..Default::default()
            },
            ..checkout()
        };
        let backend = Backend { name: "a".to_owned(), load: "up{".to_owned(), ..Backend::default() };
        let config = Config { workloads: vec![checkout(), broken], backends: vec![backend], ..Config::default() };
        let said: Vec<String> = config.faults().iter().map(ToString::to_string).collect();
        for place in ["workloads[1].demand", "workloads[1].symptoms[1]", "workloads[1].forecast.horizon"] {
            assert!(said.iter().any(|s| s.starts_with(place)), "{place} in {said:?}");
        }
        assert!(said.iter().any(|s| s.starts_with("backends[0].load")));
        assert!(said.contains(&r#"workloads[1].name "checkout" is there already; names must differ"#.to_owned()));
        assert_eq!(said.len(), 5);
    }

    #[test]
    fn every_form_of_a_symptom_is_asked_for_in_good_promql() {
        let ratio = Ratio { name: "errors".to_owned(), bad: "sum(rate(e[1m]))".to_owned(), total: "t".to_owned() };
        let workload = Workload { symptoms: vec!["lat".to_owned()], ratios: vec![ratio], ..checkout() };
        let asked = workload.asked(Step::from_secs(60));
        assert_eq!((asked[0].name.as_str(), asked[0].query.as_str(), asked[1].name.as_str()), ("lat", "lat", "errors"));
        assert!(promql_parser::parser::parse(&asked[1].query).is_ok(), "{}", asked[1].query);
        let quiet = Workload { min_volume: 5.0, ..workload }.asked(Step::from_secs(60));
        assert!(quiet.iter().all(|asked| promql_parser::parser::parse(&asked.query).is_ok()));
        assert!(quiet[0].query.starts_with("(lat) and on() ((sum("));
    }

    #[test]
    fn a_span_set_aside_concerns_those_it_names_or_all() {
        let read = |text: &str| serde_json::from_str::<SetAside>(text).unwrap();
        let all = read(r#"{"from": "2026-03-01T09:00:00Z", "to": "2026-03-01T10:00:00Z"}"#);
        let span = (Timestamp::from_secs(1_772_355_600), Timestamp::from_secs(1_772_359_200));
        assert_eq!(all.of("any"), Some(span));
        let named = SetAside { names: vec!["checkout".to_owned()], ..all.clone() };
        assert_eq!((named.of("checkout"), named.of("cart")), (Some(span), None));
        let backwards = SetAside { from: all.to, to: all.from, names: vec![] };
        let config = Config { set_aside: vec![backwards], ..Config::default() };
        assert!(config.faults()[0].to_string().starts_with("set_aside[0].to"));
    }

    #[test]
    fn a_horizon_is_rounded_up_to_whole_steps() {
        let config = ForecastConfig { horizon: Duration::from_secs(61), ..ForecastConfig::default() };
        assert_eq!(config.horizon_steps().steps(), 2);
        assert_eq!(ForecastConfig::default().history_steps(), 14 * 1440);
    }

    #[test]
    fn a_configuration_survives_being_written_and_read() {
        let config = Config { workloads: vec![checkout()], ..Config::default() };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
        assert!(serde_json::from_str::<Config>(r#"{"workload": []}"#).is_err());
    }
}
