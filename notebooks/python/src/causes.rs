//! What broke first.

use bellwether_models::cause::{self, Change, IncidentWindow};
use bellwether_models::series::Timestamp;
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;

use crate::errors::{InputError, input};
use crate::window::{copied, timestamps};

/// Ranks the causes of an incident that began at `onset_ms`, or before the alarm of `alarm_ms` at a row that is found.
/// Gives the ranking as JSON and the time of the onset.
#[pyfunction]
#[pyo3(signature = (times_ms, names, columns, onset_ms=None, alarm_ms=None, symptom=None, calls=vec![], changes=vec![]))]
#[expect(clippy::too_many_arguments, reason = "the package gives them names")]
pub(crate) fn rank(
    py: Python<'_>,
    times_ms: PyReadonlyArray1<'_, i64>,
    names: Vec<String>,
    columns: Vec<PyReadonlyArray1<'_, f64>>,
    onset_ms: Option<i64>,
    alarm_ms: Option<i64>,
    symptom: Option<String>,
    calls: Vec<(String, String)>,
    changes: Vec<(String, String, i64)>,
) -> PyResult<(String, Option<i64>)> {
    let Some(known) = onset_ms.or(alarm_ms) else {
        return Err(InputError::new_err("give the onset, or the time of the alarm before which it is to be found"));
    };
    if let Some(unknown) = symptom.as_ref().filter(|symptom| !names.contains(symptom)) {
        let text = format!("the symptom {unknown:?} is no column; there are {}", names.join(", "));
        return Err(InputError::new_err(text));
    }
    let columns = columns.iter().map(copied).collect();
    let window = IncidentWindow::from_columns(timestamps(&times_ms), &names, columns, Timestamp::from_millis(known));
    let mut window = window.map_err(input)?.with_symptom(&names, symptom.as_deref()).with_calls(calls);
    let change = |(service, kind, at)| Change { service, kind, at: Timestamp::from_millis(at) };
    window.changes = changes.into_iter().map(change).collect();
    let ranking = py.detach(|| {
        if onset_ms.is_none() {
            window.onset_row = cause::onset::find(&window, window.row_at(Timestamp::from_millis(known)));
        }
        cause::rank(&window)
    });
    let text = serde_json::to_string(&ranking).map_err(input)?;
    Ok((text, window.times.get(window.onset_row).map(|at| at.as_millis())))
}
