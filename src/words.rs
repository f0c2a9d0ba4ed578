//! Incidents, decisions and drains in plain text, for a terminal at three in the morning.

use std::fmt::Write;

use bellwether_models::duration;
use bellwether_models::incident::{Incident, Severity, Status};
use bellwether_scheduler::guard::Downstream;
use bellwether_scheduler::plan::Decision;
use bellwether_scheduler::route::drain::{Drain, Phase, Turn};

use crate::api::chart::{clock, short_number};

/// An incident with its `most` likeliest causes and their evidence.
#[must_use]
pub fn incident(incident: &Incident, most: usize) -> String {
    let mut text = String::new();
    let severity = match incident.severity {
        Severity::Critical => "CRITICAL",
        Severity::Warning => "WARNING",
    };
    let state = match incident.status {
        Status::Open => "open",
        Status::Resolved => "over",
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{severity} {} · {state} · since {} UTC · {}",
        incident.workload,
        clock(incident.onset),
        incident.id
    );
    let _ = writeln!(
        text,
        "  {} in {}: {}",
        count(incident.anomalies.len(), "anomaly", "anomalies"),
        count(incident.services.len(), "service", "services"),
        incident.services.join(", ")
    );
    if !incident.blast_radius.is_empty() {
        let _ = writeln!(text, "  may reach next: {}", incident.blast_radius.join(", "));
    }
    for change in &incident.changes {
        let _ = writeln!(text, "  changed nearby: {} UTC, a {} of {}", clock(change.at), change.kind, change.service);
    }
    if let Some(at) = incident.silent_since {
        let _ = writeln!(text, "  its symptoms are silent since {} UTC", clock(at));
    }
    match &incident.ranking.abstained {
        Some(why) => {
            let _ = writeln!(text, "  not sure what broke first: {why}; the likeliest all the same:");
        }
        None => {
            let _ = writeln!(text, "  what broke first ({:.0} % sure):", incident.ranking.confidence * 100.0);
        }
    }
    for (place, cause) in incident.ranking.causes.iter().take(most).enumerate() {
        let _ = writeln!(text, "  {}. {} · {}\n     {}", place + 1, cause.service, cause.metric, cause.summary);
        if !cause.doubt.is_empty() {
            let _ = writeln!(text, "     but: {}", cause.doubt);
        }
    }
    text
}

/// An error with all that lies behind it, on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |source| source.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// `1 service`, `3 services`.
#[must_use]
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The anomalies of an incident, one a line.
#[must_use]
pub fn anomalies(incident: &Incident) -> String {
    let mut text = String::new();
    for anomaly in &incident.anomalies {
        let expected = if anomaly.expected.is_finite() { short_number(anomaly.expected) } else { "?".to_owned() };
        let _ = writeln!(
            text,
            "  {}  {}  seen {} expected {expected}  -log10 p {:.1}",
            clock(anomaly.onset),
            anomaly.series,
            short_number(anomaly.observed),
            anomaly.surprise
        );
    }
    text
}

/// The room that is left in a dependency.
#[must_use]
pub fn downstream(room: &Downstream) -> String {
    let number = |value: Option<f64>| value.map_or("unknown".to_owned(), short_number);
    let limit = match (room.limit, room.is_full) {
        (None, _) => "growth does not look at it".to_owned(),
        (Some(limit), true) => format!("full: no growth while its demand is above {}", short_number(limit)),
        (Some(limit), false) => format!("no growth above {}", short_number(limit)),
    };
    format!(
        "downstream {}: demand {}, can serve {} at most; {limit}",
        room.dependency,
        number(room.demand),
        number(room.capacity)
    )
}

/// A decision with every reason, and what a reactive autoscaler would have said.
#[must_use]
pub fn decision(decision: &Decision) -> String {
    let mut text = format!("{} UTC · {} · {}\n{decision}\n", clock(decision.at), decision.workload, decision.id);
    for reason in &decision.reasons {
        let _ = writeln!(text, "  - {reason}");
    }
    if let Some(reactive) = decision.reactive {
        let _ = writeln!(text, "  a reactive autoscaler would have said {reactive}");
    }
    for step in &decision.planned {
        let (ask, serve) = (clock(step.ask_at), clock(step.serve_at));
        let _ = writeln!(text, "  planned: {} replicas, asked for at {ask} UTC to serve at {serve}", step.replicas);
    }
    text
}

/// A turn of a drain, with the drain as it was ordered.
#[must_use]
pub fn drain_turn(turn: &Turn) -> String {
    let Drain { backend, ordered_at, until, within, by, reason, .. } = &turn.drain;
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!(
        "{} UTC · {backend} · {}\n{turn}\n  - its weight was {:.0} % of the whole then\n  - ordered {} UTC by {by}{reason}; until {} UTC, down within {}\n",
        clock(turn.at),
        turn.id,
        turn.weight * 100.0,
        clock(*ordered_at),
        clock(*until),
        duration::format(*within)
    )
}

/// How a drain stands.
#[must_use]
pub fn drain(drain: &Drain) -> String {
    let reason = if drain.reason.is_empty() { String::new() } else { format!(": {}", drain.reason) };
    let until = clock(drain.until);
    match drain.phase {
        Phase::Draining { .. } => format!(
            "drained until {until} UTC, its weight goes down within {} ({}{reason})",
            duration::format(drain.within),
            drain.by
        ),
        Phase::Suspended { since, cause } => {
            format!("its drain until {until} UTC is suspended since {}: {cause} ({}{reason})", clock(since), drain.by)
        }
    }
}
