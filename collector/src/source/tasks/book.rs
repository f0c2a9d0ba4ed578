//! Which tasks wait and run, and what was counted of them: pure.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bellwether_models::series::{Labels, METRIC_NAME, Sample, Timestamp};

use super::{Happening, Resources, TaskEvent};
use crate::store::{Batch, SeriesSamples};

/// Upper bounds of the histograms in seconds: from short jobs to a day.
const BOUNDS: [f64; 16] =
    [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0, 86_400.0];

/// Ended tasks remembered, so that an event told twice counts once.
const MAX_ENDED: usize = 10_000;

/// Different reasons counted apart in a group; further ones count as `other`.
const MAX_REASONS: usize = 20;

/// All tasks that are followed, and the totals of their groups.
#[derive(Debug, Default)]
pub(super) struct Book {
    max_tasks: usize,
    waiting: HashMap<String, Waiting>,
    running: HashMap<String, Running>,
    ended: HashSet<String>,
    ended_in_order: VecDeque<String>,
    groups: BTreeMap<String, Totals>,
    /// Places a task ever ran at, so that an empty one shows 0.
    places: BTreeMap<(String, String), Load>,
}

#[derive(Debug)]
struct Waiting {
    group: String,
    since: Timestamp,
}

#[derive(Debug)]
struct Running {
    place: (String, String),
    since: Timestamp,
    seen: Timestamp,
    resources: Resources,
    progress: f64,
}

#[derive(Debug, Default)]
struct Totals {
    submitted: u64,
    finished: u64,
    lost: u64,
    failed: BTreeMap<String, u64>,
    wait: Histogram,
    duration: Histogram,
}

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    running: u64,
    cpu_cores: f64,
    memory_bytes: f64,
    progress: f64,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn observe(&mut self, seconds: f64) {
        for (bucket, bound) in self.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum += seconds;
    }
}

impl Book {
    pub(super) fn new(max_tasks: usize) -> Self {
        Self { max_tasks, ..Self::default() }
    }

    /// Whether so many more tasks could be followed.
    pub(super) fn has_room_for(&self, tasks: usize) -> bool {
        self.waiting.len() + self.running.len() + tasks <= self.max_tasks
    }

    /// Enters what happened at `at`. What is known already changes nothing.
    pub(super) fn enter(&mut self, event: &TaskEvent, at: Timestamp) {
        if self.ended.contains(&event.task) {
            return;
        }
        match event.event {
            Happening::Submitted => self.submitted(event, at),
            Happening::Started => self.started(event, at),
            Happening::Heartbeat | Happening::Progress => self.started(event, at),
            Happening::Finished | Happening::Failed => self.ended(event, at),
        }
    }

    fn submitted(&mut self, event: &TaskEvent, at: Timestamp) {
        if self.waiting.contains_key(&event.task) || self.running.contains_key(&event.task) {
            return;
        }
        self.waiting.insert(event.task.clone(), Waiting { group: event.group.clone(), since: at });
        self.totals(&event.group).submitted += 1;
    }

    /// A sign of life starts a task too: we may have come later than it.
    fn started(&mut self, event: &TaskEvent, at: Timestamp) {
        if let Some(waiting) = self.waiting.remove(&event.task) {
            self.totals(&waiting.group).wait.observe(at.since(waiting.since).as_secs_f64());
        }
        let place = (event.group.clone(), event.node.clone());
        self.places.entry(place.clone()).or_default();
        let running = self.running.entry(event.task.clone()).or_insert_with(|| Running {
            place,
            since: at,
            seen: at,
            resources: event.resources,
            progress: 0.0,
        });
        running.seen = running.seen.max(at);
        running.progress = event.progress.filter(|progress| progress.is_finite()).unwrap_or(running.progress);
    }

