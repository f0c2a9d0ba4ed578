//! Which series are alive: what the series limits count, by source and metric.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bellwether_models::series::{Labels, METRIC_NAME, Timestamp};
use hashbrown::DefaultHashBuilder;

use super::spread::{Sketch, Spread};

/// From so many series on, the values of a metric's labels are counted.
const FOLLOWED_FROM: usize = 100;

/// Series by fingerprint, with the time of their latest samples and their group: about 24 bytes each.
#[derive(Default)]
pub(super) struct ActiveSeries {
    hasher: DefaultHashBuilder,
    /// For what estimates from the bits of a hash.
    sketcher: RandomState,
    seen: HashMap<u64, Seen, DefaultHashBuilder>,
    sources: Vec<Source>,
    by_name: HashMap<Box<str>, usize>,
    groups: Vec<Group>,
    free: Vec<u32>,
    swept: Option<Timestamp>,
    /// Sources with series alive.
    bringing: usize,
}

struct Seen {
    at: Timestamp,
    group: u32,
}

/// Stands for the group of a series that was active before the restart and has not been brought again yet.
const NOT_YET: u32 = u32::MAX;

/// Where series come from.
pub(super) struct Source {
    /// Its name: `remote_write`, `scrape:node`, …
    pub name: Box<str>,
    /// Series alive that it brought first.
    pub alive: usize,
    groups: HashMap<Box<str>, u32>,
    names: Sketch,
    /// Whether it was refused a new series, and when that was told last.
    pub refusing: Refusing,
}

/// The series of one metric of one source.
pub(super) struct Group {
    pub source: usize,
    pub metric: Box<str>,
    pub alive: usize,
    spread: Option<Box<Spread>>,
    pub refusing: Refusing,
}

/// How it stands with what grows without bound.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refusing {
    /// When it neared its limit or was refused, last told to an operator.
    pub told: Option<Timestamp>,
    /// When a new series of it was refused last.
    pub refused: Option<Timestamp>,
}

impl ActiveSeries {
    /// Number of series alive.
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// All sources ever seen.
    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// One source, to note how it stands.
    pub(super) fn source_mut(&mut self, index: usize) -> &mut Source {
        &mut self.sources[index]
    }

