//! What a workload's own past teaches: how long its replicas take to start, what one of them can serve, how far its
//! forecast can be believed, and what it has cost today.
//!
//! Everything here is told what was observed and at what time, takes constant memory, and can be written down whole.

mod capacity;
mod course;
mod score;
mod spending;
mod startup;
mod trial;

use bellwether_models::outlook::{Foresight, Outlook};
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

pub use capacity::{CapacityFit, Learnt};
pub(crate) use course::Course;
pub use score::{Score, Verdict};
pub use spending::Spending;
pub use startup::StartupTimes;
pub use trial::Trial;

use crate::config::{Mode, ScaleConfig};
use crate::decide::Contest;

/// What has been learnt of one workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lesson {
    /// How long replicas take to start.
    pub startup: StartupTimes,
    /// What a replica can serve.
    pub capacity: CapacityFit,
    /// How well following the forecast would have done.
    pub score: Score,
    /// How well following it would have done beside plain autoscalers of equal cost.
    pub contest: Contest,
    /// How well acting has done.
    pub trial: Trial,
    /// What it has cost today.
    pub spending: Spending,
}

/// Replicas at one instant, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Asked for.
    pub asked: Option<u32>,
    /// What the reactive rule alone would have asked for.
    pub reactive: Option<u32>,
}

impl Lesson {
    /// Takes in what `outlook` tells at `now`. `scale` is as it holds now, with what has been learnt before.
    pub fn observe(&mut self, outlook: &Outlook, scale: &ScaleConfig, standing: Standing, now: Timestamp) {
        let fresh = |at: Timestamp| now.since(at).max(at.since(now)) <= scale.max_fact_age;
        let demand = outlook.demand.filter(|d| fresh(d.at) && d.value.is_finite());
        let count = |value: f64| (value >= 0.0 && value <= f64::from(u32::MAX)).then_some(value.round() as u32);
        let ready = outlook.running.ready.filter(|r| fresh(r.at)).and_then(|r| count(r.value));
        let seen = outlook.replicas.filter(|r| fresh(r.at)).and_then(|r| count(r.value));
        if let (Some(asked), Some(ready)) = (seen, ready) {
            self.startup.observe(now, asked, ready);
        }
        let calm = outlook.running.changed_at.is_none_or(|at| now.since(at) > scale.startup + scale.deploy_freeze);
        if let (Some(demand), Some(ready), Some(full), true) = (demand, ready, outlook.running.utilisation, calm)
            && ready > 0
            && fresh(full.at)
        {
            self.capacity.observe(full.at, demand.value.max(0.0) / f64::from(ready), full.value);
        }
        if let Some(demand) = demand {
            let forecast = match &outlook.foresight {
                Foresight::Forecast { forecast, .. } if fresh(outlook.made_at) => Some(forecast),
                _ => None,
            };
            self.score.observe(now, demand, forecast, scale);
            // While others run the replicas, what comes of it says nothing of us.
            if let Some(capacity) = scale.capacity_per_replica.filter(|_| scale.mode == Mode::Act) {
                let serving = ready.or(seen).or(standing.asked);
                self.trial.observe(now, demand.value / capacity.value(), serving, standing.reactive, scale.startup);
            }
        }
        self.spending.observe(now, seen.or(standing.asked));
    }
}
