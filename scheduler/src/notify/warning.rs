//! Shortages that are foreseen: more replicas than allowed will be needed, or a quantity will pass its limit.
//!
//! A warning opens when every forecast of some time has foreseen the shortage, and ends when none has for as long. It is
//! given only while the forecasts deserve it: the model beats the repetition of the last season, and the quantile has
//! held what it promises on the very series, as far as that could be measured.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bellwether_models::forecast::{Forecast, Quantile};
use bellwether_models::incident::{People, Severity, Share};
use bellwether_models::outlook::{Foresight, Outlook, Snapshot};
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use super::config::AlertsConfig;
use super::notice::{Kind, Notice, State, link, text_of};
use crate::config::{Limit, Workload};
use crate::decide::demand::{quantile_path, replicas_for};

/// Outcomes of forecasts that a quantile is judged by.
const MOST_OUTCOMES: usize = 200;
/// Fewer than this judge nothing.
const FEWEST_OUTCOMES: usize = 20;
/// How far the measured share may lie from the quantile, beyond what chance allows.
const TOLERANCE: f64 = 0.1;
/// How far ahead the forecasts lie that are judged.
const JUDGED_LEAD: Duration = Duration::from_secs(900);
/// Forecasts waiting for their outcome.
const MOST_PENDING: usize = 64;
/// How long a warning outlives the forecasts that gave it.
const OUTLIVES: Duration = Duration::from_secs(3600);
/// Instants are told to this precision, so that a warning does not change with every round.
const TOLD_TO: Duration = Duration::from_secs(300);

/// Warnings under way, and how the forecasts behind them have done. Save and load it whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Warnings {
    watched: BTreeMap<String, Watched>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Watched {
    record: Record,
    /// Since when every forecast has foreseen it.
    foreseen_since: Option<Timestamp>,
    last_foreseen: Option<Timestamp>,
    open: Option<Open>,
}

/// A warning that was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    since: Timestamp,
    shortage: Shortage,
}

/// What will be short, in words that hold for some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shortage {
    title: String,
    text: String,
}

