//! How often evidence was this strong before: tail probabilities on a series' own history.

use serde::{Deserialize, Serialize};

const BINS: usize = 32;
const BINS_PER_OCTAVE: f32 = 3.0;
/// Lower edge of the second bin; everything smaller is in the first.
const FIRST_EDGE: f32 = 0.25;
/// The tail is the upper share of the history, and holds at least so much weight.
const TAIL_SHARE: f32 = 0.02;
const TAIL_LEAST: f32 = 10.0;
const PRIOR_WEIGHT: f32 = 150.0;
/// Evidence of the belief's upper share, and the mean of log excesses beyond it.
const PRIOR_EDGE: f32 = 2.5;
const PRIOR_LOG_EXCESS: f32 = 0.3;
/// Excesses that must be seen before a tail lighter than a power law is half believed in.
const PRIOR_POWER_LAW: f32 = 150.0;
/// Quantiles of the belief below that: share not above, evidence.
const PRIOR_BODY: [(f32, f32); 5] = [(0.0, 0.0), (0.5, 0.28), (0.75, 0.55), (0.9, 1.0), (0.95, 1.5)];
/// Decades that evidence may be carried beyond one and a half times those seen before it is compressed.
const REACH: f64 = 1.0;
/// Log excesses count at most so much: one absurd value does not stand for a tail.
const MOST_LOG_EXCESS: f32 = 4.0;

/// A decaying histogram of evidence on a logarithmic axis, its upper tail continued by a generalised Pareto
/// distribution whose shape comes from the moments of the log excesses.
///
/// Source: A. Dekkers, J. Einmahl, L. de Haan, "A moment estimator for the index of an extreme-value distribution",
/// Annals of Statistics 1989; A. Siffer et al., "Anomaly detection in streams with extreme value theory", KDD 2017.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tail {
    counts: [f32; BINS],
    /// Weight of one new observation: grows where counts would decay, so ageing costs nothing.
    unit: f32,
    total: f32,
    /// Weight, sum and sum of squares of log excesses over the threshold.
    excess: [f32; 3],
    fit: Fit,
    until_fit: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Fit {
    median: f32,
    upper: f32,
    threshold: f32,
    /// `-log10` of the share beyond the threshold.
    surprise: f32,
    shape: f32,
    scale: f32,
    /// `-log10` of one in all that was seen.
    seen: f32,
}

impl Default for Tail {
    fn default() -> Self {
        let fit =
            Fit { median: 1.0, upper: 2.0, threshold: PRIOR_EDGE, surprise: 1.7, shape: 0.0, scale: 1.0, seen: 0.0 };
        let beyond = TAIL_SHARE * PRIOR_WEIGHT;
        let excess = [beyond, beyond * PRIOR_LOG_EXCESS, 2.0 * beyond * PRIOR_LOG_EXCESS * PRIOR_LOG_EXCESS];
        let mut tail = Self { counts: [0.0; BINS], unit: 1.0, total: 0.0, excess, fit, until_fit: 1 };
        for (k, count) in tail.counts.iter_mut().enumerate() {
            *count = PRIOR_WEIGHT * (believed(edge(k + 1)) - believed(edge(k)));
        }
        tail.total = tail.counts.iter().sum();
        tail.refit();
        tail
    }
}

/// Share of evidence not above `u` that is believed in before anything was seen.
fn believed(u: f32) -> f32 {
    if u >= PRIOR_EDGE {
        return 1.0 - TAIL_SHARE * (u / PRIOR_EDGE).powf(-PRIOR_LOG_EXCESS.recip());
    }
    let above = PRIOR_BODY.iter().position(|(_, edge)| *edge > u).unwrap_or(PRIOR_BODY.len());
    let (p0, u0) = PRIOR_BODY[above.saturating_sub(1)];
    let (p1, u1) = PRIOR_BODY.get(above).copied().unwrap_or((1.0 - TAIL_SHARE, PRIOR_EDGE));
    p0 + (p1 - p0) * ((u - u0) / (u1 - u0)).clamp(0.0, 1.0)
}

impl Tail {
    /// `-log10` of the probability of evidence at least as strong as `evidence` (not negative).
    pub(super) fn surprise(&self, evidence: f64) -> f64 {
        let (f, u) = (&self.fit, evidence as f32);
        let s = match u {
            u if u <= f.median => 0.3 * u / f.median,
            u if u <= f.upper => 0.3 + 0.7 * (u - f.median) / (f.upper - f.median),
            u if u <= f.threshold => 1.0 + (f.surprise - 1.0) * (u - f.upper) / (f.threshold - f.upper),
            u => return self.beyond(f64::from(u)),
        };
        f64::from(s)
    }

    /// Learns `evidence` with `weight` independent observations, ageing the memory by the factor `keep`.
    pub(super) fn learn(&mut self, evidence: f64, weight: f32, keep: f32) {
        self.unit /= keep;
        self.counts[bin(evidence as f32)] += self.unit * weight;
        self.total += self.unit * weight;
        if evidence as f32 > self.fit.threshold {
            let log = (evidence as f32 / self.fit.threshold).ln().min(MOST_LOG_EXCESS);
            let w = self.unit * weight;
            self.excess = [self.excess[0] + w, self.excess[1] + w * log, self.excess[2] + w * log * log];
        }
        self.until_fit = self.until_fit.saturating_sub(1);
        if self.until_fit == 0 {
            self.refit();
        }
    }

