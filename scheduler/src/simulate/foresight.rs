//! What is known at each instant of a simulation: the metric as old as it is, and a forecast made of the past alone.

use std::time::Duration;

use bellwether_models::forecast::auto::{Combination, Live};
use bellwether_models::forecast::{Fitted, Forecaster, Horizon, Quantile};
use bellwether_models::outlook::{self, Observed, Outlook, Running, Snapshot};
use bellwether_models::series::{Timestamp, Window};

use super::Setting;
use super::world::Demand;

/// Longest past that a model learns from, and longest time between two fits, as by default in the running system.
const HISTORY: Duration = Duration::from_secs(14 * 86_400);
const REFIT_AFTER: Duration = Duration::from_secs(6 * 3600);

/// The name of the simulated workload.
pub(super) const WORKLOAD: &str = "simulated";

/// See the module.
pub(super) struct Foresight<'a> {
    demand: &'a Window,
    horizon: Horizon,
    metric_age: Duration,
    foresees: bool,
    known: usize,
    fitted_at: usize,
    live: Option<Live>,
    snapshot: Snapshot,
}

impl<'a> Foresight<'a> {
    /// Forecasts cost time: they are made only when someone `foresees`.
    pub(super) fn new(demand: &'a Window, setting: &Setting, foresees: bool) -> Self {
        let reach = setting.startup + setting.cadence * 2 + setting.metric_age;
        let steps = reach.as_millis().div_ceil(demand.step.times(1).as_millis()) + 2;
        let outlook = Outlook {
            workload: WORKLOAD.to_owned(),
            made_at: demand.start,
            demand: None,
            replicas: None,
            foresight: abstained("nothing is known yet"),
            model: outlook::ModelRef::default(),
            anomalies: Vec::new(),
            running: Running::default(),
        };
        Self {
            demand,
            horizon: horizon(usize::try_from(steps).unwrap_or(usize::MAX)),
            metric_age: setting.metric_age,
            foresees,
            known: 0,
            fitted_at: 0,
            live: None,
            snapshot: Snapshot { workloads: vec![outlook], ..Snapshot::default() },
        }
    }

    /// The facts of the instant last advanced to.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Moves on to `now`: new points of the trace become known once they are as old as metrics are.
    pub(super) fn advance(&mut self, now: Timestamp, truth: &Demand) {
        self.snapshot.made_at = now;
        self.snapshot.workloads[0].made_at = now;
        let seen_at = (now - self.metric_age).max(self.demand.start);
        if let Some(value) = truth.at(seen_at) {
            self.snapshot.workloads[0].demand = Some(Observed { at: seen_at, value });
        }
        if self.foresees {
            self.look_ahead(seen_at);
        }
    }

    fn look_ahead(&mut self, seen_at: Timestamp) {
        let mut news = false;
        while self.known < self.demand.len() && self.demand.time_of(self.known) <= seen_at {
            self.learn(self.demand.values[self.known]);
            news = true;
        }
        if news {
            self.forecast();
        }
    }

    fn learn(&mut self, value: f64) {
        self.known += 1;
        if let Some(live) = &mut self.live {
            live.update(value);
        }
        let grown = self.known - self.fitted_at;
        let due = self.demand.step.times(grown) >= REFIT_AFTER || grown * 4 >= self.known;
        if due && self.known >= 8 {
            self.fit();
        }
    }

    fn fit(&mut self) {
        let length = (HISTORY.as_millis() / self.demand.step.times(1).as_millis()).max(8) as usize;
        let start = self.known.saturating_sub(length);
        let history = Window {
            start: self.demand.time_of(start),
            step: self.demand.step,
            values: self.demand.values[start..self.known].to_vec(),
        };
        self.fitted_at = self.known;
        match Combination::new(self.horizon).fit(&history) {
            Ok(live) => self.live = Some(live),
            Err(error) => {
                self.live = None;
                self.snapshot.workloads[0].foresight = abstained(&error.to_string());
            }
        }
    }

    fn forecast(&mut self) {
        if let Some(live) = &self.live {
            self.snapshot.workloads[0].foresight = outlook::Foresight::Forecast {
                forecast: live.forecast(self.horizon, &Quantile::STANDARD),
                model: "combination".to_owned(),
                scores: Vec::new(),
            };
        }
    }
}

fn abstained(reason: &str) -> outlook::Foresight {
    outlook::Foresight::Abstained { reason: reason.to_owned() }
}

fn horizon(steps: usize) -> Horizon {
    Horizon::new(steps.max(1)).unwrap_or_else(|| unreachable!("at least one step"))
}
