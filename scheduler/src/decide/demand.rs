//! What the demand of now and the demand to come ask for.

use std::time::Duration;

use bellwether_models::forecast::{Forecast, Quantile};
use bellwether_models::outlook::{Foresight, Observed, Outlook};
use bellwether_models::series::Timestamp;

use super::bridge::Bridge;
use crate::config::{Fraction, ScaleConfig};
use crate::plan::{Planned, Reason};

/// A number of replicas and the reason for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Need {
    pub(super) replicas: u32,
    pub(super) reason: Reason,
}

/// The present, as far as it is known.
pub(super) struct Now {
    demand: f64,
    capacity: f64,
}

impl Now {
    /// Demand and capacity, or the reason why there are none.
    pub(super) fn read(outlook: Option<&Outlook>, scale: &ScaleConfig, now: Timestamp) -> Result<Self, Reason> {
        let demand = outlook.and_then(|o| o.demand).filter(|d| d.value.is_finite()).ok_or(Reason::DemandUnknown)?;
        let age = distance(now, demand.at);
        if age > scale.max_fact_age {
            return Err(Reason::DemandTooOld { age_seconds: age.as_secs_f64() });
        }
        let capacity = scale.capacity_per_replica.ok_or(Reason::CapacityUnknown)?.value();
        Ok(Self { demand: demand.value.max(0.0), capacity })
    }

    /// `demand` as the present, where a capacity is known; `None` too for a demand that is not a number.
    pub(super) fn of(demand: f64, scale: &ScaleConfig) -> Option<Self> {
        let capacity = scale.capacity_per_replica?.value();
        demand.is_finite().then_some(Self { demand: demand.max(0.0), capacity })
    }

    /// Replicas that it fills, at full load.
    pub(super) fn fills(&self) -> f64 {
        self.demand / self.capacity
    }

    /// The rule of the Horizontal Pod Autoscaler from `current` replicas, for replicas that run at `target` of their
    /// capacity; without bounds.
    pub(super) fn reactive(&self, current: Option<u32>, target: Fraction, scale: &ScaleConfig) -> Need {
        let per_replica = self.capacity * target.value();
        let replicas = replicas_for(self.demand, per_replica);
        let tolerance = scale.tolerance.value();
        if let Some(current) = current.filter(|c| *c > 0) {
            let ratio = self.demand / (per_replica * f64::from(current));
            if (ratio - 1.0).abs() <= tolerance {
                return Need { replicas: current, reason: Reason::WithinTolerance { ratio, tolerance } };
            }
        }
        Need { replicas, reason: Reason::Reactive { demand: self.demand, per_replica, replicas } }
    }
}

/// The demand to come, as far as anything can be said of it.
#[derive(Default)]
pub(super) struct Foreseen {
    /// Replicas for it.
    pub(super) band: Option<Band>,
    /// What is missing, if anything: it keeps replicas from being taken away.
    pub(super) missing: Option<Reason>,
    /// Why it is not followed, although it is there: the reactive rule decides alone.
    pub(super) distrusted: Option<Reason>,
}

/// Between too few and too many for the demand to come; both at least what is best right now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Band {
    /// What replicas asked for now must meet: the demand when they begin to serve. What comes earlier comes too soon
    /// for them.
    pub(super) raise: Need,
    /// What the present replicas are needed for: the demand until lost ones could be replaced.
    pub(super) keep: Need,
}

impl Band {
    /// The nearest to `current` that lies in the band.
    pub(super) fn nearest(self, current: Option<u32>) -> Need {
        match current {
            Some(current) if current > self.keep.replicas => self.keep,
            Some(current) if current > self.raise.replicas => {
                let (least, most) = (self.raise.replicas, self.keep.replicas);
                Need { replicas: current, reason: Reason::WithinForecast { least, most } }
            }
            _ => self.raise,
        }
    }
}

