//! When a challenger takes the champion's place, and when a new champion gives it back.
//!
//! Pure: from who stands where, how each did live, and the time, to at most one move. What keeps it from flapping: a
//! version is promoted automatically at most once in its life, only what was promoted can be rolled back, and comparisons
//! begin anew with every champion.

use std::collections::BTreeMap;

use bellwether_models::series::Timestamp;

use super::book::{BUILT_IN, Book, Order};
use super::config::{ModelsConfig, Promote};
use super::record::{BLOCKS, Record, Versus};

/// Part of the time in which a challenger must have been compared, so that some blocks may be missing.
const COMPARED: f64 = 0.85;
/// Of the times a new champion is asked, the part it may be silent while its predecessor speaks.
const SILENCE: f64 = 0.5;

/// Something the record calls for, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// What to do.
    pub order: Order,
    /// Why, for people.
    pub why: String,
}

/// What the live records call for at `now`; nothing where a champion is pinned.
#[must_use]
pub fn decide(book: &Book, records: &BTreeMap<u64, Record>, config: &ModelsConfig, now: Timestamp) -> Option<Move> {
    if book.is_pinned() {
        return None;
    }
    roll_back(book, records, config, now).or_else(|| promote(book, records, config, now))
}

fn roll_back(book: &Book, records: &BTreeMap<u64, Record>, config: &ModelsConfig, now: Timestamp) -> Option<Move> {
    let since = book.since()?;
    let predecessor = book.on_probation_against().filter(|_| config.roll_back)?;
    if now < since || now.since(since) > config.probation {
        return None;
    }
    let versus = records.get(&book.champion())?.versus(records.get(&predecessor)?, since)?;
    if versus.span < config.roll_back_after || now.since(since) < config.roll_back_after {
        return None;
    }
    let why = worse(&versus, config)?;
    let why = format!("live, version {} {why} version {predecessor}, which it had replaced", book.champion());
    Some(Move { order: Order::RollBack, why })
}

/// In what way the first is worse, up to the name of the second.
fn worse(versus: &Versus, config: &ModelsConfig) -> Option<String> {
    let Versus { asked, origins, ratio, silence, .. } = versus;
    if *asked >= config.min_origins && silence[0] > SILENCE && silence[1] < SILENCE / 2.0 {
        return Some(format!("had nothing to say {:.0} % of the time, unlike", 100.0 * silence[0]));
    }
    let lost = *origins >= config.min_origins && *ratio > 1.0 + config.margin;
    lost.then(|| format!("lost {ratio:.2} times as much as"))
}

fn promote(book: &Book, records: &BTreeMap<u64, Record>, config: &ModelsConfig, now: Timestamp) -> Option<Move> {
    if config.promote != Promote::Automatic {
        return None;
    }
    let champion = records.get(&book.champion())?;
    let from = (now - config.window).max(book.since().unwrap_or(Timestamp::MIN));
    let untried = book.challengers().iter().filter(|version| **version != BUILT_IN && !book.has_served(**version));
    let won = untried.filter_map(|version| {
        let versus = records.get(version)?.versus(champion, from)?;
        wins(&versus, config).then_some((*version, versus))
    });
    let (version, versus) = won.min_by(|a, b| a.1.ratio.total_cmp(&b.1.ratio))?;
    let Versus { ratio, origins, .. } = versus;
    let why = format!("live, it lost {ratio:.2} times as much as version {} over {origins} outcomes", book.champion());
    Some(Move { order: Order::Promote(version), why })
}

/// By the margin over the whole time, in both halves of it, and with a coverage no worse.
fn wins(versus: &Versus, config: &ModelsConfig) -> bool {
    let Versus { origins, span, ratio, halves, shortfalls, silence, .. } = versus;
    let block = config.window / BLOCKS;
    *origins >= config.min_origins
        && *span + block >= config.window.mul_f64(COMPARED)
        && *ratio < 1.0 - config.margin
        && halves.iter().all(|half| *half < 1.0)
        && shortfalls[0] <= shortfalls[1]
        && silence[0] <= silence[1]
}

#[cfg(test)]
mod tests;
