//! The settings that hold for one decision: those written, with what has been learnt in the place of what was left open, and
//! the bounds of the hour.

use std::borrow::Cow;
use std::time::Duration;

use bellwether_models::series::Timestamp;

use super::fleet::History;
use crate::config::{Positive, ScaleConfig};
use crate::learn::Lesson;
use crate::plan::Reason;

/// Instants of the start-up time at which windows are looked for.
const LOOKS: u32 = 4;

/// See the module.
pub(crate) struct Settings<'a> {
    /// As they hold.
    pub(crate) scale: Cow<'a, ScaleConfig>,
    /// In what they differ from what is written, and why.
    pub(crate) notes: Vec<Reason>,
    /// What the budget allows, where that is less than `max`.
    pub(crate) capped: Option<u32>,
}

impl<'a> Settings<'a> {
    /// What holds at `now` of what is `written`.
    pub(crate) fn of(
        written: &'a ScaleConfig,
        lesson: Option<&Lesson>,
        history: Option<&History>,
        now: Timestamp,
    ) -> Self {
        let mut settings = Self { scale: Cow::Borrowed(written), notes: Vec::new(), capped: None };
        if let Some(lesson) = lesson {
            settings.learn(lesson);
        }
        settings.keep_the_calendar(now);
        settings.raise_the_maximum(written, history, now);
        if let Some(lesson) = lesson {
            settings.keep_to_the_budget(lesson, now);
        }
        settings
    }

    fn learn(&mut self, lesson: &Lesson) {
        if let Some((usual, observations)) = lesson.startup.usual().filter(|_| self.scale.learn_startup) {
            self.scale.to_mut().startup = usual;
            self.notes.push(Reason::StartupLearnt { seconds: usual.as_secs_f64(), observations });
        }
        if self.scale.capacity_per_replica.is_none()
            && let Some(learnt) = lesson.capacity.learnt()
            && let Ok(safe) = Positive::try_from(learnt.safe)
        {
            self.scale.to_mut().capacity_per_replica = Some(safe);
            self.notes.push(Reason::CapacityLearnt { per_replica: learnt.safe, likely: learnt.likely });
        }
    }

    /// The least of a window is asked for a start-up time before it begins.
    fn keep_the_calendar(&mut self, now: Timestamp) {
        if self.scale.windows.is_empty() {
            return;
        }
        let soon: Vec<Timestamp> = (0..=LOOKS).map(|i| now + self.scale.startup * i / LOOKS).collect();
        let comes = self.scale.windows.iter().filter(|w| soon.iter().any(|at| w.holds(*at)));
        let min = comes.filter_map(|w| w.min).max().unwrap_or(self.scale.min);
        let holds = self.scale.windows.iter().filter(|w| w.holds(now));
        let max = holds.filter_map(|w| w.max).min().unwrap_or(self.scale.max);
        let min = min.min(max.max(self.scale.min)); // two windows may contradict each other: then the maximum counts
        if (min, max) != (self.scale.min, self.scale.max) {
            let scale = self.scale.to_mut();
            (scale.min, scale.max) = (min, max.max(min));
            self.notes.push(Reason::Window { min, max });
        }
    }

    fn raise_the_maximum(&mut self, written: &ScaleConfig, history: Option<&History>, now: Timestamp) {
        let Some(breach) = written.max_breach.filter(|_| self.scale.max == written.max) else { return };
        let breached = history.and_then(|h| h.breached).filter(|breached| !breached.is_over(breach.lasts, now));
        let since = breached.map(|breached| breached.since);
        let left = since.map_or(breach.lasts, |since| breach.lasts.saturating_sub(now.since(since)));
        if left.is_zero() {
            return;
        }
        self.scale.to_mut().max = breach.raise_to;
        if since.is_some() {
            let (max, raised, left_seconds) = (written.max, breach.raise_to, left.as_secs_f64());
            self.notes.push(Reason::MaxRaised { max, raised, left_seconds });
        }
    }

    fn keep_to_the_budget(&mut self, lesson: &Lesson, now: Timestamp) {
        let allowed = lesson.spending.allows(&self.scale.budget, now).map(|allowed| allowed.max(self.scale.min));
        if let Some(allowed) = allowed.filter(|allowed| *allowed < self.scale.max) {
            self.scale.to_mut().max = allowed;
            self.capped = Some(allowed);
        }
    }
}

/// For how long more than the maximum has been wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Breached {
    since: Timestamp,
    last: Timestamp,
}

impl Breached {
    /// None was wanted for as long as a breach may last: who wavers around the maximum does not begin anew each time.
    fn is_over(self, lasts: Duration, now: Timestamp) -> bool {
        now.since(self.last) > lasts
    }

    /// Goes on with whether more than the maximum is `wanted` at `now`.
    pub(super) fn follow(before: Option<Self>, wanted: bool, lasts: Duration, now: Timestamp) -> Option<Self> {
        let standing = before.filter(|breached| !breached.is_over(lasts, now));
        match (standing, wanted) {
            (Some(breached), true) => Some(Self { last: now, ..breached }),
            (Some(breached), false) => Some(breached),
            (None, true) => Some(Self { since: now, last: now }),
            (None, false) => None,
        }
    }
}