impl Foreseen {
    /// Looks from `now` until a replica asked for now serves, and on until the next decision has been made.
    pub(super) fn read(outlook: &Outlook, scale: &ScaleConfig, cadence: Duration, now: Timestamp) -> Self {
        let (forecast, model) = match &outlook.foresight {
            Foresight::Forecast { forecast, model, .. } => (forecast, model),
            Foresight::Abstained { reason } => {
                return Self::missing(Reason::ForecastAbstained { why: reason.clone() });
            }
        };
        let age = distance(now, outlook.made_at);
        if age > scale.max_fact_age {
            return Self::missing(Reason::ForecastTooOld { age_seconds: age.as_secs_f64() });
        }
        let lead = scale.startup + cadence;
        let ahead = cadence.max(scale.batch);
        let seen = outlook.demand.filter(|seen| distance(now, seen.at) <= scale.max_fact_age);
        Self {
            band: band(forecast, model, scale, seen, ahead, now),
            missing: shortfall(forecast, lead, now),
            distrusted: None,
        }
    }

    fn missing(reason: Reason) -> Self {
        Self { missing: Some(reason), ..Self::default() }
    }
}

/// `ahead` is how far beyond start-up time a decision must reach, `seen` the demand of now if it is known.
fn band(
    forecast: &Forecast,
    model: &str,
    scale: &ScaleConfig,
    seen: Option<Observed>,
    ahead: Duration,
    now: Timestamp,
) -> Option<Band> {
    let per_replica = scale.capacity_per_replica?.value() * scale.forecast_utilisation.value();
    let quantile = scale.cost.quantile();
    let path = quantile_path(forecast, quantile);
    let serving = now + scale.startup;
    let need = |(at, demand)| {
        let replicas = replicas_for(demand, per_replica);
        let (quantile, model) = (quantile.value(), model.to_owned());
        Need { replicas, reason: Reason::Forecast { at, demand, quantile, per_replica, replicas, model } }
    };
    if let Some(bridge) = Bridge::over(forecast, &path, seen, scale.startup)
        && let (Some(raise), Some(keep)) = (bridge.peak(serving, serving + ahead), bridge.peak(now, serving + ahead))
    {
        return Some(Band { raise: need(raise), keep: need(keep) });
    }
    let (at, highest) = peak(forecast, &path, now, serving + ahead)?;
    let keep = need((at, highest.max(greatest(forecast, quantile, now, serving + ahead))));
    let raise = peak(forecast, &path, serving, serving + ahead).map(need);
    Some(Band { raise: raise.unwrap_or_else(|| keep.clone()), keep })
}

/// What demand does not exceed at any time from `now` until `to`, with the probability of `quantile` or, beyond the levels at hand, of
/// the topmost: each moment's own quantile is exceeded by one moment or another more often.
fn greatest(forecast: &Forecast, quantile: Quantile, now: Timestamp, to: Timestamp) -> f64 {
    let step = forecast.step.times(1);
    // The greatest is told from the first step on: of an old forecast it may be over already.
    let Some(top) = forecast.levels.last().filter(|_| forecast.start + step > now) else { return f64::NEG_INFINITY };
    let steps = (0..forecast.horizon()).take_while(|i| forecast.time_of(*i) < to + step).count();
    let level = if quantile < *top { quantile } else { *top };
    forecast.peak(level, steps).filter(|demand| demand.is_finite()).unwrap_or(f64::NEG_INFINITY)
}

/// The path of one probability; beyond the topmost level it goes on as the tail of an exponential distribution through
/// the two topmost, as excesses over a high threshold do (Balkema and de Haan 1974, Pickands 1975; shape zero).
pub(crate) fn quantile_path(forecast: &Forecast, quantile: Quantile) -> Vec<f64> {
    let path = forecast.quantile(quantile);
    let ([.., below, top], [.., lower, upper]) = (forecast.levels.as_slice(), forecast.quantiles.as_slice()) else {
        return path;
    };
    if quantile <= *top {
        return path;
    }
    let rarer = |rare: Quantile, common: Quantile| ((1.0 - common.value()) / (1.0 - rare.value())).ln();
    let stretch = rarer(quantile, *top) / rarer(*top, *below);
    lower.iter().zip(upper).map(|(lo, hi)| hi + stretch * (hi - lo)).collect()
}