/// What a series is measured against.
enum Bound<'a> {
    Replicas(&'a Workload),
    Limit(&'a Limit),
}

impl Warnings {
    /// What people are told at `now`, and whether what must outlive a restart has changed.
    pub fn on_snapshot(
        &mut self,
        now: Timestamp,
        snapshot: &Snapshot,
        workloads: &[Workload],
        limits: &[Limit],
        config: &AlertsConfig,
        people: &People,
    ) -> (Vec<Notice>, bool) {
        let open_before: Vec<Option<Open>> = self.watched.values().map(|w| w.open.clone()).collect();
        let of = |outlooks: &'_ [Outlook], name: &str| outlooks.iter().position(|o| o.workload == name);
        let replicas = workloads.iter().filter_map(|w| {
            Some((
                format!("replicas {}", w.name),
                Bound::Replicas(w),
                &snapshot.workloads[of(&snapshot.workloads, &w.name)?],
            ))
        });
        let quantities = limits.iter().filter_map(|l| {
            Some((
                format!("limit {}", l.name),
                Bound::Limit(l),
                &snapshot.quantities[of(&snapshot.quantities, &l.name)?],
            ))
        });
        let all: Vec<_> = replicas.chain(quantities).collect();
        self.watched.retain(|key, _| all.iter().any(|(known, ..)| known == key));
        let mut notices = Vec::new();
        for (key, bound, outlook) in all {
            let watched = self.watched.entry(key).or_default();
            watched.look(now, &bound, outlook, config.foresight.persist);
            notices.extend(watched.open.as_ref().map(|open| notice(open, &bound, outlook, config, people)));
        }
        let open_after: Vec<Option<Open>> = self.watched.values().map(|w| w.open.clone()).collect();
        (notices, open_before != open_after)
    }
}

impl Watched {
    fn look(&mut self, now: Timestamp, bound: &Bound<'_>, outlook: &Outlook, persist: Duration) {
        self.record.learn(outlook, bound);
        match self.foreseen(now, bound, outlook) {
            None => {
                let stale = self.last_foreseen.is_none_or(|at| now.since(at) >= OUTLIVES);
                if stale {
                    *self = Self { record: std::mem::take(&mut self.record), ..Self::default() };
                }
            }
            Some(Some(shortage)) => {
                let since = *self.foreseen_since.get_or_insert(now);
                self.last_foreseen = Some(now);
                match &mut self.open {
                    Some(open) => open.shortage = shortage,
                    None if now.since(since) >= persist => self.open = Some(Open { since, shortage }),
                    None => {}
                }
            }
            Some(None) => {
                if self.open.is_none() {
                    self.foreseen_since = None;
                } else if self.last_foreseen.is_none_or(|at| now.since(at) >= persist) {
                    (self.open, self.foreseen_since) = (None, None);
                }
            }
        }
    }

    /// The shortage that is foreseen, `Some(None)` when there is none; `None` when nothing can be said.
    fn foreseen(&self, now: Timestamp, bound: &Bound<'_>, outlook: &Outlook) -> Option<Option<Shortage>> {
        let Foresight::Forecast { forecast, model, scores } = &outlook.foresight else { return None };
        let poor = scores.first().is_some_and(|best| best.relative_pinball_loss > 1.0);
        if poor || !self.record.keeps_promises(bound.promised()) {
            return None;
        }
        Some(bound.shortage(now, forecast, model))
    }
}

impl Bound<'_> {
    /// The quantile that is read: the upper one where what rises is dangerous, the lower one where what falls is.
    fn quantile(&self) -> Quantile {
        match self {
            Self::Replicas(_) => Quantile::STANDARD[2],
            Self::Limit(limit) if limit.is_lower() => mirrored(limit.quantile),
            Self::Limit(limit) => limit.quantile,
        }
    }

    /// Share of observations that should lie on the safe side of it.
    fn promised(&self) -> f64 {
        if self.falls() { 1.0 - self.quantile().value() } else { self.quantile().value() }
    }

    fn falls(&self) -> bool {
        matches!(self, Self::Limit(limit) if limit.is_lower())
    }

    fn shortage(&self, now: Timestamp, forecast: &Forecast, model: &str) -> Option<Shortage> {
        let path = quantile_path(forecast, self.quantile());
        match self {
            Self::Replicas(workload) => replicas_short(workload, forecast, &path, model, now),
            Self::Limit(limit) => limit_passed(limit, forecast, &path, model, now),
        }
    }
}

fn replicas_short(
    workload: &Workload,
    forecast: &Forecast,
    path: &[f64],
    model: &str,
    now: Timestamp,
) -> Option<Shortage> {
    let scale = &workload.scale;
    let per_replica = scale.capacity_per_replica?.value() * scale.forecast_utilisation.value();
    let needs: Vec<u32> = path.iter().map(|demand| replicas_for(*demand, per_replica)).collect();
    let first = (0..needs.len()).find(|i| needs[*i] > scale.max && forecast.time_of(*i) >= now)?;
    let len = needs[first..].iter().take_while(|need| **need > scale.max).count();
    let most = needs[first..first + len].iter().max()?;
    let lasts = forecast.step.times(len);
    if lasts < scale.startup.min(JUDGED_LEAD) && first + len < needs.len() {
        return None; // over before anything could be done about it
    }
    let open_ended = if first + len == needs.len() { "at least " } else { "" };
    let at = told(forecast.time_of(first));
    Some(Shortage {
        title: format!(
            "{} will need {most} replicas at {} (p90), max is {}, for {open_ended}{}",
            workload.name,
            clock(at),
            scale.max,
            span(lasts)
        ),
        text: format!(
            "From {} on, the p90 of demand as foreseen by {model} asks for up to {most} replicas of {}; scale.max allows \
             {}. Raise scale.max, or shed load.",
            text_of(at),
            workload.name,
            scale.max
        ),
    })
}

