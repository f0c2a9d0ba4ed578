//! What has been decided, and why: immutable values that say everything about themselves.

use std::fmt;

use bellwether_models::series::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::config::{Fraction, Mode};

/// The decisions of one instant, one for each workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// When it was made.
    pub made_at: Timestamp,
    /// One decision for each workload, in the order of the configuration.
    pub decisions: Vec<Decision>,
}

impl Plan {
    /// The decision on `workload`.
    #[must_use]
    pub fn of(&self, workload: &str) -> Option<&Decision> {
        self.decisions.iter().find(|d| d.workload == workload)
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.decisions.iter().all(|d| !d.changes())
    }
}

/// How many replicas one workload shall have until the next decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// `<workload>-<milliseconds since the epoch>`: the same facts at the same time give the same id.
    pub id: String,
    /// Which workload.
    pub workload: String,
    /// When it was decided.
    pub at: Timestamp,
    /// Whether it is carried out.
    pub mode: Mode,
    /// Replicas before it: those observed when decisions are carried out, else those decided before.
    pub from: Option<u32>,
    /// Replicas after it; `None` when nothing is known that a number could rest on.
    pub to: Option<u32>,
    /// Replicas really observed.
    pub observed: Option<u32>,
    /// Counterfactual: what a plain reactive autoscaler with the same target would run now.
    pub reactive: Option<u32>,
    /// The least that the reactive rule allows: the same as `reactive`, unless it may run hotter beside a forecast.
    pub floor: Option<u32>,
    /// Replicas that the forecast alone asks for, to serve when a replica asked for now would.
    pub predicted: Option<u32>,
    /// The demand behind `predicted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreseen: Option<ForeseenDemand>,
    /// What each rule advised before stabilisation and pace.
    pub advice: Advice,
    /// What will be asked for next, if demand comes as foreseen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planned: Vec<Planned>,
    /// What decided, the most telling first.
    pub reasons: Vec<Reason>,
}

/// The demand that replicas asked for now must meet when they begin to serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForeseenDemand {
    /// When it is greatest.
    pub at: Timestamp,
    /// How great, in the units of the demand query.
    pub demand: f64,
    /// Probability with which demand stays below it.
    pub quantile: f64,
}

/// A step that is planned ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// When replicas are asked for.
    pub ask_at: Timestamp,
    /// When they serve.
    pub serve_at: Timestamp,
    /// How many in all.
    pub replicas: u32,
}

impl Decision {
    /// Whether replicas change.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.to.is_some() && self.to != self.from
    }

    /// Whether it says the same as `other`: as many replicas, and the same things refused or missed. The numbers behind
    /// it may differ.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let refusals =
            |d: &Self| -> Vec<_> { d.reasons.iter().filter(|r| r.refuses()).map(std::mem::discriminant).collect() };
        self.to == other.to && refusals(self) == refusals(other)
    }
}

/// Replicas advised before stabilisation and pace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// By reactive rule and forecast together.
    pub ours: Option<u32>,
    /// By the reactive rule alone, on its own course.
    pub reactive: Option<u32>,
    /// By the reactive rule that is the floor.
    pub floor: Option<u32>,
}

