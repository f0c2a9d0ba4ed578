//! Drains: a backend is taken out of service until a deadline.
//!
//! The weight goes down within a time, by the caps of every other cut, and stays at nothing. It comes back step by step when
//! the deadline has passed or the drain is called off. A drain is suspended, and its backend comes back at once, while fewer
//! others serve than must, or while the others are overloaded. Every turn is recorded with its grounds.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use bellwether_models::duration::{self, as_text};
use bellwether_models::outlook::Snapshot;
use bellwether_models::series::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{Saturation, saturation};
use crate::config::RerouteConfig;

/// Turns that are remembered.
const MOST_TURNS: usize = 500;
/// Time after nothing was seen of anybody in which nobody's failing is believed: not all come back into sight at once.
const FIRST_SIGHT: Duration = Duration::from_secs(60);
/// Error of a sum of loads that does not count.
const ROUNDING: f64 = 1e-9;
/// Longest name and longest reason that are kept, in letters.
const LONGEST_TEXT: usize = 500;

/// A backend that is to be out of service for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Which backend.
    pub backend: String,
    /// When it was ordered first.
    pub ordered_at: Timestamp,
    /// Its deadline: the first instant after it.
    pub until: Timestamp,
    /// Time in which the weight goes down to nothing.
    #[serde(with = "as_text")]
    pub within: Duration,
    /// Who ordered it.
    pub by: String,
    /// Why, in their own words; may be empty.
    pub reason: String,
    /// How it stands.
    pub phase: Phase,
}

/// How a drain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Phase {
    /// The weight goes down, or is at nothing.
    Draining {
        /// Since when it goes down.
        since: Timestamp,
    },
    /// The backend is needed and takes its share.
    Suspended {
        /// Since when.
        since: Timestamp,
        /// Why.
        cause: Cause,
    },
}

/// Why a backend cannot be spared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// Too few of the others serve.
    TooFewServe {
        /// How many others do.
        serving: usize,
        /// How many must: `reroute.survivors`.
        survivors: usize,
    },
    /// The others are overloaded.
    Overload {
        /// How many of them are saturated, now or within the lead.
        full: usize,
        /// How many there are.
        of: usize,
    },
    /// The others would be full with its load.
    TooMuch {
        /// How full they would be, now or within the lead, in percent of what they can carry.
        percent: u64,
        /// How full they may be: `reroute.cut_above`, in percent.
        most: u64,
    },
}

/// `of the other backends 1 is seen to serve, and 2 must`.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewServe { serving, survivors } => {
                let are = if *serving == 1 { "is" } else { "are" };
                write!(
                    f,
                    "of the other backends {serving} {are} seen to serve, and {survivors} must (reroute.survivors)"
                )
            }
            Self::Overload { full, of } => {
                write!(f, "{full} of the {of} other backends are saturated, now or within the lead")
            }
            Self::TooMuch { percent, most } => write!(
                f,
                "with its load the others would be {percent} % full, now or within the lead, and {most} % is the most (reroute.cut_above)"
            ),
        }
    }
}

/// A drain as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which backend.
    pub backend: String,
    /// The first instant after it.
    pub until: Timestamp,
    /// Time in which the weight goes down; `None` for the configured one.
    pub within: Option<Duration>,
    /// Who orders it.
    pub by: String,
    /// Why, in their own words.
    pub reason: String,
}

/// Why an order was not taken. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody is named.
    #[error("say who you are: orders are kept with their name")]
    Anonymous,
    /// A text that is too long to keep.
    #[error("a name or reason may have {LONGEST_TEXT} letters at most")]
    TooLong,
    /// No such backend.
    #[error("there is no backend {backend:?} in reroute.backends")]
    Unknown {
        /// The name that is not there.
        backend: String,
    },
    /// A deadline that has passed.
    #[error("the deadline {} has passed; it is {} now", clock(*.until), clock(*.now))]
    Past {
        /// The deadline.
        until: Timestamp,
        /// Now.
        now: Timestamp,
    },
    /// A deadline that is as good as none.
    #[error("a drain of {} is longer than reroute.drain.longest, {}", duration::format(*.asked), duration::format(*.longest))]
    TooFar {
        /// What was asked for.
        asked: Duration,
        /// What may be.
        longest: Duration,
    },
    /// It would be over before the weight is down.
    #[error("the weight would go down within {}, and the drain is over in {}", duration::format(*.within), duration::format(*.left))]
    TooSlow {
        /// Time in which the weight would go down.
        within: Duration,
        /// Time to the deadline.
        left: Duration,
    },
    /// The backend is needed.
    #[error("{backend:?} cannot be spared: {cause}")]
    Needed {
        /// Which backend.
        backend: String,
        /// Why.
        cause: Cause,
    },
    /// There is nothing to call off.
    #[error("backend {backend:?} is not being drained")]
    NoDrain {
        /// Which backend.
        backend: String,
    },
}

