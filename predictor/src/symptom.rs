//! One symptom of one workload: its query gives series, and each sample of them is scored once. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use bellwether_models::detect::{Alarms, Anomaly, Maturity, Score};
use bellwether_models::series::{Labels, Timestamp, Window};
use serde::{Deserialize, Serialize};

use crate::config::{Asked, DetectionConfig};
use crate::foresee::Wanted;
use crate::stream::{Bars, Stream};

/// A symptom with what was learnt of each of its series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Symptom {
    workload: String,
    #[serde(default)]
    name: String,
    query: String,
    witness: bool,
    through: Option<Timestamp>,
    streams: BTreeMap<Labels, Stream>,
}

/// What came of one look at a symptom.
#[derive(Debug, Default, PartialEq)]
pub struct Looked {
    /// Newest score of each series.
    pub scores: Vec<(Labels, Score)>,
    /// Anomalies seen, those that lasted at the end of a first look only.
    pub anomalies: Vec<Anomaly>,
    /// Series that found no room.
    pub left_out: usize,
    /// Series that gave way to others.
    pub evicted: usize,
    /// Where alarms began at some multiple of the budget.
    pub alarms: Vec<(Timestamp, Alarms)>,
}

/// Steps of silence after which a series gives way to one that speaks.
const COLD_AFTER: usize = 3;

impl Symptom {
    /// A symptom of which nothing is known yet.
    #[must_use]
    pub fn new(workload: &str, asked: &Asked) -> Self {
        let (workload, Asked { name, query, witness }) = (workload.to_owned(), asked.clone());
        Self { workload, name, query, witness, through: None, streams: BTreeMap::new() }
    }

    /// What is asked, and under which name.
    #[must_use]
    pub fn asked(&self) -> Asked {
        Asked { name: self.name.clone(), query: self.query.clone(), witness: self.witness }
    }

    /// Whether it only bears witness beside symptoms.
    #[must_use]
    pub fn is_witness(&self) -> bool {
        self.witness
    }

    /// Under which name it is known.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For each series under watch, until when the symptom as a whole has spoken.
    pub fn heard(&self) -> impl Iterator<Item = (Labels, Timestamp)> {
        let last = self.streams.values().map(Stream::heard).max();
        self.streams.values().filter_map(move |stream| Some((stream.series().clone(), last?)))
    }

    /// Whose symptom it is.
    #[must_use]
    pub fn workload(&self) -> &str {
        &self.workload
    }

    /// What is asked of the store.
    #[must_use]
    pub fn query(&self) -> &str {
        &self.query
    }

    /// How many series are scored.
    #[must_use]
    pub fn series(&self) -> usize {
        self.streams.len()
    }

    /// How much of each series is known.
    pub fn maturities(&self) -> impl Iterator<Item = Maturity> {
        self.streams.values().map(Stream::maturity)
    }

    /// Anomalies that last.
    pub fn anomalies(&self) -> impl Iterator<Item = Anomaly> {
        self.streams.values().filter_map(Stream::anomaly).cloned()
    }

    /// When there is a point that was not seen yet.
    #[must_use]
    pub fn next_wakeup(&self, config: &DetectionConfig) -> Timestamp {
        self.through.map_or(Timestamp::MIN, |through| through.floor_to(config.grid()) + config.grid().times(1))
    }

    /// The points not seen yet at `now`; `None` when there are none. A first look goes back by the warm-up, and no look
    /// goes back farther.
    #[must_use]
    pub fn wants(&self, now: Timestamp, config: &DetectionConfig) -> Option<Wanted> {
        let step = config.grid();
        let (last, most) = (now.floor_to(step), config.warm_up_steps().max(1));
        let unseen = match self.through {
            Some(through) => last.as_millis().saturating_sub(through.as_millis()) / step.as_millis(),
            None => i64::MAX,
        };
        let len = usize::try_from(unseen).unwrap_or(0).min(most);
        let start = last - step.times(len.saturating_sub(1));
        (len > 0).then_some(Wanted { start, len, history: self.through.is_none() })
    }

