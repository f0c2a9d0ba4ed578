//! One series of a symptom: scored sample by sample on its own history.

use std::time::Duration;

use bellwether_models::detect::{Alarms, Anomaly, Change, Maturity, Score, Shadow, Thresholds, Univariate, Watch};
use bellwether_models::series::{Labels, Timestamp, Window};
use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;

const WEEK_SECONDS: f64 = 7.0 * 86_400.0;

/// A series under watch, and when it was last heard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stream {
    watch: Watch,
    #[serde(default)]
    shadow: Shadow,
    heard: Timestamp,
}

/// What a window brought.
#[derive(Debug, PartialEq)]
pub struct Followed {
    /// Score of the newest point.
    pub score: Score,
    /// Anomalies that were open at some time in the window, as they were last seen.
    pub anomalies: Vec<Anomaly>,
    /// Where an alarm began at some multiple of the budget.
    pub alarms: Vec<(Timestamp, Alarms)>,
}

/// When anomalies open: by the budget alone, and as corrected by what was learnt from the alarms that came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bars {
    /// By the budget alone.
    pub base: Thresholds,
    /// What counts.
    pub corrected: Thresholds,
}

impl Bars {
    /// Those of `config` over `series` series, the bar raised by `correction` decades.
    #[must_use]
    pub fn new(config: &DetectionConfig, series: usize, correction: f64) -> Self {
        let base = thresholds(config, series);
        Self { base, corrected: Thresholds { opens: base.opens + correction, ..base } }
    }

    /// As many decades higher: for a series of which people said that its alarms were false.
    #[must_use]
    pub fn raised(self, by: f64) -> Self {
        let raise = |bar: Thresholds| Thresholds { opens: bar.opens + by, ..bar };
        Self { base: raise(self.base), corrected: raise(self.corrected) }
    }
}

impl Stream {
    /// A series of which nothing is known yet.
    #[must_use]
    pub fn new(series: Labels) -> Self {
        Self { watch: Watch::new(series, Univariate::default()), shadow: Shadow::default(), heard: Timestamp::MIN }
    }

    /// Scores every point of the window, gaps too.
    pub fn follow(&mut self, window: &Window, bars: &Bars) -> Followed {
        self.follow_points(window, bars, |_| true)
    }

    /// Scores the points of the window that have a value: where silence is no news.
    pub fn follow_spoken(&mut self, window: &Window, bars: &Bars) -> Followed {
        self.follow_points(window, bars, f64::is_finite)
    }

    fn follow_points(&mut self, window: &Window, bars: &Bars, counts: fn(f64) -> bool) -> Followed {
        let mut followed = Followed { score: Score::NONE, anomalies: Vec::new(), alarms: Vec::new() };
        for (index, value) in window.values.iter().enumerate().filter(|(_, value)| counts(**value)) {
            let at = window.time_of(index);
            if value.is_finite() {
                self.heard = at;
            }
            let (score, change) = self.watch.feed(at, *value, &bars.corrected);
            let alarms = self.shadow.observe(at, &score, &bars.base, &bars.corrected);
            if alarms.contains(&true) {
                followed.alarms.push((at, alarms));
            }
            followed.score = score;
            followed.note(change);
        }
        followed
    }

    /// The anomaly that lasts.
    #[must_use]
    pub fn anomaly(&self) -> Option<&Anomaly> {
        self.watch.anomaly()
    }

    /// The name under which its anomalies are known.
    #[must_use]
    pub fn series(&self) -> &Labels {
        self.watch.series()
    }

    /// How much of it is known.
    #[must_use]
    pub fn maturity(&self) -> Maturity {
        self.watch.maturity()
    }

    /// When it last had a value.
    #[must_use]
    pub fn heard(&self) -> Timestamp {
        self.heard
    }
}

impl Followed {
    fn note(&mut self, change: Option<Change>) {
        let Some(Change::Opened(anomaly) | Change::Continued(anomaly) | Change::Closed(anomaly)) = change else {
            return;
        };
        self.anomalies.retain(|known| known.onset != anomaly.onset);
        self.anomalies.push(anomaly);
    }
}

