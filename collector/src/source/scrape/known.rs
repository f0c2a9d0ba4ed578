//! What a target showed last time, and what therefore begins or ends now: pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};

use bellwether_models::series::{Labels, METRIC_NAME, Sample, Timestamp, stale_marker};

use super::config::Job;
use super::failure::ScrapeFailure;
use crate::metadata::{Described, MetricType};
use crate::source::exposition::{self, Entry, Exposed, ExpositionError, Format, MetadataKind};
use crate::store::{Batch, SeriesSamples};

/// The series of one target by their text. A text seen before is not taken apart again.
#[derive(Debug, Default)]
pub(super) struct Known {
    series: HashMap<Box<str>, Series>,
    round: u64,
    reported: bool,
    /// Over all that was said of the metrics last time.
    said: Option<u64>,
    hasher: hashbrown::DefaultHashBuilder,
}

#[derive(Debug)]
struct Series {
    /// Labels to store under; `None` when a rule drops the series.
    labels: Option<Labels>,
    /// The round that showed it last.
    seen: u64,
    /// Whether its end must be marked: it was written, with our time.
    live: bool,
    /// Whether the exporter gave it a time of its own.
    own_time: bool,
}

/// What a good scrape brought.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Absorbed {
    /// Samples and staleness markers.
    pub batch: Batch,
    /// Samples in the text.
    pub scraped: usize,
    /// Samples after relabeling.
    pub kept: usize,
    /// Series that were not there the time before.
    pub added: usize,
    /// Exemplars passed over.
    pub exemplars: u64,
    /// What is said of the metrics, when that changed.
    pub described: Option<Vec<Described>>,
}

/// What the target's own series say about a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Report {
    /// Whether the scrape succeeded.
    pub up: bool,
    /// How long it took.
    pub seconds: f64,
    /// See [`Absorbed`].
    pub scraped: usize,
    /// See [`Absorbed`].
    pub kept: usize,
    /// See [`Absorbed`].
    pub added: usize,
}

impl Known {
    /// Takes in the text of a scrape at `at`: its samples, and markers for the series that are gone.
    ///
    /// # Errors
    /// [`ScrapeFailure`] when the text or a limit spoils the whole scrape; [`Known::end_samples`] is due then.
    pub(super) fn absorb(
        &mut self,
        job: &Job,
        target: &Labels,
        body: &[u8],
        format: Format,
        at: Timestamp,
    ) -> Result<Absorbed, ScrapeFailure> {
        self.round += 1;
        let mut absorbed = Absorbed::default();
        absorbed.batch.reserve(self.series.len() + 5);
        let mut said = Vec::new();
        for entry in exposition::read(body, format)? {
            match entry? {
                Entry::Metadata { metric, kind, text } => said.push((metric, kind, text)),
                Entry::Sample(exposed) => {
                    absorbed.scraped += 1;
                    absorbed.exemplars += u64::from(exposed.exemplar);
                    self.take(job, target, exposed, at, &mut absorbed)?;
                }
            }
        }
        absorbed.described = self.listen(&said);
        self.mark_vanished(at, &mut absorbed.batch);
        Ok(absorbed)
    }

    fn take(
        &mut self,
        job: &Job,
        target: &Labels,
        exposed: Exposed<'_>,
        at: Timestamp,
        absorbed: &mut Absorbed,
    ) -> Result<(), ScrapeFailure> {
        if !self.series.contains_key(exposed.series) {
            let labels = labels_of(job, target, exposed)?;
            absorbed.added += usize::from(labels.is_some());
            self.series.insert(exposed.series.into(), Series { labels, seen: 0, live: false, own_time: false });
        }
        let Some(series) = self.series.get_mut(exposed.series) else { return Ok(()) };
        series.seen = self.round;
        let Some(labels) = &series.labels else { return Ok(()) };
        absorbed.kept += 1;
        if job.config.sample_limit > 0 && absorbed.kept > job.config.sample_limit {
            return Err(ScrapeFailure::SampleLimit { limit: job.config.sample_limit });
        }
        let own_time = exposed.at.filter(|_| job.config.honor_timestamps);
        series.own_time = own_time.is_some();
        let sample = Sample { at: own_time.unwrap_or(at), value: exposed.value };
        absorbed.batch.push(SeriesSamples { labels: labels.clone(), samples: vec![sample] });
        Ok(())
    }

