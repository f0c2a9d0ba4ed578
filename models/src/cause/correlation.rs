//! Lagged Pearson correlation of many series with one.

use ndarray::{Array1, Array2, ArrayView1, Axis, Slice};

/// The strongest correlation of a series with the symptom over the lags tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lagged {
    /// Pearson's r, `-1.0..=1.0`.
    pub r: f64,
    /// By how many rows the series leads the symptom.
    pub lead: usize,
}

/// For each column of `series` (shape `[rows, metrics]`, gaps filled) the lag in `0..=max_lead` at which it correlates
/// most strongly, in magnitude, with `symptom` (shape `[rows]`); the shortest lead wins a tie. A constant column has r = 0.
///
/// # Source
/// Pearson's product-moment coefficient of `x[0..n-l]` with `y[l..n]`.
#[must_use]
pub fn lagged(series: &Array2<f64>, symptom: ArrayView1<'_, f64>, max_lead: usize) -> Vec<Lagged> {
    let rows = series.nrows().min(symptom.len());
    let mut best = vec![Lagged { r: 0.0, lead: 0 }; series.ncols()];
    for lead in (0..=max_lead).take_while(|lead| lead + 3 <= rows) {
        let y = unit(symptom.slice_axis(Axis(0), Slice::from(lead..rows)));
        for (column, found) in series.columns().into_iter().zip(&mut best) {
            let r = unit(column.slice_axis(Axis(0), Slice::from(..rows - lead))).dot(&y).clamp(-1.0, 1.0);
            if r.abs() > found.r.abs() + 1e-9 {
                *found = Lagged { r, lead };
            }
        }
    }
    best
}

/// Centred and scaled to unit length; all zero when the values do not vary or are not finite.
fn unit(values: ArrayView1<'_, f64>) -> Array1<f64> {
    let largest = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let scaled = values.mapv(|v| if largest > 0.0 { v / largest } else { 0.0 });
    let centred = &scaled - scaled.mean().unwrap_or(0.0);
    let length = centred.dot(&centred).sqrt();
    if length > 1e-9 && length.is_finite() { centred / length } else { Array1::zeros(values.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_leads_by_two_rows_is_found_with_its_lead() {
        let symptom = Array1::from_vec((0..40).map(|i| f64::from(i * i % 17)).collect());
        let mut early = symptom.to_vec();
        early.rotate_left(2);
        let series = Array1::from_vec(early).insert_axis(Axis(1));
        let found = lagged(&series, symptom.view(), 5)[0];
        assert_eq!(found.lead, 2);
        assert!((found.r - 1.0).abs() < 1e-12);
    }

    #[test]
    fn pearson_agrees_with_scipy() {
        // scipy.stats.pearsonr([1, 2, 3, 4, 7], [2, 1, 4, 3, 9]).statistic
        let series = Array2::from_shape_vec((5, 1), vec![1.0, 2.0, 3.0, 4.0, 7.0]).unwrap();
        let symptom = Array1::from_vec(vec![2.0, 1.0, 4.0, 3.0, 9.0]);
        assert!((lagged(&series, symptom.view(), 0)[0].r - 0.920_492_244_182_891_4).abs() < 1e-12);
    }

    #[test]
    fn constant_huge_and_short_series_are_harmless() {
        let series = Array2::from_shape_vec((4, 2), vec![5.0, 1e308, 5.0, -1e308, 5.0, 1e308, 5.0, -1e308]).unwrap();
        let found = lagged(&series, Array1::from_vec(vec![1.0, 2.0, 1.0, 2.0]).view(), 3);
        assert_eq!(found[0].r, 0.0);
        assert!((found[1].r + 1.0).abs() < 1e-9);
        assert_eq!(lagged(&Array2::zeros((0, 1)), Array1::zeros(0).view(), 3)[0].r, 0.0);
    }
}
