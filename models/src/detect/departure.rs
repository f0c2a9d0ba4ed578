//! Means of deviations over a span, judged against earlier means over as long a span.

use serde::{Deserialize, Serialize};

use super::tail::soft_limit;

/// Means that wait before they are learnt, so that a slow departure does not teach itself as normal.
const QUEUE: usize = 12;
/// Weight, in means, of the belief about their spread that is held before any was seen.
const PRIOR_WEIGHT: f32 = 6.0;
/// Kurtosis believed in before any was seen (three for a Gaussian), and the weight of that belief in means.
const PRIOR_KURTOSIS: f32 = 9.0;
const PRIOR_KURTOSIS_WEIGHT: f32 = 10.0;
/// A mean is learnt as at most so many spreads.
const CLIP: f32 = 8.0;
/// Decades that are believed beyond the square of the number of means seen.
const REACH: f32 = 0.5;

/// An exponential mean over a span of samples, and what such means were like.
///
/// Its surprise is the tail of Student's t, with as many degrees of freedom as means were learnt, or as few as their
/// kurtosis asks for: `4 + 6 / (kurtosis - 3)`, by the method of moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Departure {
    mean: f32,
    samples: u16,
    queue: [f32; QUEUE],
    next: u8,
    queued: u8,
    weight: f32,
    first: f32,
    second: f32,
    fourth: f32,
}

impl Departure {
    /// Takes a deviation into the mean with `share`; one mean in `span` samples is kept to be learnt, ageing the memory
    /// by `keep`. Here and below, the spread of means is never taken as smaller than `least`.
    pub(super) fn observe(&mut self, deviation: f64, share: f64, span: f32, keep: f32, least: f32) {
        self.mean += (share * (deviation - f64::from(self.mean))) as f32;
        self.samples = self.samples.saturating_add(1);
        if f32::from(self.samples) >= span {
            self.samples = 0;
            self.wait(keep, least);
        }
    }

    /// `-log10` of the probability of a mean at least as far above those before, or below them too when `two_sided`.
    pub(super) fn surprise(&self, two_sided: bool, least: f32) -> f64 {
        if self.weight < 1.5 {
            return 0.0;
        }
        let off = self.mean - self.centre();
        let off = if two_sided { off.abs() } else { off.max(0.0) };
        let z = f64::from(off / self.spread(least));
        let told = if z < 1.0 { normal_tail(z) } else { student(z, f64::from(self.freedom(least))) };
        soft_limit(told, f64::from(2.0 * (self.weight + 1.0).log10() + REACH))
    }

    /// Standard deviation of means.
    pub(super) fn spread(&self, least: f32) -> f32 {
        let prior = PRIOR_WEIGHT * least * least;
        let variance = (self.second + prior) / (self.weight + PRIOR_WEIGHT);
        variance.sqrt().max(least).max(f32::MIN_POSITIVE)
    }

    /// Forgets the present mean and those that wait, not what means were like.
    pub(super) fn settle(&mut self) {
        self.mean = 0.0;
        self.queue = [0.0; QUEUE];
    }

    fn centre(&self) -> f32 {
        self.first / (self.weight + PRIOR_WEIGHT)
    }

    fn freedom(&self, least: f32) -> f32 {
        let variance = self.spread(least) * self.spread(least);
        let believed = PRIOR_KURTOSIS * PRIOR_KURTOSIS_WEIGHT;
        let kurtosis = (self.fourth / variance / variance + believed) / (self.weight + PRIOR_KURTOSIS_WEIGHT);
        let by_tails = if kurtosis > 3.01 { 4.0 + 6.0 / (kurtosis - 3.0) } else { 1e3 };
        (self.weight.max(1.0).recip() + by_tails.recip()).recip().max(1.0)
    }

    /// Puts the present mean at the end of the queue and learns the one at its head.
    fn wait(&mut self, keep: f32, least: f32) {
        let head = std::mem::replace(&mut self.queue[usize::from(self.next)], self.mean);
        self.next = (self.next + 1) % QUEUE as u8;
        if usize::from(self.queued) < QUEUE {
            self.queued += 1;
            return;
        }
        let (centre, limit) = (self.centre(), CLIP * self.spread(least));
        let off = if self.weight > 8.0 { (head - centre).clamp(-limit, limit) } else { head - centre };
        let square = off * off;
        self.weight = self.weight * keep + 1.0;
        self.first = self.first * keep + centre + off;
        self.second = self.second * keep + square;
        self.fourth = self.fourth * keep + square * square;
    }
}

/// `-log10` of the two-sided tail of Student's t beyond `z` with `freedom` degrees of freedom.
///
/// Source: D. Wallace, "Bounds on normal approximations to Student's and the chi-square distributions", Annals of
/// Mathematical Statistics 1959.
fn student(z: f64, freedom: f64) -> f64 {
    let shrink = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0);
    normal_tail((freedom * (z * z / freedom).ln_1p()).sqrt() * shrink)
}

/// `-log10` of the two-sided normal tail beyond `z`: Laplace's continued fraction, and a straight line below 1, where
/// nothing hangs on it.
fn normal_tail(z: f64) -> f64 {
    if z < 1.0 {
        return 0.4984 * z;
    }
    let fraction = z + 1.0 / (z + 2.0 / (z + 3.0 / (z + 4.0 / (z + 5.0 / (z + 6.0 / (z + 1.0))))));
    z * z / (2.0 * std::f64::consts::LN_10) + (fraction * (std::f64::consts::PI / 2.0).sqrt()).log10()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::reference;
    use crate::detect::synthetic::Noise;

    #[test]
    fn tails_are_those_of_scipy_within_a_twentieth() {
        for case in reference::known()["student"].as_array().unwrap() {
            let [z, freedom, expected] = ["z", "freedom", "surprise"].map(|key| case[key].as_f64().unwrap());
            let told = student(z, freedom);
            assert!((told / expected - 1.0).abs() < 0.05, "{told} for {case}");
        }
    }

    /// What a departure over 16 samples makes of `samples`, and its surprise at the end.
    fn after(samples: impl Iterator<Item = f64>) -> f64 {
        let mut departure = Departure::default();
        samples.for_each(|deviation| departure.observe(deviation, 0.12, 16.0, 1.0, 0.1));
        departure.surprise(true, 0.1)
    }

    #[test]
    fn a_lasting_deviation_below_the_noise_of_single_samples_is_seen() {
        let mut noise = Noise::new(1);
        let mut samples: Vec<f64> = (0..4000).map(|_| noise.gaussian()).collect();
        assert!(after(samples.iter().copied()) < 2.5);
        samples.extend((0..40).map(|_| 2.0 + noise.gaussian()));
        assert!(after(samples.into_iter()) > 4.0);
    }

    #[test]
    fn means_that_leapt_before_make_a_leap_less_surprising() {
        let mut noise = Noise::new(2);
        let steady: Vec<f64> = (0..4000).map(|_| noise.gaussian()).collect();
        let leaping = steady.iter().enumerate().map(|(k, v)| if k % 400 < 20 { v + 3.0 } else { *v });
        let leap = || std::iter::repeat_n(2.0, 40);
        let (seldom, often) = (after(steady.iter().copied().chain(leap())), after(leaping.chain(leap())));
        assert!(often < seldom - 1.5, "{often} {seldom}");
    }
}