    /// Scores the points [wanted](Self::wants). A known series that is missing has gaps. `lenient` raises the bar of a
    /// series by decades.
    pub fn take_in(
        &mut self,
        wanted: Wanted,
        found: Vec<(Labels, Window)>,
        config: &DetectionConfig,
        bars: &Bars,
        lenient: &BTreeMap<Labels, f64>,
    ) -> Looked {
        let end = wanted.start + config.grid().times(wanted.len.saturating_sub(1));
        self.through = Some(end);
        let mut found: BTreeMap<Labels, Window> = found.into_iter().collect();
        let (left_out, evicted) = self.admit(&found, config, wanted.start);
        let mut looked = Looked { left_out, evicted, ..Looked::default() };
        for (labels, stream) in &mut self.streams {
            let window = found.remove(labels).unwrap_or_else(|| silence(wanted, config));
            let bars = bars.raised(lenient.get(stream.series()).copied().unwrap_or(0.0));
            let followed =
                if self.witness { stream.follow_spoken(&window, &bars) } else { stream.follow(&window, &bars) };
            let anomalies =
                if wanted.history { stream.anomaly().into_iter().cloned().collect() } else { followed.anomalies };
            looked.scores.push((labels.clone(), followed.score));
            looked.anomalies.extend(anomalies);
            looked.alarms.extend(followed.alarms);
        }
        self.streams.retain(|_, stream| stream.heard() + forgotten_after(config) >= end);
        looked
    }

    /// Takes up new series while there is room, and in place of those silent for longest; gives the number of those for
    /// which there was none, and of those that gave way.
    fn admit(
        &mut self,
        found: &BTreeMap<Labels, Window>,
        config: &DetectionConfig,
        start: Timestamp,
    ) -> (usize, usize) {
        let speaks = |window: &Window| window.gap_share() < 1.0;
        let new = found.iter().filter(|(labels, window)| !self.streams.contains_key(labels) && speaks(window));
        let new: Vec<Labels> = new.map(|(labels, _)| labels.clone()).collect();
        let needed = (self.streams.len() + new.len()).saturating_sub(config.max_series_per_symptom);
        let cold = self.cold(found, start - config.grid().times(COLD_AFTER));
        let evicted = cold.into_iter().take(needed).filter(|labels| self.streams.remove(labels).is_some()).count();
        let room = config.max_series_per_symptom.saturating_sub(self.streams.len());
        let left_out = new.len().saturating_sub(room);
        for labels in new.into_iter().take(room) {
            let stream = Stream::new(named(&labels, &self.name));
            self.streams.insert(labels, stream);
        }
        (left_out, evicted)
    }

    /// Series that were not heard since `since` and are not heard now either, the one silent for longest first.
    fn cold(&self, found: &BTreeMap<Labels, Window>, since: Timestamp) -> Vec<Labels> {
        let silent = |labels: &Labels| found.get(labels).is_none_or(|window| window.gap_share() >= 1.0);
        let cold = self.streams.iter().filter(|(labels, stream)| stream.heard() < since && silent(labels));
        let mut cold: Vec<(Timestamp, Labels)> =
            cold.map(|(labels, stream)| (stream.heard(), labels.clone())).collect();
        cold.sort();
        cold.into_iter().map(|(_, labels)| labels).collect()
    }
}

/// A series without a metric's name is named by the symptom it came from.
pub(crate) fn named(labels: &Labels, symptom: &str) -> Labels {
    if labels.metric_name().is_empty() { labels.with("symptom", symptom) } else { labels.clone() }
}

fn silence(wanted: Wanted, config: &DetectionConfig) -> Window {
    Window { start: wanted.start, step: config.grid(), values: vec![f64::NAN; wanted.len] }
}