/// The highest point of `path` from `from` to `to`, with one more point on either side, since demand between two points
/// may be as high as either.
pub(crate) fn peak(forecast: &Forecast, path: &[f64], from: Timestamp, to: Timestamp) -> Option<(Timestamp, f64)> {
    let step = forecast.step.times(1);
    let points = path.iter().enumerate().map(|(i, value)| (forecast.time_of(i), *value));
    let near = points.filter(|(at, value)| *at + step > from && *at < to + step && value.is_finite());
    near.fold(None, |best, point| match best {
        Some((_, highest)) if highest >= point.1 => best,
        _ => Some(point),
    })
}

/// The reason why a forecast does not reach as far as it must.
fn shortfall(forecast: &Forecast, lead: Duration, now: Timestamp) -> Option<Reason> {
    let end = forecast.time_of(forecast.horizon().saturating_sub(1));
    let reach = end.since(now);
    if end < now || forecast.horizon() == 0 {
        return Some(Reason::ForecastTooOld { age_seconds: now.since(end).as_secs_f64() });
    }
    (reach < lead)
        .then_some(Reason::ForecastTooShort { reach_seconds: reach.as_secs_f64(), lead_seconds: lead.as_secs_f64() })
}

/// Steps that are told ahead.
const MOST_PLANNED: usize = 8;

/// What will be asked for, and when, if demand comes as foreseen.
pub(super) fn planned(outlook: &Outlook, scale: &ScaleConfig, now: Timestamp) -> Vec<Planned> {
    let Some((forecast, path, per_replica)) = usable(outlook, scale, now) else { return Vec::new() };
    let needs = path.iter().enumerate().map(|(i, demand)| {
        let serve_at = forecast.time_of(i);
        Planned {
            ask_at: serve_at - scale.startup,
            serve_at,
            replicas: replicas_for(*demand, per_replica).clamp(scale.min, scale.max),
        }
    });
    let mut steps: Vec<Planned> = needs.filter(|step| step.ask_at > now).collect();
    steps.dedup_by_key(|step| step.replicas);
    steps.truncate(MOST_PLANNED);
    steps
}

/// Minutes of the forecast in which `replicas` would be too few.
pub(super) fn short_minutes(outlook: &Outlook, scale: &ScaleConfig, replicas: u32, now: Timestamp) -> f64 {
    let Some((forecast, path, per_replica)) = usable(outlook, scale, now) else { return 0.0 };
    let short = path.iter().filter(|demand| replicas_for(**demand, per_replica) > replicas).count();
    short as f64 * forecast.step.as_secs_f64() / 60.0
}

/// The forecast with its path at the quantile of the decision, and what a replica may carry.
fn usable<'a>(outlook: &'a Outlook, scale: &ScaleConfig, now: Timestamp) -> Option<(&'a Forecast, Vec<f64>, f64)> {
    let Foresight::Forecast { forecast, .. } = &outlook.foresight else { return None };
    let fresh = distance(now, outlook.made_at) <= scale.max_fact_age;
    let per_replica = scale.capacity_per_replica.filter(|_| fresh)?.value() * scale.forecast_utilisation.value();
    let path = quantile_path(forecast, scale.cost.quantile());
    path.iter().all(|demand| demand.is_finite()).then_some((forecast, path, per_replica))
}

/// The newest replica count that is fresh and makes sense.
pub(super) fn observed_replicas(outlook: &Outlook, scale: &ScaleConfig, now: Timestamp) -> Option<(Timestamp, u32)> {
    let seen = outlook.replicas?;
    let sane = seen.value.is_finite() && (0.0..=f64::from(u32::MAX)).contains(&seen.value);
    (sane && distance(now, seen.at) <= scale.max_fact_age).then(|| (seen.at, seen.value.round() as u32))
}

/// Replicas that carry `demand`; a hair above a whole number is that number.
pub(crate) fn replicas_for(demand: f64, per_replica: f64) -> u32 {
    let exact = (demand / per_replica).max(0.0);
    (exact - exact * 1e-9).ceil() as u32 // saturates; NaN becomes 0, but demand is finite and per_replica positive
}

/// Time between two instants, whichever is later: a fact from the future is as doubtful as an old one.
fn distance(a: Timestamp, b: Timestamp) -> Duration {
    a.since(b).max(b.since(a))
}
