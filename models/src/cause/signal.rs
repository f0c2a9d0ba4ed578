//! What a metric speaks of, told from its name.

/// The four golden signals (Beyer, Jones, Petoff, Murphy: Site Reliability Engineering, 2016, chapter 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Requests and bytes: what is asked of a service. A change of it comes from the callers.
    Traffic,
    /// How long answers take. A change of it comes from the callees, or from within.
    Latency,
    /// Answers that fail. A change of it comes from the callees, or from within.
    Errors,
    /// CPU, memory, disk, queues and all the rest: what happens within a service.
    Saturation,
}

const GOOD: [&str; 3] = ["avail", "success", "uptime"];
const ERRORS: [&str; 8] = ["err", "fail", "5xx", "drop", "timeout", "exception", "reject", "retr"];
const LATENCY: [&str; 4] = ["duration", "delay", "latenc", "elapsed"];
const TRAFFIC: [&str; 11] =
    ["request", "req", "ops", "qps", "rps", "throughput", "calls", "net", "rx", "tx", "workload"];

impl Signal {
    /// From a metric's name in any spelling (`http_request_duration_seconds`, `latency-p90`, `netRx`).
    #[must_use]
    pub fn of(name: &str) -> Self {
        let words = words(name);
        let starts = |list: &[&str]| words.iter().any(|word| list.iter().any(|start| word.starts_with(start)));
        if starts(&GOOD) || starts(&ERRORS) {
            Self::Errors
        } else if starts(&LATENCY) || words.iter().any(|word| word.ends_with("lat") || is_quantile(word)) {
            Self::Latency
        } else if starts(&TRAFFIC) {
            Self::Traffic
        } else {
            Self::Saturation
        }
    }
}

/// The value that stands for "all is well" of a metric that counts what goes well (`availability`, `success_ratio`): 1 or
/// 100 by its largest value. Its distance from there is its error.
#[must_use]
pub fn best_value(name: &str, values: &[f64]) -> Option<f64> {
    let good = words(name).iter().any(|word| GOOD.iter().any(|start| word.starts_with(start)));
    let largest = values.iter().copied().filter(|v| v.is_finite()).fold(f64::NEG_INFINITY, f64::max);
    let cap = if largest <= 1.0 + 1e-6 { 1.0 } else { 100.0 };
    (good && largest.is_finite() && largest <= cap * (1.0 + 1e-6)).then_some(cap)
}

/// `p50`, `csp90`, `p999`: a quantile, and so a distribution of times.
fn is_quantile(word: &str) -> bool {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let letters = &word[..word.len() - digits.len()];
    letters.ends_with('p') && ["50", "75", "90", "95", "99", "999"].contains(&digits)
}

/// Lower-case words of a name in snake, kebab, dotted or camel case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (lower_before && c.is_uppercase()) {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().into_iter().for_each(|word| word.extend(c.to_lowercase()));
        }
        lower_before = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_spelling_tell_their_signal() {
        let cases = [
            ("http_request_duration_seconds", Signal::Latency),
            ("clat-p90", Signal::Latency),
            ("lat-99", Signal::Latency),
            ("edge-csp50-from-web", Signal::Latency),
            ("requests", Signal::Traffic),
            ("net-rx", Signal::Traffic),
            ("networkTransmitBytes", Signal::Traffic),
            ("requestErrors", Signal::Errors),
            ("http_5xx_total", Signal::Errors),
            ("availability", Signal::Errors),
            ("cpu-pct", Signal::Saturation),
            ("platform_memory", Signal::Saturation),
            ("", Signal::Saturation),
        ];
        for (name, signal) in cases {
            assert_eq!(Signal::of(name), signal, "{name}");
        }
    }

    #[test]
    fn what_counts_the_good_has_a_best_value() {
        assert_eq!(best_value("availability", &[99.0, f64::NAN, 100.0]), Some(100.0));
        assert_eq!(best_value("success_ratio", &[0.5, 1.0]), Some(1.0));
        assert_eq!(best_value("success_total", &[4000.0]), None);
        assert_eq!(best_value("cpu", &[0.5]), None);
        assert_eq!(best_value("success", &[]), None);
    }
}
