//! Evidence as a sentence that reads well at three in the morning.

use super::{Evidence, Metric};

/// One plain sentence for `metric` with its evidence.
#[must_use]
pub fn sentence(metric: &Metric, evidence: &[Evidence], symptom: Option<&Metric>) -> String {
    let mut parts: Vec<String> = evidence.iter().filter_map(|e| clause(e, metric, symptom)).collect();
    if parts.is_empty() {
        return format!("{} of {} did not change.", metric.name, metric.service);
    }
    let first = format!("{} of {} {}", metric.name, metric.service, parts.remove(0));
    let rest: String = parts.iter().map(|part| format!("; {part}")).collect();
    format!("{first}{rest}.")
}

/// What speaks against a metric whose move a neighbour explains.
#[must_use]
pub fn explained(metric: &Metric, by: &str, share: f64) -> String {
    let percent = share * 100.0;
    format!(
        "{} of {by} moved too, enough to explain {percent:.0} % of it; then {by} is nearer to the cause.",
        metric.name
    )
}

/// What speaks against a metric whose tie with the symptom is all in what it shares with another.
#[must_use]
pub fn screened(metric: &Metric, other: &Metric) -> String {
    format!(
        "given {} of {}, nothing is left of the tie of {} of {} with the symptom; then {} is nearer to the cause.",
        other.name, other.service, metric.name, metric.service, other.service
    )
}

/// What speaks against the first of two suspects that are about as likely.
#[must_use]
pub fn rival(other: &Metric) -> String {
    format!("{} of {} stands out almost as much; if it moved first, that is the cause.", other.name, other.service)
}

fn clause(evidence: &Evidence, metric: &Metric, symptom: Option<&Metric>) -> Option<String> {
    match evidence {
        Evidence::Shift { before, after, sigmas } => {
            let verb = if after >= before { "rose" } else { "fell" };
            let size = sigmas.abs().min(9999.0);
            Some(format!("{verb} from {} to {} ({size:.0} times its usual spread)", number(*before), number(*after)))
        }
        Evidence::Onset { seconds } if seconds.abs() < 1.0 => Some("with the onset".to_owned()),
        Evidence::Onset { seconds } if *seconds < 0.0 => Some(format!("{} before the onset", span(*seconds))),
        Evidence::Onset { seconds } => Some(format!("{} after the onset", span(*seconds))),
        Evidence::Correlation { r, lead_seconds } => {
            let symptom = symptom.filter(|s| s.service != metric.service || s.name != metric.name)?;
            let lead =
                if *lead_seconds > 0.0 { format!(", {} ahead of it", span(*lead_seconds)) } else { String::new() };
            let verb = if *r >= 0.0 { "moves with" } else { "moves against" };
            Some(format!("{verb} {} of {} (r {:.2}){lead}", symptom.name, symptom.service, r))
        }
        Evidence::Topology { hops, deepest } => {
            let place = match hops {
                0 => "it is where users feel it".to_owned(),
                1 => "one call from where users feel it".to_owned(),
                n => format!("{n} calls from where users feel it"),
            };
            let depth = if *deepest {
                ", and nothing it calls is unhealthy"
            } else {
                ", and something it calls is unhealthy too"
            };
            Some(format!("{place}{depth}"))
        }
        Evidence::Precedence { lead_seconds, .. } => {
            let symptom = symptom?;
            let late = span(*lead_seconds);
            Some(format!(
                "before, {} of {} used to follow it by {late} (learnt, a weak hint)",
                symptom.name, symptom.service
            ))
        }
        Evidence::Change { change, seconds_before } if *seconds_before >= 0.0 => {
            Some(format!("a {change} of {} came {} before the onset", metric.service, span(*seconds_before)))
        }
        Evidence::Change { change, seconds_before } => {
            Some(format!("a {change} of {} came {} after the onset", metric.service, span(*seconds_before)))
        }
    }
}

/// A number with three significant digits, never in scientific notation between a thousandth and a billion.
fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    if !(1e-3..1e9).contains(&size) {
        return format!("{value:.2e}");
    }
    let digits = (2 - size.log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A span of time in the unit a person would choose.
fn span(seconds: f64) -> String {
    let seconds = seconds.abs();
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(service: &str, name: &str) -> Metric {
        Metric { service: service.to_owned(), name: name.to_owned(), values: Vec::new() }
    }

    #[test]
    fn a_sentence_names_numbers_and_units_of_time() {
        let evidence = [
            Evidence::Shift { before: 0.203, after: 1.9, sigmas: 17.2 },
            Evidence::Onset { seconds: 30.0 },
            Evidence::Correlation { r: 0.934, lead_seconds: 20.0 },
            Evidence::Topology { hops: 2, deepest: true },
            Evidence::Change { change: "deploy".to_owned(), seconds_before: 260.0 },
        ];
        let text = sentence(&metric("payments", "cpu"), &evidence, Some(&metric("web", "latency")));
        assert_eq!(
            text,
            "cpu of payments rose from 0.203 to 1.9 (17 times its usual spread); 30 s after the onset; moves with latency \
             of web (r 0.93), 20 s ahead of it; 2 calls from where users feel it, and nothing it calls is unhealthy; \
             a deploy of payments came 4 min before the onset."
        );
    }

    #[test]
    fn the_symptom_is_not_said_to_move_with_itself() {
        let own = metric("web", "latency");
        let evidence = [Evidence::Correlation { r: 1.0, lead_seconds: 0.0 }];
        assert_eq!(sentence(&own, &evidence, Some(&own)), "latency of web did not change.");
    }

    #[test]
    fn numbers_read_well_at_every_size() {
        let cases = [(0.0, "0"), (1234567.0, "1234567"), (0.01234, "0.0123"), (99.96, "100"), (1e-7, "1.00e-7")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