    /// What is said of the metrics, unless it is what was said last time.
    fn listen(&mut self, said: &[(&str, MetadataKind, &str)]) -> Option<Vec<Described>> {
        let mut hasher = self.hasher.build_hasher();
        for (metric, kind, text) in said {
            (metric, *kind as u8, text).hash(&mut hasher);
        }
        let hash = Some(hasher.finish());
        if std::mem::replace(&mut self.said, hash) == hash {
            return None;
        }
        let mut all: BTreeMap<&str, Described> = BTreeMap::new();
        for (metric, kind, text) in said {
            let family =
                all.entry(metric).or_insert_with(|| Described { metric: (*metric).to_owned(), ..Described::default() });
            match kind {
                MetadataKind::Type => family.kind = MetricType::by_name(text.trim()),
                MetadataKind::Help => family.help = exposition::unescape(text).into_owned(),
                MetadataKind::Unit => family.unit = text.trim().to_owned(),
            }
        }
        Some(all.into_values().collect())
    }

    /// Marks the end of series not seen this round, and forgets them.
    fn mark_vanished(&mut self, at: Timestamp, batch: &mut Batch) {
        let round = self.round;
        let gone: Vec<Labels> = self
            .series
            .values()
            .filter(|series| series.live && series.seen != round)
            .filter_map(|series| series.labels.clone())
            .collect();
        if !gone.is_empty() {
            let present: HashSet<&Labels> = batch.iter().map(|series| &series.labels).collect();
            let markers: Batch =
                gone.into_iter().filter(|labels| !present.contains(labels)).map(|labels| marker(labels, at)).collect();
            batch.extend(markers);
        }
        self.series.retain(|_, series| series.seen == round);
        for series in self.series.values_mut() {
            series.live = series.labels.is_some() && !series.own_time;
        }
    }

    /// Markers for every live series of the text: the scrape at `at` failed.
    pub(super) fn end_samples(&mut self, at: Timestamp) -> Batch {
        let live = self.series.drain().map(|(_, series)| series).filter(|series| series.live);
        live.filter_map(|series| series.labels).map(|labels| marker(labels, at)).collect()
    }

    /// Markers for everything, the target's own series included: it is no longer scraped.
    pub(super) fn end_all(&mut self, target: &Labels, at: Timestamp) -> Batch {
        let mut batch = self.end_samples(at);
        if std::mem::take(&mut self.reported) {
            batch.extend(REPORT_NAMES.map(|name| marker(target.with(METRIC_NAME, name), at)));
        }
        batch
    }

    /// `up` and the `scrape_…` series.
    pub(super) fn report(&mut self, target: &Labels, at: Timestamp, report: Report) -> Batch {
        self.reported = true;
        let Report { up, seconds, scraped, kept, added } = report;
        let values = [f64::from(u8::from(up)), seconds, scraped as f64, kept as f64, added as f64];
        let series = |(name, value)| SeriesSamples {
            labels: target.with(METRIC_NAME, name),
            samples: vec![Sample { at, value }],
        };
        REPORT_NAMES.into_iter().zip(values).map(series).collect()
    }
}

const REPORT_NAMES: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

fn marker(labels: Labels, at: Timestamp) -> SeriesSamples {
    SeriesSamples { labels, samples: vec![Sample { at, value: stale_marker() }] }
}

