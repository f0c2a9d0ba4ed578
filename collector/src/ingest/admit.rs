//! Which samples of a batch pass the limits.

use bellwether_models::series::{Labels, METRIC_NAME, Timestamp, is_stale};

use super::active::ActiveSeries;
use super::config::IngestConfig;
use super::{Receipt, Refusal};
use crate::store::{Batch, SeriesSamples};

/// The part of `batch` that passes, with the rest noted in `receipt`.
pub(super) fn admit(
    config: &IngestConfig,
    active: &mut ActiveSeries,
    now: Timestamp,
    origin: &str,
    mut batch: Batch,
    receipt: &mut Receipt,
) -> Batch {
    active.sweep(now, config.active_for);
    let origin = active.origin(origin);
    batch.retain_mut(|series| {
        drop_samples_ahead(config, now, series, receipt);
        !series.samples.is_empty() && admit_series(config, active, now, origin, series, receipt)
    });
    batch
}

/// Bytes a batch occupies while it waits, roughly: what the in-flight limit counts.
pub(super) fn weight(batch: &Batch) -> u64 {
    let of_series = |series: &SeriesSamples| {
        let labels: usize = series.labels.iter().map(|(name, value)| 40 + name.len() + value.len()).sum();
        (48 + labels + 16 * series.samples.len()) as u64
    };
    batch.iter().map(of_series).sum()
}

fn drop_samples_ahead(config: &IngestConfig, now: Timestamp, series: &mut SeriesSamples, receipt: &mut Receipt) {
    let latest = now + config.max_ahead;
    if config.max_ahead.is_zero() || series.samples.iter().all(|sample| sample.at <= latest) {
        return;
    }
    let SeriesSamples { labels, samples } = series;
    samples.retain(|sample| {
        let ahead = sample.at > latest;
        if ahead {
            receipt.refuse(Refusal::TooFarAhead, labels, 1, || {
                format!(
                    "sample at {} ms is {} s ahead of the clock",
                    sample.at.as_millis(),
                    sample.at.since(now).as_secs()
                )
            });
        }
        !ahead
    });
}

fn admit_series(
    config: &IngestConfig,
    active: &mut ActiveSeries,
    now: Timestamp,
    origin: usize,
    series: &SeriesSamples,
    receipt: &mut Receipt,
) -> bool {
    let fingerprint = active.fingerprint(&series.labels);
    let ends = series.samples.iter().max_by_key(|sample| sample.at).is_some_and(|last| is_stale(last.value));
    let known = active.touch(fingerprint, origin, now);
    if !known && let Err((refusal, detail)) = check_new(config, active, origin, &series.labels) {
        receipt.refuse(refusal, &series.labels, series.samples.len() as u64, || detail);
        return false;
    }
    match (known, ends) {
        (true, true) => active.remove(fingerprint),
        (false, false) => active.insert(fingerprint, origin, now),
        _ => {}
    }
    true
}

/// What a series not yet alive must satisfy; those alive did.
fn check_new(
    config: &IngestConfig,
    active: &ActiveSeries,
    origin: usize,
    labels: &Labels,
) -> Result<(), (Refusal, String)> {
    check_labels(config, labels)?;
    if reached(active.len(), config.max_series) {
        return Err((Refusal::SeriesLimit, format!("{} series are active, the most allowed", config.max_series)));
    }
    if reached(active.of_origin(origin), config.max_series_per_origin) {
        let most = config.max_series_per_origin;
        return Err((Refusal::OriginSeriesLimit, format!("{most} series of this origin are active, the most allowed")));
    }
    Ok(())
}

fn reached(count: usize, limit: usize) -> bool {
    limit > 0 && count >= limit
}

fn check_labels(config: &IngestConfig, labels: &Labels) -> Result<(), (Refusal, String)> {
    let over = |length: usize, limit: usize| limit > 0 && length > limit;
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
    Ok(())
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

    fn admit_with(config: &IngestConfig, active: &mut ActiveSeries, batch: Batch) -> (Batch, Receipt) {
        let mut receipt = Receipt::default();
        let admitted = admit(config, active, NOW, "test", batch, &mut receipt);
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

        let (admitted, receipt) = admit_with(&config, &mut ActiveSeries::default(), batch);

        assert_eq!(admitted, vec![one(Labels::metric("good"), 1.0)]);
        for (_, refusal) in cases {
            assert_eq!(receipt.refused_by.get(&refusal), Some(&1), "{}", refusal.name());
        }
        assert!(receipt.examples.iter().all(|example| example.len() < 500), "{:?}", receipt.examples);
    }

    #[test]
    fn beyond_the_series_limit_new_series_are_refused_and_known_ones_flow() {
        let config = IngestConfig { max_series: 2, ..IngestConfig::default() };
        let mut active = ActiveSeries::default();
        let named = |name: &str| one(Labels::metric(name), 1.0);
        admit_with(&config, &mut active, vec![named("a"), named("b")]);

        let (admitted, receipt) = admit_with(&config, &mut active, vec![named("c"), named("a")]);

        assert_eq!(admitted, vec![named("a")]);
        assert_eq!(receipt.refused_by, [(Refusal::SeriesLimit, 1)].into());
    }

    #[test]
    fn a_series_that_ended_makes_room_for_another() {
        let config = IngestConfig { max_series_per_origin: 1, ..IngestConfig::default() };
        let mut active = ActiveSeries::default();
        admit_with(&config, &mut active, vec![one(Labels::metric("a"), 1.0)]);
        admit_with(&config, &mut active, vec![one(Labels::metric("a"), stale_marker())]);

        let (admitted, receipt) = admit_with(&config, &mut active, vec![one(Labels::metric("b"), 1.0)]);

        assert_eq!((admitted.len(), receipt.refused()), (1, 0));
    }

    #[test]
    fn a_sample_too_far_ahead_is_refused_alone() {
        let mut series = one(Labels::metric("m"), 1.0);
        series.samples.push(Sample { at: NOW + std::time::Duration::from_secs(3600), value: 2.0 });

        let (admitted, receipt) = admit_with(&IngestConfig::default(), &mut ActiveSeries::default(), vec![series]);

        assert_eq!(admitted, vec![one(Labels::metric("m"), 1.0)]);
        assert_eq!(receipt.refused_by, [(Refusal::TooFarAhead, 1)].into());
    }
}