/// A turn in the life of a drain, on record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// `drain-<number>`, counting up.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// The weight of the backend then, as a share of its full one.
    pub weight: f64,
    /// The drain as it stood afterwards; at its end as it stood before.
    pub drain: Drain,
    /// What happened.
    pub what: What,
}

/// What happened to a drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// It began.
    Started {
        /// How many others serve.
        serving: usize,
        /// How many must.
        survivors: usize,
    },
    /// It was ordered anew: the new deadline counts.
    Replaced {
        /// The deadline it had.
        was: Timestamp,
    },
    /// The backend is needed after all, and comes back.
    Suspended {
        /// Why.
        cause: Cause,
    },
    /// It can be spared again.
    Resumed {
        /// How many others serve.
        serving: usize,
    },
    /// Its deadline has passed.
    Expired,
    /// It was called off.
    CalledOff {
        /// By whom.
        by: String,
    },
    /// The backend is no longer configured.
    Gone,
}

impl Turn {
    /// What happened, in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.what {
            What::Started { .. } => "started",
            What::Replaced { .. } => "replaced",
            What::Suspended { .. } => "suspended",
            What::Resumed { .. } => "resumed",
            What::Expired => "expired",
            What::CalledOff { .. } => "called_off",
            What::Gone => "gone",
        }
    }
}

/// `the drain of s1 began: …`.
impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Drain { backend, until, within, by, reason, .. } = &self.drain;
        let until = clock(*until);
        let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        match &self.what {
            What::Started { serving, survivors } => write!(
                f,
                "{by} drains {backend} until {until}{why}: its weight goes down within {}; of the others {serving} serve, and {survivors} must",
                duration::format(*within)
            ),
            What::Replaced { was } => {
                write!(f, "{by} drains {backend} until {until} rather than {}{why}", clock(*was))
            }
            What::Suspended { cause } => write!(f, "the drain of {backend} is suspended, and it comes back: {cause}"),
            What::Resumed { serving } => {
                write!(f, "the drain of {backend} goes on until {until}: {serving} of the other backends serve again")
            }
            What::Expired => write!(f, "the drain of {backend} is over: its deadline {until} has passed"),
            What::CalledOff { by } => write!(f, "{by} calls off the drain of {backend}"),
            What::Gone => write!(f, "the drain of {backend} is over: it is no longer among reroute.backends"),
        }
    }
}

/// The drains that hold, and the newest turns of all. Kept as a whole, so that neither lacks what the other says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drains {
    of: BTreeMap<String, Drain>,
    turns: VecDeque<Turn>,
    turned: u64,
    /// When nothing was seen of anybody last, or nobody had looked yet.
    #[serde(skip)]
    blind_at: Option<Timestamp>,
}

impl Drains {
    /// The drain of `backend`.
    #[must_use]
    pub fn of(&self, backend: &str) -> Option<&Drain> {
        self.of.get(backend)
    }

    /// The turns that are remembered, newest first.
    pub fn turns(&self) -> impl Iterator<Item = &Turn> {
        self.turns.iter().rev()
    }

    /// Takes an order. One for a backend that is being drained changes the former: the new deadline and time count, the descent
    /// goes on from where it is, and what is suspended stays so. `weights` are those of now, full where nothing is said.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then.
    pub fn order(
        &mut self,
        order: Order,
        snapshot: &Snapshot,
        weights: &BTreeMap<String, f64>,
        config: &RerouteConfig,
        now: Timestamp,
    ) -> Result<Drain, Refusal> {
        let former = self.of.get(&order.backend).filter(|former| now < former.until);
        let left = former.map_or(1.0, |former| former.ceiling(now).unwrap_or(0.0));
        let mut drain = checked(order, left, config, now)?;
        let what = if let Some(former) = former {
            drain.follow(former, now);
            What::Replaced { was: former.until }
        } else {
            let pool = Pool::of(self, snapshot, weights, config, now);
            let cause = pool.need(&drain.backend, config).or_else(|| pool.too_much(&drain.backend, config));
            if let Some(cause) = cause {
                return Err(Refusal::Needed { backend: drain.backend, cause });
            }
            What::Started { serving: pool.serving(&drain.backend), survivors: survivors(config) }
        };
        self.of.insert(drain.backend.clone(), drain.clone());
        self.note(drain.clone(), what, weight(weights, &drain.backend), now);
        Ok(drain)
    }