fn limit_passed(limit: &Limit, forecast: &Forecast, path: &[f64], model: &str, now: Timestamp) -> Option<Shortage> {
    let passed = |value: f64| if limit.is_lower() { value <= limit.bound() } else { value >= limit.bound() };
    let first = (0..path.len()).find(|i| passed(path[*i]) && forecast.time_of(*i) >= now)?;
    let at = told(forecast.time_of(first));
    let left = at.since(now);
    if left > limit.within {
        return None;
    }
    let percent = limit.quantile.value() * 100.0;
    Some(Shortage {
        title: format!("{} {} in {} (p{percent:.0})", limit.name, limit.means, span(rounded(left))),
        text: format!(
            "At {} the p{percent:.0} of what {model} foresees of {} passes {}.",
            text_of(at),
            limit.name,
            limit.bound()
        ),
    })
}

fn notice(open: &Open, bound: &Bound<'_>, outlook: &Outlook, config: &AlertsConfig, people: &People) -> Notice {
    let workload = outlook.workload.clone();
    let id = format!("fc-{}-{:x}", workload.replace(|c: char| !c.is_ascii_alphanumeric(), "-"), open.since.as_millis());
    let severity = match bound {
        Bound::Replicas(_) => Severity::Warning,
        Bound::Limit(limit) => limit.severity,
    };
    let runbook = config.runbooks.iter().find(|runbook| runbook.is_for(&workload, None));
    let notice = Notice {
        kind: Kind::Forecast,
        state: State::Firing,
        severity,
        title: open.shortage.title.clone(),
        text: open.shortage.text.clone(),
        starts_at: open.since,
        ends_at: None,
        confidence: None,
        causes: Vec::new(),
        doubt: String::new(),
        not_sure: None,
        affected: vec![workload.clone()],
        blast_radius: Vec::new(),
        changes: Vec::new(),
        similar: Vec::new(),
        acknowledged_by: None,
        remark: None,
        link: link(&id, config),
        runbook: runbook.map(|runbook| runbook.url.clone()),
        workload,
        id,
    };
    let standing = people.standing(&notice.id);
    config.templates.applied_to(notice.as_people_say(&standing))
}

/// What a quantile said beforehand, and on which side of it the observations came to lie.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    pending: VecDeque<(Timestamp, f64)>,
    safe: VecDeque<bool>,
}

impl Record {
    fn learn(&mut self, outlook: &Outlook, bound: &Bound<'_>) {
        if let Some(seen) = outlook.demand.filter(|seen| seen.value.is_finite()) {
            while let Some((at, value)) = self.pending.front().copied().filter(|(at, _)| *at <= seen.at) {
                self.pending.pop_front();
                let step = Duration::from_secs(120);
                if seen.at.since(at) <= step {
                    self.safe.push_back(if bound.falls() { seen.value >= value } else { seen.value <= value });
                }
            }
        }
        while self.safe.len() > MOST_OUTCOMES {
            self.safe.pop_front();
        }
        if let Foresight::Forecast { forecast, .. } = &outlook.foresight {
            self.issue(forecast, bound);
        }
    }

    /// Notes what is foreseen for a while from now, once for each point of time.
    fn issue(&mut self, forecast: &Forecast, bound: &Bound<'_>) {
        let steps = JUDGED_LEAD.as_millis() / forecast.step.times(1).as_millis().max(1);
        let index = usize::try_from(steps).unwrap_or(usize::MAX).min(forecast.horizon() / 2);
        let Some(value) = quantile_path(forecast, bound.quantile()).get(index).copied().filter(|v| v.is_finite())
        else {
            return;
        };
        let at = forecast.time_of(index);
        if self.pending.back().is_none_or(|(last, _)| *last < at) && self.pending.len() < MOST_PENDING {
            self.pending.push_back((at, value));
        }
    }

