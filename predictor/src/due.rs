//! Which work is due: a state machine that is told the time and says what to do and when to wake it.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use bellwether_models::series::{Step, Timestamp};

/// Shortest time between two fits of one series, in steps of its grid.
const FEWEST_STEPS_BETWEEN_FITS: usize = 10;

/// How often the work of one series comes round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// A series is looked at once for each point of this grid.
    pub step: Step,
    /// Longest time between two fits.
    pub refit_interval: Duration,
    /// What a fit costs, in the unit of the budget given to [`Due::poll`].
    pub fit_cost: usize,
}

/// What is due for one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The name under which it was added.
    pub name: String,
    /// Whether the model is to be fitted anew; if not, it takes in the new points only.
    pub refit: bool,
}

/// When each series is next looked at and next fitted.
#[derive(Debug, Default)]
pub struct Due {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    rhythm: Rhythm,
    look_at: Timestamp,
    refit_at: Timestamp,
    looked_at: Option<Timestamp>,
}

impl Due {
    /// Adds a series, due at once; a series with the same rhythm that is there already stays as it is.
    pub fn add(&mut self, name: &str, rhythm: Rhythm) {
        if self.entries.get(name).is_some_and(|entry| entry.rhythm == rhythm) {
            return;
        }
        let now = Timestamp::MIN;
        self.entries.insert(name.to_owned(), Entry { rhythm, look_at: now, refit_at: now, looked_at: None });
    }

    /// Keeps the series whose names pass, forgets the others.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.entries.retain(|name, _| keep(name));
    }

    /// Tells that `name` is known from before and was fitted then: it is looked at now and fitted when its phase comes.
    pub fn known_already(&mut self, name: &str, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.refit_at = next_in_phase(name, now, entry.rhythm.refit_interval);
        }
    }

    /// Makes `name` due at once.
    pub fn look_next(&mut self, name: &str) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.look_at = Timestamp::MIN;
        }
    }

    /// Makes the next look at `name` a refit, behind those that waited longer.
    pub fn refit_next(&mut self, name: &str) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.refit_at = entry.look_at;
        }
    }

    /// Tells that a fit of `name` was tried at `now` on a history that spans `span`.
    ///
    /// A short history is fitted again when it has grown by a quarter; a long one after the refit interval, at a phase
    /// of its own so that series added together are not all fitted together.
    pub fn fitted(&mut self, name: &str, now: Timestamp, span: Duration) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let shortest = entry.rhythm.step.times(FEWEST_STEPS_BETWEEN_FITS);
        let delay = (span / 4).max(shortest);
        entry.refit_at = match delay < entry.rhythm.refit_interval {
            true => now + delay,
            false => next_in_phase(name, now, entry.rhythm.refit_interval),
        };
    }

    /// The work due at `now`, in order of name, with refits that cost at most `budget` together, or one that costs more:
    /// those longest overdue first, the rest stay due. Asking again at the same time gives nothing but refits that found no room.
    pub fn poll(&mut self, now: Timestamp, budget: usize) -> Vec<Work> {
        self.mend_after_a_step_back(now);
        let chosen = self.refits(now, budget);
        let mut work = Vec::new();
        for (name, entry) in self.entries.iter_mut() {
            let refit = chosen.iter().any(|c| c == name);
            if refit || entry.look_at <= now {
                entry.look_at = now.floor_to(entry.rhythm.step) + entry.rhythm.step.times(1);
                entry.looked_at = Some(now);
                work.push(Work { name: name.clone(), refit });
            }
        }
        work
    }

    /// When to poll next; `None` when there is nothing to wait for.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        self.entries.values().map(|entry| entry.look_at).min()
    }

    fn refits(&self, now: Timestamp, budget: usize) -> Vec<String> {
        let overdue = self.entries.iter().filter(|(_, e)| e.refit_at <= now);
        let mut due: Vec<(Timestamp, &String, usize)> =
            overdue.map(|(name, e)| (e.refit_at, name, e.rhythm.fit_cost)).collect();
        due.sort();
        let mut spent = 0usize;
        let affordable = |(_, _, cost): &(Timestamp, &String, usize)| {
            let first = spent == 0 && budget > 0;
            spent = spent.saturating_add(*cost);
            first || spent <= budget
        };
        due.into_iter().take_while(affordable).map(|(_, name, _)| name.clone()).collect()
    }

    /// A clock that went back must not silence a series until it has caught up.
    fn mend_after_a_step_back(&mut self, now: Timestamp) {
        for entry in self.entries.values_mut().filter(|e| e.looked_at.is_some_and(|at| at > now)) {
            (entry.look_at, entry.refit_at, entry.looked_at) = (now, now, None);
        }
    }
}