    /// Calls the drain of `backend` off.
    ///
    /// # Errors
    /// [`Refusal::Anonymous`], [`Refusal::NoDrain`].
    pub fn call_off(
        &mut self,
        backend: &str,
        by: &str,
        weights: &BTreeMap<String, f64>,
        now: Timestamp,
    ) -> Result<Drain, Refusal> {
        let by = named(by)?;
        let drain = self.of.remove(backend).ok_or_else(|| Refusal::NoDrain { backend: backend.to_owned() })?;
        self.note(drain.clone(), What::CalledOff { by }, weight(weights, backend), now);
        Ok(drain)
    }

    /// Ends, suspends and resumes drains as the facts of `now` have it, and tells how many turns that were.
    pub fn advance(
        &mut self,
        snapshot: &Snapshot,
        weights: &BTreeMap<String, f64>,
        config: &RerouteConfig,
        now: Timestamp,
    ) -> usize {
        let before = self.turned;
        self.end(weights, config, now);
        self.of.values_mut().for_each(|drain| drain.phase.follow_clock(now));
        let mut pool = Pool::of(self, snapshot, weights, config, now);
        match self.blind_at.filter(|_| !pool.is_blind()) {
            None => self.blind_at = Some(now),
            Some(at) if now.since(at).max(at.since(now)) < FIRST_SIGHT => {}
            Some(_) => {
                self.suspend(&mut pool, config, now);
                self.resume(&mut pool, config, now);
            }
        }
        usize::try_from(self.turned - before).unwrap_or(usize::MAX)
    }

    /// The weight above which `backend` must not be at `now`; `None` when it is not being drained, or not now.
    #[must_use]
    pub fn ceiling(&self, backend: &str, now: Timestamp) -> Option<f64> {
        self.of.get(backend)?.ceiling(now)
    }

    /// Whether the drain of `backend` is suspended.
    #[must_use]
    pub fn is_suspended(&self, backend: &str) -> bool {
        self.of.get(backend).is_some_and(|drain| matches!(drain.phase, Phase::Suspended { .. }))
    }

    fn is_draining(&self, backend: &str) -> bool {
        self.of.get(backend).is_some_and(|drain| matches!(drain.phase, Phase::Draining { .. }))
    }

    fn end(&mut self, weights: &BTreeMap<String, f64>, config: &RerouteConfig, now: Timestamp) {
        let is_there = |name: &str| config.backends.iter().any(|backend| backend.name == name);
        let over = self.of.values().filter_map(|drain| match (is_there(&drain.backend), drain.until <= now) {
            (false, _) => Some((drain.clone(), What::Gone)),
            (true, true) => Some((drain.clone(), What::Expired)),
            (true, false) => None,
        });
        for (drain, what) in over.collect::<Vec<_>>() {
            self.of.remove(&drain.backend);
            let weight = weight(weights, &drain.backend);
            self.note(drain, what, weight, now);
        }
    }

    /// The last ordered go first; before them all of which something is known, for they are sure to help.
    fn suspend(&mut self, pool: &mut Pool<'_>, config: &RerouteConfig, now: Timestamp) {
        let mut names = self.in_order(|phase| matches!(phase, Phase::Draining { .. }));
        names.reverse();
        names.sort_by_key(|name| !pool.knows(name));
        for name in names {
            let Some(cause) = pool.need(&name, config) else { break };
            let phase = Phase::Suspended { since: now, cause };
            let weight = pool.set(&name, Standing::Back);
            self.turn(&name, phase, What::Suspended { cause }, weight, now);
        }
    }