/// A series that has said nothing for this long is gone for good.
fn forgotten_after(config: &DetectionConfig) -> Duration {
    config.warm_up.max(Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::Step;

    use super::*;

    fn config() -> DetectionConfig {
        DetectionConfig { warm_up: Duration::from_secs(3600), max_series_per_symptom: 2, ..DetectionConfig::default() }
    }

    fn plain(query: &str) -> Asked {
        Asked { name: query.to_owned(), query: query.to_owned(), witness: false }
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_secs(minute * 60)
    }

    fn look(symptom: &mut Symptom, minute: i64, names: &[&str]) -> Option<(Wanted, Looked)> {
        let wanted = symptom.wants(at(minute), &config())?;
        let window = Window { start: wanted.start, step: Step::from_secs(60), values: vec![1.0; wanted.len] };
        let found = names.iter().map(|name| (Labels::metric(name), window.clone())).collect();
        Some((wanted, symptom.take_in(wanted, found, &config(), &Bars::new(&config(), 1, 0.0), &BTreeMap::new())))
    }

    #[test]
    fn each_point_is_scored_once() {
        let mut symptom = Symptom::new("web", &plain("latency"));
        let (first, _) = look(&mut symptom, 1000, &["a"]).expect("a first look");
        assert_eq!(first, Wanted { start: at(941), len: 60, history: true });
        assert_eq!(look(&mut symptom, 1000, &["a"]), None);
        let (second, _) = look(&mut symptom, 1003, &["a"]).expect("three new points");
        assert_eq!(second, Wanted { start: at(1001), len: 3, history: false });
        assert_eq!(symptom.next_wakeup(&config()), at(1004));
    }

    #[test]
    fn a_long_pause_is_looked_back_on_as_far_as_the_warm_up() {
        let mut symptom = Symptom::new("web", &plain("latency"));
        look(&mut symptom, 1000, &["a"]);
        let (wanted, _) = look(&mut symptom, 5000, &["a"]).expect("new points");
        assert_eq!(wanted, Wanted { start: at(4941), len: 60, history: false });
    }

    #[test]
    fn series_beyond_the_bound_are_left_out_and_counted() {
        let mut symptom = Symptom::new("web", &plain("latency"));
        let (_, looked) = look(&mut symptom, 1000, &["a", "b", "c", "d"]).expect("a look");
        assert_eq!((looked.left_out, symptom.series()), (2, 2));
        let (_, looked) = look(&mut symptom, 1001, &["b", "a"]).expect("a look");
        assert_eq!((looked.left_out, looked.scores.len()), (0, 2));
    }

    #[test]
    fn the_series_silent_for_longest_gives_way_to_one_that_speaks() {
        let mut symptom = Symptom::new("web", &plain("latency"));
        look(&mut symptom, 1000, &["a", "b"]);
        look(&mut symptom, 1002, &["b"]);
        let (_, looked) = look(&mut symptom, 1003, &["b", "c"]).expect("a look");
        assert_eq!((looked.evicted, looked.left_out), (0, 1), "three steps of silence are a pause");
        let (_, looked) = look(&mut symptom, 1006, &["b", "c"]).expect("a look");
        assert_eq!((looked.evicted, looked.left_out), (1, 0));
        assert!(looked.scores.iter().any(|(labels, _)| *labels == Labels::metric("c")));
    }

    #[test]
    fn a_series_silent_for_a_day_makes_room() {
        let mut symptom = Symptom::new("web", &plain("latency"));
        look(&mut symptom, 1000, &["a", "b"]);
        for minute in (1060..1000 + 1440).step_by(60) {
            look(&mut symptom, minute, &["b"]);
        }
        assert_eq!(symptom.series(), 2);
        look(&mut symptom, 1000 + 1500, &["b"]);
        assert_eq!(symptom.series(), 1);
    }

    #[test]
    fn a_series_without_a_name_is_known_by_its_query() {
        let mut symptom = Symptom::new("web", &plain("sum(errors)"));
        let wanted = symptom.wants(at(1000), &config()).expect("a first look");
        let window = Window { start: wanted.start, step: Step::from_secs(60), values: vec![1.0; wanted.len] };
        let found = vec![(Labels::default(), window)];
        symptom.take_in(wanted, found, &config(), &Bars::new(&config(), 1, 0.0), &BTreeMap::new());
        let names: Vec<&Labels> = symptom.streams.values().map(Stream::series).collect();
        assert_eq!(names, [&Labels::new([("symptom", "sum(errors)")])]);
    }
}
