//! What is foreseen, as series of the store: the one way back, by which forecasts are judged by what came.

use std::time::Duration;

use bellwether_collector::store::{Batch, SeriesSamples};
use bellwether_models::outlook::{Foresight, Outlook};
use bellwether_models::series::{Labels, Sample, Step, Timestamp};
use metrics::gauge;

use crate::registry::Live;

/// Series of forecast quantiles, stamped with the time at which they were made.
pub const FORECAST: &str = "bellwether_forecast";
/// Series of anomaly scores of symptoms, `0.0..1.0`.
pub const ANOMALY_SCORE: &str = "bellwether_anomaly_score";

/// Leads at which a forecast is written, as far as the horizon reaches; the horizon itself is always written.
const LEADS_SECONDS: [u64; 8] = [60, 120, 300, 600, 900, 1800, 3600, 86_400];

/// One series for each lead and quantile of the forecast:
/// `bellwether_forecast{workload,quantile,horizon_seconds}`. Nothing for an abstention.
#[must_use]
pub fn forecast_series(outlook: &Outlook) -> Batch {
    let Foresight::Forecast { forecast, .. } = &outlook.foresight else { return Batch::new() };
    let base = Labels::metric(FORECAST).with("workload", &outlook.workload);
    leads(forecast.step, forecast.horizon())
        .into_iter()
        .flat_map(|(lead, index)| {
            let base = base.with("horizon_seconds", &lead.as_secs().to_string());
            forecast.levels.iter().zip(&forecast.quantiles).filter_map(move |(level, path)| {
                let value = *path.get(index)?;
                Some(one(base.with("quantile", &level.value().to_string()), outlook.made_at, value))
            })
        })
        .collect()
}

/// One sample of `bellwether_anomaly_score{workload,symptom,series}`.
#[must_use]
pub fn score_series(workload: &str, symptom: &str, series: &Labels, at: Timestamp, score: f64) -> SeriesSamples {
    let labels = Labels::new([
        ("__name__", ANOMALY_SCORE),
        ("workload", workload),
        ("symptom", symptom),
        ("series", series.to_string().as_str()),
    ]);
    one(labels, at, score)
}

/// Tells how a model of `workload` does live, as metrics of our own.
pub fn live(workload: &str, version: u64, live: &Live) {
    let labels = [("workload", workload.to_owned()), ("version", version.to_string())];
    gauge!("bellwether_predictor_model_pinball", &labels).set(live.pinball);
    gauge!("bellwether_predictor_model_coverage_p95_ratio", &labels).set(live.coverage_p95);
    gauge!("bellwether_predictor_model_origins", &labels).set(live.origins as f64);
}

/// The shortest lead at which forecasts on a grid of `step` over `horizon` steps are written.
#[must_use]
pub fn shortest_lead(step: Step, horizon: usize) -> Duration {
    leads(step, horizon).first().map_or(step.times(horizon), |(lead, _)| *lead)
}

fn one(labels: Labels, at: Timestamp, value: f64) -> SeriesSamples {
    SeriesSamples { labels, samples: vec![Sample { at, value }] }
}

/// The leads to write, with the index of the forecast point that lies there. A lead counts from the newest point of
/// the history, one step before the forecast's first.
fn leads(step: Step, horizon: usize) -> Vec<(Duration, usize)> {
    let farthest = step.times(horizon);
    let step = u64::try_from(step.as_millis()).unwrap_or(1).max(1);
    let mut leads: Vec<(Duration, usize)> = LEADS_SECONDS
        .iter()
        .filter(|secs| *secs * 1000 % step == 0 && Duration::from_secs(**secs) < farthest)
        .map(|secs| (Duration::from_secs(*secs), (secs * 1000 / step) as usize - 1))
        .collect();
    if let Some(last) = horizon.checked_sub(1) {
        leads.push((farthest, last));
    }
    leads
}

#[cfg(test)]
mod tests {
    use bellwether_models::forecast::{Forecast, Quantile};

    use super::*;

    fn outlook(step: u32, horizon: usize) -> Outlook {
        let path: Vec<f64> = (1..=horizon).map(|h| h as f64).collect();
        let forecast = Forecast {
            start: Timestamp::from_secs(1020),
            step: Step::from_secs(step),
            mean: path.clone(),
            levels: Quantile::STANDARD.to_vec(),
            quantiles: Quantile::STANDARD.iter().map(|q| path.iter().map(|v| v + q.value()).collect()).collect(),
            peaks: vec![],
        };
        Outlook {
            workload: "checkout".to_owned(),
            made_at: Timestamp::from_secs(960),
            demand: None,
            replicas: None,
            foresight: Foresight::Forecast { forecast, model: "arima".to_owned(), scores: vec![] },
            model: bellwether_models::outlook::ModelRef::default(),
            anomalies: vec![],
            running: bellwether_models::outlook::Running::default(),
        }
    }

    #[test]
    fn each_lead_carries_the_value_foreseen_for_that_time() {
        let batch = forecast_series(&outlook(60, 60));
        let value = |lead: &str, quantile: &str| {
            let labels = Labels::new([
                ("__name__", FORECAST),
                ("workload", "checkout"),
                ("horizon_seconds", lead),
                ("quantile", quantile),
            ]);
            batch.iter().find(|s| s.labels == labels).map(|s| s.samples.clone())
        };
        let at = Timestamp::from_secs(960);
        assert_eq!(value("300", "0.5"), Some(vec![Sample { at, value: 5.5 }]));
        assert_eq!(value("3600", "0.95"), Some(vec![Sample { at, value: 60.95 }]));
        assert_eq!(batch.len(), 7 * 4);
    }

    #[test]
    fn a_lead_off_the_grid_is_left_out_and_the_horizon_never() {
        let leads_of = |step, horizon| {
            let Foresight::Forecast { forecast, .. } = outlook(step, horizon).foresight else { panic!("a forecast") };
            leads(forecast.step, forecast.horizon()).iter().map(|(lead, _)| lead.as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(leads_of(420, 3), [1260]);
        assert_eq!(leads_of(300, 12), [300, 600, 900, 1800, 3600]);
    }

    #[test]
    fn an_abstention_writes_nothing() {
        let silent = Outlook { foresight: Foresight::Abstained { reason: "too short".to_owned() }, ..outlook(60, 60) };
        assert!(forecast_series(&silent).is_empty());
    }
}