    fn resume(&mut self, pool: &mut Pool<'_>, config: &RerouteConfig, now: Timestamp) {
        for name in self.in_order(|phase| matches!(phase, Phase::Suspended { .. })) {
            let Some(Phase::Suspended { since, cause }) = self.of.get(&name).map(|drain| drain.phase) else { continue };
            let again = matches!(cause, Cause::Overload { .. }) && !pool.would_carry(&name, config);
            if now.since(since) < config.drain.resume_after || pool.need(&name, config).is_some() || again {
                continue;
            }
            let what = What::Resumed { serving: pool.serving(&name) };
            let weight = pool.set(&name, Standing::Draining);
            self.turn(&name, Phase::Draining { since: now }, what, weight, now);
        }
    }

    /// The backends whose drain stands so, the first ordered first.
    fn in_order(&self, stands: impl Fn(&Phase) -> bool) -> Vec<String> {
        let mut found: Vec<&Drain> = self.of.values().filter(|drain| stands(&drain.phase)).collect();
        found.sort_by_key(|drain| drain.ordered_at);
        found.into_iter().map(|drain| drain.backend.clone()).collect()
    }

    fn turn(&mut self, backend: &str, phase: Phase, what: What, weight: f64, now: Timestamp) {
        if let Some(drain) = self.of.get_mut(backend) {
            drain.phase = phase;
            let drain = drain.clone();
            self.note(drain, what, weight, now);
        }
    }

    fn note(&mut self, drain: Drain, what: What, weight: f64, now: Timestamp) {
        self.turned += 1;
        self.turns.push_back(Turn { id: format!("drain-{}", self.turned), at: now, weight, drain, what });
        let many = self.turns.len().saturating_sub(MOST_TURNS);
        self.turns.drain(..many);
    }
}

impl Drain {
    fn ceiling(&self, now: Timestamp) -> Option<f64> {
        let Phase::Draining { since } = self.phase else { return None };
        let (passed, within) = (now.since(since), self.within);
        Some(if passed >= within { 0.0 } else { 1.0 - passed.as_secs_f64() / within.as_secs_f64() })
    }

    /// Goes on where `former` stands at `now`: whoever orders the same again and again does not begin anew.
    fn follow(&mut self, former: &Self, now: Timestamp) {
        self.ordered_at = former.ordered_at;
        self.phase = former.phase;
        if let Some(left) = former.ceiling(now).filter(|_| self.within != former.within) {
            let passed = Duration::try_from_secs_f64(self.within.as_secs_f64() * (1.0 - left)).unwrap_or(self.within);
            self.phase = Phase::Draining { since: now - passed };
        }
    }
}

impl Phase {
    /// A clock that was set back must not hold up what rests on the time that has passed.
    fn follow_clock(&mut self, now: Timestamp) {
        let (Self::Draining { since } | Self::Suspended { since, .. }) = self;
        *since = now.min(*since);
    }
}

/// The order as a drain that begins `now`, `left` of whose weight has yet to go down.
fn checked(order: Order, left: f64, config: &RerouteConfig, now: Timestamp) -> Result<Drain, Refusal> {
    let Order { backend, until, within, by, reason } = order;
    let (by, reason) = (named(&by)?, reason.trim().to_owned());
    if reason.chars().count() > LONGEST_TEXT {
        return Err(Refusal::TooLong);
    }
    if !config.backends.iter().any(|known| known.name == backend) {
        return Err(Refusal::Unknown { backend });
    }
    if until <= now {
        return Err(Refusal::Past { until, now });
    }
    let (asked, longest) = (until.since(now), config.drain.longest);
    if asked > longest {
        return Err(Refusal::TooFar { asked, longest });
    }
    let within = within.unwrap_or(config.drain.within.min(asked / 2));
    if within > longest || within.as_secs_f64() * left >= asked.as_secs_f64() {
        return Err(Refusal::TooSlow { within, left: asked });
    }
    Ok(Drain { backend, ordered_at: now, until, within, by, reason, phase: Phase::Draining { since: now } })
}

fn named(by: &str) -> Result<String, Refusal> {
    match by.trim() {
        "" => Err(Refusal::Anonymous),
        by if by.chars().count() > LONGEST_TEXT => Err(Refusal::TooLong),
        by => Ok(by.to_owned()),
    }
}

/// A pool is never emptied.
fn survivors(config: &RerouteConfig) -> usize {
    config.survivors.max(1)
}

fn weight(weights: &BTreeMap<String, f64>, backend: &str) -> f64 {
    weights.get(backend).copied().unwrap_or(1.0)
}