/// One ground of a decision or refusal, with the numbers that decided. Displays as one plain sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// The demand of now.
    Reactive {
        /// Demand observed.
        demand: f64,
        /// Demand each replica should carry.
        per_replica: f64,
        /// Replicas that follow.
        replicas: u32,
    },
    /// The demand of now is near enough to what the replicas carry.
    WithinTolerance {
        /// Demand over what the present replicas should carry.
        ratio: f64,
        /// Deviation that is let pass.
        tolerance: f64,
    },
    /// The demand to come within start-up time.
    Forecast {
        /// When the peak is expected.
        at: Timestamp,
        /// The peak, at `quantile`.
        demand: f64,
        /// Probability with which demand stays below it.
        quantile: f64,
        /// Demand each replica may carry.
        per_replica: f64,
        /// Replicas that follow.
        replicas: u32,
        /// Model behind it.
        model: String,
    },
    /// The present replicas lie between what the demand to come asks for and what it may need.
    WithinForecast {
        /// Asked for when a replica asked for now would serve.
        least: u32,
        /// Needed at most until then.
        most: u32,
    },
    /// The forecaster would rather not say.
    ForecastAbstained {
        /// In its own words.
        why: String,
    },
    /// The forecast was made too long ago, or lies in the past.
    ForecastTooOld {
        /// Its age.
        age_seconds: f64,
    },
    /// The forecast ends before a replica asked for now would serve.
    ForecastTooShort {
        /// How far it reaches.
        reach_seconds: f64,
        /// How far it should.
        lead_seconds: f64,
    },
    /// The forecaster has been silent for so long that the reactive rule decides alone.
    FellBack {
        /// Length of the silence.
        silent_seconds: f64,
    },
    /// No outlook, or no demand in it.
    DemandUnknown,
    /// The newest demand is too old, or from the future.
    DemandTooOld {
        /// Its age.
        age_seconds: f64,
    },
    /// It is not known what a replica can serve.
    CapacityUnknown,
    /// It is not known how many replicas there are.
    ReplicasUnknown,
    /// Something is not known, so nothing is taken away.
    HoldsForLackOfFacts {
        /// Replicas that the facts at hand would have allowed.
        wanted: u32,
    },
    /// Fewer were wanted than allowed.
    AtMin {
        /// Wanted.
        wanted: u32,
        /// Allowed.
        min: u32,
    },
    /// More were wanted than allowed.
    AtMax {
        /// Wanted.
        wanted: u32,
        /// Allowed.
        max: u32,
    },
    /// Advice has not been steady for long enough.
    Stabilising {
        /// Advised now.
        wanted: u32,
        /// Followed.
        followed: u32,
        /// The window.
        window_seconds: f64,
    },
    /// The change is cut to the pace allowed.
    Paced {
        /// Wanted now.
        wanted: u32,
        /// Allowed now.
        allowed: u32,
    },
    /// What a plain reactive autoscaler would run is the least that is run.
    ReactiveFloor {
        /// That floor.
        replicas: u32,
    },
    /// People said stop.
    Paused {
        /// Who or why.
        note: String,
    },
    /// People allowed the other direction only.
    DirectionPaused {
        /// `up` or `down`.
        direction: Direction,
        /// Who or why.
        note: String,
    },
    /// We changed it just now.
    CoolingDown {
        /// Time left.
        left_seconds: f64,
    },
    /// A dependency is broken: the demand is a symptom.
    FaultIsNotDemand {
        /// The incident.
        incident: String,
        /// Its first cause.
        cause: String,
        /// How sure that is.
        confidence: f64,
        /// Replicas refused.
        wanted: u32,
    },
    /// An incident lasts, so nothing is taken away.
    IncidentOpen {
        /// The incident.
        incident: String,
    },
    /// Following the forecast has cost more than following the demand of the moment, or its quantile has not held.
    ForecastDistrusted {
        /// Cost of the one over that of the other.
        cost_ratio: f64,
        /// Share of the time in which demand stayed below the quantile.
        held: f64,
        /// What the quantile promised.
        quantile: f64,
    },
    /// A plain autoscaler of equal cost would have had fewer minutes of too few replicas than following the forecast.
    PlainDoesBetter {
        /// Over two weeks or so, following the forecast.
        forecast_minutes: f64,
        /// As the plain autoscaler.
        plain_minutes: f64,
        /// Its target utilisation, which is followed.
        target: Fraction,
    },
    /// Demand has been above capacity for longer than under the reactive rule alone.
    ActedWorse {
        /// Over the last day or so, as we acted.
        ours_minutes: f64,
        /// As the reactive rule would have.
        reactive_minutes: f64,
    },
    /// The start-up time was measured.
    StartupLearnt {
        /// Nine of ten replicas needed at most this long.
        seconds: f64,
        /// Replicas seen.
        observations: usize,
    },
    /// What a replica can serve was learnt.
    CapacityLearnt {
        /// What is reckoned with: with 95 % confidence at least this.
        per_replica: f64,
        /// Most likely.
        likely: f64,
    },
    /// Other bounds hold at this time.
    Window {
        /// Fewest replicas.
        min: u32,
        /// Most replicas.
        max: u32,
    },
    /// More were wanted than the budget allows.
    CostCapped {
        /// Wanted.
        wanted: u32,
        /// Allowed.
        allowed: u32,
        /// Replica-hours spent today.
        spent: f64,
        /// Minutes of the forecast in which that is too few.
        short_minutes: f64,
    },
    /// The maximum may be passed for a while.
    MaxRaised {
        /// The maximum.
        max: u32,
        /// As it is now.
        raised: u32,
        /// For so long still.
        left_seconds: f64,
    },
    /// A dependency is nearly full, and cannot grow enough.
    DownstreamSaturated {
        /// Which.
        dependency: String,
        /// Demand made of it.
        demand: f64,
        /// What all the replicas it may have can serve.
        capacity: f64,
        /// Replicas refused.
        wanted: u32,
    },
    /// It was deployed or configured anew just now.
    DeployFreeze {
        /// Time left.
        left_seconds: f64,
        /// Replicas refused.
        wanted: u32,
    },
    /// The plan had grown old before it could be carried out.
    PlanTooOld {
        /// Its age.
        age_seconds: f64,
    },
}

