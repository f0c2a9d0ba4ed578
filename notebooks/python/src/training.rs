//! Training of the network behind the model `lstm`.

use bellwether_models::forecast::neural::{Checkpoint, Course, Network, News, Training, learn};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{InputError, input, training};
use crate::window::Window;

/// Learns across the series of all sources, which count alike, until `patience` looks at what is held out in vain, and
/// gives the weights as safetensors. `progress` hears the batches done and their mean loss; what it raises is raised at
/// the end.
#[pyfunction]
#[pyo3(signature = (sources, batches, batch, seed, patience, start=None, progress=None))]
#[expect(clippy::too_many_arguments, reason = "the package gives them names")]
pub(crate) fn train<'py>(
    py: Python<'py>,
    sources: Vec<Vec<PyRef<'py, Window>>>,
    batches: usize,
    batch: usize,
    seed: u64,
    patience: usize,
    start: Option<&[u8]>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    if batches == 0 || batch == 0 {
        return Err(InputError::new_err("batches and batch must lie above 0"));
    }
    let start = start.map(Network::from_bytes).transpose().map_err(input)?;
    let sources: Vec<Vec<_>> =
        sources.iter().map(|source| source.iter().map(|window| window.0.clone()).collect()).collect();
    let course =
        Course { training: Training { batches, batch, seed }, patience, pool: usize::MAX, ..Course::default() };
    let mut raised = None;
    let learnt = py.detach(|| {
        let mut supply = sources.iter().cloned();
        let from = start.as_ref().map(Checkpoint::begin);
        learn(&mut || Ok(supply.next()), &course, from, |news: &News<'_>| {
            if let (Some(progress), None) = (&progress, &raised) {
                raised = Python::attach(|py| progress.call1(py, (news.batches, news.loss))).err();
            }
        })
    });
    match raised {
        Some(error) => Err(error),
        None => Ok(PyBytes::new(py, &learnt.map_err(training)?.weights)),
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
