//! Lagged Pearson correlation of many series with one.

use ndarray::{Array2, ArrayView1};

/// The strongest correlation of a series with the symptom over the lags tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lagged {
    /// Pearson's r, `-1.0..=1.0`.
    pub r: f64,
    /// By how many rows the series leads the symptom.
    pub lead: usize,
}

/// For each row of `series` (shape `[metrics, points]`, gaps filled) the lag in `0..=max_lead` at which it correlates most
/// strongly, in magnitude, with `symptom` (shape `[points]`); the shortest lead wins a tie. A constant series has r = 0.
///
/// # Source
/// Pearson's product-moment coefficient of `x[0..n-l]` with `y[l..n]`.
#[must_use]
pub fn lagged(series: &Array2<f64>, symptom: ArrayView1<'_, f64>, max_lead: usize) -> Vec<Lagged> {
    let symptom = scaled(symptom);
    let strongest = |metric: ArrayView1<'_, f64>| {
        let metric = scaled(metric);
        let points = metric.len().min(symptom.len());
        let mut best = Lagged { r: 0.0, lead: 0 };
        for lead in (0..=max_lead).take_while(|lead| lead + 3 <= points) {
            let r = pearson(&metric[..points - lead], &symptom[lead..points]);
            if r.abs() > best.r.abs() + 1e-9 {
                best = Lagged { r, lead };
            }
        }
        best
    };
    series.rows().into_iter().map(strongest).collect()
}

/// Pearson's r of two series at the same instants; 0 when one does not vary.
#[must_use]
pub fn together(x: &[f64], y: &[f64]) -> f64 {
    let points = x.len().min(y.len());
    let (x, y) = (scaled(ArrayView1::from(&x[..points])), scaled(ArrayView1::from(&y[..points])));
    if points < 3 { 0.0 } else { pearson(&x, &y) }
}

/// What is left of the correlation of x with y once z, which is correlated with both, is accounted for:
/// `(r_xy − r_xz·r_yz) / √((1 − r_xz²)(1 − r_yz²))`; 0 where z tells all there is to tell.
///
/// # Source
/// Partial correlation of first order (Yule 1907).
#[must_use]
pub fn partial(xy: f64, xz: f64, yz: f64) -> f64 {
    let left = (1.0 - xz * xz) * (1.0 - yz * yz);
    let r = (xy - xz * yz) / left.sqrt();
    if left > 1e-9 && r.is_finite() { r.clamp(-1.0, 1.0) } else { 0.0 }
}

/// The values over their largest magnitude, so that no product overflows.
fn scaled(values: ArrayView1<'_, f64>) -> Vec<f64> {
    let largest = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    values.iter().map(|v| if largest > 0.0 { v / largest } else { 0.0 }).collect()
}

/// Pearson's r of two stretches of equal length; 0 when one does not vary or is not finite.
fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mean_x, y - mean_y);
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    let r = xy / (xx * yy).sqrt();
    if xx > 1e-18 && yy > 1e-18 && r.is_finite() { r.clamp(-1.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Axis};

    use super::*;

    #[test]
    fn a_copy_that_leads_by_two_rows_is_found_with_its_lead() {
        let symptom = Array1::from_vec((0..40).map(|i| f64::from(i * i % 17)).collect());
        let mut early = symptom.to_vec();
        early.rotate_left(2);
        let series = Array1::from_vec(early).insert_axis(Axis(0));
        let found = lagged(&series, symptom.view(), 5)[0];
        assert_eq!(found.lead, 2);
        assert!((found.r - 1.0).abs() < 1e-12);
    }

    #[test]
    fn pearson_agrees_with_scipy() {
        // scipy.stats.pearsonr([1, 2, 3, 4, 7], [2, 1, 4, 3, 9]).statistic
        let series = Array2::from_shape_vec((1, 5), vec![1.0, 2.0, 3.0, 4.0, 7.0]).unwrap();
        let symptom = Array1::from_vec(vec![2.0, 1.0, 4.0, 3.0, 9.0]);
        assert!((lagged(&series, symptom.view(), 0)[0].r - 0.920_492_244_182_891_4).abs() < 1e-12);
    }

    #[test]
    fn partial_correlation_agrees_with_residuals_of_regression() {
        // r of what numpy.polyfit leaves of x and y over z; x = [1, 2, 3, 4, 7], y = [2, 1, 4, 3, 9], z = [1, 3, 2, 5, 6]
        let (x, y, z) = ([1.0, 2.0, 3.0, 4.0, 7.0], [2.0, 1.0, 4.0, 3.0, 9.0], [1.0, 3.0, 2.0, 5.0, 6.0]);
        let r = partial(together(&x, &y), together(&x, &z), together(&y, &z));
        assert!((r - 0.9773911562411486).abs() < 1e-9, "{r}");
        assert_eq!(partial(0.9, 1.0, 0.9), 0.0);
    }

    #[test]
    fn constant_huge_and_short_series_are_harmless() {
        let series = Array2::from_shape_vec((2, 4), vec![5.0, 5.0, 5.0, 5.0, 1e308, -1e308, 1e308, -1e308]).unwrap();
        let found = lagged(&series, Array1::from_vec(vec![1.0, 2.0, 1.0, 2.0]).view(), 3);
        assert_eq!(found[0].r, 0.0);
        assert!((found[1].r + 1.0).abs() < 1e-9);
        assert_eq!(lagged(&Array2::zeros((1, 0)), Array1::zeros(0).view(), 3)[0].r, 0.0);
    }
}
