//! Whether following the forecast would have been the better advice: judged by what came, on this very workload.
//!
//! At each look two bids are noted for the time when a replica asked for now would serve: the forecast's quantile, and
//! what the reactive rule would provide for, which is the demand of now over its target. When that time comes, both are
//! charged with the costs of too little and too much (the pinball loss of the decision's own quantile: Koenker and Bassett
//! 1978), and the share of quantiles that held is counted.

use std::collections::VecDeque;
use std::time::Duration;

use bellwether_models::accuracy::pinball;
use bellwether_models::forecast::{Forecast, Quantile};
use bellwether_models::outlook::Observed;
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{ScaleConfig, TrustConfig};
use crate::decide::bridge::Bridge;
use crate::decide::demand::{peak, quantile_path};

/// Bids noted in one start-up time; neighbours would tell nothing new.
const BIDS: u32 = 4;
/// No bid is for a time nearer than this: it would be over before the next look.
const LEAST_LEAD: Duration = Duration::from_secs(30);
/// Bids waiting for their outcome.
const MOST_WAITING: usize = 64;
/// Weight of independent outcomes, one for each start-up time, below which nothing is judged.
const ENOUGH: f64 = 8.0;
/// Outcomes, one for each start-up time, after which one has lost half its weight.
const HALF_LIFE: f64 = 48.0;

/// How the forecast has done, fading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Score {
    waiting: VecDeque<Bid>,
    weight: f64,
    forecast_cost: f64,
    reactive_cost: f64,
    held: f64,
    believed: bool,
}

/// What was provided for at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bid {
    made: Timestamp,
    due: Timestamp,
    forecast: f64,
    reactive: f64,
    quantile: f64,
}

/// How the forecast stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Whether it is believed.
    pub believed: bool,
    /// Cost of following it over that of following the demand of the moment; 1 while nothing is known.
    pub cost_ratio: f64,
    /// Share of its quantiles that held.
    pub held: f64,
    /// Independent outcomes behind that.
    pub outcomes: f64,
}

impl Default for Score {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            weight: 0.0,
            forecast_cost: 0.0,
            reactive_cost: 0.0,
            held: 0.0,
            believed: true,
        }
    }
}

impl Score {
    /// Takes in the demand observed, and what `forecast` says of the time when a replica asked for now would serve.
    pub fn observe(&mut self, now: Timestamp, demand: Observed, forecast: Option<&Forecast>, scale: &ScaleConfig) {
        self.settle(demand);
        if let Some(forecast) = forecast {
            self.bid(now, demand, forecast, scale);
        }
    }

    /// Judges anew. Once it is not believed, a forecast must do better than what it was given up for.
    pub fn judge(&mut self, quantile: Quantile, how: &TrustConfig) -> Verdict {
        let mut verdict = self.verdict();
        if verdict.outcomes >= ENOUGH {
            let (worst_ratio, slack) = match self.believed {
                true => (how.cost_ratio, how.shortfall),
                false => (how.cost_ratio.sqrt(), how.shortfall / 2.0),
            };
            let p = quantile.value();
            let chance = 2.0 * (p * (1.0 - p) / verdict.outcomes).sqrt();
            self.believed = verdict.cost_ratio <= worst_ratio && verdict.held >= p - chance - slack;
        }
        verdict.believed = self.believed || !how.enabled;
        verdict
    }