/// The next instant after `now`, at least half an interval away, that lies on the phase of `name`.
fn next_in_phase(name: &str, now: Timestamp, interval: Duration) -> Timestamp {
    let Ok(every) = Step::from_millis(i64::try_from(interval.as_millis()).unwrap_or(i64::MAX)) else { return now };
    let mut hasher = DefaultHasher::new(); // unkeyed: the same phase in every process
    name.hash(&mut hasher);
    let phase = Duration::from_millis(hasher.finish() % every.as_millis().unsigned_abs());
    let earliest = now + interval / 2;
    let in_phase = (earliest - phase).floor_to(every) + phase;
    if in_phase >= earliest { in_phase } else { in_phase + interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Rhythm =
        Rhythm { step: Step::from_secs(60), refit_interval: Duration::from_secs(6 * 3600), fit_cost: 1 };

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn names(work: &[Work]) -> Vec<&str> {
        work.iter().map(|w| w.name.as_str()).collect()
    }

    #[test]
    fn a_new_series_is_fitted_at_once_and_then_looked_at_once_a_step() {
        let mut due = Due::default();
        due.add("a", MINUTE);
        assert_eq!(due.poll(at(130), 8), [Work { name: "a".to_owned(), refit: true }]);
        due.fitted("a", at(130), Duration::from_secs(14 * 86_400));
        assert_eq!(due.next_wakeup(), Some(at(180)));
        assert_eq!(due.poll(at(179), 8), []);
        assert_eq!(due.poll(at(180), 8), [Work { name: "a".to_owned(), refit: false }]);
    }

    #[test]
    fn a_short_history_is_fitted_again_when_it_has_grown_by_a_quarter() {
        let mut due = Due::default();
        due.add("a", MINUTE);
        due.poll(at(0), 8);
        due.fitted("a", at(0), Duration::from_secs(4 * 3600));
        assert!(!due.poll(at(3599), 8)[0].refit);
        assert!(due.poll(at(3600), 8)[0].refit);
    }

    #[test]
    fn a_series_that_could_not_be_fitted_is_tried_again_after_ten_steps() {
        let mut due = Due::default();
        due.add("a", MINUTE);
        due.poll(at(0), 8);
        due.fitted("a", at(0), Duration::ZERO);
        assert!(!due.poll(at(599), 8)[0].refit);
        assert!(due.poll(at(600), 8)[0].refit);
    }

    #[test]
    fn a_fit_that_found_no_data_waits_for_the_next_look() {
        let mut due = Due::default();
        due.add("a", MINUTE);
        due.poll(at(0), 8);
        due.refit_next("a");
        assert_eq!(due.poll(at(59), 8), []);
        assert!(due.poll(at(60), 8)[0].refit);
    }

    #[test]
    fn refits_beyond_the_bound_stay_due_and_the_longest_overdue_come_first() {
        let mut due = Due::default();
        for name in ["a", "b", "c"] {
            due.add(name, MINUTE);
        }
        let refits = |work: Vec<Work>| work.into_iter().filter(|w| w.refit).map(|w| w.name).collect::<Vec<_>>();
        assert_eq!(refits(due.poll(at(0), 2)), ["a", "b"]);
        for name in ["a", "b"] {
            due.fitted(name, at(0), Duration::ZERO);
        }
        assert_eq!(refits(due.poll(at(60), 2)), ["c"]);
    }

    #[test]
    fn a_fit_dearer_than_the_budget_has_a_turn_of_its_own() {
        let mut due = Due::default();
        for (name, fit_cost) in [("a", 50), ("b", 1), ("c", 1)] {
            due.add(name, Rhythm { fit_cost, ..MINUTE });
        }
        let refits = |work: Vec<Work>| work.into_iter().filter(|w| w.refit).map(|w| w.name).collect::<Vec<_>>();
        assert_eq!(refits(due.poll(at(0), 10)), ["a"]);
        due.fitted("a", at(0), Duration::ZERO);
        assert_eq!(refits(due.poll(at(60), 10)), ["b", "c"]);
    }

    #[test]
    fn what_is_known_from_before_is_looked_at_but_not_fitted_at_once() {
        let mut due = Due::default();
        due.add("a", MINUTE);
        due.known_already("a", at(1000));
        assert_eq!(due.poll(at(1000), 8), [Work { name: "a".to_owned(), refit: false }]);
        assert!(due.poll(at(1000 + 12 * 3600), 8)[0].refit);
    }

    #[test]
    fn fits_of_series_added_together_spread_over_the_interval() {
        let mut due = Due::default();
        let all: Vec<String> = (0..100).map(|i| format!("workload-{i}")).collect();
        for name in &all {
            due.add(name, MINUTE);
        }
        due.poll(at(0), usize::MAX);
        for name in &all {
            due.fitted(name, at(0), Duration::from_secs(30 * 86_400));
        }
        let busiest = (1..=9 * 60).map(|m| due_refits(&mut due, at(m * 60))).max();
        assert!(busiest.is_some_and(|n| n <= 8), "{busiest:?} fits in one minute");
    }

    fn due_refits(due: &mut Due, now: Timestamp) -> usize {
        let work = due.poll(now, usize::MAX);
        let refits: Vec<&Work> = work.iter().filter(|w| w.refit).collect();
        for work in &refits {
            due.fitted(&work.name, now, Duration::from_secs(30 * 86_400));
        }
        refits.len()
    }

    #[test]
    fn a_clock_that_steps_back_does_not_silence_a_series() {
        let mut due = Due::default();
        due.add("a", MINUTE);
        due.poll(at(1_000_000), 8);
        due.fitted("a", at(1_000_000), Duration::from_secs(30 * 86_400));
        assert_eq!(due.poll(at(500), 8), [Work { name: "a".to_owned(), refit: true }]);
    }

    #[test]
    fn adding_again_changes_nothing_unless_the_rhythm_changed() {
        let mut due = Due::default();
        due.add("a", MINUTE);
        due.poll(at(60), 8);
        due.add("a", MINUTE);
        assert!(due.poll(at(61), 0).is_empty());
        due.add("a", Rhythm { step: Step::from_secs(30), ..MINUTE });
        assert_eq!(names(&due.poll(at(61), 0)), ["a"]);
    }
}
