//! Which samples of a batch pass the limits.

use std::collections::BTreeMap;

use bellwether_models::series::{Labels, METRIC_NAME, Timestamp, is_stale};

use super::active::ActiveSeries;
use super::config::IngestConfig;
use super::explosion::{self, Explosion};
use super::{Receipt, Refusal};
use crate::store::{Batch, SeriesSamples};

/// What decides about samples, and what it remembers.
pub(super) struct Gate {
    pub config: IngestConfig,
    pub active: ActiveSeries,
    /// Samples refused, by source and reason.
    pub refused: BTreeMap<Box<str>, BTreeMap<Refusal, u64>>,
    /// Most labels, longest name and longest value of a series let in.
    pub largest: [usize; 3],
}

impl Gate {
    pub(super) fn new(config: IngestConfig) -> Self {
        Self { config, active: ActiveSeries::default(), refused: BTreeMap::new(), largest: [0; 3] }
    }

    /// The part of `batch` that passes, with the rest noted in `receipt`, and the explosions an operator must hear of.
    pub(super) fn admit(
        &mut self,
        now: Timestamp,
        source: &str,
        mut batch: Batch,
        receipt: &mut Receipt,
    ) -> (Batch, Vec<Explosion>) {
        self.active.sweep(now, self.config.active_for);
        let source = self.active.source(source);
        let mut news = Vec::new();
        batch.retain_mut(|series| {
            drop_samples_out_of_time(&self.config, now, series, receipt);
            !series.samples.is_empty() && self.admit_series(now, source, series, receipt, &mut news)
        });
        (batch, news)
    }

    fn admit_series(
        &mut self,
        now: Timestamp,
        source: usize,
        series: &SeriesSamples,
        receipt: &mut Receipt,
        news: &mut Vec<Explosion>,
    ) -> bool {
        let fingerprint = self.active.fingerprint(&series.labels);
        let ends = series.samples.iter().max_by_key(|sample| sample.at).is_some_and(|last| is_stale(last.value));
        let known = self.active.touch(fingerprint, source, &series.labels, now);
        if !known && let Err((refusal, detail)) = self.check_new(source, &series.labels) {
            receipt.refuse(refusal, &series.labels, series.samples.len() as u64, || detail);
            self.note_refusal(now, source, &series.labels, refusal, news);
            return false;
        }
        match (known, ends) {
            (true, true) => self.active.remove(fingerprint),
            (false, false) => self.take_in(fingerprint, now, source, &series.labels, news),
            _ => {}
        }
        true
    }

    fn take_in(&mut self, fingerprint: u64, now: Timestamp, source: usize, labels: &Labels, news: &mut Vec<Explosion>) {
        let metric = labels.metric_name();
        self.active.insert(fingerprint, source, metric, now);
        self.active.note(source, labels);
        if explosion::nears(self.active.of_metric(source, metric), self.config.max_series_per_metric) {
            self.tell_of_metric(now, source, metric, news);
        }
        if explosion::nears(self.active.sources()[source].alive, self.config.max_series_per_source) {
            self.tell_of_source(now, source, news);
        }
    }

    fn note_refusal(
        &mut self,
        now: Timestamp,
        source: usize,
        labels: &Labels,
        refusal: Refusal,
        news: &mut Vec<Explosion>,
    ) {
        match refusal {
            Refusal::MetricSeriesLimit => {
                self.active.note(source, labels);
                if let Some(group) = self.active.group_mut(source, labels.metric_name()) {
                    group.refusing.refused = Some(now);
                }
                self.tell_of_metric(now, source, labels.metric_name(), news);
            }
            Refusal::SeriesLimit | Refusal::SourceSeriesLimit => {
                self.active.note(source, labels);
                self.active.source_mut(source).refusing.refused = Some(now);
                self.tell_of_source(now, source, news);
            }
            _ => {}
        }
    }

    fn tell_of_metric(&mut self, now: Timestamp, source: usize, metric: &str, news: &mut Vec<Explosion>) {
        let Some(group) = self.active.group_mut(source, metric).filter(|group| explosion::is_news(group.refusing, now))
        else {
            return;
        };
        group.refusing.told = Some(now);
        let group = self.active.of(source, metric);
        news.extend(group.and_then(|group| explosion::of_metric(&self.config, &self.active, group, now)));
    }

