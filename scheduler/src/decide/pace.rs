//! How advice is followed: stabilisation windows and limits of change, with the rules of the Kubernetes Horizontal Pod
//! Autoscaler (`behavior` of autoscaling/v2, as described in its documentation).

use bellwether_models::series::Timestamp;

use super::fleet::Track;
use crate::config::{Pace, PaceLimit, PacePolicy, ScaleConfig, Select};

/// The advice to follow at `now`: upwards the least, downwards the most that was advised in the window, present advice
/// included; between the two, no change.
pub(super) fn stabilised(track: &Track, advised: u32, scale: &ScaleConfig, now: Timestamp) -> u32 {
    let Some(current) = track.replicas() else { return advised };
    let within = |pace: Pace<'_>| {
        let since = now - pace.stabilisation;
        track.advice.iter().filter(move |(at, _)| *at > since).map(|(_, advice)| *advice)
    };
    let up = within(scale.up()).fold(advised, u32::min);
    // Standing somewhere counts as advice at the beginning, where there is a window to remember.
    let begins = track.advice.is_empty() && !scale.down().stabilisation.is_zero();
    let start = if begins { current } else { 0 };
    let down = within(scale.down()).fold(advised.max(start), u32::max);
    current.max(up).min(down)
}

/// `wanted`, cut to what the policies allow from where `track` stands.
pub(super) fn limited(track: &Track, wanted: u32, scale: &ScaleConfig, now: Timestamp) -> u32 {
    let wanted = wanted.clamp(scale.min, scale.max);
    let Some(current) = track.replicas() else { return wanted };
    if wanted > current {
        wanted.min(ceiling(track, current, scale.up(), now).max(current))
    } else if wanted < current {
        wanted.max(bottom(track, current, scale.down(), now).min(current))
    } else {
        current
    }
}

fn ceiling(track: &Track, current: u32, pace: Pace<'_>, now: Timestamp) -> u32 {
    let allowed = pace.policies.iter().map(|policy| {
        let start = start_of_period(track, current, policy, now);
        match policy.limit {
            PaceLimit::Replicas(n) => start.saturating_add(n),
            PaceLimit::Percent(p) => to_u32((f64::from(start) * (1.0 + f64::from(p) / 100.0)).ceil()),
        }
    });
    match pace.select {
        Select::Disabled => current,
        Select::Max => allowed.max().unwrap_or(u32::MAX),
        Select::Min => allowed.min().unwrap_or(u32::MAX),
    }
}

fn bottom(track: &Track, current: u32, pace: Pace<'_>, now: Timestamp) -> u32 {
    let allowed = pace.policies.iter().map(|policy| {
        let start = start_of_period(track, current, policy, now);
        match policy.limit {
            PaceLimit::Replicas(n) => start.saturating_sub(n),
            PaceLimit::Percent(p) => to_u32(f64::from(start) * (1.0 - f64::from(p) / 100.0)),
        }
    });
    match pace.select {
        Select::Disabled => current,
        Select::Max => allowed.min().unwrap_or(0),
        Select::Min => allowed.max().unwrap_or(0),
    }
}

/// Replicas at the beginning of a policy's period: those of now without the changes made since.
fn start_of_period(track: &Track, current: u32, policy: &PacePolicy, now: Timestamp) -> u32 {
    let since = now - policy.period;
    let changed: i64 = track.changes.iter().filter(|(at, _)| *at > since).map(|(_, change)| change).sum();
    u32::try_from((i64::from(current) - changed).max(0)).unwrap_or(u32::MAX)
}

fn to_u32(x: f64) -> u32 {
    x as u32 // truncates and saturates
}