    /// Whether the measured share of observations on the safe side agrees with `promised`, as far as can be told.
    fn keeps_promises(&self, promised: f64) -> bool {
        let measured = Share::new(self.safe.iter().filter(|safe| **safe).count(), self.safe.len());
        self.safe.len() < FEWEST_OUTCOMES
            || (measured.low <= promised + TOLERANCE && measured.high >= promised - TOLERANCE)
    }
}

fn mirrored(quantile: Quantile) -> Quantile {
    Quantile::try_from(1.0 - quantile.value()).unwrap_or(quantile)
}

fn told(at: Timestamp) -> Timestamp {
    let grain = TOLD_TO.as_millis() as i64;
    Timestamp::from_millis(at.as_millis().div_euclid(grain) * grain)
}

fn rounded(left: Duration) -> Duration {
    let grain = TOLD_TO.as_secs();
    Duration::from_secs(left.as_secs().div_ceil(grain) * grain)
}

/// Hours and minutes, UTC.
fn clock(at: Timestamp) -> String {
    text_of(at).get(11..16).unwrap_or("?").to_owned()
}

fn span(span: Duration) -> String {
    let minutes = span.as_secs().div_ceil(60);
    if minutes < 120 { format!("{minutes} min") } else { format!("{:.0} h", minutes as f64 / 60.0) }
}

#[cfg(test)]
mod tests {
    use bellwether_models::outlook::{ModelScore, Observed, Running};
    use bellwether_models::series::Step;

