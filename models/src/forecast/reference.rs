//! The models against statsmodels; `tests/reference/forecast.py` makes the numbers.

use serde::Deserialize;

use super::arima::likelihood::innovations;
use super::arima::{Arima, Coefficients, Differences, Orders, expanded, of_orders};
use super::ets::{Ets, Parameters};
use super::point::Path;
use super::theta::Theta;

#[derive(Deserialize)]
struct Reference {
    arima: Vec<ArimaCase>,
    gaps: GapCase,
    ets: Vec<EtsCase>,
    seasonal: Vec<SeasonalCase>,
    theta: Vec<ThetaCase>,
}

#[derive(Deserialize)]
struct ArimaCase {
    y: Vec<f64>,
    differences: usize,
    ar: Vec<f64>,
    ma: Vec<f64>,
    variance: f64,
    log_likelihood: f64,
    best_ar: Vec<f64>,
    best_ma: Vec<f64>,
    best_log_likelihood: f64,
    kpss: f64,
}

#[derive(Deserialize)]
struct GapCase {
    y: Vec<Option<f64>>,
    ar: Vec<f64>,
    ma: Vec<f64>,
    variance: f64,
    log_likelihood: f64,
}

#[derive(Deserialize)]
struct EtsCase {
    y: Vec<f64>,
    alpha: f64,
    beta: f64,
    phi: f64,
    level: f64,
    slope: f64,
    squares: f64,
    forecast: Vec<f64>,
}

/// A regression with seasonal ARMA errors, in some cases with a constant or drift (first of the slopes) and gaps.
#[derive(Deserialize)]
struct SeasonalCase {
    y: Vec<Option<f64>>,
    period: usize,
    ordinary: usize,
    seasonal: usize,
    constant: bool,
    ar: Vec<f64>,
    ma: Vec<f64>,
    seasonal_ar: Vec<f64>,
    seasonal_ma: Vec<f64>,
    variance: f64,
    slopes: Vec<f64>,
    log_likelihood: f64,
    /// In the order `ar`, `ma`, `seasonal_ar`, `seasonal_ma`.
    best_arma: Vec<f64>,
    best_slopes: Vec<f64>,
    best_log_likelihood: f64,
    regressors: Vec<Vec<f64>>,
    future: Vec<Vec<f64>>,
    forecast: Option<Vec<f64>>,
}

impl SeasonalCase {
    fn orders(&self) -> Orders {
        let [ar, ma, seasonal_ar, seasonal_ma] =
            [&self.ar, &self.ma, &self.seasonal_ar, &self.seasonal_ma].map(Vec::len);
        Orders { ar, ma, seasonal_ar, seasonal_ma, constant: self.constant }
    }

    fn differences(&self) -> Differences {
        Differences { ordinary: self.ordinary, seasonal: self.seasonal, period: self.period }
    }

    fn values(&self) -> Vec<f64> {
        self.y.iter().map(|v| v.unwrap_or(f64::NAN)).collect()
    }

    /// The differenced series, then the constant and the regressors, differenced too.
    fn columns(&self) -> Vec<Vec<f64>> {
        let w = self.differences().of(&self.values());
        let ones = self.constant.then(|| vec![1.0; w.len()]);
        let regressors = self.regressors.iter().map(|x| self.differences().of(x));
        std::iter::once(w).chain(ones).chain(regressors).collect()
    }

    fn best(&self) -> Coefficients {
        let (p, q) = (self.ar.len(), self.ma.len());
        let (ar, rest) = self.best_arma.split_at(p);
        let (ma, rest) = rest.split_at(q);
        let (seasonal_ar, seasonal_ma) = rest.split_at(self.seasonal_ar.len());
        let (ar, ma) = expanded(ar, ma, seasonal_ar, seasonal_ma, self.period);
        let (constant, slopes) = self.best_slopes.split_at(usize::from(self.constant));
        Coefficients {
            orders: self.orders(),
            differences: self.differences(),
            ar,
            ma,
            constant: constant.first().copied().unwrap_or(0.0),
            slopes: slopes.to_vec(),
        }
    }
}

#[derive(Deserialize)]
struct ThetaCase {
    y: Vec<f64>,
    alpha: f64,
    slope: f64,
    forecast: Vec<f64>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../tests/reference/forecast.json")).expect("well-formed reference numbers")
}

fn assert_close(ours: f64, theirs: f64, relative: f64) {
    assert!((ours - theirs).abs() <= relative * theirs.abs().max(1e-3), "{ours} is not {theirs}");
}

fn differenced(case: &ArimaCase) -> Vec<f64> {
    if case.differences == 0 { case.y.clone() } else { case.y.windows(2).map(|pair| pair[1] - pair[0]).collect() }
}

#[test]
fn the_exact_likelihood_of_an_arma_is_that_of_statsmodels() {
    for case in reference().arima {
        let found = innovations(&case.ar, &case.ma, &[&differenced(&case)]);
        assert_close(found.log_likelihood(case.variance), case.log_likelihood, 1e-8);
        let best = innovations(&case.best_ar, &case.best_ma, &[&differenced(&case)]);
        assert_close(best.concentrated_log_likelihood(), case.best_log_likelihood, 1e-6);
    }
}