/// Up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More replicas.
    Up,
    /// Fewer replicas.
    Down,
}

impl Reason {
    /// Whether it says that something was missing or forbidden, rather than what the facts ask for.
    #[must_use]
    pub fn refuses(&self) -> bool {
        !matches!(
            self,
            Self::Reactive { .. }
                | Self::WithinTolerance { .. }
                | Self::Forecast { .. }
                | Self::WithinForecast { .. }
                | Self::AtMin { .. }
                | Self::Stabilising { .. }
                | Self::Paced { .. }
                | Self::ReactiveFloor { .. }
                | Self::StartupLearnt { .. }
                | Self::CapacityLearnt { .. }
                | Self::Window { .. }
                | Self::MaxRaised { .. }
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reactive { demand, per_replica, replicas } => {
                write!(f, "demand is {}, which at {} per replica asks for {replicas} now", n(*demand), n(*per_replica))
            }
            Self::WithinTolerance { ratio, tolerance } => {
                write!(
                    f,
                    "demand is {:.0} % of the target, within the tolerance of {:.0} %",
                    ratio * 100.0,
                    tolerance * 100.0
                )
            }
            Self::Forecast { at, demand, quantile, per_replica, replicas, model } => write!(
                f,
                "{model} expects up to {} at {} (p{}), which at {} per replica asks for {replicas}",
                n(*demand),
                clock(*at),
                n(quantile * 100.0),
                n(*per_replica)
            ),
            Self::WithinForecast { least, most } => write!(f, "the forecast asks for {least} to {most}"),
            Self::ForecastAbstained { why } => write!(f, "there is no forecast: {why}"),
            Self::ForecastTooOld { age_seconds } => write!(f, "the forecast is {} old", span(*age_seconds)),
            Self::ForecastTooShort { reach_seconds, lead_seconds } => {
                write!(
                    f,
                    "the forecast reaches {} ahead, a new replica needs {}",
                    span(*reach_seconds),
                    span(*lead_seconds)
                )
            }
            Self::FellBack { silent_seconds } => {
                write!(f, "without a forecast for {}, the reactive rule decides alone", span(*silent_seconds))
            }
            Self::DemandUnknown => f.write_str("demand is unknown, which is not zero"),
            Self::DemandTooOld { age_seconds } => write!(f, "the newest demand is {} off", span(*age_seconds)),
            Self::CapacityUnknown => f.write_str(
                "what a replica can serve is unknown: set capacity_per_replica, or let utilisation teach it",
            ),
            Self::ReplicasUnknown => f.write_str("the number of replicas is unknown"),
            Self::HoldsForLackOfFacts { wanted } => {
                write!(f, "{wanted} would do by what is known, but nothing is taken away while facts are missing")
            }
            Self::AtMin { wanted, min } => write!(f, "{wanted} would do, min is {min}"),
            Self::AtMax { wanted, max } => write!(f, "{wanted} are wanted, max is {max}"),
            Self::Stabilising { wanted, followed, window_seconds } => {
                write!(f, "{wanted} are advised now, {followed} over the last {}", span(*window_seconds))
            }
            Self::Paced { wanted, allowed } => write!(f, "{wanted} are wanted, the pace allows {allowed} for now"),
            Self::ReactiveFloor { replicas } => {
                write!(f, "the reactive rule alone would run {replicas}: never below that")
            }
            Self::Paused { note } => write!(f, "scaling is paused: {note}"),
            Self::DirectionPaused { direction, note } => write!(f, "scaling {direction} is paused: {note}"),
            Self::CoolingDown { left_seconds } => {
                write!(f, "it was changed just now; {} of cool-down left", span(*left_seconds))
            }
            Self::FaultIsNotDemand { incident, cause, confidence, wanted } => write!(
                f,
                "{wanted} refused: {cause} is broken ({:.0} % sure, incident {incident}), and retries are not demand",
                confidence * 100.0
            ),
            Self::IncidentOpen { incident } => write!(f, "incident {incident} is open: nothing is taken away"),
            Self::ForecastDistrusted { cost_ratio, held, quantile } => write!(
                f,
                "the forecast is not followed: that would have cost {} times as much as following the demand of the moment, \
                 and its p{} held {:.0} % of the time",
                n(*cost_ratio),
                n(quantile * 100.0),
                held * 100.0
            ),
            Self::PlainDoesBetter { forecast_minutes, plain_minutes, target } => write!(
                f,
                "the forecast is not followed: over two weeks replicas would have been too few for {} min, under a plain \
                 autoscaler that costs as much, at a target of {}, for {}",
                n(*forecast_minutes),
                n(target.value()),
                n(*plain_minutes)
            ),
            Self::ActedWorse { ours_minutes, reactive_minutes } => write!(
                f,
                "the forecast is not followed: replicas were too few for {} min, under the reactive rule for {}",
                n(*ours_minutes),
                n(*reactive_minutes)
            ),
            Self::StartupLearnt { seconds, observations } => {
                write!(f, "nine of ten replicas started within {} ({observations} seen)", span(*seconds))
            }
            Self::CapacityLearnt { per_replica, likely } => {
                write!(f, "a replica serves {} as learnt, most likely {}", n(*per_replica), n(*likely))
            }
            Self::Window { min, max } => write!(f, "from {min} to {max} at this time"),
            Self::CostCapped { wanted, allowed, spent, short_minutes } => write!(
                f,
                "{wanted} are wanted, the budget allows {allowed} ({} replica-hours spent today); \
                 the forecast is above that for {} min",
                n(*spent),
                n(*short_minutes)
            ),
            Self::MaxRaised { max, raised, left_seconds } => {
                write!(f, "max {max} may be passed up to {raised} for {} more", span(*left_seconds))
            }
            Self::DownstreamSaturated { dependency, demand, capacity, wanted } => write!(
                f,
                "{wanted} refused: {dependency} has a demand of {} and can serve {} at most",
                n(*demand),
                n(*capacity)
            ),
            Self::DeployFreeze { left_seconds, wanted } => {
                write!(f, "{wanted} refused: it was deployed just now; {} of freeze left", span(*left_seconds))
            }
            Self::PlanTooOld { age_seconds } => write!(f, "the plan is {} old: decide anew", span(*age_seconds)),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// `12 -> 15 replicas: reason; reason`.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (Some(from), Some(to)) if from != to => write!(f, "{}: {from} -> {to} replicas", self.workload)?,
            (_, Some(to)) => write!(f, "{}: {to} replicas", self.workload)?,
            (_, None) => write!(f, "{}: undecided", self.workload)?,
        }
        let mut separator = ": ";
        for reason in &self.reasons {
            write!(f, "{separator}{reason}")?;
            separator = "; ";
        }
        Ok(())
    }
}

