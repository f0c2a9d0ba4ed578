//! The models against statsmodels; `tests/reference/forecast.py` makes the numbers.

use serde::Deserialize;

use super::arima::Arima;
use super::arima::likelihood::innovations;
use super::ets::{Ets, Parameters};
use super::point::Path;

#[derive(Deserialize)]
struct Reference {
    arima: Vec<ArimaCase>,
    gaps: GapCase,
    ets: Vec<EtsCase>,
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
        let found = innovations(&case.ar, &case.ma, &differenced(&case));
        assert_close(found.log_likelihood(case.variance), case.log_likelihood, 1e-8);
        let best = innovations(&case.best_ar, &case.best_ma, &differenced(&case));
        assert_close(best.concentrated_log_likelihood(), case.best_log_likelihood, 1e-6);
    }
}

#[test]
fn the_likelihood_with_missing_values_is_that_of_statsmodels() {
    let case = reference().gaps;
    let y: Vec<f64> = case.y.iter().map(|v| v.unwrap_or(f64::NAN)).collect();
    assert_close(innovations(&case.ar, &case.ma, &y).log_likelihood(case.variance), case.log_likelihood, 1e-8);
}

#[test]
fn the_coefficients_of_a_given_order_are_those_of_statsmodels() {
    for case in reference().arima {
        let (ar, ma) = Arima::coefficients_of(&differenced(&case), (case.ar.len(), case.ma.len()));
        let found = innovations(&ar, &ma, &differenced(&case)).concentrated_log_likelihood();
        assert!(found >= case.best_log_likelihood - 1e-3, "{found} is below {}", case.best_log_likelihood);
        for (ours, theirs) in ar.iter().chain(&ma).zip(case.best_ar.iter().chain(&case.best_ma)) {
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
