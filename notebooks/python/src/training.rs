//! Training of the network behind the model `lstm`.

use bellwether_models::forecast::neural::{Network, Training, train as learn};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{InputError, input, training};
use crate::window::Window;

/// Learns across the series of all sources, which count alike, and gives the weights as safetensors. `progress` hears the
/// batches done and their mean loss; what it raises is raised at the end.
#[pyfunction]
#[pyo3(signature = (sources, batches, batch, seed, start=None, progress=None))]
pub(crate) fn train<'py>(
    py: Python<'py>,
    sources: Vec<Vec<PyRef<'py, Window>>>,
    batches: usize,
    batch: usize,
    seed: u64,
    start: Option<&[u8]>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    if batches == 0 || batch == 0 {
        return Err(InputError::new_err("batches and batch must lie above 0"));
    }
    let start = start.map(Network::from_bytes).transpose().map_err(input)?;
    let sources: Vec<Vec<_>> =
        sources.iter().map(|source| source.iter().map(|window| window.0.clone()).collect()).collect();
    let how = Training { batches, batch, seed };
    let mut raised = None;
    let weights = py.detach(|| {
        learn(&sources, &how, start.as_ref(), |done, loss| {
            if let (Some(progress), None) = (&progress, &raised) {
                raised = Python::attach(|py| progress.call1(py, (done, loss))).err();
            }
        })
    });
    match raised {
        Some(error) => Err(error),
        None => Ok(PyBytes::new(py, &weights.map_err(training)?)),
    }
}

/// The weights that come with the program, as safetensors.
#[pyfunction]
pub(crate) fn pretrained(py: Python<'_>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, include_bytes!("../../../models/pretrained/lstm.safetensors"))
}

/// Raises when `weights` are no network of this version.
#[pyfunction]
pub(crate) fn check_network(weights: &[u8]) -> PyResult<()> {
    Network::from_bytes(weights).map(drop).map_err(input)
}