    fn ended(&mut self, event: &TaskEvent, at: Timestamp) {
        let waiting = self.waiting.remove(&event.task);
        let running = self.running.remove(&event.task);
        let group = match (&running, waiting) {
            (Some(running), _) => running.place.0.clone(),
            (None, Some(waiting)) => waiting.group,
            (None, None) => event.group.clone(),
        };
        let totals = self.totals(&group);
        if let Some(running) = running {
            totals.duration.observe(at.since(running.since).as_secs_f64());
        }
        match event.event {
            Happening::Failed => totals.count_failure(&event.reason),
            _ => totals.finished += 1,
        }
        self.remember_end(event.task.clone());
    }

    fn remember_end(&mut self, task: String) {
        if self.ended_in_order.len() >= MAX_ENDED
            && let Some(oldest) = self.ended_in_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        self.ended.insert(task.clone());
        self.ended_in_order.push_back(task);
    }

    /// Gives up running tasks that were last heard of before `since`.
    pub(super) fn count_lost(&mut self, since: Timestamp) {
        let groups = &mut self.groups;
        self.running.retain(|_, running| {
            let lost = running.seen < since;
            if lost {
                groups.entry(running.place.0.clone()).or_default().lost += 1;
            }
            !lost
        });
    }

    fn totals(&mut self, group: &str) -> &mut Totals {
        self.groups.entry(group.to_owned()).or_default()
    }

    /// All metrics at one time.
    pub(super) fn samples(&self, at: Timestamp) -> Batch {
        let mut told = Told { at, batch: Batch::new() };
        let mut waiting: BTreeMap<&str, u64> = self.groups.keys().map(|group| (group.as_str(), 0)).collect();
        for task in self.waiting.values() {
            *waiting.entry(&task.group).or_default() += 1;
        }
        for (group, count) in waiting {
            told.number("bellwether_tasks_waiting", &[("group", group)], count as f64);
        }
        for (group, totals) in &self.groups {
            totals.tell(group, &mut told);
        }
        for ((group, node), load) in self.loads() {
            load.tell(&[("group", &group), ("node", &node)], &mut told);
        }
        told.batch
    }

    fn loads(&self) -> BTreeMap<(String, String), Load> {
        let mut loads = self.places.clone();
        for running in self.running.values() {
            let load = loads.entry(running.place.clone()).or_default();
            load.running += 1;
            load.cpu_cores += running.resources.cpu_cores;
            load.memory_bytes += running.resources.memory_bytes;
            load.progress += running.progress;
        }
        loads
    }
}

impl Totals {
    fn count_failure(&mut self, reason: &str) {
        let known = self.failed.contains_key(reason) || self.failed.len() < MAX_REASONS;
        *self.failed.entry(if known { reason } else { "other" }.to_owned()).or_default() += 1;
    }

    fn tell(&self, group: &str, told: &mut Told) {
        let labels = [("group", group)];
        told.number("bellwether_tasks_submitted_total", &labels, self.submitted as f64);
        told.number("bellwether_tasks_finished_total", &labels, self.finished as f64);
        told.number("bellwether_tasks_lost_total", &labels, self.lost as f64);
        for (reason, count) in &self.failed {
            told.number("bellwether_tasks_failed_total", &[("group", group), ("reason", reason)], *count as f64);
        }
        told.histogram("bellwether_task_wait_seconds", &labels, &self.wait);
        told.histogram("bellwether_task_duration_seconds", &labels, &self.duration);
    }
}

impl Load {
    fn tell(&self, labels: &[(&str, &str)], told: &mut Told) {
        told.number("bellwether_tasks_running", labels, self.running as f64);
        told.number("bellwether_tasks_promised_cpu_cores", labels, self.cpu_cores);
        told.number("bellwether_tasks_promised_memory_bytes", labels, self.memory_bytes);
        told.number("bellwether_tasks_progress_sum", labels, self.progress);
    }
}

struct Told {
    at: Timestamp,
    batch: Batch,
}

