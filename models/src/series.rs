//! Time, labels, samples and windows: the nouns every other module speaks of.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod grid;

pub use grid::OffGrid;

/// Label that carries the metric's name, as in Prometheus.
pub const METRIC_NAME: &str = "__name__";

/// Bits of the NaN by which Prometheus marks the end of a series.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The staleness marker: a NaN that says "this series ended here".
#[must_use]
pub fn stale_marker() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the staleness marker (and not merely a NaN).
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// An instant in milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Earliest and latest instants that can be represented.
    pub const MIN: Self = Self(i64::MIN);
    /// See [`Timestamp::MIN`].
    pub const MAX: Self = Self(i64::MAX);

    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the epoch, saturating.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// From fractional seconds since the epoch, rounded to the millisecond; `None` for NaN, infinities and overflow.
    #[must_use]
    pub fn from_secs_f64(secs: f64) -> Option<Self> {
        let millis = (secs * 1000.0).round();
        (millis.is_finite() && millis.abs() < 9.2e18).then_some(Self(millis as i64))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds since the epoch.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The latest multiple of `step` at or before this instant.
    #[must_use]
    pub fn floor_to(self, step: Step) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(step.as_millis())))
    }
}

/// Whole milliseconds of a duration, saturating.
fn saturating_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(saturating_millis(rhs)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_millis(rhs)))
    }
}

/// The distance between two points of a regular grid: a positive number of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Step(i64);

/// The reason why a number of milliseconds is not a [`Step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a step must be at least one millisecond, not {0} ms")]
pub struct NotAStep(pub i64);

impl Step {
    /// From milliseconds.
    ///
    /// # Errors
    /// [`NotAStep`] below one millisecond.
    pub const fn from_millis(millis: i64) -> Result<Self, NotAStep> {
        if millis > 0 { Ok(Self(millis)) } else { Err(NotAStep(millis)) }
    }

    /// From whole seconds; zero becomes one second.
    #[must_use]
    pub const fn from_secs(secs: u32) -> Self {
        Self(if secs == 0 { 1000 } else { secs as i64 * 1000 })
    }

    /// Milliseconds between two points; always positive.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds between two points.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The distance covered by `n` steps, saturating.
    #[must_use]
    pub fn times(self, n: usize) -> Duration {
        Duration::from_millis((self.0 as u64).saturating_mul(n as u64))
    }
}

impl TryFrom<i64> for Step {
    type Error = NotAStep;
    fn try_from(millis: i64) -> Result<Self, NotAStep> {
        Self::from_millis(millis)
    }
}

impl From<Step> for i64 {
    fn from(step: Step) -> Self {
        step.0
    }
}

/// The identity of a series: label names and values, sorted by name, each name once, no empty value.
///
/// Cloning shares the text. An absent label and an empty one are the same, as in Prometheus. All names and values lie in
/// one string, each after its length: millions of label sets come and go every second, so each is one allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

impl Labels {
    /// Sorts the pairs by name, drops empty values and keeps the last value of a repeated name.
    pub fn new<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut all: Vec<(N, V)> = pairs.into_iter().collect();
        all.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref())); // stable: among equals the last given stays last
        let mut text = String::with_capacity(all.iter().map(|(n, v)| n.as_ref().len() + v.as_ref().len() + 4).sum());
        for (at, (name, value)) in all.iter().enumerate() {
            let repeated = all.get(at + 1).is_some_and(|next| next.0.as_ref() == name.as_ref());
            if !repeated && !value.as_ref().is_empty() {
                put_text(&mut text, name.as_ref());
                put_text(&mut text, value.as_ref());
            }
        }
        Self(text.into())
    }

    /// The labels of the bare metric `name`.
    #[must_use]
    pub fn metric(name: &str) -> Self {
        Self::new([(METRIC_NAME, name)])
    }

    /// These labels with `name` set to `value`; an empty value removes the label.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        Self::new(self.iter().chain([(name, value)]))
    }

    /// These labels without those for which `drop` holds.
    #[must_use]
    pub fn without(&self, drop: impl Fn(&str) -> bool) -> Self {
        Self::new(self.iter().filter(|(name, _)| !drop(name)))
    }

    /// The value of `name`, if it is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// The metric's name, or the empty string.
    #[must_use]
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Pairs in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || (!rest.is_empty()).then(|| (take_text(&mut rest), take_text(&mut rest))))
    }

    /// How many labels are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Bytes that all names and values take, each with its length.
    #[must_use]
    pub fn text_len(&self) -> usize {
        self.0.len()
    }

    /// Whether no label is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

/// By name and value of the first label, then of the second, and so on.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Appends a text after its length in bytes: six bits a character, lowest first, `0x40` on all but the last.
fn put_text(out: &mut String, text: &str) {
    let mut len = text.len();
    while len >= 0x40 {
        out.push(char::from(0x40 | (len & 0x3f) as u8));
        len >>= 6;
    }
    out.push(char::from(len as u8));
    out.push_str(text);
}

/// Takes what [`put_text`] put off the front.
fn take_text<'a>(rest: &mut &'a str) -> &'a str {
    let (len, digits) = match rest.as_bytes() {
        [len @ 0..0x40, ..] => (usize::from(*len), 1), // as nearly always
        bytes => length(bytes),
    };
    let (text, after) = rest[digits..].split_at(len);
    *rest = after;
    text
}