    fn beyond(&self, u: f64) -> f64 {
        let f = &self.fit;
        let excess = (u.min(1e12) - f64::from(f.threshold)) / f64::from(f.scale);
        let shape = f64::from(f.shape);
        let decades = if shape < 1e-3 {
            excess / std::f64::consts::LN_10
        } else {
            (shape * excess).ln_1p() / shape / std::f64::consts::LN_10
        };
        soft_limit(f64::from(f.surprise) + decades, 1.5 * f64::from(f.seen) + REACH)
    }

    fn refit(&mut self) {
        if self.unit > 1e6 {
            self.rescale();
        }
        let weight = self.total / self.unit;
        self.until_fit = if weight < 256.0 { 8 } else { 64 };
        if weight < 4.0 {
            return;
        }
        let (threshold, _) = self.upper_edge((TAIL_SHARE * weight).max(TAIL_LEAST) / weight);
        self.raise(threshold);
        let (shape, scale) = self.moments();
        let threshold = self.fit.threshold;
        let (upper, _) = self.upper_edge(0.1);
        let (median, _) = self.upper_edge(0.5);
        let upper = upper.min(threshold * 0.999);
        let median = median.min(upper * 0.999);
        let surprise = -((self.excess[0] / self.total).clamp(1e-9, 0.1)).log10();
        self.fit = Fit { median, upper, threshold, surprise, shape, scale, seen: (weight + 1.0).log10() };
    }

    /// Moves the threshold; what is known of the excesses is carried over, as if they were exponential.
    fn raise(&mut self, threshold: f32) {
        if (threshold / self.fit.threshold - 1.0).abs() < 0.03 {
            return;
        }
        self.fit.threshold = threshold;
        let beyond = self.above(threshold).max(1e-3 * self.unit);
        let by = beyond / self.excess[0].max(1e-6);
        self.excess.iter_mut().for_each(|e| *e *= by);
    }

    fn above(&self, threshold: f32) -> f32 {
        (0..BINS)
            .map(|k| {
                let (low, high) = (edge(k), edge(k + 1));
                if threshold <= low {
                    self.counts[k]
                } else if threshold >= high {
                    0.0
                } else {
                    self.counts[k] * (high / threshold).ln() / (high / low.max(1e-3)).ln()
                }
            })
            .sum()
    }

    fn rescale(&mut self) {
        let by = self.unit.recip();
        self.counts.iter_mut().for_each(|c| *c *= by);
        self.total *= by;
        self.excess.iter_mut().for_each(|e| *e *= by);
        self.unit = 1.0;
    }

    /// The lowest bin edge with at most `share` of the history above it, and the share that is above.
    fn upper_edge(&self, share: f32) -> (f32, f32) {
        let mut above = 0.0;
        for k in (1..BINS).rev() {
            let with = above + self.counts[k];
            if with > share * self.total {
                // inside this bin: interpolate the edge, so that thresholds do not jump from bin to bin
                let part = ((share * self.total - above) / self.counts[k]).clamp(0.0, 1.0);
                return (edge(k + 1) / (edge(k + 1) / edge(k)).powf(part), share);
            }
            above = with;
        }
        (edge(1), (above / self.total).max(0.5 / (self.total / self.unit)))
    }

    /// Shape and scale of the excesses over the threshold.
    fn moments(&self) -> (f32, f32) {
        let [n, first, second] = self.excess;
        let (m1, m2) = ((first / n).max(0.02), (second / n).max(1e-4));
        let shape = m1 + 1.0 - 0.5 / (1.0 - (m1 * m1 / m2).min(0.95));
        let k = n / self.unit;
        let shape = (k * shape.clamp(0.0, m1) + PRIOR_POWER_LAW * m1) / (k + PRIOR_POWER_LAW);
        (shape, self.fit.threshold * m1 * (1.0 + m1 - shape))
    }
}

/// `s` up to `limit`, beyond it ever more slowly but still strictly increasing.
pub(super) fn soft_limit(s: f64, limit: f64) -> f64 {
    if s <= limit { s } else { limit + 0.5 * (s - limit).ln_1p() }
}

fn bin(u: f32) -> usize {
    if u.is_nan() || u <= FIRST_EDGE {
        return 0;
    }
    // the exponent and a linear mantissa: a base-2 logarithm good to 0.09, monotone, without a call
    let bits = (u / FIRST_EDGE).to_bits();
    let log2 = (bits >> 23) as f32 - 127.0 + (bits & 0x7f_ffff) as f32 / 8_388_608.0;
    ((log2 * BINS_PER_OCTAVE) as usize + 1).min(BINS - 1)
}

/// Lower edge of bin `k`; the inverse of [`bin`].
fn edge(k: usize) -> f32 {
    if k == 0 {
        return 0.0;
    }
    let log2 = (k - 1) as f32 / BINS_PER_OCTAVE;
    let whole = log2.floor();
    FIRST_EDGE * whole.exp2() * (1.0 + log2 - whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::reference;

    #[test]
    fn a_heavy_tail_is_continued_as_scipy_knows_it() {
        let case = &reference::known()["tail"];
        let mut tail = Tail::default();
        for value in reference::numbers(&case["values"]) {
            tail.learn(value, 1.0, 1.0);
        }
        for (evidence, expected) in
            reference::numbers(&case["asked"]).into_iter().zip(reference::numbers(&case["surprises"]))
        {
            let told = tail.surprise(evidence);
            assert!((told / expected - 1.0).abs() < 0.12, "{told} for {evidence}, which is {expected}");
        }
    }
}
