//! How far the level of a metric moved, against its own usual spread and against what it did before.

/// Floor of the scale as a share of the reference level: a tenth of the level is one sigma at most.
const FLOOR_OF_LEVEL: f64 = 0.1;
/// Floor of the scale as a share of the largest magnitude in the window, for metrics whose reference level is near zero.
const FLOOR_OF_RANGE: f64 = 0.01;
/// How much of the largest excursion within the reference counts as usual.
const SHARE_OF_EXCURSION: f64 = 0.5;
/// Most rows over which an excursion must last.
const EXCURSION_ROWS: usize = 5;
/// Magnitude beyond which values are cut off, so that no difference of two overflows.
const LARGEST: f64 = 1e150;

/// A sustained move of level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// Median of the reference.
    pub before: f64,
    /// Median of the incident.
    pub after: f64,
    /// Robust scale, floored; positive.
    pub scale: f64,
}

impl Shift {
    /// Between the finite values of `reference` and `incident`, both in order of time; `None` when either has none.
    ///
    /// Level is the median, so a single wild sample moves nothing. The scale is half the distance between the 16th and the
    /// 84th percentile (one standard deviation for Gaussian noise), floored by a share of the level and of the largest
    /// magnitude, so that a metric that was constant before counts without drowning the others; plus half of the largest
    /// excursion that a running median of the reference made in the same direction, so that what a metric did before
    /// without harm, a warm-up or an idle service's bursts, is no news.
    #[must_use]
    pub fn between(reference: &[f64], incident: &[f64]) -> Option<Self> {
        let mut calm = finite(reference);
        let mut moved = finite(incident);
        if calm.is_empty() || moved.is_empty() {
            return None;
        }
        let largest = calm.iter().chain(&moved).fold(0.0_f64, |m, v| m.max(v.abs()));
        let before = quantile(&mut calm, 0.5);
        let spread = (quantile(&mut calm, 0.84) - quantile(&mut calm, 0.16)) / 2.0;
        let after = quantile(&mut moved, 0.5);
        let usual = spread.max(FLOOR_OF_LEVEL * before.abs()).max(FLOOR_OF_RANGE * largest);
        let rows = incident.len().min(EXCURSION_ROWS).min(reference.len() / 3).max(2);
        let scale = usual + SHARE_OF_EXCURSION * excursion(reference, rows, before, after >= before);
        Some(Self { before, after, scale: if scale > 0.0 { scale } else { 1.0 } })
    }

    /// Size of the move in scales, signed.
    #[must_use]
    pub fn sigmas(&self) -> f64 {
        (self.after / self.scale) - (self.before / self.scale)
    }

    /// Size of the move in the metric's own unit, signed.
    #[must_use]
    pub fn size(&self) -> f64 {
        self.after - self.before
    }
}

/// Farthest that the median of `rows` consecutive values, at most [`EXCURSION_ROWS`], stood above (or below) `level`; 0
/// when it never did.
fn excursion(values: &[f64], rows: usize, level: f64, above: bool) -> f64 {
    let away =
        |some: &[f64]| median_of_few(some).map_or(0.0, |median| if above { median - level } else { level - median });
    values.windows(rows).map(away).fold(0.0, f64::max)
}

/// Median of the finite among at most [`EXCURSION_ROWS`] values, by insertion: it runs for every row of every metric.
fn median_of_few(values: &[f64]) -> Option<f64> {
    let mut sorted = [0.0; EXCURSION_ROWS];
    let mut count = 0;
    for value in values.iter().take(EXCURSION_ROWS).filter(|v| v.is_finite()) {
        let value = value.clamp(-LARGEST, LARGEST);
        let mut at = count;
        while at > 0 && sorted[at - 1] > value {
            sorted[at] = sorted[at - 1];
            at -= 1;
        }
        sorted[at] = value;
        count += 1;
    }
    (count > 0).then(|| (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0)
}

/// The finite values of `values`, cut off at [`LARGEST`].
pub(super) fn finite(values: &[f64]) -> Vec<f64> {
    values.iter().filter(|v| v.is_finite()).map(|v| v.clamp(-LARGEST, LARGEST)).collect()
}

/// Quantile with linear interpolation (type 7 of Hyndman and Fan 1996, as numpy); `values` is finite and not empty, and is
/// reordered.
pub(super) fn quantile(values: &mut [f64], p: f64) -> f64 {
    let at = p * (values.len() - 1) as f64;
    let low = at.floor() as usize;
    let (_, below, rest) = values.select_nth_unstable_by(low, f64::total_cmp);
    let below = *below;
    let above = rest.iter().copied().fold(f64::INFINITY, f64::min);
    if above.is_finite() { below + (above - below) * (at - low as f64) } else { below }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_agree_with_numpy() {
        // numpy.percentile([3, 1, 4, 1, 5, 9, 2, 6], [16, 50, 84])
        let mut values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0];
        assert!((quantile(&mut values, 0.16) - 1.12).abs() < 1e-12);
        assert!((quantile(&mut values, 0.50) - 3.5).abs() < 1e-12);
        assert!((quantile(&mut values, 0.84) - 5.88).abs() < 1e-12);
    }

    #[test]
    fn the_median_of_few_is_the_median() {
        assert_eq!(median_of_few(&[3.0, f64::NAN, 1.0]), Some(2.0));
        assert_eq!(median_of_few(&[5.0, 1.0, 4.0, 2.0, 3.0]), Some(3.0));
        assert_eq!(median_of_few(&[f64::NAN]), None);
    }

    #[test]
    fn one_wild_sample_in_the_reference_moves_nothing() {
        let mut reference = vec![10.0; 20];
        let calm = Shift::between(&reference, &[12.0; 5]);
        reference[7] = 1e9;
        let wild = Shift::between(&reference, &[12.0; 5]).unwrap();
        assert_eq!(calm.unwrap().before, wild.before);
        assert_eq!(Shift::between(&reference, &[1e9, 10.0, 10.0]).unwrap().sigmas(), 0.0);
    }

    #[test]
    fn a_metric_that_did_the_same_before_is_less_surprising() {
        let calm = vec![10.0; 30];
        let mut warm_up = calm.clone();
        warm_up[..4].fill(20.0);
        let sigmas = |reference: &[f64]| Shift::between(reference, &[20.0; 5]).unwrap().sigmas();
        assert!(sigmas(&warm_up) < sigmas(&calm) / 3.0);
        let fall = Shift::between(&warm_up, &[5.0; 5]).unwrap().sigmas();
        assert_eq!(fall, Shift::between(&calm, &[5.0; 5]).unwrap().sigmas(), "it never fell before");
    }

    #[test]
    fn a_metric_that_was_constant_counts_and_stays_finite() {
        let shift = Shift::between(&[0.0; 10], &[5.0; 4]).unwrap();
        assert!(shift.sigmas() > 10.0 && shift.sigmas().is_finite());
        let fall = Shift::between(&[5.0; 10], &[0.0; 4]).unwrap();
        assert!(fall.sigmas() < -5.0);
    }

    #[test]
    fn gaps_are_passed_over_and_emptiness_is_no_shift() {
        assert_eq!(Shift::between(&[f64::NAN; 4], &[1.0]), None);
        assert_eq!(Shift::between(&[], &[]), None);
        let gappy = Shift::between(&[f64::NAN, 1.0, f64::INFINITY, 1.0], &[f64::NAN, 2.0]).unwrap();
        assert_eq!((gappy.before, gappy.after), (1.0, 2.0));
    }
}
