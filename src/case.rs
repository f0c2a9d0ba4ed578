//! An incident as a labelled case: a folder with its metrics, its onset, its symptom, its calls and its true cause, as
//! `bellwether rank --case` reads it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use bellwether_models::cause::{IncidentWindow, Metric};
use bellwether_models::incident::{Incident, Standing};
use bellwether_models::series::Timestamp;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

/// A case as it travels from the server to the command that writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Name of its folder: the incident's id.
    pub name: String,
    /// Times of the rows.
    pub times: Vec<Timestamp>,
    /// Columns in the order of the table; no value where there was no sample.
    pub columns: Vec<Column>,
    /// When the incident began.
    pub onset: Timestamp,
    /// The column of the symptom that raised the alarm.
    pub symptom: Option<String>,
    /// Calls, `(caller, callee)`.
    pub calls: Vec<(String, String)>,
    /// What people named as the cause.
    pub cause: Option<TrueCause>,
}

/// One metric of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// `<service>_<metric>`; the metric has no underscore.
    pub name: String,
    /// One value a row.
    pub values: Vec<Option<f64>>,
}

/// What really was the cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrueCause {
    /// The service.
    pub service: String,
    /// Its columns that show it, where people named the metric.
    pub columns: Vec<String>,
    /// In people's words.
    pub note: String,
    /// Who said so.
    pub by: String,
}

/// The answer file of a case: read by scorers, never by the ranker.
#[derive(Serialize)]
struct RootCause<'a> {
    service: &'a str,
    fault: &'a str,
    metrics_true: &'a [String],
    class: &'static str,
    alert: Option<&'a String>,
    system: &'static str,
    sampling_s: i64,
    rows_before: usize,
    rows_after: usize,
    reference_shift_s: i64,
    said_by: &'a str,
}

impl Case {
    /// The case of `incident`, of which the ranker was told `window`.
    #[must_use]
    pub fn new(incident: &Incident, window: &IncidentWindow, standing: &Standing) -> Self {
        let names = column_names(&window.metrics);
        let value = |v: &f64| Some(*v).filter(|v| v.is_finite());
        let columns = names.iter().zip(&window.metrics);
        let columns = columns
            .map(|(name, metric)| Column { name: name.clone(), values: metric.values.iter().map(value).collect() });
        Self {
            name: incident.id.clone(),
            times: window.times.clone(),
            columns: columns.collect(),
            onset: incident.onset,
            symptom: window.symptom.and_then(|index| names.get(index).cloned()),
            calls: window.calls.clone(),
            cause: true_cause(standing, &window.metrics, &names),
        }
    }

    /// Writes the case as a folder of its name under `root`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, root: &Path) -> anyhow::Result<()> {
        let folder = root.join(&self.name);
        fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
        self.write_metrics(&folder.join("metrics.csv.gz"))?;
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))
        };
        write("inject_time.txt", format!("{}\n", self.onset.as_millis().div_euclid(1000)))?;
        if let Some(symptom) = &self.symptom {
            write("symptom.txt", format!("{symptom}\n"))?;
        }
        if !self.calls.is_empty() {
            let lines: String = self.calls.iter().map(|(from, to)| format!("{from},{to}\n")).collect();
            write("topology.csv", format!("from,to\n{lines}"))?;
        }
        match &self.cause {
            Some(cause) => write("root_cause.json", serde_json::to_string_pretty(&self.answer(cause))? + "\n"),
            None => Ok(()),
        }
    }

    fn write_metrics(&self, path: &Path) -> anyhow::Result<()> {
        let file = fs::File::create(path).with_context(|| format!("could not create {}", path.display()))?;
        let mut csv = csv::Writer::from_writer(GzEncoder::new(file, Compression::default()));
        csv.write_record(std::iter::once("time").chain(self.columns.iter().map(|column| column.name.as_str())))?;
        for (row, at) in self.times.iter().enumerate() {
            let cell = |column: &Column| {
                let value = column.values.get(row).copied().flatten();
                value.map_or_else(String::new, |value| value.to_string())
            };
            let time = at.as_millis().div_euclid(1000).to_string();
            csv.write_record(std::iter::once(time).chain(self.columns.iter().map(cell)))?;
        }
        let mut file = csv.into_inner().map_err(|error| error.into_error())?.finish()?;
        file.flush().with_context(|| format!("could not write {}", path.display()))
    }

    fn answer<'a>(&'a self, cause: &'a TrueCause) -> RootCause<'a> {
        let rows_before = self.times.partition_point(|at| *at < self.onset);
        let step = self.times.windows(2).next().map_or(0, |pair| pair[1].as_millis() - pair[0].as_millis());
        RootCause {
            service: &cause.service,
            fault: &cause.note,
            metrics_true: &cause.columns,
            class: "unknown",
            alert: self.symptom.as_ref(),
            system: "own",
            sampling_s: step / 1000,
            rows_before,
            rows_after: self.times.len() - rows_before,
            reference_shift_s: 0,
            said_by: &cause.by,
        }
    }
}

/// `<service>_<metric>` for each metric, each name once. The last underscore of a column ends the service's name, so the
/// metric's own become hyphens.
fn column_names(metrics: &[Metric]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let name = |metric: &Metric| {
        let plain = format!("{}_{}", metric.service, metric.name.replace('_', "-"));
        let numbered = (2..).map(|number| format!("{plain}-{number}"));
        let free = std::iter::once(plain.clone()).chain(numbered).find(|name| !taken.contains(name));
        let free = free.unwrap_or(plain);
        taken.insert(free.clone());
        free
    };
    metrics.iter().map(name).collect()
}

fn true_cause(standing: &Standing, metrics: &[Metric], names: &[String]) -> Option<TrueCause> {
    let (service, metric) = standing.cause()?;
    let word = standing.verdict.as_ref()?;
    let base = |name: &str| name.split('{').next().unwrap_or(name).to_owned();
    let shows = |candidate: &Metric| {
        candidate.service == service && metric.is_some_and(|m| candidate.name == m || base(&candidate.name) == m)
    };
    let columns = metrics.iter().zip(names).filter(|(candidate, _)| shows(candidate)).map(|(_, name)| name.clone());
    let (note, by) = (word.note.clone(), word.by.clone());
    Some(TrueCause { service: service.to_owned(), columns: columns.collect(), note, by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(service: &str, name: &str) -> Metric {
        Metric { service: service.to_owned(), name: name.to_owned(), values: vec![1.5, f64::NAN] }
    }

    #[test]
    fn a_columns_last_underscore_ends_the_service_and_no_two_columns_share_a_name() {
        let metrics = [metric("cart_db", "cpu_seconds"), metric("cart_db", "cpu-seconds"), metric("web", "up")];
        let names = column_names(&metrics);
        assert_eq!(names, ["cart_db_cpu-seconds", "cart_db_cpu-seconds-2", "web_up"]);
        assert_eq!(names[0].rsplit_once('_'), Some(("cart_db", "cpu-seconds")));
    }
}