fn labels_of(job: &Job, target: &Labels, exposed: Exposed<'_>) -> Result<Option<Labels>, ScrapeFailure> {
    let bad_line = |problem| ExpositionError { line: exposed.line, problem };
    let scraped = exposition::series_labels(exposed.series).map_err(bad_line)?;
    let scraped = Labels::new(scraped.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
    let merged = if job.config.honor_labels { theirs_first(&scraped, target) } else { ours_first(&scraped, target) };
    let Some(labels) = job.metric_relabeling.apply(merged) else { return Ok(None) };
    check_limits(job, &labels)?;
    Ok(Some(labels))
}

fn theirs_first(scraped: &Labels, target: &Labels) -> Labels {
    Labels::new(target.iter().chain(scraped.iter()))
}

/// A scraped label that the target has too is kept under `exported_…`.
fn ours_first(scraped: &Labels, target: &Labels) -> Labels {
    let mut merged = Labels::new(scraped.iter().chain(target.iter()));
    for (name, value) in scraped.iter().filter(|(name, _)| target.get(name).is_some()) {
        let mut moved = format!("exported_{name}");
        while merged.get(&moved).is_some() {
            moved.insert_str(0, "exported_");
        }
        merged = merged.with(&moved, value);
    }
    merged
}

fn check_limits(job: &Job, labels: &Labels) -> Result<(), ScrapeFailure> {
    let over = |what, length: usize, limit: usize| {
        let within = limit == 0 || length <= limit;
        let series = || labels.metric_name().chars().take(100).collect();
        if within { Ok(()) } else { Err(ScrapeFailure::LabelLimit { series: series(), what, length, limit }) }
    };
    let config = &job.config;
    over("labels", labels.len(), config.label_limit)?;
    for (name, value) in labels.iter() {
        over("bytes in a label name", name.len(), config.label_name_length_limit)?;
        over("bytes in a label value", value.len(), config.label_value_length_limit)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::is_stale;

    use super::super::config::jobs;
    use super::*;

    fn job(yaml: &str) -> Job {
        jobs(&[serde_saphyr::from_str(yaml).unwrap()]).unwrap().remove(0)
    }

    fn target() -> Labels {
        Labels::new([("job", "j"), ("instance", "i")])
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + seconds)
    }

    fn absorb(known: &mut Known, job: &Job, text: &str, seconds: i64) -> Result<Absorbed, ScrapeFailure> {
        known.absorb(job, &target(), text.as_bytes(), Format::Prometheus, at(seconds))
    }

    /// `name value`, or `name ends`, in order of name.
    fn told(batch: &Batch) -> Vec<String> {
        let line = |series: &SeriesSamples| {
            let value = series.samples[0].value;
            let value = if is_stale(value) { "ends".to_owned() } else { value.to_string() };
            format!("{} {value}", series.labels.metric_name())
        };
        let mut lines: Vec<String> = batch.iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_series_that_vanishes_ends_once_and_may_come_back() {
        let (mut known, job) = (Known::default(), job("job_name: j"));
        let first = absorb(&mut known, &job, "a 1\nb 2\n", 0).unwrap();
        assert_eq!((told(&first.batch), first.added), (vec!["a 1".to_owned(), "b 2".to_owned()], 2));
        let second = absorb(&mut known, &job, "a 3\n", 15).unwrap();
        assert_eq!((told(&second.batch), second.added), (vec!["a 3".to_owned(), "b ends".to_owned()], 0));
        assert_eq!(told(&absorb(&mut known, &job, "a 4\n", 30).unwrap().batch), ["a 4"]);
        let back = absorb(&mut known, &job, "a 5\nb 6\n", 45).unwrap();
        assert_eq!((told(&back.batch).len(), back.added), (2, 1));
    }

    #[test]
    fn a_scrape_that_fails_halfway_ends_what_was_there_and_starts_nothing() {
        let (mut known, job) = (Known::default(), job("job_name: j"));
        absorb(&mut known, &job, "a 1\nb 2\n", 0).unwrap();
        let failure = absorb(&mut known, &job, "a 3\nc 4\nb{\n", 15).unwrap_err();
        assert!(failure.to_string().contains("line 3"), "{failure}");
        assert_eq!(told(&known.end_samples(at(15))), ["a ends", "b ends"]);
        assert_eq!(told(&known.end_samples(at(30))), [""; 0]);
    }

    #[test]
    fn a_target_that_goes_ends_its_own_series_too() {
        let (mut known, job) = (Known::default(), job("job_name: j"));
        absorb(&mut known, &job, "a 1\n", 0).unwrap();
        let report = known.report(&target(), at(0), Report { up: true, seconds: 0.5, scraped: 1, kept: 1, added: 1 });
        assert_eq!(told(&report).last().unwrap(), "up 1");
        assert_eq!(known.end_all(&target(), at(15)).len(), 6);
        assert_eq!(known.end_all(&target(), at(30)).len(), 0);
    }

    #[test]
    fn labels_of_the_target_win_unless_the_scraped_ones_are_honored() {
        let text = "m{job=\"theirs\",exported_job=\"older\",a=\"1\"} 1\n";
        let labels =
            |yaml: &str| absorb(&mut Known::default(), &job(yaml), text, 0).unwrap().batch[0].labels.to_string();
        assert_eq!(
            labels("job_name: j"),
            r#"m{a="1",exported_exported_job="theirs",exported_job="older",instance="i",job="j"}"#
        );
        assert_eq!(
            labels("{job_name: j, honor_labels: true}"),
            r#"m{a="1",exported_job="older",instance="i",job="theirs"}"#
        );
    }

    #[test]
    fn timestamps_of_the_text_are_used_only_when_honored_and_then_never_marked() {
        let stamped = format!("m 1 {}\n", at(-5).as_millis());
        let mut known = Known::default();
        let honored = job("job_name: j");
        assert_eq!(absorb(&mut known, &honored, &stamped, 0).unwrap().batch[0].samples[0].at, at(-5));
        assert_eq!(told(&absorb(&mut known, &honored, "", 15).unwrap().batch), [""; 0]);
        let ignored = job("{job_name: j, honor_timestamps: false}");
        let batch = absorb(&mut Known::default(), &ignored, &stamped, 0).unwrap().batch;
        assert_eq!(batch[0].samples[0].at, at(0));
    }

    #[test]
    fn a_rule_may_drop_series_and_join_two_without_a_false_end() {
        let yaml = "{job_name: j, metric_relabel_configs: [{action: labeldrop, regex: pod}, \
                    {action: drop, source_labels: [__name__], regex: 'go_.*'}]}";
        let (mut known, job) = (Known::default(), job(yaml));
        let first = absorb(&mut known, &job, "m{pod=\"1\"} 1\ngo_x 1\n", 0).unwrap();
        assert_eq!((first.scraped, first.kept, told(&first.batch)), (2, 1, vec!["m 1".to_owned()]));
        assert_eq!(told(&absorb(&mut known, &job, "m{pod=\"2\"} 2\n", 15).unwrap().batch), ["m 2"]);
    }

    #[test]
    fn a_limit_fails_the_scrape_and_says_which() {
        let failed =
            |yaml: &str, text: &str| absorb(&mut Known::default(), &job(yaml), text, 0).unwrap_err().to_string();
        assert!(failed("{job_name: j, sample_limit: 1}", "a 1\nb 1\n").contains("sample_limit of 1"));
        assert!(failed("{job_name: j, label_limit: 3}", "m{a=\"1\"} 1\n").contains("4 labels"));
        let long = format!("m{{a=\"{}\"}} 1\n", "x".repeat(1 << 20));
        let message = failed("{job_name: j, label_value_length_limit: 100}", &long);
        assert!(message.contains("1048576 bytes in a label value") && message.len() < 300, "{message}");
    }
}