/// Four significant digits, without trailing zeros.
fn n(x: f64) -> String {
    let digits = if x == 0.0 || !x.is_finite() { 0 } else { (3 - x.abs().log10().floor() as i32).clamp(0, 12) };
    let text = format!("{x:.*}", digits as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn span(seconds: f64) -> String {
    bellwether_models::duration::format(std::time::Duration::from_secs(seconds.max(0.0).round() as u64))
}

fn clock(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(t) => t.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string(),
        Err(_) => format!("{} ms", at.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_reads_as_one_plain_sentence() {
        let reason = Reason::Forecast {
            at: Timestamp::from_secs(14 * 3600 + 20 * 60),
            demand: 480.04,
            quantile: 0.95,
            per_replica: 40.0,
            replicas: 13,
            model: "arima".to_owned(),
        };
        assert_eq!(reason.to_string(), "arima expects up to 480 at 14:20 (p95), which at 40 per replica asks for 13");
    }

    #[test]
    fn numbers_keep_four_digits_at_every_scale() {
        for (x, text) in
            [(0.0, "0"), (1_234_567.0, "1234567"), (0.004_241_9, "0.004242"), (12.5, "12.5"), (f64::NAN, "NaN")]
        {
            assert_eq!(n(x), text);
        }
    }

    #[test]
    fn reasons_survive_the_way_through_json() {
        let reason = Reason::Paced { wanted: 9, allowed: 4 };
        let text = serde_json::to_string(&reason).expect("serializable");
        assert_eq!(text, r#"{"kind":"paced","wanted":9,"allowed":4}"#);
        assert_eq!(serde_json::from_str::<Reason>(&text).expect("readable"), reason);
    }
}