    use super::*;
    use crate::config::{Positive, ScaleConfig};

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_400 + minutes * 60) // 22:20 UTC
    }

    /// A forecast from `now` on whose p90 is `p90` at each minute.
    fn outlook(now: i64, name: &str, p90: &[f64], demand: f64, loss: f64) -> Outlook {
        let quantiles = [0.8, 0.9, 1.0, 1.1].map(|share| p90.iter().map(|v| v * share).collect()).to_vec();
        let forecast = Forecast {
            start: at(now + 1),
            step: Step::from_secs(60),
            mean: p90.to_vec(),
            levels: Quantile::STANDARD.to_vec(),
            quantiles,
            peaks: vec![],
        };
        let scores = vec![ModelScore { model: "ets".to_owned(), relative_pinball_loss: loss }];
        Outlook {
            workload: name.to_owned(),
            made_at: at(now),
            demand: Some(Observed { at: at(now), value: demand }),
            replicas: None,
            foresight: Foresight::Forecast { forecast, model: "ets".to_owned(), scores },
            model: bellwether_models::outlook::ModelRef::default(),
            anomalies: Vec::new(),
            running: Running::default(),
        }
    }

    fn checkout() -> Workload {
        let capacity_per_replica = Some(Positive::try_from(10.0).expect("a capacity"));
        let scale = ScaleConfig { max: 40, capacity_per_replica, ..ScaleConfig::default() };
        Workload { name: "checkout".to_owned(), depends_on: Vec::new(), scale }
    }

    /// Sixty minutes: quiet, then a surge of 35 minutes from the 20th on.
    fn surge() -> Vec<f64> {
        (1..=60).map(|minute| if (20..55).contains(&minute) { 455.0 } else { 300.0 }).collect()
    }

    fn look(warnings: &mut Warnings, now: i64, p90: &[f64], loss: f64) -> Vec<Notice> {
        let snapshot = Snapshot { workloads: vec![outlook(now, "checkout", p90, 250.0, loss)], ..Snapshot::default() };
        let people = People::default();
        warnings.on_snapshot(at(now), &snapshot, &[checkout()], &[], &AlertsConfig::default(), &people).0
    }

    #[test]
    fn a_shortage_is_told_once_it_was_foreseen_for_a_while_and_is_over_once_it_was_not() {
        let mut warnings = Warnings::default();
        assert!(look(&mut warnings, 0, &surge(), 0.5).is_empty(), "one forecast is not enough");
        let told = look(&mut warnings, 5, &surge(), 0.5);
        assert_eq!(told[0].title, "checkout will need 46 replicas at 22:45 (p90), max is 40, for 35 min");
        let again = look(&mut warnings, 6, &surge(), 0.5);
        assert_eq!((&again[0].id, again[0].starts_at), (&told[0].id, at(0)), "one warning through its whole life");
        assert_eq!(look(&mut warnings, 8, &[300.0; 60], 0.5).len(), 1, "a single milder forecast ends nothing");
        assert!(look(&mut warnings, 12, &[300.0; 60], 0.5).is_empty());
    }

    #[test]
    fn a_model_that_loses_to_the_last_season_warns_of_nothing() {
        let mut warnings = Warnings::default();
        for minute in 0..10 {
            assert!(look(&mut warnings, minute, &surge(), 1.2).is_empty());
        }
    }

    #[test]
    fn a_quantile_that_breaks_its_promise_warns_of_nothing() {
        let mut warnings = Warnings::default();
        let far_too_wide: Vec<f64> = vec![39_000.0; 60];
        let mut told = Vec::new();
        for minute in 0..120 {
            told = look(&mut warnings, minute, &far_too_wide, 0.5);
        }
        assert!(!told.is_empty(), "demand below p90 every time is within chance and tolerance of nine in ten");
        let far_too_low: Vec<f64> = (0..60).map(|m| if m < 16 { 1.0 } else { 455.0 }).collect();
        let mut warnings = Warnings::default();
        for minute in 0..120 {
            told = look(&mut warnings, minute, &far_too_low, 0.5);
        }
        assert!(told.is_empty(), "demand above p90 every time: such quantiles say nothing");
    }

    #[test]
    fn a_disk_that_fills_is_told_with_the_time_left() {
        let limit = Limit {
            name: "disk of node-7".to_owned(),
            query: "free".to_owned(),
            below: Some(0.0),
            means: "full".to_owned(),
            within: Duration::from_secs(6 * 3600),
            ..Limit::default()
        };
        let falling: Vec<f64> = (1..=400).map(|minute| 330.0 - f64::from(minute)).collect();
        let mut warnings = Warnings::default();
        let mut look = |now: i64, path: &[f64]| {
            let quantities = vec![outlook(now, "disk of node-7", path, 300.0, 0.5)];
            let snapshot = Snapshot { quantities, ..Snapshot::default() };
            let people = People::default();
            warnings
                .on_snapshot(at(now), &snapshot, &[], std::slice::from_ref(&limit), &AlertsConfig::default(), &people)
                .0
        };
        look(0, &falling);
        let told = look(5, &falling);
        assert_eq!(told[0].title, "disk of node-7 full in 6 h (p50)");
        assert_eq!(told[0].kind, Kind::Forecast);
        let slower: Vec<f64> = falling.iter().map(|free| free + 100.0).collect();
        look(11, &slower);
        assert!(look(17, &slower).is_empty(), "more than six hours are left");
    }

    #[test]
    fn an_abstention_keeps_a_warning_for_an_hour() {
        let mut warnings = Warnings::default();
        look(&mut warnings, 0, &surge(), 0.5);
        look(&mut warnings, 5, &surge(), 0.5);
        let mut silent = |now: i64| {
            let foresight = Foresight::Abstained { reason: "no data".to_owned() };
            let outlook = Outlook { foresight, ..outlook(now, "checkout", &surge(), 1.0, 0.5) };
            let snapshot = Snapshot { workloads: vec![outlook], ..Snapshot::default() };
            let config = AlertsConfig::default();
            warnings.on_snapshot(at(now), &snapshot, &[checkout()], &[], &config, &People::default()).0.len()
        };
        assert_eq!([silent(30), silent(64), silent(66)], [1, 1, 0]);
    }
}
