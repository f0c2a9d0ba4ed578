//! Forecasts and their replay.

use std::sync::Arc;

use bellwether_models::backtest::{self, Plan};
use bellwether_models::forecast::auto::Combination;
use bellwether_models::forecast::calendar::{Calendar, Dated, InCalendar};
use bellwether_models::forecast::neural::Network;
use bellwether_models::forecast::{self, ArimaOrders, Choice, Fitted as _, Forecaster, Given, Horizon, Kind, Quantile};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{InputError, fit as not_fitted, input};
use crate::window::{Window, copied};

/// Names of single models.
#[pyfunction]
pub(crate) fn models() -> Vec<&'static str> {
    Kind::ALL.iter().map(|kind| kind.name()).collect()
}

/// A model by name, with what it is given.
#[pyclass(frozen, module = "bellwether._native")]
pub(crate) struct Model {
    choice: Choice,
    given: Given,
    left_out: Vec<Kind>,
    seasons: Vec<usize>,
}

#[pymethods]
impl Model {
    /// `network` are the weights of `lstm`, `orders` those of `arima` as JSON, `left_out` members of a combination, and
    /// `seasons` stand in place of those that are given to a fit.
    #[new]
    #[pyo3(signature = (name, network=None, orders=None, left_out=vec![], seasons=vec![]))]
    fn new(
        name: &str,
        network: Option<&[u8]>,
        orders: Option<&str>,
        left_out: Vec<String>,
        seasons: Vec<usize>,
    ) -> PyResult<Self> {
        let network = network.map(Network::from_bytes).transpose().map_err(input)?.map(Arc::new);
        let orders: Option<ArimaOrders> = orders.map(serde_json::from_str).transpose().map_err(input)?;
        orders.as_ref().map_or(Ok(()), ArimaOrders::check).map_err(input)?;
        let left_out = left_out.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(input)?;
        Ok(Self { choice: name.parse().map_err(input)?, given: Given { network, orders }, left_out, seasons })
    }

    #[getter]
    fn name(&self) -> String {
        self.choice.to_string()
    }
}

impl Model {
    fn method(&self, horizon: Horizon, seasons: &[usize]) -> InCalendar {
        let seasons = if self.seasons.is_empty() { seasons } else { &self.seasons };
        let method = self.choice.method(horizon, seasons);
        let kinds = method.kinds.iter().copied().filter(|kind| !self.left_out.contains(kind)).collect();
        let method = Combination { kinds, given: self.given.clone(), ..method };
        InCalendar { method, calendar: Calendar::default() }
    }
}

/// Learns a history, for forecasts of `horizon` steps.
#[pyfunction]
pub(crate) fn fit(
    py: Python<'_>,
    window: &Window,
    model: &Model,
    horizon: usize,
    seasons: Vec<usize>,
) -> PyResult<Fitted> {
    let method = model.method(steps(horizon)?, &seasons);
    let fitted = py.detach(|| method.fit(&window.0)).map_err(|error| not_fitted(&error))?;
    Ok(Fitted { fitted, horizon: steps(horizon)? })
}

/// The last `count` origins, `stride` apart, that leave room for `horizon` within `len` points.
#[pyfunction]
pub(crate) fn last_origins(len: usize, count: usize, stride: usize, horizon: usize) -> PyResult<Vec<usize>> {
    Ok(Plan::last(len, count, stride, steps(horizon)?).origins)
}

/// A model that has learnt a history.
#[pyclass(module = "bellwether._native")]
pub(crate) struct Fitted {
    fitted: Dated,
    horizon: Horizon,
}

#[pymethods]
impl Fitted {
    /// The distribution of the next steps; as many as it was fitted for when `horizon` is left out.
    #[pyo3(signature = (horizon=None, quantiles=None))]
    fn predict(&self, py: Python<'_>, horizon: Option<usize>, quantiles: Option<Vec<f64>>) -> PyResult<Forecast> {
        let horizon = horizon.map_or(Ok(self.horizon), steps)?;
        let levels = levels(quantiles)?;
        Ok(Forecast(py.detach(|| self.fitted.forecast(horizon, &levels))))
    }

    /// Takes in the next points of the grid, NaN for a gap, without fitting anew.
    fn update(&mut self, py: Python<'_>, values: PyReadonlyArray1<'_, f64>) {
        let values = copied(&values);
        py.detach(|| values.into_iter().for_each(|value| self.fitted.update(value)));
    }

    /// The share of each member in the forecast.
    fn shares(&self) -> Vec<(String, f64)> {
        self.fitted.live().shares()
    }

    /// Members by their pinball loss against seasonal naive in the replay, best first.
    fn scores(&self) -> Vec<(String, f64)> {
        let line = |score: &bellwether_models::outlook::ModelScore| (score.model.clone(), score.relative_pinball_loss);
        self.fitted.live().scores().iter().map(line).collect()
    }

    /// The orders of its ARIMA as JSON, found or given; none where it has none.
    fn arima_orders(&self) -> Option<String> {
        serde_json::to_string(&self.fitted.live().arima_orders()?).ok()
    }

    /// Periods in use, in steps.
    fn periods(&self) -> Vec<usize> {
        self.fitted.live().periods().to_vec()
    }
}

/// The distribution of a series over the steps to come.
#[pyclass(frozen, module = "bellwether._native")]
pub(crate) struct Forecast(forecast::Forecast);