#[test]
fn the_likelihood_with_missing_values_is_that_of_statsmodels() {
    let case = reference().gaps;
    let y: Vec<f64> = case.y.iter().map(|v| v.unwrap_or(f64::NAN)).collect();
    assert_close(innovations(&case.ar, &case.ma, &[&y]).log_likelihood(case.variance), case.log_likelihood, 1e-8);
}

#[test]
fn the_likelihood_with_seasons_regressors_drift_and_gaps_is_that_of_statsmodels() {
    for case in reference().seasonal {
        let columns = case.columns();
        let explained = |t: usize| columns[1..].iter().zip(&case.slopes).map(|(x, b)| x[t] * b).sum::<f64>();
        let rest: Vec<f64> = columns[0].iter().enumerate().map(|(t, w)| w - explained(t)).collect();
        let (ar, ma) = expanded(&case.ar, &case.ma, &case.seasonal_ar, &case.seasonal_ma, case.period);
        let found = innovations(&ar, &ma, &[&rest]).log_likelihood(case.variance);
        assert_close(found, case.log_likelihood, 1e-8);
    }
}

#[test]
fn the_regression_is_that_of_statsmodels_at_its_best() {
    for case in reference().seasonal {
        let (columns, best) = (case.columns(), case.best());
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let found = innovations(&best.ar, &best.ma, &columns);
        assert_close(found.concentrated_log_likelihood(), case.best_log_likelihood, 1e-6);
        for (ours, theirs) in found.slopes().iter().zip(&case.best_slopes) {
            assert!((ours - theirs).abs() < 2e-3 * theirs.abs().max(1.0), "{ours} is not {theirs}");
        }
    }
}

#[test]
fn seasonal_orders_with_regressors_are_fitted_nearly_as_well_as_by_a_search_without_a_limit() {
    for case in reference().seasonal {
        let found = of_orders(&case.values(), &case.regressors, case.orders(), case.differences());
        let columns = case.columns();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let likelihood = innovations(&found.ar, &found.ma, &columns).concentrated_log_likelihood();
        assert!(likelihood >= case.best_log_likelihood - 2.5, "{likelihood} below {}", case.best_log_likelihood);
    }
}

#[test]
fn a_seasonal_forecast_with_regressors_and_drift_is_that_of_statsmodels() {
    for case in reference().seasonal {
        let Some(theirs) = &case.forecast else { continue };
        let ours = Arima::at_end(case.best(), &case.values(), &case.regressors).path_with(15, &case.future);
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((ours - theirs).abs() < 1e-4 * theirs.abs().max(1.0), "{ours} is not {theirs}");
        }
    }
}

#[test]
fn the_theta_forecast_is_that_of_statsmodels() {
    for case in reference().theta {
        let mut smoothed = Ets::from_state(Parameters { alpha: case.alpha, beta: 0.0, phi: 0.0 }, case.y[0], 0.0);
        smoothed.run(&case.y);
        let model = Theta::of(smoothed, &case.y);
        assert_close(2.0 * model.drift(), case.slope, 1e-9);
        for (ours, theirs) in model.path(&case.y, 12).iter().zip(&case.forecast) {
            assert_close(*ours, *theirs, 1e-9);
        }
        let fitted = Theta::fit(&case.y).path(&case.y, 12);
        for (ours, theirs) in fitted.iter().zip(&case.forecast) {
            assert_close(*ours, *theirs, 5e-3);
        }
    }
}

#[test]
fn the_coefficients_of_a_given_order_are_those_of_statsmodels() {
    for case in reference().arima {
        let orders = Orders { ar: case.ar.len(), ma: case.ma.len(), ..Orders::default() };
        let none = Differences { ordinary: 0, seasonal: 0, period: 1 };
        let fit = of_orders(&differenced(&case), &[], orders, none);
        let found = innovations(&fit.ar, &fit.ma, &[&differenced(&case)]).concentrated_log_likelihood();
        assert!(found >= case.best_log_likelihood - 1e-3, "{found} is below {}", case.best_log_likelihood);
        for (ours, theirs) in fit.ar.iter().chain(&fit.ma).zip(case.best_ar.iter().chain(&case.best_ma)) {
            assert!((ours - theirs).abs() < 0.02, "{ours} is not {theirs}");
        }
    }
}

#[test]
fn the_stationarity_statistic_is_that_of_statsmodels() {
    for case in reference().arima {
        assert_close(super::arima::stationarity(&case.y), case.kpss, 1e-9);
    }
}

#[test]
fn exponential_smoothing_from_a_given_state_is_that_of_statsmodels() {
    for case in reference().ets {
        let parameters = Parameters { alpha: case.alpha, beta: case.beta, phi: case.phi };
        let mut model = Ets::from_state(parameters, case.level, case.slope);
        assert_close(model.run(&case.y), case.squares, 1e-9);
        for (ours, theirs) in model.path(&case.y, 5).into_iter().zip(case.forecast) {
            assert_close(ours, theirs, 1e-9);
        }
    }
}
