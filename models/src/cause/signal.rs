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

/// What a metric's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// What it speaks of.
    pub signal: Signal,
    /// Whether it counts what goes well: `availability`, `success_ratio`.
    pub counts_good: bool,
}

impl Meaning {
    /// From a metric's name in any spelling (`http_request_duration_seconds`, `latency-p90`, `netRx`).
    #[must_use]
    pub fn of(name: &str) -> Self {
        let words = words(name);
        let starts = |list: &[&str]| words.iter().any(|word| list.iter().any(|start| word.starts_with(start)));
        let counts_good = starts(&GOOD);
        let signal = if counts_good || starts(&ERRORS) {
            Signal::Errors
        } else if starts(&LATENCY) || words.iter().any(|word| word.ends_with("lat") || is_quantile(word)) {
            Signal::Latency
        } else if starts(&TRAFFIC) {
            Signal::Traffic
        } else {
            Signal::Saturation
        };
        Self { signal, counts_good }
    }

    /// The value that stands for "all is well" of a metric that counts what goes well: 1 or 100 by its largest value. Its
    /// distance from there is its error.
    #[must_use]
    pub fn best_value(self, values: &[f64]) -> Option<f64> {
        let finite = values.iter().copied().filter(|v| v.is_finite());
        let largest = if self.counts_good { finite.fold(f64::NEG_INFINITY, f64::max) } else { return None };
        let best = if largest <= 1.0 + 1e-6 { 1.0 } else { 100.0 };
        (largest.is_finite() && largest <= best * (1.0 + 1e-6)).then_some(best)
    }
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
            assert_eq!(Meaning::of(name).signal, signal, "{name}");
        }
    }

    #[test]
    fn what_counts_the_good_has_a_best_value() {
        assert_eq!(Meaning::of("availability").best_value(&[99.0, f64::NAN, 100.0]), Some(100.0));
        assert_eq!(Meaning::of("success_ratio").best_value(&[0.5, 1.0]), Some(1.0));
        assert_eq!(Meaning::of("success_total").best_value(&[4000.0]), None);
        assert_eq!(Meaning::of("cpu").best_value(&[0.5]), None);
        assert_eq!(Meaning::of("success").best_value(&[]), None);
    }
}
