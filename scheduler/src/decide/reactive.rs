//! The reactive rule as a policy of its own: what a Kubernetes Horizontal Pod Autoscaler does with an average-value
//! metric, tolerance, stabilisation windows and policies included (autoscaling/v2, as its documentation describes it).

use bellwether_models::series::Timestamp;

use super::demand::Now;
use super::{Step, Track};
use crate::config::ScaleConfig;

/// See the module.
#[derive(Clone, Debug)]
pub struct Reactive {
    scale: ScaleConfig,
    track: Track,
}

impl Reactive {
    /// A course that begins at `replicas`, or at the first advice.
    #[must_use]
    pub fn new(scale: ScaleConfig, replicas: Option<u32>) -> Self {
        Self { scale, track: Track::starting_at(replicas) }
    }

    /// Replicas from `now` on, for the demand observed; without a metric (or a capacity) they stay. `None` while nothing
    /// was ever known.
    pub fn step(&mut self, demand: Option<f64>, now: Timestamp) -> Option<u32> {
        let present = demand.and_then(|demand| Now::of(demand, &self.scale));
        let Some(present) = present else { return self.track.replicas() };
        let step = Step::of(&self.track, &present, self.scale.target_utilisation, &self.scale, now);
        step.record(&mut self.track, &self.scale, now);
        Some(step.replicas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PaceConfig, PaceLimit, PacePolicy, Select};
    use std::time::Duration;

    /// A replica serves 100 at full load and shall run at half of it.
    fn scale() -> ScaleConfig {
        ScaleConfig {
            max: 1000,
            capacity_per_replica: 100.0.try_into().ok(),
            target_utilisation: 0.5.try_into().expect("a share"),
            ..ScaleConfig::default()
        }
    }

    /// Replicas at each sync, every 15 s, for a demand given at each sync.
    fn course(scale: ScaleConfig, start: u32, demand: impl IntoIterator<Item = Option<f64>>) -> Vec<u32> {
        let mut hpa = Reactive::new(scale, Some(start));
        let syncs = demand.into_iter().enumerate();
        syncs.map(|(i, d)| hpa.step(d, Timestamp::from_secs(15 * i as i64)).expect("it has a start")).collect()
    }

    fn steady(demand: f64, syncs: usize) -> Vec<Option<f64>> {
        vec![Some(demand); syncs]
    }

    fn pace(limits: &[(PaceLimit, u64)], select: Select) -> PaceConfig {
        let policy =
            |(limit, secs): &(PaceLimit, u64)| PacePolicy { limit: *limit, period: Duration::from_secs(*secs) };
        PaceConfig { stabilisation: Some(Duration::ZERO), policies: Some(limits.iter().map(policy).collect()), select }
    }

    #[test]
    fn the_ratio_of_metric_to_target_gives_the_replicas() {
        // "if the current metric value is 200m and the desired value is 100m, the number of replicas will be doubled"
        assert_eq!(course(scale(), 4, steady(400.0, 1)), [8]);
        assert_eq!(course(scale(), 4, steady(210.0, 1)), [4], "a ratio of 1.05 is within the tolerance of 0.1");
        assert_eq!(course(scale(), 4, steady(221.0, 1)), [5], "1.105 is not");
    }

    #[test]
    fn by_default_replicas_double_or_grow_by_four_each_15_seconds() {
        assert_eq!(course(scale(), 1, steady(5000.0, 6)), [5, 10, 20, 40, 80, 100]);
    }

    #[test]
    fn by_default_replicas_go_down_after_five_minutes_all_at_once() {
        let replicas = course(scale(), 80, steady(1000.0, 22));
        assert_eq!(replicas[..20], [80; 20]);
        assert_eq!(replicas[20..], [20, 20]);
    }

    #[test]
    fn the_greatest_advice_of_the_window_is_followed_on_the_way_down() {
        let dip_and_return = [steady(1000.0, 10), steady(2000.0, 1), steady(1000.0, 21)].concat();
        let replicas = course(scale(), 80, dip_and_return);
        assert_eq!(replicas[20..30], [40; 10], "forty, advised 150 s later, holds for its own five minutes");
        assert_eq!(replicas[30], 20);
    }

    #[test]
    fn a_missing_metric_changes_nothing() {
        let demand = [steady(200.0, 1), vec![None; 40], steady(200.0, 1)].concat();
        assert_eq!(course(scale(), 4, demand), [4; 42]);
    }

    #[test]
    fn ten_percent_a_minute_downwards_from_eighty() {
        // The example of the documentation: 80 replicas, 10 % in 60 s: 72 after the first minute, 65 after the second.
        let down = pace(&[(PaceLimit::Percent(10), 60)], Select::Max);
        let replicas = course(ScaleConfig { scale_down: down, ..scale() }, 80, steady(500.0, 13));
        assert_eq!([replicas[0], replicas[3], replicas[4], replicas[8], replicas[12]], [72, 72, 64, 57, 51]);
    }

    #[test]
    fn of_several_policies_the_greatest_the_least_or_none_counts() {
        let limits = [(PaceLimit::Replicas(4), 60), (PaceLimit::Percent(10), 60)];
        let first = |select| {
            let scale = ScaleConfig { scale_down: pace(&limits, select), ..scale() };
            course(scale, 80, steady(500.0, 1))[0]
        };
        assert_eq!((first(Select::Max), first(Select::Min), first(Select::Disabled)), (72, 76, 80));
    }

    #[test]
    fn an_upward_window_follows_the_least_advice() {
        let mut scale = scale();
        scale.scale_up.stabilisation = Some(Duration::from_secs(60));
        let spike = [steady(200.0, 5), steady(900.0, 2), steady(200.0, 5)].concat();
        assert_eq!(course(scale, 4, spike), [4; 12]);
    }
}