    fn tell_of_source(&mut self, now: Timestamp, source: usize, news: &mut Vec<Explosion>) {
        let refusing = &mut self.active.source_mut(source).refusing;
        if explosion::is_news(*refusing, now) {
            refusing.told = Some(now);
            news.extend(explosion::of_source(&self.config, &self.active, source, now));
        }
    }

    /// What a series not yet alive must satisfy; those alive did.
    fn check_new(&mut self, source: usize, labels: &Labels) -> Result<(), (Refusal, String)> {
        let config = &self.config;
        let of_labels = check_labels(config, labels)?;
        let (all, own) = (self.active.len(), self.active.sources()[source].alive);
        if reached(all, config.max_series) {
            return Err((Refusal::SeriesLimit, format!("{} series are active, the most allowed", config.max_series)));
        }
        if all >= config.max_series - config.max_series / 10 && reached(own, self.active.equal_share(config.max_series))
        {
            let detail = "the last tenth of max_series is kept for sources with less than an equal share".to_owned();
            return Err((Refusal::SeriesLimit, detail));
        }
        if reached(own, config.max_series_per_source) {
            let most = config.max_series_per_source;
            return Err((
                Refusal::SourceSeriesLimit,
                format!("{most} series of this source are active, the most allowed"),
            ));
        }
        if reached(self.active.of_metric(source, labels.metric_name()), config.max_series_per_metric) {
            let most = config.max_series_per_metric;
            let detail = format!("{most} series of this metric and source are active, the most allowed");
            return Err((Refusal::MetricSeriesLimit, detail));
        }
        for (largest, size) in self.largest.iter_mut().zip(of_labels) {
            *largest = size.max(*largest);
        }
        Ok(())
    }
}

/// Bytes a batch occupies while it waits, roughly: what the in-flight limit counts.
pub(super) fn weight(batch: &Batch) -> u64 {
    let of_series = |series: &SeriesSamples| (128 + series.labels.text_len() + 16 * series.samples.len()) as u64;
    batch.iter().map(of_series).sum()
}

fn drop_samples_out_of_time(config: &IngestConfig, now: Timestamp, series: &mut SeriesSamples, receipt: &mut Receipt) {
    let latest = if config.max_ahead.is_zero() { Timestamp::MAX } else { now + config.max_ahead };
    let earliest = if config.max_age.is_zero() { Timestamp::MIN } else { now - config.max_age };
    let in_time = |at: Timestamp| (earliest..=latest).contains(&at);
    if series.samples.iter().all(|sample| in_time(sample.at)) {
        return;
    }
    let SeriesSamples { labels, samples } = series;
    samples.retain(|sample| {
        let at = sample.at;
        let millis = at.as_millis();
        if at > latest {
            let ahead = at.since(now).as_secs();
            receipt.refuse(Refusal::TooFarAhead, labels, 1, || {
                format!("sample at {millis} ms is {ahead} s ahead of the clock")
            });
        } else if at < earliest {
            let behind = now.since(at).as_secs();
            receipt
                .refuse(Refusal::TooOld, labels, 1, || format!("sample at {millis} ms is {behind} s behind the clock"));
        }
        in_time(at)
    });
}

fn reached(count: usize, limit: usize) -> bool {
    limit > 0 && count >= limit
}

