//! Numbers of other implementations, made by `models/tests/reference/detect.py`.

use serde_json::Value;

/// All of them.
pub(super) fn known() -> Value {
    serde_json::from_str(include_str!("../../tests/reference/detect.json")).unwrap()
}

/// A list of numbers.
pub(super) fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

/// A list of rows.
pub(super) fn rows(list: &Value) -> Vec<Vec<f32>> {
    let row = |row: &Value| numbers(row).into_iter().map(|value| value as f32).collect();
    list.as_array().unwrap().iter().map(row).collect()
}