#[pymethods]
impl Forecast {
    #[getter]
    fn start_ms(&self) -> i64 {
        self.0.start.as_millis()
    }

    #[getter]
    fn step_ms(&self) -> i64 {
        self.0.step.as_millis()
    }

    /// Times of the steps, milliseconds, shape `[horizon]`.
    #[getter]
    fn times_ms<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        let times: Vec<i64> = (0..self.0.horizon()).map(|i| self.0.time_of(i).as_millis()).collect();
        times.into_pyarray(py)
    }

    /// The one value to reckon with, shape `[horizon]`.
    #[getter]
    fn mean<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.0.mean.clone().into_pyarray(py)
    }

    /// Probabilities of the quantiles, ascending.
    #[getter]
    fn levels(&self) -> Vec<f64> {
        self.0.levels.iter().map(|level| level.value()).collect()
    }

    /// Shape `[levels, horizon]`.
    #[getter]
    fn quantiles<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        Ok(PyArray2::from_vec2(py, &self.0.quantiles)?)
    }

    /// The path of one probability, between the levels at hand if need be; shape `[horizon]`.
    fn quantile<'py>(&self, py: Python<'py>, level: f64) -> PyResult<Bound<'py, PyArray1<f64>>> {
        Ok(self.0.quantile(Quantile::try_from(level).map_err(input)?).into_pyarray(py))
    }

    /// What nothing exceeds within the first `steps` steps with probability `level`.
    fn peak(&self, level: f64, steps: usize) -> PyResult<Option<f64>> {
        Ok(self.0.peak(Quantile::try_from(level).map_err(input)?, steps))
    }
}

/// An origin, and the forecast made there or the words of why there is none.
type Replayed = (usize, Option<Forecast>, Option<String>);

/// The scores of one model over many series.
#[pyclass(module = "bellwether._native")]
pub(crate) struct Board {
    model: Py<Model>,
    board: backtest::Board,
}

#[pymethods]
impl Board {
    #[new]
    fn new(model: Py<Model>) -> Self {
        Self { model, board: backtest::Board::default() }
    }

    /// Replays one series: for each origin the forecast, or the words of why there is none. `progress` is called without
    /// arguments after each; what it raises ends the replay.
    #[pyo3(signature = (window, seasons, origins, context, horizon, progress=None))]
    #[expect(clippy::too_many_arguments, reason = "the package gives them names")]
    fn play(
        &mut self,
        py: Python<'_>,
        window: &Window,
        seasons: Vec<usize>,
        origins: Vec<usize>,
        context: Option<usize>,
        horizon: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Vec<Replayed>> {
        if let Some(beyond) = origins.iter().find(|origin| **origin > window.0.len()) {
            let text = format!("origin {beyond} lies beyond the {} points of the series", window.0.len());
            return Err(InputError::new_err(text));
        }
        let plan = Plan { origins, context: context.unwrap_or(usize::MAX), horizon: steps(horizon)? };
        let method = self.model.get().method(plan.horizon, &seasons);
        let mut replayed = Vec::with_capacity(plan.origins.len());
        py.detach(|| {
            let make = |history: &bellwether_models::series::Window| {
                let fitted = method.fit(history)?;
                Ok((fitted.forecast(plan.horizon, &Quantile::STANDARD), ()))
            };
            let heard = |origin, made: Result<(forecast::Forecast, ()), forecast::FitError>| {
                replayed.push(match made {
                    Ok((forecast, ())) => (origin, Some(Forecast(forecast)), None),
                    Err(error) => (origin, None, Some(error.to_string())),
                });
                Python::attach(|py| {
                    py.check_signals()?;
                    progress.as_ref().map_or(Ok(()), |progress| progress.call0(py).map(drop))
                })
            };
            self.board.play(&window.0, &seasons, &plan, make, heard)
        })?;
        Ok(replayed)
    }

    /// All series in a few numbers.
    fn summary<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let told = self.board.summary();
        let table = PyDict::new(py);
        table.set_item("model", self.model.get().name())?;
        table.set_item("mase", told.mase)?;
        table.set_item("wql", told.wql)?;
        table.set_item("pinball", told.pinball)?;
        table.set_item("coverage_p95", told.coverage)?;
        table.set_item("least_coverage_p95", told.least_coverage)?;
        table.set_item("margin_p95", told.margin)?;
        table.set_item("forecasts", self.board.forecasts)?;
        table.set_item("refused", self.board.refused)?;
        Ok(table)
    }
}

fn steps(horizon: usize) -> PyResult<Horizon> {
    Horizon::new(horizon).ok_or_else(|| InputError::new_err("a horizon has at least one step"))
}

/// The standard levels, or those given, ascending and each once.
fn levels(given: Option<Vec<f64>>) -> PyResult<Vec<Quantile>> {
    let Some(given) = given else { return Ok(Quantile::STANDARD.to_vec()) };
    let mut levels: Vec<Quantile> =
        given.into_iter().map(Quantile::try_from).collect::<Result<_, _>>().map_err(input)?;
    levels.sort_by(|a, b| a.value().total_cmp(&b.value()));
    levels.dedup();
    if levels.is_empty() {
        return Err(InputError::new_err("name at least one quantile, such as 0.5"));
    }
    Ok(levels)
}
