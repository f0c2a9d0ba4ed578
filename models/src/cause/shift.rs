//! How far the level of a metric moved, against its own usual spread.

/// Floor of the scale as a share of the reference level: a move of a tenth of the level is one sigma at most.
const FLOOR_OF_LEVEL: f64 = 0.1;
/// Floor of the scale as a share of the largest magnitude in the window, for metrics whose reference level is near zero.
const FLOOR_OF_RANGE: f64 = 0.01;

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
    /// Between the finite values of `reference` and `incident`; `None` when either has none.
    ///
    /// Level is the median, so a single wild sample moves nothing; scale is half the distance between the 16th and the
    /// 84th percentile (one standard deviation for Gaussian noise), floored by a share of the level and of the largest
    /// magnitude, so a metric that was constant before counts without drowning the others.
    #[must_use]
    pub fn between(reference: &[f64], incident: &[f64]) -> Option<Self> {
        let mut reference = finite(reference);
        let mut incident = finite(incident);
        if reference.is_empty() || incident.is_empty() {
            return None;
        }
        let largest = reference.iter().chain(&incident).fold(0.0_f64, |m, v| m.max(v.abs()));
        let before = quantile(&mut reference, 0.5);
        let spread = (quantile(&mut reference, 0.84) - quantile(&mut reference, 0.16)) / 2.0;
        let scale = spread.max(FLOOR_OF_LEVEL * before.abs()).max(FLOOR_OF_RANGE * largest);
        let after = quantile(&mut incident, 0.5);
        Some(Self { before, after, scale: if scale > 0.0 { scale } else { 1.0 } })
    }

    /// Size of the move in scales, signed.
    #[must_use]
    pub fn sigmas(&self) -> f64 {
        (self.after / self.scale) - (self.before / self.scale)
    }
}

/// Magnitude beyond which values are cut off, so that no difference of two overflows.
const LARGEST: f64 = 1e150;

/// The finite values of `values`.
pub(super) fn finite(values: &[f64]) -> Vec<f64> {
    values.iter().filter(|v| v.is_finite()).map(|v| v.clamp(-LARGEST, LARGEST)).collect()
}

/// Quantile with linear interpolation (type 7 of Hyndman and Fan, as numpy); `values` is not empty and finite, and is
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
    fn one_wild_sample_in_the_reference_moves_nothing() {
        let mut reference = vec![10.0; 20];
        let calm = Shift::between(&reference, &[12.0; 5]);
        reference[0] = 1e9;
        let wild = Shift::between(&reference, &[12.0; 5]).unwrap();
        assert_eq!(calm.unwrap().before, wild.before);
        assert_eq!(Shift::between(&reference, &[1e9, 10.0, 10.0]).unwrap().sigmas(), 0.0);
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