impl Told {
    fn number(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels = Labels::new(labels.iter().copied().chain([(METRIC_NAME, name)]));
        self.batch.push(SeriesSamples { labels, samples: vec![Sample { at: self.at, value }] });
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        let counts = histogram.buckets.iter().chain([&histogram.count]);
        for (bound, count) in bounds.zip(counts) {
            let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.number(&format!("{name}_bucket"), &labels, *count as f64);
        }
        self.number(&format!("{name}_sum"), labels, histogram.sum);
        self.number(&format!("{name}_count"), labels, histogram.count as f64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(task: &str, happening: Happening) -> TaskEvent {
        TaskEvent {
            task: task.to_owned(),
            event: happening,
            at: None,
            group: "batch".to_owned(),
            node: "n1".to_owned(),
            resources: Resources { cpu_cores: 2.0, memory_bytes: 1e9 },
            progress: None,
            reason: "oom".to_owned(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + seconds)
    }

    fn value(book: &Book, name: &str) -> f64 {
        let batch = book.samples(at(0));
        let found = batch.iter().find(|series| {
            let label = series.labels.without(|label| !matches!(label, METRIC_NAME | "le" | "reason"));
            label.to_string() == name
        });
        found.unwrap_or_else(|| panic!("{name} is not among {batch:#?}")).samples[0].value
    }

    #[test]
    fn a_task_is_counted_from_queue_to_end() {
        let mut book = Book::new(10);
        book.enter(&event("a", Happening::Submitted), at(0));
        assert_eq!(value(&book, "bellwether_tasks_waiting"), 1.0);
        book.enter(&event("a", Happening::Started), at(4));
        assert_eq!(value(&book, "bellwether_tasks_waiting"), 0.0);
        assert_eq!(value(&book, "bellwether_tasks_running"), 1.0);
        assert_eq!(value(&book, "bellwether_tasks_promised_cpu_cores"), 2.0);
        assert_eq!(value(&book, r#"bellwether_task_wait_seconds_bucket{le="2.5"}"#), 0.0);
        assert_eq!(value(&book, r#"bellwether_task_wait_seconds_bucket{le="5"}"#), 1.0);
        book.enter(&event("a", Happening::Failed), at(100));
        assert_eq!(value(&book, r#"bellwether_tasks_failed_total{reason="oom"}"#), 1.0);
        assert_eq!(value(&book, "bellwether_task_duration_seconds_sum"), 96.0);
        assert_eq!(value(&book, "bellwether_tasks_running"), 0.0, "a place that is empty says so");
    }

    #[test]
    fn a_running_task_not_heard_of_is_lost() {
        let mut book = Book::new(10);
        book.enter(&event("a", Happening::Started), at(0));
        book.enter(&event("b", Happening::Started), at(0));
        book.enter(&event("b", Happening::Heartbeat), at(200));
        book.count_lost(at(100));
        assert_eq!((value(&book, "bellwether_tasks_lost_total"), value(&book, "bellwether_tasks_running")), (1.0, 1.0));
    }

    fn any_event() -> impl Strategy<Value = TaskEvent> {
        use Happening::*;
        let happening = prop::sample::select(vec![Submitted, Started, Heartbeat, Progress, Finished, Failed]);
        ("[a-d]", happening).prop_map(|(task, happening)| event(&task, happening))
    }

    proptest! {
        #[test]
        fn an_event_told_twice_counts_once(events in proptest::collection::vec(any_event(), 0..40)) {
            let (mut once, mut twice) = (Book::new(100), Book::new(100));
            for (event, seconds) in events.iter().zip(0..) {
                once.enter(event, at(seconds));
                twice.enter(event, at(seconds));
                twice.enter(event, at(seconds));
            }
            prop_assert_eq!(once.samples(at(100)), twice.samples(at(100)));
        }

        #[test]
        fn every_task_is_waiting_running_or_ended(events in proptest::collection::vec(any_event(), 0..40)) {
            let mut book = Book::new(100);
            for (event, seconds) in events.iter().zip(0..) {
                book.enter(event, at(seconds));
            }
            let seen: HashSet<&String> = events.iter().map(|event| &event.task).collect();
            prop_assert_eq!(book.waiting.len() + book.running.len() + book.ended.len(), seen.len());
        }
    }
}
