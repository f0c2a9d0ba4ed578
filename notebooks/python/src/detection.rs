//! Detection: of one series as a stream, of rows of several metrics together.

use bellwether_models::detect::{Detector as _, Params, RowMethod, Rows, Score, Univariate};
use bellwether_models::series::Timestamp;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::errors::InputError;
use crate::window::{copied, rows, timestamps};

/// Name of the kind of departure, as in JSON.
fn kind(score: &Score) -> Option<String> {
    let named = score.kind.and_then(|kind| serde_json::to_value(kind).ok());
    named.and_then(|name| name.as_str().map(str::to_owned))
}

/// Streaming detector of one series.
#[pyclass(module = "bellwether._native")]
pub(crate) struct Detector(Univariate);

#[pymethods]
impl Detector {
    #[new]
    fn new() -> Self {
        Self(Univariate::default())
    }

    /// Scores one value, then learns from it: `(surprise, score, expected, kind)`.
    fn update(&mut self, time_ms: i64, value: f64) -> (f64, f64, f64, Option<String>) {
        let score = self.0.observe(Timestamp::from_millis(time_ms), value);
        (score.surprise, score.as_unit(), score.expected, kind(&score))
    }

    /// The same for many: arrays of shape `[values]`, and the kinds.
    #[expect(clippy::type_complexity, reason = "a tuple of columns is what Python unpacks")]
    fn score<'py>(
        &mut self,
        py: Python<'py>,
        times_ms: PyReadonlyArray1<'py, i64>,
        values: PyReadonlyArray1<'py, f64>,
    ) -> PyResult<(Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, Vec<Option<String>>)>
    {
        let (times, values) = (timestamps(&times_ms), copied(&values));
        same_length(times.len(), values.len())?;
        let scores: Vec<Score> =
            py.detach(|| times.iter().zip(&values).map(|(at, value)| self.0.observe(*at, *value)).collect());
        let column = |of: fn(&Score) -> f64| scores.iter().map(of).collect::<Vec<_>>().into_pyarray(py);
        let kinds = scores.iter().map(kind).collect();
        Ok((column(|s| s.surprise), column(|s| s.as_unit()), column(|s| s.expected), kinds))
    }

    /// What the last value was measured by, as JSON.
    fn why(&self) -> String {
        serde_json::to_string(&self.0.why()).unwrap_or_default()
    }

    /// `learning`, `useful` or `full`.
    fn maturity(&self) -> &'static str {
        self.0.maturity().name()
    }
}

/// Detector of the rows of one table.
#[pyclass(module = "bellwether._native")]
pub(crate) struct RowDetector {
    rows: Rows,
    width: usize,
}

#[pymethods]
impl RowDetector {
    #[new]
    #[pyo3(signature = (width, isolation_forest=false))]
    fn new(width: usize, isolation_forest: bool) -> PyResult<Self> {
        if width == 0 {
            return Err(InputError::new_err("a row needs at least one metric"));
        }
        let method = if isolation_forest { RowMethod::Forest } else { RowMethod::default() };
        Ok(Self { rows: Rows::new(width, Params { rows: method, ..Params::default() }), width })
    }

    /// Learns rows of history (shape `[rows, metrics]`) without scoring them.
    fn train(
        &mut self,
        py: Python<'_>,
        times_ms: PyReadonlyArray1<'_, i64>,
        matrix: PyReadonlyArray2<'_, f64>,
    ) -> PyResult<()> {
        let (times, values) = self.taken(&times_ms, &matrix)?;
        let Self { rows, width } = self;
        py.detach(|| times.iter().zip(values.chunks(*width)).for_each(|(at, row)| rows.train(*at, row)));
        Ok(())
    }

    /// Scores rows by what was seen before, then learns from them: surprise and score of shape `[rows]`, contributions of
    /// shape `[rows, metrics]`.
    #[expect(clippy::type_complexity, reason = "a tuple of columns is what Python unpacks")]
    fn score<'py>(
        &mut self,
        py: Python<'py>,
        times_ms: PyReadonlyArray1<'py, i64>,
        matrix: PyReadonlyArray2<'py, f64>,
    ) -> PyResult<(Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, Bound<'py, PyArray2<f64>>)> {
        let (times, values) = self.taken(&times_ms, &matrix)?;
        let Self { rows, width } = self;
        let scored: Vec<_> =
            py.detach(|| times.iter().zip(values.chunks(*width)).map(|(at, row)| rows.observe(*at, row)).collect());
        let surprise: Vec<f64> = scored.iter().map(|row| row.surprise).collect();
        let unit: Vec<f64> = scored.iter().map(bellwether_models::detect::RowScore::as_unit).collect();
        let parts: Vec<Vec<f64>> = scored.into_iter().map(|row| row.contributions).collect();
        let parts =
            if parts.is_empty() { PyArray2::zeros(py, [0, *width], false) } else { PyArray2::from_vec2(py, &parts)? };
        Ok((surprise.into_pyarray(py), unit.into_pyarray(py), parts))
    }
}

impl RowDetector {
    fn taken(
        &self,
        times_ms: &PyReadonlyArray1<'_, i64>,
        matrix: &PyReadonlyArray2<'_, f64>,
    ) -> PyResult<(Vec<Timestamp>, Vec<f64>)> {
        let (times, (values, width)) = (timestamps(times_ms), rows(matrix));
        if width != self.width {
            let text = format!("rows have {width} metrics; this detector watches {}", self.width);
            return Err(InputError::new_err(text));
        }
        same_length(times.len(), values.len() / width)?;
        Ok((times, values))
    }
}

fn same_length(times: usize, values: usize) -> PyResult<()> {
    if times != values {
        return Err(InputError::new_err(format!("there are {times} times and {values} values")));
    }
    Ok(())
}
