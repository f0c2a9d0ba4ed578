//! Which periods a series repeats itself in.

use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

use super::adjusted::Seasonal;

/// Most periods looked for.
const MOST: usize = 3;
/// Least autocorrelation at a period, and least rise of the autocorrelation from the trough before it.
const LEAST: f64 = 0.2;
/// Share of the variance below which nothing more is looked for.
const LEAST_SHARE: f64 = 0.05;

/// Periods of `values` (in steps, ascending; gaps filled), each found in what the stronger ones leave over.
///
/// A period must fit twice into the series, and at least a twentieth of the variance must still be there to be explained.
/// Its autocorrelation, once the straight trend is off, must be a peak well above the trough before it, above a fifth,
/// and beyond what the shorter lags would produce by chance in one of twenty series.
///
/// # Source
/// Autocorrelation by fast Fourier transform (Wiener and Khinchin); significance after Bartlett, "On the theoretical
/// specification of sampling properties of autocorrelated time series", J. R. Stat. Soc. 8, 1946.
#[must_use]
pub fn find(values: &[f64]) -> Vec<usize> {
    let Some(mut rest) = super::clean::fill(values, None) else { return Vec::new() };
    super::clean::Fence::around(&rest).clip(&mut rest);
    let mut found: Vec<usize> = Vec::new();
    let all = variance(&without_drift(&rest));
    while found.len() < MOST && variance(&without_drift(&rest)) > LEAST_SHARE * all {
        let Some(period) = shortest(&rest, found.last().copied().unwrap_or(0)) else { break };
        rest = Seasonal::split(&rest, &[period], 1.0).1;
        found.push(period);
    }
    found
}

fn variance(centred: &[f64]) -> f64 {
    centred.iter().map(|v| v * v).sum::<f64>() / centred.len().max(1) as f64
}

/// The shortest significant lag longer than twice `known`.
fn shortest(values: &[f64], known: usize) -> Option<usize> {
    let correlations = autocorrelations(&without_drift(values), values.len() / 2);
    let (mut trough, mut squares) = (f64::INFINITY, 0.0);
    for (lag, here) in correlations.iter().copied().enumerate().skip(1) {
        let chance = 1.96 * ((1.0 + 2.0 * squares) / (values.len() - lag) as f64).sqrt();
        trough = trough.min(here);
        squares += here * here;
        let high = here > LEAST.max(chance) && here > trough + LEAST;
        if high && lag > (2 * known).max(2) && is_peak(&correlations, lag) {
            return Some(lag);
        }
    }
    None
}

/// Whether no correlation within an eighth of the lag is higher, and the next ones are known.
fn is_peak(correlations: &[f64], lag: usize) -> bool {
    let reach = (lag / 8).max(1);
    let around = correlations.get(lag - reach..=lag + reach);
    around.is_some_and(|around| around.iter().all(|c| *c <= correlations[lag]))
}

/// The series without its straight trend.
fn without_drift(values: &[f64]) -> Vec<f64> {
    let n = values.len() as f64;
    let middle = (n - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / n;
    let spread: f64 = (0..values.len()).map(|i| (i as f64 - middle).powi(2)).sum();
    let slope: f64 = values.iter().enumerate().map(|(i, v)| (i as f64 - middle) * (v - mean)).sum::<f64>() / spread;
    let slope = if slope.is_finite() { slope } else { 0.0 };
    values.iter().enumerate().map(|(i, v)| v - mean - slope * (i as f64 - middle)).collect()
}

/// Autocorrelations at lags `0..lags`, each over its own number of pairs; zero for a constant series.
fn autocorrelations(centred: &[f64], lags: usize) -> Vec<f64> {
    let size = (2 * centred.len()).next_power_of_two();
    let mut buffer: Vec<Complex<f64>> = centred.iter().map(|v| Complex::new(*v, 0.0)).collect();
    buffer.resize(size, Complex::default());
    let mut planner = FftPlanner::new();
    planner.plan_fft_forward(size).process(&mut buffer);
    buffer.iter_mut().for_each(|c| *c = Complex::new(c.norm_sqr(), 0.0));
    planner.plan_fft_inverse(size).process(&mut buffer);
    let n = centred.len();
    let variance = buffer.first().map_or(0.0, |c| c.re) / n.max(1) as f64;
    let at = |lag: usize| if variance > 0.0 { buffer[lag].re / (n - lag) as f64 / variance } else { 0.0 };
    (0..lags.min(n)).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::noise;

    fn wave(i: usize, period: usize) -> f64 {
        (i as f64 / period as f64 * std::f64::consts::TAU).sin()
    }

    #[test]
    fn a_day_and_a_week_are_found_in_hours() {
        let y: Vec<f64> = (0..24 * 7 * 5)
            .map(|i| 50.0 + 10.0 * wave(i, 24) - if (i / 24) % 7 >= 5 { 12.0 } else { 0.0 } + 2.0 * noise(i))
            .collect();
        assert_eq!(find(&y), [24, 168]);
    }

    #[test]
    fn an_odd_period_is_found_through_gaps_and_a_trend() {
        let mut y: Vec<f64> = (0..700).map(|i| 0.05 * i as f64 + 10.0 * wave(i, 37).max(0.0) + noise(i)).collect();
        y[100..130].fill(f64::NAN);
        let found = find(&y);
        assert_eq!(found.first(), Some(&37), "{found:?}");
    }

    #[test]
    fn noise_a_wandering_level_and_a_constant_have_no_period() {
        let flat: Vec<f64> = (0..600).map(noise).collect();
        assert!(find(&flat).is_empty());
        let mut level = 0.0;
        let walk: Vec<f64> = (0..600)
            .map(|i| {
                level += noise(i);
                level
            })
            .collect();
        assert!(find(&walk).is_empty());
        assert!(find(&[7.0; 300]).is_empty());
        assert!(find(&[]).is_empty());
    }
}
