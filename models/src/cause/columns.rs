//! From the columns of a table to the window of an incident.

use super::{IncidentWindow, Metric};
use crate::series::Timestamp;

/// Why columns are no window of an incident.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnIncident {
    /// Rows are not in order of time, or two have the same.
    #[error("time does not move on after row {row}; sort it by time")]
    Standstill {
        /// The last row in order, from 1.
        row: usize,
    },
    /// A column has not one value for each row.
    #[error("column {column:?} has {values} values for {rows} rows")]
    Uneven {
        /// Which.
        column: String,
        /// Its values.
        values: usize,
        /// Rows of the table.
        rows: usize,
    },
}

impl IncidentWindow {
    /// The window whose metrics are `columns` (shape `[names.len()][times.len()]`), each named `<service>_<metric>`: the
    /// service is everything before the last underscore. The incident began at `onset`.
    ///
    /// # Errors
    /// [`NotAnIncident`] when times do not ascend strictly or a column is shorter or longer than they are.
    pub fn from_columns(
        times: Vec<Timestamp>,
        names: &[String],
        columns: Vec<Vec<f64>>,
        onset: Timestamp,
    ) -> Result<Self, NotAnIncident> {
        if let Some(row) = times.windows(2).position(|pair| pair[0] >= pair[1]) {
            return Err(NotAnIncident::Standstill { row: row + 1 });
        }
        if let Some((name, column)) = names.iter().zip(&columns).find(|(_, column)| column.len() != times.len()) {
            return Err(NotAnIncident::Uneven { column: name.clone(), values: column.len(), rows: times.len() });
        }
        let metrics = names.iter().zip(columns).map(|(name, values)| metric(name, values)).collect();
        let window = Self { times, metrics, ..Self::default() };
        Ok(Self { onset_row: window.row_at(onset), ..window })
    }

    /// With the column named `symptom` of `names` as what raised the alarm; an unknown name names nothing.
    #[must_use]
    pub fn with_symptom(self, names: &[String], symptom: Option<&str>) -> Self {
        let symptom = symptom.and_then(|symptom| names.iter().position(|name| name == symptom));
        Self { symptom, ..self }
    }

    /// With these calls, `(caller, callee)`.
    #[must_use]
    pub fn with_calls(self, calls: Vec<(String, String)>) -> Self {
        Self { calls, ..self }
    }

    /// First row at or after `at`.
    #[must_use]
    pub fn row_at(&self, at: Timestamp) -> usize {
        self.times.partition_point(|time| *time < at)
    }
}

fn metric(column: &str, values: Vec<f64>) -> Metric {
    let (service, name) = column.rsplit_once('_').unwrap_or((column, ""));
    Metric { service: service.to_owned(), name: name.to_owned(), values }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: &[i64], columns: Vec<Vec<f64>>) -> Result<IncidentWindow, NotAnIncident> {
        let times = times.iter().copied().map(Timestamp::from_secs).collect();
        let names = ["web_front_cpu".to_owned(), "db".to_owned()];
        let window = IncidentWindow::from_columns(times, &names, columns, Timestamp::from_secs(15))?;
        Ok(window.with_symptom(&names, Some("db")))
    }

    #[test]
    fn the_last_underscore_ends_the_service_and_the_onset_is_the_next_row() {
        let window = of(&[0, 10, 20], vec![vec![1.0; 3], vec![2.0; 3]]).unwrap();
        assert_eq!((window.metrics[0].service.as_str(), window.metrics[0].name.as_str()), ("web_front", "cpu"));
        assert_eq!((window.metrics[1].service.as_str(), window.metrics[1].name.as_str()), ("db", ""));
        assert_eq!((window.onset_row, window.symptom), (2, Some(1)));
    }

    #[test]
    fn rows_that_do_not_move_on_and_short_columns_are_refused() {
        let standstill = of(&[0, 0], vec![vec![1.0; 2], vec![2.0; 2]]).unwrap_err().to_string();
        assert_eq!(standstill, "time does not move on after row 1; sort it by time");
        let uneven = of(&[0, 10], vec![vec![1.0; 2], vec![2.0]]).unwrap_err().to_string();
        assert_eq!(uneven, "column \"db\" has 1 values for 2 rows");
    }
}