    /// The metrics of all sources.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| group.alive > 0)
    }

    /// The series of a metric of a source, if any is alive.
    pub(super) fn group_mut(&mut self, source: usize, metric: &str) -> Option<&mut Group> {
        let index = *self.sources[source].groups.get(metric)?;
        Some(&mut self.groups[index as usize])
    }

    /// As [`ActiveSeries::group_mut`], to look at.
    pub(super) fn of(&self, source: usize, metric: &str) -> Option<&Group> {
        self.sources[source].groups.get(metric).map(|index| &self.groups[*index as usize])
    }

    /// Number of series alive of a metric of a source.
    pub(super) fn of_metric(&self, source: usize, metric: &str) -> usize {
        self.of(source, metric).map_or(0, |group| group.alive)
    }

    /// What each source would have of `series`, were they shared out equally.
    pub(super) fn equal_share(&self, series: usize) -> usize {
        series / self.bringing.max(1)
    }

    /// The metric of a source with the most series.
    pub(super) fn largest(&self, source: usize) -> Option<&Group> {
        self.sources[source].groups.values().map(|index| &self.groups[*index as usize]).max_by_key(|group| group.alive)
    }

    /// The index of a source's name.
    pub(super) fn source(&mut self, name: &str) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let index = self.sources.len();
        self.by_name.insert(name.into(), index);
        self.sources.push(Source {
            name: name.into(),
            alive: 0,
            groups: HashMap::new(),
            names: Sketch::default(),
            refusing: Refusing::default(),
        });
        index
    }

    /// The key of a series; chance collisions are as rare as those of a keyed 64-bit hash.
    pub(super) fn fingerprint(&self, labels: &Labels) -> u64 {
        self.hasher.hash_one(labels)
    }

    /// Notes that the series has samples from `source` now; false when it is not alive.
    pub(super) fn touch(&mut self, fingerprint: u64, source: usize, labels: &Labels, now: Timestamp) -> bool {
        let Some(seen) = self.seen.get_mut(&fingerprint) else { return false };
        seen.at = now;
        if seen.group == NOT_YET {
            let group = self.group(source, labels.metric_name());
            self.seen.insert(fingerprint, Seen { at: now, group });
            self.join(source, group);
        }
        true
    }

    /// Counts in a series that was active before a restart.
    pub(super) fn restore(&mut self, fingerprint: u64, at: Timestamp) {
        self.seen.entry(fingerprint).or_insert(Seen { at, group: NOT_YET });
    }

    /// Notes the label values of a new series, taken in or refused.
    pub(super) fn note(&mut self, source: usize, labels: &Labels) {
        let metric = labels.metric_name();
        let hash = self.sketcher.hash_one(metric);
        self.sources[source].names.add(hash);
        let Some(index) = self.sources[source].groups.get(metric) else { return };
        let group = &mut self.groups[*index as usize];
        if group.alive >= FOLLOWED_FROM {
            group.spread.get_or_insert_default().add(&self.sketcher, labels);
        }
    }

    /// Counts a series in.
    pub(super) fn insert(&mut self, fingerprint: u64, source: usize, metric: &str, now: Timestamp) {
        let group = self.group(source, metric);
        if self.seen.insert(fingerprint, Seen { at: now, group }).is_none() {
            self.join(source, group);
        }
    }

    fn join(&mut self, source: usize, group: u32) {
        self.groups[group as usize].alive += 1;
        self.sources[source].alive += 1;
        self.bringing += usize::from(self.sources[source].alive == 1);
    }

    fn group(&mut self, source: usize, metric: &str) -> u32 {
        if let Some(index) = self.sources[source].groups.get(metric) {
            return *index;
        }
        let new = Group { source, metric: metric.into(), alive: 0, spread: None, refusing: Refusing::default() };
        let index = match self.free.pop() {
            Some(index) => {
                self.groups[index as usize] = new;
                index
            }
            None => {
                self.groups.push(new);
                u32::try_from(self.groups.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.sources[source].groups.insert(metric.into(), index);
        index
    }

    /// Counts a series out: it ended.
    pub(super) fn remove(&mut self, fingerprint: u64) {
        if let Some(seen) = self.seen.remove(&fingerprint) {
            self.leave(seen.group);
        }
    }

    fn leave(&mut self, index: u32) {
        let Some(group) = self.groups.get_mut(index as usize) else { return }; // not brought again since the restart
        let source = &mut self.sources[group.source];
        group.alive -= 1;
        source.alive -= 1;
        self.bringing -= usize::from(source.alive == 0);
        if group.alive == 0 {
            source.groups.remove(&group.metric);
            self.free.push(index);
        } else if group.alive < FOLLOWED_FROM / 2 {
            group.spread = None;
        }
    }

    /// Counts out what had no samples for `active_for`; looks at most once per eighth of that time.
    pub(super) fn sweep(&mut self, now: Timestamp, active_for: Duration) {
        let due = self.swept.is_none_or(|swept| now < swept || now.since(swept) >= active_for / 8);
        if active_for.is_zero() || !due {
            return;
        }
        let mut gone = Vec::new();
        self.seen.retain(|_, seen| {
            let keep = now.since(seen.at) < active_for;
            if !keep {
                gone.push(seen.group);
            }
            keep
        });
        gone.into_iter().for_each(|group| self.leave(group));
        self.swept = Some(now);
    }
}

impl Source {
    /// About how many metric names it used, refused ones included.
    pub(super) fn metric_names(&self) -> u64 {
        self.names.estimate()
    }
}

impl Group {
    /// The labels that make it large, and about how many values each takes.
    pub(super) fn widest(&self) -> Vec<(String, u64)> {
        self.spread.as_ref().map(|spread| spread.widest()).unwrap_or_default()
    }
}

/// Where the metric names themselves run away, `__name__`; else nothing.
pub(super) fn runaway_names(source: &Source) -> Option<(String, u64)> {
    let names = source.metric_names();
    (names >= FOLLOWED_FROM as u64 && names * 4 >= source.alive as u64).then(|| (METRIC_NAME.to_owned(), names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_counts_until_it_was_silent_for_long_enough() {
        let mut active = ActiveSeries::default();
        let (hour, start) = (Duration::from_secs(3600), Timestamp::from_secs(1_000_000));
        let source = active.source("test");
        active.sweep(start, hour);
        active.insert(1, source, "m", start);
        active.insert(2, source, "m", start);
        active.touch(2, source, &Labels::metric("m"), start + hour / 2);

        active.sweep(start + hour, hour);

        assert_eq!((active.len(), active.sources()[source].alive, active.of_metric(source, "m")), (1, 1, 1));
        let mut touched = |series| active.touch(series, source, &Labels::metric("m"), start + hour);
        assert!(touched(2) && !touched(1));
    }

    #[test]
    fn a_series_from_before_the_restart_counts_and_belongs_to_whom_brings_it_again() {
        let mut active = ActiveSeries::default();
        let (hour, start) = (Duration::from_secs(3600), Timestamp::from_secs(1_000_000));
        active.restore(1, start);
        active.restore(2, start);
        let source = active.source("test");
        assert_eq!((active.len(), active.sources()[source].alive), (2, 0));

        assert!(active.touch(1, source, &Labels::metric("m"), start + hour / 2));
        active.sweep(start + hour, hour);
        assert_eq!((active.len(), active.of_metric(source, "m")), (1, 1));
        active.remove(1);
        assert_eq!((active.len(), active.sources()[source].alive, active.groups().count()), (0, 0, 0));
    }

    #[test]
    fn a_metric_without_series_leaves_its_place_to_another() {
        let mut active = ActiveSeries::default();
        let source = active.source("test");
        for round in 0..1000u64 {
            active.insert(round, source, &format!("m{round}"), Timestamp::from_secs(0));
            active.remove(round);
        }
        assert_eq!((active.groups.len(), active.groups().count(), active.len()), (1, 0, 0));
    }
}
