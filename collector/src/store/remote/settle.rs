//! Which samples of a batch are new, as far as it is known here.
//!
//! A server lets the later value win, or takes what is there already once more; a store keeps the first and counts. So
//! the newest sample of each series is remembered: what is newer needs no question, the rest is asked for. Pure.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use bellwether_models::series::{Labels, METRIC_NAME, Sample, Timestamp};

use crate::store::{Appended, Batch, Matcher, SampleRefusal, SeriesSamples, TimeRange};

/// Series remembered at most; beyond it those silent for longest are forgotten, which costs a question when they return.
const REMEMBERED: usize = 2_000_000;

/// The newest sample of each series that passed: about 24 bytes a series.
#[derive(Debug, Default)]
pub(super) struct Newest {
    hasher: RandomState,
    samples: HashMap<u64, (i64, u64)>,
}

/// A batch taken apart.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sorted {
    /// Newer than all of their series.
    pub fresh: Batch,
    /// May be there already: only the server knows.
    pub doubtful: Batch,
}

impl Newest {
    /// Takes a batch apart. What is settled here, repeats and second values, is noted in `appended`.
    pub fn sort(&self, batch: Batch, appended: &mut Appended) -> Sorted {
        let mut sorted = Sorted::default();
        for series in tidy(batch, appended) {
            let newest = self.samples.get(&self.hasher.hash_one(&series.labels)).copied();
            let (mut fresh, mut doubtful) = (Vec::new(), Vec::new());
            for sample in series.samples {
                match newest {
                    Some((at, _)) if sample.at.as_millis() > at => fresh.push(sample),
                    Some((at, bits)) if sample.at.as_millis() == at => {
                        settle(&series.labels, sample, sample.value.to_bits() == bits, appended);
                    }
                    _ => doubtful.push(sample),
                }
            }
            put(&mut sorted.fresh, &series.labels, fresh);
            put(&mut sorted.doubtful, &series.labels, doubtful);
        }
        sorted
    }

    /// Remembers what the server, or the queue, has taken.
    pub fn note(&mut self, batch: &[SeriesSamples]) {
        for series in batch {
            let newest = series.samples.iter().max_by_key(|sample| sample.at);
            if let Some(Sample { at, value }) = newest {
                let held = self.samples.entry(self.hasher.hash_one(&series.labels)).or_insert((i64::MIN, 0));
                if at.as_millis() > held.0 {
                    *held = (at.as_millis(), value.to_bits());
                }
            }
        }
        if self.samples.len() > REMEMBERED {
            self.forget_half();
        }
    }

    fn forget_half(&mut self) {
        let mut times: Vec<i64> = self.samples.values().map(|(at, _)| *at).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        self.samples.retain(|_, (at, _)| *at > *median);
    }
}

/// Of `doubtful` samples, those that `held` lacks; the others are noted. `same` tells whether the server gave back what
/// it was given.
pub(super) fn missing(
    doubtful: Batch,
    held: &[SeriesSamples],
    same: impl Fn(f64, f64) -> bool,
    appended: &mut Appended,
) -> Batch {
    let held: HashMap<&Labels, &[Sample]> = held.iter().map(|series| (&series.labels, &*series.samples)).collect();
    let mut missing = Batch::new();
    for SeriesSamples { labels, samples } in doubtful {
        let there = held.get(&labels).copied().unwrap_or_default();
        let mut absent = Vec::new();
        for sample in samples {
            match there.binary_search_by_key(&sample.at, |held| held.at) {
                Ok(place) => settle(&labels, sample, same(sample.value, there[place].value), appended),
                Err(_) => absent.push(sample),
            }
        }
        put(&mut missing, &labels, absent);
    }
    missing
}

