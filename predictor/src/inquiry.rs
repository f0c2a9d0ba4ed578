//! The metrics around an incident, read from the store as the ranker takes them: for the live search for causes, and
//! again later, when the incident has become a labelled case.

use std::collections::BTreeMap;
use std::time::Duration;

use bellwether_collector::query::{Engine, QueryError};
use bellwether_collector::source::changes::{self, ChangeEvent};
use bellwether_collector::store::{StoreError, TimeRange};
use bellwether_models::cause::{Change, IncidentWindow};
use bellwether_models::incident::Incident;
use bellwether_models::series::{Labels, Timestamp, Window};
use metrics::counter;
use tracing::warn;

use crate::config::{Asked, Config, DetectionConfig};
use crate::evidence::{self, CallMap, Grid, Suspect};
use crate::{read, symptom};

/// How long before its onset a change may be told beside an incident.
const CHANGES_BEFORE: Duration = Duration::from_secs(3600);
/// How far back a change of a workload is of interest to its scaling.
const LAST_CHANGES: Duration = Duration::from_secs(3600);

/// An incident with all that the ranker would be told of it, read anew from the store.
///
/// # Errors
/// When the store cannot be asked.
pub async fn case(incident: &Incident, config: &Config, engine: &Engine) -> Result<IncidentWindow, QueryError> {
    let of_workload = config.workloads.iter().filter(|workload| workload.name == incident.workload);
    let symptoms: Vec<Asked> = of_workload.flat_map(|workload| workload.asked(config.detection.grid())).collect();
    let until = incident.resolved_at.unwrap_or(incident.updated_at);
    inquire(incident, until, &symptoms, &CallMap::of(config), &config.detection, engine).await
}

/// What the ranker is told of `incident` at `now`: the series of its services and of all they call, the one of `symptoms` that is most out of line, the calls, and the changes nearby.
pub(crate) async fn inquire(
    incident: &Incident,
    now: Timestamp,
    symptoms: &[Asked],
    calls: &CallMap,
    config: &DetectionConfig,
    engine: &Engine,
) -> Result<IncidentWindow, QueryError> {
    let grid = grid_around(incident, now, config);
    let services = calls.reach(incident.services.iter().map(String::as_str));
    let mut suspects = Vec::new();
    for service in &services {
        suspects.extend(read::suspects(engine, &config.service_label, service, grid).await?);
    }
    let left_out = suspects.len().saturating_sub(config.max_series_per_incident);
    suspects.truncate(config.max_series_per_incident);
    counter!("bellwether_predictor_suspects_left_out_total").increment(left_out as u64);
    let symptom = greatest(incident, symptoms, grid, engine).await?;
    let calls = calls.among(&services);
    let changes = changes_near(incident, &services, engine).await;
    Ok(IncidentWindow { changes, ..evidence::question(incident.onset, grid, symptom, suspects, calls) })
}

/// The series of the workload that opened the incident which surprised most.
async fn greatest(
    incident: &Incident,
    symptoms: &[Asked],
    grid: Grid,
    engine: &Engine,
) -> Result<Option<Suspect>, QueryError> {
    let mut best: Option<(f64, Labels, Window)> = None;
    for Asked { name, query, .. } in symptoms {
        for (labels, window) in read::windows(engine, query, grid.start, grid.step, grid.len).await? {
            let name = symptom::named(&labels, name);
            let of_it = incident.anomalies.iter().filter(|anomaly| anomaly.series == name);
            let Some(surprise) = of_it.map(|anomaly| anomaly.surprise).max_by(f64::total_cmp) else { continue };
            if best.as_ref().is_none_or(|(most, ..)| surprise.total_cmp(most).is_gt()) {
                best = Some((surprise, labels, window));
            }
        }
    }
    Ok(best.map(|(_, labels, window)| Suspect { service: incident.workload.clone(), labels, window }))
}

/// The changes made to `services` from shortly before the onset on. Without them the causes are ranked all the same.
async fn changes_near(incident: &Incident, services: &[String], engine: &Engine) -> Vec<Change> {
    let range = TimeRange { from: incident.onset - CHANGES_BEFORE, to: incident.updated_at };
    let found = changes::between(engine.store().as_ref(), range).await;
    let found = found.unwrap_or_else(|error| {
        warn!(error = &error as &dyn std::error::Error, "could not read recorded changes; causes are ranked without");
        Vec::new()
    });
    found.iter().map(ChangeEvent::to_change).filter(|change| services.contains(&change.service)).collect()
}

/// When each service was last deployed or configured anew, in the hour up to `now`.
///
/// # Errors
/// Those of the store.
pub(crate) async fn last_changes(now: Timestamp, engine: &Engine) -> Result<BTreeMap<String, Timestamp>, StoreError> {
    let range = TimeRange { from: now - LAST_CHANGES, to: now };
    let found = changes::between(engine.store().as_ref(), range).await?;
    let starts_anew =
        found.iter().map(ChangeEvent::to_change).filter(|c| matches!(c.kind.as_str(), "deploy" | "config"));
    Ok(starts_anew.map(|change| (change.service, change.at)).collect()) // oldest first: the last one stays
}

/// From the reference before the onset to now, or to as long after it.
fn grid_around(incident: &Incident, now: Timestamp, config: &DetectionConfig) -> Grid {
    let step = config.grid();
    let (start, end) = (incident.onset - config.reference, now.min(incident.onset + config.reference));
    let (start, end) = (start.floor_to(step), end.floor_to(step));
    let steps = usize::try_from((end.as_millis() - start.as_millis()) / step.as_millis()).unwrap_or(0);
    Grid { start, step, len: steps + 1 }
}
