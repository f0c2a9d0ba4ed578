//! A series on a regular grid.

use bellwether_models::forecast::seasonality;
use bellwether_models::series::{self, Step, Timestamp};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::errors::input;

/// A stretch of one series on a regular grid; a gap is a NaN.
#[pyclass(frozen, module = "bellwether._native")]
pub(crate) struct Window(pub(crate) series::Window);

#[pymethods]
impl Window {
    #[new]
    fn new(values: PyReadonlyArray1<'_, f64>, start_ms: i64, step_ms: i64) -> PyResult<Self> {
        let step = Step::from_millis(step_ms).map_err(input)?;
        Ok(Self(series::Window { start: Timestamp::from_millis(start_ms), step, values: copied(&values) }))
    }

    /// The grid on which the rows of a table lie, as the binary finds it in a file.
    #[staticmethod]
    #[pyo3(signature = (times_ms, values, step_ms=None))]
    fn from_rows(
        times_ms: PyReadonlyArray1<'_, i64>,
        values: PyReadonlyArray1<'_, f64>,
        step_ms: Option<i64>,
    ) -> PyResult<Self> {
        let (times, values) = (timestamps(&times_ms), copied(&values));
        let window = match step_ms {
            None => series::Window::from_rows(&times, &values),
            Some(step) => series::Window::from_rows_every(&times, &values, Step::from_millis(step).map_err(input)?),
        };
        window.map(Self).map_err(input)
    }

    #[getter]
    fn start_ms(&self) -> i64 {
        self.0.start.as_millis()
    }

    #[getter]
    fn step_ms(&self) -> i64 {
        self.0.step.as_millis()
    }

    #[getter]
    fn values<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.0.values.clone().into_pyarray(py)
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// The first `len` points.
    fn first(&self, len: usize) -> Self {
        let mut window = self.0.clone();
        window.values.truncate(len);
        Self(window)
    }

    /// Periods of the seasons found, in steps, ascending.
    fn seasons(&self, py: Python<'_>) -> Vec<usize> {
        py.detach(|| seasonality::find(&self.0.values))
    }
}

/// The values of an array of any layout.
pub(crate) fn copied(values: &PyReadonlyArray1<'_, f64>) -> Vec<f64> {
    values.as_array().to_vec()
}

/// The times of an array of milliseconds.
pub(crate) fn timestamps(times: &PyReadonlyArray1<'_, i64>) -> Vec<Timestamp> {
    times.as_array().iter().copied().map(Timestamp::from_millis).collect()
}

/// The rows of a matrix, one after the other, and their width.
pub(crate) fn rows(matrix: &PyReadonlyArray2<'_, f64>) -> (Vec<f64>, usize) {
    let matrix = matrix.as_array();
    (matrix.iter().copied().collect(), matrix.ncols())
}