    /// As last judged.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mean = |sum: f64| if self.weight > 0.0 { sum / self.weight } else { 0.0 };
        let ratio = match (self.forecast_cost, self.reactive_cost) {
            (ours, _) if ours <= 0.0 => 1.0,
            (ours, reactive) => (ours / reactive.max(f64::MIN_POSITIVE)).min(1e6),
        };
        let outcomes = self.weight / f64::from(BIDS);
        Verdict { believed: self.believed, cost_ratio: ratio, held: mean(self.held), outcomes }
    }

    fn settle(&mut self, demand: Observed) {
        while let Some(bid) = self.waiting.front().copied().filter(|bid| bid.due <= demand.at) {
            self.waiting.pop_front();
            let late = demand.at.since(bid.due);
            if late.saturating_mul(2) <= bid.due.since(bid.made) {
                self.charge(bid, demand.value.max(0.0));
            }
        }
    }

    fn charge(&mut self, bid: Bid, came: f64) {
        let Ok(quantile) = Quantile::try_from(bid.quantile) else { return };
        let fade = 0.5f64.powf(1.0 / (HALF_LIFE * f64::from(BIDS)));
        let news = [1.0, pinball(quantile, came, bid.forecast), pinball(quantile, came, bid.reactive)];
        for (sum, new) in [&mut self.weight, &mut self.forecast_cost, &mut self.reactive_cost].into_iter().zip(news) {
            *sum = *sum * fade + new;
        }
        self.held = self.held * fade + f64::from(u8::from(came <= bid.forecast));
    }

    fn bid(&mut self, now: Timestamp, demand: Observed, forecast: &Forecast, scale: &ScaleConfig) {
        let lead = scale.startup.max(LEAST_LEAD);
        let apart = lead / BIDS;
        if self.waiting.back().is_some_and(|last| now < last.made + apart) || self.waiting.len() >= MOST_WAITING {
            return;
        }
        let due = now + lead;
        let quantile = scale.cost.quantile();
        let Some(bid) = foreseen(forecast, &quantile_path(forecast, quantile), demand, due, scale.startup) else {
            return;
        };
        let reactive = demand.value.max(0.0) / scale.target_utilisation.value();
        self.waiting.push_back(Bid { made: now, due, forecast: bid, reactive, quantile: quantile.value() });
    }
}

/// What a decision would take for the demand at `due`: between two points that lie close, the greater.
fn foreseen(forecast: &Forecast, path: &[f64], seen: Observed, due: Timestamp, startup: Duration) -> Option<f64> {
    if let Some(bridge) = Bridge::over(forecast, path, Some(seen), startup) {
        return bridge.peak(due, due).map(|(_, value)| value);
    }
    peak(forecast, path, due, due).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::Step;

    use super::*;

    fn scale() -> ScaleConfig {
        ScaleConfig { startup: Duration::from_secs(240), ..ScaleConfig::default() }
    }

    /// Demand swings over an hour; the forecast says `share` of what will come.
    fn run(score: &mut Score, minutes: std::ops::Range<i64>, share: f64) {
        let demand = |minute: i64| 100.0 + 50.0 * (minute as f64 / 60.0 * std::f64::consts::TAU).sin();
        for minute in minutes {
            let at = Timestamp::from_secs(60 * minute);
            let path: Vec<f64> = (1..=10).map(|ahead| share * demand(minute + ahead)).collect();
            let forecast = Forecast {
                start: Timestamp::from_secs(60 * (minute + 1)),
                step: Step::from_secs(60),
                mean: path.clone(),
                levels: Quantile::STANDARD.to_vec(),
                quantiles: vec![path; 4],
                peaks: vec![],
            };
            score.observe(at, Observed { at, value: demand(minute) }, Some(&forecast), &scale());
        }
    }

    fn judge(score: &mut Score) -> bool {
        score.judge(scale().cost.quantile(), &TrustConfig::default()).believed
    }

    #[test]
    fn a_forecast_that_comes_true_is_believed_and_one_that_says_half_or_thrice_is_not() {
        for (share, believed) in [(1.1, true), (0.5, false), (5.0, false)] {
            let mut score = Score::default();
            run(&mut score, 0..240, share);
            assert_eq!(judge(&mut score), believed, "{share}: {:?}", score.verdict());
        }
    }

    #[test]
    fn nothing_is_judged_before_enough_has_come() {
        let mut score = Score::default();
        run(&mut score, 0..30, 0.5);
        assert!(judge(&mut score), "{:?}", score.verdict());
    }

    #[test]
    fn belief_comes_back_later_than_it_went() {
        let mut score = Score::default();
        run(&mut score, 0..240, 1.1);
        assert!(judge(&mut score));
        let mut lost = None;
        for hour in 4..12 {
            run(&mut score, hour * 60..(hour + 1) * 60, 0.5);
            lost = lost.or((!judge(&mut score)).then_some(hour - 3));
        }
        let mut back = None;
        for hour in 12..80 {
            run(&mut score, hour * 60..(hour + 1) * 60, 1.1);
            back = back.or(judge(&mut score).then_some(hour - 11));
        }
        let (lost, back) = (lost.expect("lost"), back.expect("won back"));
        assert!(back > lost, "lost after {lost} h, back after {back} h");
    }

    #[test]
    fn it_can_be_told_to_believe_always() {
        let mut score = Score::default();
        run(&mut score, 0..240, 0.5);
        let how = TrustConfig { enabled: false, ..TrustConfig::default() };
        assert!(score.judge(scale().cost.quantile(), &how).believed);
    }
}