fn length(bytes: &[u8]) -> (usize, usize) {
    let (mut len, mut digits) = (0, 0);
    for byte in bytes {
        len |= usize::from(byte & 0x3f) << (6 * digits);
        digits += 1;
        if *byte < 0x40 {
            break;
        }
    }
    (len, digits)
}

/// Prometheus' notation: `name{a="1",b="2"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric_name())?;
        let mut rest = self.iter().filter(|(name, _)| *name != METRIC_NAME).peekable();
        if rest.peek().is_none() {
            return if self.is_empty() { f.write_str("{}") } else { Ok(()) };
        }
        let mut separator = '{';
        for (name, value) in rest {
            write!(f, "{separator}{name}={value:?}")?;
            separator = ',';
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Labels {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::collections::BTreeMap::<String, String>::deserialize(deserializer).map(Self::new)
    }
}

/// One observation. `value` may be any float: NaN, an infinity or the staleness marker are normal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was observed.
    pub at: Timestamp,
    /// What was observed.
    pub value: f64,
}

/// A stretch of one series on a regular grid; a gap is a NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Time of the first point.
    pub start: Timestamp,
    /// Distance between points.
    pub step: Step,
    /// Values in order of time; NaN where nothing was observed.
    pub values: Vec<f64>,
}

impl Window {
    /// Number of points, gaps included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no point at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Time of point `index`.
    #[must_use]
    pub fn time_of(&self, index: usize) -> Timestamp {
        self.start + self.step.times(index)
    }

    /// Time just after the last point: where a forecast starts.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.time_of(self.len())
    }

    /// The last `n` points, or all when there are fewer.
    #[must_use]
    pub fn last(&self, n: usize) -> Self {
        let skip = self.len().saturating_sub(n);
        Self { start: self.time_of(skip), step: self.step, values: self.values[skip..].to_vec() }
    }

    /// Share of points that are gaps, in `0.0..=1.0`; 1 when empty.
    #[must_use]
    pub fn gap_share(&self) -> f64 {
        if self.is_empty() {
            return 1.0;
        }
        self.values.iter().filter(|v| v.is_nan()).count() as f64 / self.len() as f64
    }

    /// Puts irregular samples on the grid: each point takes the last finite sample of the step that ends there
    /// (`(t - step, t]`), or NaN. Samples need not be sorted; staleness markers and infinities count as gaps.
    #[must_use]
    pub fn from_samples(samples: &[Sample], start: Timestamp, step: Step, len: usize) -> Self {
        let mut newest = vec![Timestamp::MIN; len];
        let mut values = vec![f64::NAN; len];
        for sample in samples.iter().filter(|s| s.value.is_finite()) {
            let offset = sample.at.as_millis().saturating_sub(start.as_millis()).saturating_add(step.as_millis() - 1);
            let Ok(index) = usize::try_from(offset.div_euclid(step.as_millis())) else { continue };
            if index < len && sample.at >= newest[index] {
                newest[index] = sample.at;
                values[index] = sample.value;
            }
        }
        Self { start, step, values }
    }
}

/// For `#[serde(with = "crate::series::nan_as_null")]`: JSON has no NaN, so it is written as null and read back.
pub mod nan_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes a NaN as nothing.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Some(*value).filter(|v| !v.is_nan()).serialize(serializer)
    }

    /// Reads nothing as a NaN.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_unique_and_without_empty_values() {
        let labels = Labels::new([("b", "2"), ("a", "1"), ("b", "3"), ("c", "")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
    }

    #[test]
    fn labels_of_any_length_and_script_come_back_and_sort_by_their_pairs() {
        let long = "é".repeat(5000);
        let labels = Labels::new([("b", long.as_str()), ("a", "x"), ("名", "値")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "x"), ("b", long.as_str()), ("名", "値")]);
        assert_eq!((labels.len(), labels.get("名"), labels.get("c")), (3, Some("値"), None));
        assert!(Labels::new([("a", "zz")]) < Labels::new([("ab", "a")]));
        assert!(Labels::new([("a", "b")]) < Labels::new([("a", "b"), ("c", "d")]));
    }

    #[test]
    fn labels_print_as_prometheus_does() {
        let labels = Labels::metric("up").with("job", "no\"de");
        assert_eq!(labels.to_string(), "up{job=\"no\\\"de\"}");
        assert_eq!(Labels::metric("up").to_string(), "up");
        assert_eq!(Labels::default().to_string(), "{}");
    }

    #[test]
    fn a_window_takes_the_last_sample_of_each_step() {
        let at = |ms, value| Sample { at: Timestamp::from_millis(ms), value };
        let samples = [at(1000, 1.0), at(1900, 2.0), at(1500, 9.0), at(2000, stale_marker()), at(4000, 4.0)];
        let window = Window::from_samples(&samples, Timestamp::from_millis(1000), Step::from_secs(1), 4);
        assert_eq!(window.values[0], 1.0);
        assert_eq!(window.values[1], 2.0);
        assert!(window.values[2].is_nan());
        assert_eq!(window.values[3], 4.0);
    }

    #[test]
    fn stale_marker_is_told_from_other_nans() {
        assert!(is_stale(stale_marker()));
        assert!(!is_stale(f64::NAN));
    }
}