/// Number of labels, longest name and longest value.
fn check_labels(config: &IngestConfig, labels: &Labels) -> Result<[usize; 3], (Refusal, String)> {
    let over = |length: usize, limit: usize| limit > 0 && length > limit;
    let mut sizes = [labels.len(), 0, 0];
    if over(labels.len(), config.max_labels) {
        return Err((Refusal::TooManyLabels, format!("{} labels, at most {}", labels.len(), config.max_labels)));
    }
    match labels.get(METRIC_NAME) {
        None => return Err((Refusal::MetricNameMissing, "there is no __name__".to_owned())),
        Some(name) if !is_metric_name(name) => {
            return Err((Refusal::MetricNameInvalid, "use letters, digits, _ and :, no digit first".to_owned()));
        }
        Some(_) => {}
    }
    for (name, value) in labels.iter() {
        sizes = [sizes[0], sizes[1].max(name.len()), sizes[2].max(value.len())];
        if over(name.len(), config.max_label_name_bytes) {
            let detail = format!("a label name of {} bytes, at most {}", name.len(), config.max_label_name_bytes);
            return Err((Refusal::LabelNameTooLong, detail));
        }
        if !is_label_name(name) {
            return Err((
                Refusal::LabelNameInvalid,
                format!("label {name:?}: use letters, digits and _, no digit first"),
            ));
        }
        if over(value.len(), config.max_label_value_bytes) {
            let most = config.max_label_value_bytes;
            let detail = format!("the value of label {name} has {} bytes, at most {most}", value.len());
            return Err((Refusal::LabelValueTooLong, detail));
        }
    }
    Ok(sizes)
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`
pub(crate) fn is_metric_name(name: &str) -> bool {
    is_name(name, |byte| byte == b':')
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`
pub(crate) fn is_label_name(name: &str) -> bool {
    is_name(name, |_| false)
}

fn is_name(name: &str, also: impl Fn(u8) -> bool) -> bool {
    let bytes = name.as_bytes();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || also(byte);
    bytes.first().is_some_and(|first| !first.is_ascii_digit()) && bytes.iter().all(|byte| good(*byte))
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::{Sample, stale_marker};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn one(labels: Labels, value: f64) -> SeriesSamples {
        SeriesSamples { labels, samples: vec![Sample { at: NOW, value }] }
    }

    fn admit(gate: &mut Gate, batch: Batch) -> (Batch, Receipt) {
        let mut receipt = Receipt::default();
        let (admitted, _) = gate.admit(NOW, "test", batch, &mut receipt);
        (admitted, receipt)
    }

    #[test]
    fn each_bad_series_is_refused_under_its_reason_and_the_good_one_passes() {
        let config = IngestConfig { max_labels: 3, ..IngestConfig::default() };
        let many = Labels::new(["a", "b", "c"].map(|name| (name, "x"))).with(METRIC_NAME, "m");
        let cases = [
            (Labels::new([("job", "x")]), Refusal::MetricNameMissing),
            (Labels::metric("9lives"), Refusal::MetricNameInvalid),
            (Labels::metric("m").with("a-b", "x"), Refusal::LabelNameInvalid),
            (Labels::metric("m").with(&"n".repeat(2000), "x"), Refusal::LabelNameTooLong),
            (Labels::metric("m").with("a", &"v".repeat(1 << 20)), Refusal::LabelValueTooLong),
            (many, Refusal::TooManyLabels),
        ];
        let mut batch: Batch = cases.iter().map(|(labels, _)| one(labels.clone(), 1.0)).collect();
        batch.push(one(Labels::metric("good"), 1.0));

        let (admitted, receipt) = admit(&mut Gate::new(config), batch);

        assert_eq!(admitted, vec![one(Labels::metric("good"), 1.0)]);
        for (_, refusal) in cases {
            assert_eq!(receipt.refused_by.get(&refusal), Some(&1), "{}", refusal.name());
        }
        assert!(receipt.examples.iter().all(|example| example.len() < 500), "{:?}", receipt.examples);
    }

    #[test]
    fn beyond_the_series_limit_new_series_are_refused_and_known_ones_flow() {
        let config = IngestConfig { max_series: 2, ..IngestConfig::default() };
        let mut gate = Gate::new(config);
        let named = |name: &str| one(Labels::metric(name), 1.0);
        admit(&mut gate, vec![named("a"), named("b")]);

        let (admitted, receipt) = admit(&mut gate, vec![named("c"), named("a")]);

        assert_eq!(admitted, vec![named("a")]);
        assert_eq!(receipt.refused_by, [(Refusal::SeriesLimit, 1)].into());
    }

    #[test]
    fn a_series_that_ended_makes_room_for_another() {
        let config = IngestConfig { max_series_per_source: 1, ..IngestConfig::default() };
        let mut gate = Gate::new(config);
        admit(&mut gate, vec![one(Labels::metric("a"), 1.0)]);
        admit(&mut gate, vec![one(Labels::metric("a"), stale_marker())]);

        let (admitted, receipt) = admit(&mut gate, vec![one(Labels::metric("b"), 1.0)]);

        assert_eq!((admitted.len(), receipt.refused()), (1, 0));
    }

    #[test]
    fn samples_too_far_ahead_or_behind_are_refused_alone() {
        let hour = std::time::Duration::from_secs(3600);
        let config = IngestConfig { max_age: hour / 2, ..IngestConfig::default() };
        let mut series = one(Labels::metric("m"), 1.0);
        series.samples.push(Sample { at: NOW + hour, value: 2.0 });
        series.samples.push(Sample { at: NOW - hour, value: 3.0 });

        let (admitted, receipt) = admit(&mut Gate::new(config), vec![series]);

        assert_eq!(admitted, vec![one(Labels::metric("m"), 1.0)]);
        assert_eq!(receipt.refused_by, [(Refusal::TooFarAhead, 1), (Refusal::TooOld, 1)].into());
    }

    fn numbered(metric: &str, numbers: std::ops::Range<u32>) -> Batch {
        let series = |number: u32| {
            let (request, pod) = (number.to_string(), (number % 4).to_string());
            one(Labels::metric(metric).with("request_id", &request).with("pod", &pod).with("job", "web"), 1.0)
        };
        numbers.map(series).collect()
    }

    #[test]
    fn an_exploding_label_is_named_once_and_contained_while_all_else_flows() {
        let config = IngestConfig { max_series_per_metric: 1000, ..IngestConfig::default() };
        let mut gate = Gate::new(config);
        let mut receipt = Receipt::default();
        gate.admit(NOW, "app", numbered("calm", 0..50), &mut receipt);

        let (admitted, news) = gate.admit(NOW, "app", numbered("requests", 0..5000), &mut receipt);

        assert_eq!((admitted.len(), receipt.refused_by[&Refusal::MetricSeriesLimit]), (1000, 4000));
        assert_eq!(news.len(), 1, "{news:?}");
        let told = &explosion::all(&gate.config, &gate.active, NOW)[..];
        let [explosion] = told else { panic!("{told:?}") };
        assert_eq!((explosion.source.as_str(), explosion.metric.as_deref()), ("app", Some("requests")));
        assert_eq!((explosion.series, explosion.limit, explosion.contained), (1000, 1000, true));
        assert_eq!(explosion.labels.len(), 1);
        assert!(explosion.labels[0].label == "request_id" && explosion.labels[0].values > 2500, "{explosion:?}");
        let mut receipt = Receipt::default();
        let rest = [numbered("calm", 0..60), numbered("requests", 0..1000)].concat();
        let (admitted, news) = gate.admit(NOW, "app", rest, &mut receipt);
        assert_eq!((admitted.len(), receipt.refused(), news), (1060, 0, Vec::new()));
    }

    #[test]
    fn metric_names_that_run_away_are_named_as_such() {
        let config = IngestConfig { max_series_per_source: 500, ..IngestConfig::default() };
        let mut gate = Gate::new(config);
        let batch = (0..2000).map(|number| one(Labels::metric(&format!("m{number}")), 1.0)).collect();
        let (admitted, _) = admit(&mut gate, batch);
        assert_eq!(admitted.len(), 500);
        let explosions = explosion::all(&gate.config, &gate.active, NOW);
        assert_eq!((explosions[0].metric.as_ref(), explosions[0].labels[0].label.as_str()), (None, METRIC_NAME));
        assert_eq!(explosions[0].setting, "max_series_per_source");
    }

    #[test]
    fn a_source_that_fills_the_store_leaves_the_last_tenth_to_others() {
        let config = IngestConfig { max_series: 1000, max_series_per_metric: 0, ..IngestConfig::default() };
        let mut gate = Gate::new(config);
        let mut receipt = Receipt::default();
        gate.admit(NOW, "calm", numbered("calm", 0..10), &mut receipt);
        gate.admit(NOW, "noisy", numbered("noisy", 0..5000), &mut receipt);

        let mut receipt = Receipt::default();
        let (admitted, _) = gate.admit(NOW, "calm", numbered("calm", 10..90), &mut receipt);

        assert_eq!((admitted.len(), receipt.refused()), (80, 0));
    }
}