/// The backends as they stand at an instant.
struct Pool<'a>(Vec<Member<'a>>);

struct Member<'a> {
    name: &'a str,
    capacity: f64,
    saturation: Option<Saturation>,
    weight: f64,
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Takes its share of the load.
    Serving,
    /// Is to have none.
    Draining,
    /// Was just called back.
    Back,
}

impl<'a> Pool<'a> {
    fn of(
        drains: &Drains,
        snapshot: &Snapshot,
        weights: &BTreeMap<String, f64>,
        config: &'a RerouteConfig,
        now: Timestamp,
    ) -> Self {
        let members = config.backends.iter().map(|backend| Member {
            name: &backend.name,
            capacity: backend.capacity.value(),
            saturation: saturation(snapshot, backend, config, now),
            weight: weight(weights, &backend.name),
            standing: if drains.is_draining(&backend.name) { Standing::Draining } else { Standing::Serving },
        });
        Self(members.collect())
    }

    /// Whether nothing is known of anybody: then it is our sight that failed, not the backends.
    fn is_blind(&self) -> bool {
        !self.0.iter().any(Member::is_seen)
    }

    fn knows(&self, name: &str) -> bool {
        self.0.iter().any(|member| member.name == name && member.is_seen())
    }

    fn others(&self, name: &str) -> impl Iterator<Item = &Member<'a>> {
        self.0.iter().filter(move |member| member.name != name && member.standing != Standing::Draining)
    }

    /// How many others than `name` serve: they are seen, and have some weight.
    fn serving(&self, name: &str) -> usize {
        self.others(name).filter(|m| m.is_seen() && (m.weight > 0.0 || m.standing == Standing::Back)).count()
    }

    /// Why `name` cannot be spared.
    fn need(&self, name: &str, config: &RerouteConfig) -> Option<Cause> {
        let (serving, survivors) = (self.serving(name), survivors(config));
        if serving < survivors {
            return Some(Cause::TooFewServe { serving, survivors });
        }
        let (full, of) = (self.others(name).filter(|m| m.is_full(config)).count(), self.others(name).count());
        let overload = super::is_overload(full, of, config) || (full == 1 && of == 1);
        overload.then_some(Cause::Overload { full, of })
    }

    /// Whether the others could take what `name` carries and stay where weight is given back.
    fn would_carry(&self, name: &str, config: &RerouteConfig) -> bool {
        self.fullness_without(name) <= config.restore_below.value()
    }

    /// Why the others could not take what `name` carries.
    fn too_much(&self, name: &str, config: &RerouteConfig) -> Option<Cause> {
        let (full, most) = (self.fullness_without(name), config.cut_above.value());
        let percent = |share: f64| (share * 100.0).round() as u64;
        (full > most + ROUNDING).then(|| Cause::TooMuch { percent: percent(full), most: percent(most) })
    }

    /// Load over capacity of the others if they took what `name` carries, and what is still left to those that are being
    /// drained, whose forecast may be that of a time before.
    fn fullness_without(&self, name: &str) -> f64 {
        let load = |member: &Member<'_>| match member.standing {
            Standing::Draining if member.name != name => member.present(),
            _ => member.worst(),
        };
        let load: f64 = self.0.iter().map(|member| load(member) * member.capacity).sum();
        let room: f64 = self.others(name).filter(|m| m.is_seen()).map(|m| m.capacity).sum();
        load / room
    }

    /// Notes how `name` stands from now on; its weight.
    fn set(&mut self, name: &str, standing: Standing) -> f64 {
        let member = self.0.iter_mut().find(|member| member.name == name);
        member.map_or(1.0, |member| {
            member.standing = standing;
            member.weight
        })
    }
}

impl Member<'_> {
    /// Its load is measured; a forecast alone may be that of a backend that is gone.
    fn is_seen(&self) -> bool {
        self.saturation.is_some_and(|saturation| saturation.now.is_some())
    }

    fn present(&self) -> f64 {
        self.saturation.and_then(|saturation| saturation.now).unwrap_or(0.0)
    }

    fn worst(&self) -> f64 {
        self.saturation.map_or(0.0, Saturation::worst)
    }

    fn is_full(&self, config: &RerouteConfig) -> bool {
        self.worst() > config.cut_above.value()
    }
}

fn clock(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(instant) => instant.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("{} ms", at.as_millis()),
    }
}

#[cfg(test)]
mod tests;
