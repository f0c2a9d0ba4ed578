//! Scaling policies on a trace.

use std::time::Duration;

use bellwether_models::duration;
use bellwether_scheduler::ScaleConfig;
use bellwether_scheduler::simulate::{self as simulator, Report, Setting};
use pyo3::prelude::*;

use crate::errors::input;
use crate::window::Window;

/// Milliseconds of a duration such as `1h30m`.
#[pyfunction]
pub(crate) fn duration_ms(text: &str) -> PyResult<u64> {
    Ok(duration::parse(text).map_err(input)?.as_millis() as u64)
}

/// Runs the usual policies side by side over `demand` and gives the report as JSON. `policy` is the `scale` section of a
/// workload as JSON; `progress` hears the share that is done, and what it raises is raised at the end.
#[pyfunction]
#[pyo3(signature = (demand, trace, startup_ms, cadence_ms, metric_age_ms, targets, ratios, capacity=None, policy=None, coarse=false, progress=None))]
#[expect(clippy::too_many_arguments, reason = "the package gives them names")]
pub(crate) fn simulate(
    py: Python<'_>,
    demand: &Window,
    trace: &str,
    startup_ms: u64,
    cadence_ms: u64,
    metric_age_ms: u64,
    targets: (f64, f64, f64),
    ratios: Vec<f64>,
    capacity: Option<f64>,
    policy: Option<&str>,
    coarse: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let demand = &demand.0;
    let scale: ScaleConfig = match policy {
        Some(text) => serde_json::from_str(text).map_err(input)?,
        None => simulator::usual_scale(),
    };
    let capacity = capacity.map_or_else(|| simulator::usual_capacity(trace, demand), Ok).map_err(input)?;
    let setting = Setting {
        startup: Duration::from_millis(startup_ms),
        capacity,
        cadence: Duration::from_millis(cadence_ms),
        metric_age: Duration::from_millis(metric_age_ms),
    };
    setting.check(trace, demand, coarse).map_err(input)?;
    let (from, to, step) = targets;
    let targets = simulator::usual_targets(from, to, step);
    let mut raised = None;
    let outcomes = py.detach(|| {
        let mut policies = simulator::usual_policies(&setting, &scale, &targets, &ratios);
        simulator::run(demand, &setting, &mut policies, |share| {
            if let (Some(progress), None) = (&progress, &raised) {
                raised = Python::attach(|py| progress.call1(py, (share,))).err();
            }
        })
    });
    match raised {
        Some(error) => Err(error),
        None => serde_json::to_string(&Report::new(trace, demand, &setting, &outcomes)).map_err(input),
    }
}