/// When an anomaly opens, so that over `series` series the budget of false alarms holds: each of the points of a week
/// gets its share of it (the bound of Bonferroni, which holds whatever the dependence among series and points).
#[must_use]
pub fn thresholds(config: &DetectionConfig, series: usize) -> Thresholds {
    let usual = Thresholds::default();
    let points = WEEK_SECONDS / config.grid().as_secs_f64() * series.max(1) as f64;
    let opens = (points / config.false_alarms_per_week).log10().max(1.0);
    Thresholds { opens, closes: usual.closes.min(opens), quiet: lasting(config, usual.quiet) }
}

/// A span of quiet that is long enough to tell on the grid of `config`.
#[must_use]
pub fn lasting(config: &DetectionConfig, span: Duration) -> Duration {
    span.max(config.grid().times(2))
}

#[cfg(test)]
mod tests {
    use bellwether_models::detect::synthetic::Noise;
    use bellwether_models::series::Step;

    use super::*;

    fn window(from_minute: i64, values: Vec<f64>) -> Window {
        Window { start: Timestamp::from_secs(from_minute * 60), step: Step::from_secs(60), values }
    }

    fn quiet(noise: &mut Noise, len: usize) -> Vec<f64> {
        (0..len).map(|_| 100.0 + noise.gaussian()).collect()
    }

    #[test]
    fn the_budget_is_shared_among_all_series_and_points() {
        let opens = |budget: f64, series| {
            let config = DetectionConfig { false_alarms_per_week: budget, ..DetectionConfig::default() };
            thresholds(&config, series).opens
        };
        assert!((opens(1.0, 1) - 10_080f64.log10()).abs() < 1e-9);
        assert!((opens(1.0, 100) - opens(1.0, 1) - 2.0).abs() < 1e-9);
        assert!((opens(10.0, 1) - opens(1.0, 1) + 1.0).abs() < 1e-9);
    }

    #[test]
    fn an_anomaly_that_came_and_went_between_two_looks_is_not_lost() {
        let mut stream = Stream::new(Labels::metric("latency"));
        let thresholds = Bars::new(&DetectionConfig::default(), 1, 0.0);
        let mut noise = Noise::new(5);
        assert_eq!(stream.follow(&window(0, quiet(&mut noise, 600)), &thresholds).anomalies, []);
        let mut values = quiet(&mut noise, 60);
        values[3] = 400.0;
        let followed = stream.follow(&window(600, values), &thresholds);
        assert_eq!(stream.anomaly(), None);
        assert_eq!(followed.anomalies.len(), 1);
        assert_eq!(followed.anomalies[0].onset, Timestamp::from_secs(603 * 60));
    }

    /// Clean signals of six kinds, one value for each point of time.
    fn clean(kind: usize, noise: &mut Noise, point: usize, last: f64) -> f64 {
        let gaussian = noise.gaussian();
        let daily = (point as f64 / 288.0 * std::f64::consts::TAU).sin();
        match kind {
            0 => 100.0 + gaussian,
            1 => 0.9 * last + gaussian,
            2 => (0.5 * gaussian).exp(),
            3 => 200.0 + 100.0 * daily + gaussian * (5.0 + 3.0 * daily),
            4 => gaussian / ((0..3).map(|_| noise.gaussian().powi(2)).sum::<f64>() / 3.0).sqrt(),
            _ => (5.0 + 5.0f64.sqrt() * gaussian).round().max(0.0),
        }
    }

    #[test]
    fn on_clean_signals_the_budget_of_false_alarms_holds() {
        const WEEK: usize = 2016;
        const WEEKS: usize = 5;
        let config = DetectionConfig { step: Duration::from_secs(300), ..DetectionConfig::default() };
        let thresholds = thresholds(&config, 12);
        let mut alarms = 0;
        for series in 0..12 {
            let mut noise = Noise::new(series as u64 * 7919 + 3);
            let mut stream = Stream::new(Labels::metric("clean"));
            let mut last = 0.0;
            for point in 0..WEEK * (1 + WEEKS) {
                last = clean(series % 6, &mut noise, point, last);
                let at = Timestamp::from_secs(point as i64 * 300);
                let change = stream.watch.feed(at, last, &thresholds).1;
                alarms += usize::from(point >= WEEK && matches!(change, Some(Change::Opened(_))));
            }
        }
        println!("{alarms} false alarms over {WEEKS} weeks and 12 series");
        assert!(alarms <= WEEKS, "{alarms} false alarms in {WEEKS} weeks");
    }
}
