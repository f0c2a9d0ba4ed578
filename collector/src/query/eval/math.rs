//! Functions of one value.

/// A function of one value and scalar parameters; `None` as its value removes the element.
pub(in super::super) type MathWith = fn(f64, &[f64]) -> Option<f64>;

/// -1, 0 or 1; zero and NaN stay what they are.
pub(in super::super) fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// Into `[minimum, maximum]`; nothing at all where the minimum is above the maximum.
pub(in super::super) fn clamp(value: f64, bounds: &[f64]) -> Option<f64> {
    let [minimum, maximum] = *bounds else { return None };
    if maximum < minimum { None } else { Some(greater(minimum, lesser(maximum, value))) }
}

/// Not above the maximum.
pub(in super::super) fn clamp_max(value: f64, bounds: &[f64]) -> Option<f64> {
    bounds.first().map(|&maximum| lesser(maximum, value))
}

/// Not below the minimum.
pub(in super::super) fn clamp_min(value: f64, bounds: &[f64]) -> Option<f64> {
    bounds.first().map(|&minimum| greater(minimum, value))
}

/// To the nearest multiple of the parameter (1 without one), halves upwards.
pub(in super::super) fn round(value: f64, to: &[f64]) -> Option<f64> {
    let inverse = 1.0 / to.first().copied().unwrap_or(1.0);
    Some((value * inverse + 0.5).floor() / inverse)
}

/// The greater of two; NaN when either is and the other does not settle it, unlike `f64::max`.
fn greater(a: f64, b: f64) -> f64 {
    let settled = a == f64::INFINITY || b == f64::INFINITY;
    if !settled && (a.is_nan() || b.is_nan()) { f64::NAN } else { a.max(b) }
}

/// The lesser of two; NaN when either is.
fn lesser(a: f64, b: f64) -> f64 {
    let settled = a == f64::NEG_INFINITY || b == f64::NEG_INFINITY;
    if !settled && (a.is_nan() || b.is_nan()) { f64::NAN } else { a.min(b) }
}

/// A sum that keeps what each addition rounds off.
///
/// # Source
/// A. Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", ZAMM 54 (1974).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CompensatedSum {
    sum: f64,
    lost: f64,
}

impl CompensatedSum {
    pub fn add(&mut self, term: f64) {
        let total = self.sum + term;
        self.lost += if self.sum.abs() >= term.abs() { (self.sum - total) + term } else { (term - total) + self.sum };
        self.sum = total;
    }

    /// The sum; an infinite one without its correction, which would be NaN.
    pub fn total(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.corrected() }
    }

    /// The sum with its correction, always.
    pub fn corrected(self) -> f64 {
        self.sum + self.lost
    }

    /// The sum without its correction.
    pub fn raw(self) -> f64 {
        self.sum
    }
}

/// The value below which a share `q` of `values` lies, linear between neighbours; `values` are put in order, NaN first.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| b.is_nan().cmp(&a.is_nan()).then_with(|| a.total_cmp(b)));
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}