/// What to ask the server to learn which of `doubtful` it holds: one question, as narrow as what the series share.
pub(super) fn question(doubtful: &[SeriesSamples]) -> Option<(Vec<Matcher>, TimeRange)> {
    let mut times = doubtful.iter().flat_map(|series| &series.samples).map(|sample| sample.at);
    let first = times.next()?;
    let (from, to) = times.fold((first, first), |(from, to), at| (from.min(at), to.max(at)));
    let mut matchers = shared(doubtful);
    if !matchers.iter().any(|matcher| matcher.name == METRIC_NAME) {
        matchers.extend(any_of_names(doubtful));
    }
    Some((matchers, TimeRange { from, to }))
}

/// The batch in two parts that are each smaller; `None` where there is but one sample.
pub(super) fn halves(mut batch: Batch) -> Option<(Batch, Batch)> {
    if batch.len() > 1 {
        let second = batch.split_off(batch.len() / 2);
        return Some((batch, second));
    }
    let mut only = batch.pop()?;
    let second = only.samples.split_off(only.samples.len() / 2);
    let labels = only.labels.clone();
    (!only.samples.is_empty()).then(|| (vec![only], vec![SeriesSamples { labels, samples: second }]))
}

/// The batch in parts of about `most` samples, series whole where they fit.
pub(super) fn parts(batch: Batch, most: usize) -> Vec<Batch> {
    let mut parts = Vec::new();
    let (mut part, mut count) = (Batch::new(), 0);
    for SeriesSamples { labels, mut samples } in batch {
        while !samples.is_empty() {
            let rest = samples.split_off(samples.len().min(most - count));
            count += samples.len();
            put(&mut part, &labels, std::mem::replace(&mut samples, rest));
            if count >= most {
                parts.push(std::mem::take(&mut part));
                count = 0;
            }
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// Number of samples in a batch.
pub(super) fn count(batch: &[SeriesSamples]) -> u64 {
    batch.iter().map(|series| series.samples.len() as u64).sum()
}

/// Each series once, in order of time, of equal times the first given; the others are noted.
fn tidy(batch: Batch, appended: &mut Appended) -> Batch {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(batch.len());
    let mut tidy = Batch::with_capacity(batch.len());
    for series in batch {
        match places.get(&series.labels) {
            Some(place) => tidy[*place].samples.extend(series.samples),
            None => {
                places.insert(series.labels.clone(), tidy.len());
                tidy.push(series);
            }
        }
    }
    for SeriesSamples { labels, samples } in &mut tidy {
        samples.sort_by_key(|sample| sample.at); // stable: of equal times the first given stays first
        samples.dedup_by(|later, first| {
            let again = later.at == first.at;
            if again {
                settle(labels, *later, later.value.to_bits() == first.value.to_bits(), appended);
            }
            again
        });
    }
    tidy
}

fn settle(labels: &Labels, sample: Sample, same: bool, appended: &mut Appended) {
    if same {
        appended.repeated += 1;
    } else {
        appended.refused.push((labels.clone(), sample.at, SampleRefusal::DuplicateTimestamp));
    }
}

fn put(batch: &mut Batch, labels: &Labels, samples: Vec<Sample>) {
    if !samples.is_empty() {
        batch.push(SeriesSamples { labels: labels.clone(), samples });
    }
}

/// The pairs that all series have.
fn shared(batch: &[SeriesSamples]) -> Vec<Matcher> {
    let Some((first, others)) = batch.split_first() else { return Vec::new() };
    let everywhere = |(name, value): &(&str, &str)| others.iter().all(|o| o.labels.get(name) == Some(*value));
    first.labels.iter().filter(everywhere).map(|(name, value)| Matcher::equal(name, value)).collect()
}

fn any_of_names(batch: &[SeriesSamples]) -> Option<Matcher> {
    let mut names: Vec<String> = batch.iter().map(|series| regex::escape(series.labels.metric_name())).collect();
    names.sort_unstable();
    names.dedup();
    Matcher::regex(METRIC_NAME, names.join("|")).ok()
}

/// Brings what a server gave and what waits for it together: each series once, ascending, the server's value first.
pub(in crate::store) fn merged(held: Vec<SeriesSamples>, waiting: Vec<SeriesSamples>) -> Vec<SeriesSamples> {
    let mut all = tidy(held.into_iter().chain(waiting).collect(), &mut Appended::default());
    all.retain(|series| !series.samples.is_empty());
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

/// The newest time of a batch.
pub(super) fn newest(batch: &[SeriesSamples]) -> Option<Timestamp> {
    batch.iter().flat_map(|series| &series.samples).map(|sample| sample.at).max()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn series(name: &str, samples: &[(i64, f64)]) -> SeriesSamples {
        let sample = |(at, value): &(i64, f64)| Sample { at: Timestamp::from_millis(*at), value: *value };
        SeriesSamples { labels: Labels::metric(name), samples: samples.iter().map(sample).collect() }
    }

    #[test]
    fn only_what_is_newer_than_its_series_needs_no_question() {
        let mut newest = Newest::default();
        let mut appended = Appended::default();
        let unknown = newest.sort(vec![series("a", &[(1, 1.0)])], &mut appended);
        assert_eq!(unknown.doubtful, [series("a", &[(1, 1.0)])]);
        newest.note(&[series("a", &[(5, 5.0), (3, 3.0)])]);

        let sorted = newest.sort(vec![series("a", &[(6, 6.0), (5, 5.0), (4, 4.0), (6, 6.5), (5, 1.0)])], &mut appended);

        assert_eq!(sorted.fresh, [series("a", &[(6, 6.0)])]);
        assert_eq!(sorted.doubtful, [series("a", &[(4, 4.0)])]);
        assert_eq!((appended.repeated, appended.refused.len()), (1, 2));
    }

    #[test]
    fn what_the_server_holds_is_not_sent_again() {
        let doubtful = vec![series("a", &[(1, 1.0), (2, 2.0), (3, 3.0)]), series("b", &[(1, 1.0)])];
        let held = [series("a", &[(1, 1.0), (3, 9.0)])];
        let mut appended = Appended::default();
        let missing = missing(doubtful, &held, |a, b| a == b, &mut appended);
        assert_eq!(missing, [series("a", &[(2, 2.0)]), series("b", &[(1, 1.0)])]);
        assert_eq!((appended.repeated, appended.refused.len()), (1, 1));
    }

    #[test]
    fn the_question_is_as_narrow_as_what_the_series_share() {
        let of = |name: &str, cpu: &str| SeriesSamples {
            labels: Labels::metric(name).with("job", "node").with("cpu", cpu),
            samples: series(name, &[(7, 1.0)]).samples,
        };
        let (matchers, range) = question(&[of("a.b", "0"), of("c", "1")]).unwrap();
        let shown: Vec<String> = matchers.iter().map(|m| format!("{}~{}", m.name, m.value)).collect();
        assert_eq!(shown, ["job~node", r"__name__~a\.b|c"]);
        assert_eq!((range.from, range.to), (Timestamp::from_millis(7), Timestamp::from_millis(7)));
        assert!(question(&[]).is_none());
    }

    proptest! {
        #[test]
        fn parts_and_halves_lose_nothing(sizes in prop::collection::vec(1usize..20, 0..10), most in 1usize..15) {
            let of = |(i, n): (usize, &usize)| series(&format!("m{i}"), &(0..*n as i64).map(|t| (t, 0.0)).collect::<Vec<_>>());
            let batch: Batch = sizes.iter().enumerate().map(of).collect();
            let parts = parts(batch.clone(), most);
            prop_assert!(parts.iter().all(|part| (1..=most as u64).contains(&count(part))));
            prop_assert_eq!(merged(parts.into_iter().flatten().collect(), Vec::new()), batch.clone());
            if let Some((a, b)) = halves(batch.clone()) {
                prop_assert!(count(&a) > 0 && count(&b) > 0);
                prop_assert_eq!(merged(a, b), batch);
            } else {
                prop_assert!(count(&batch) <= 1);
            }
        }
    }
}
