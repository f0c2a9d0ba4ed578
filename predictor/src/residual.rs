//! What a forecast missed, as evidence: the demand beside what was foreseen of it, in widths of the forecast.
//!
//! Its series is scored like a symptom's, so that what counts is how unusual the miss is for this workload. It bears
//! witness only: a demand that nobody foresaw is news for who scales, and becomes part of an incident where users feel
//! something at the same time.

use crate::config::{Asked, Workload};
use crate::publish::{self, FORECAST};

/// The name under which it is known.
pub const NAME: &str = "demand beside its forecast";

/// Least width, as a share of the median foreseen: a forecast that is certain of itself is not believed beyond that.
const LEAST_WIDTH: f64 = 0.02;

/// The miss of the forecast at its shortest lead, asked of the store: nothing where there was no forecast.
#[must_use]
pub fn asked(workload: &Workload) -> Asked {
    let lead = publish::shortest_lead(workload.forecast.grid(), workload.forecast.horizon_steps().steps()).as_secs();
    let foreseen = |quantile: &str| {
        format!(
            "{FORECAST}{{workload={:?},quantile={quantile:?},horizon_seconds=\"{lead}\"}} offset {lead}s",
            workload.name
        )
    };
    let (low, middle, high) = (foreseen("0.1"), foreseen("0.5"), foreseen("0.9"));
    let width = format!("scalar({high} - ignoring(quantile) {low}) + {LEAST_WIDTH} * scalar(abs({middle}))");
    let query = format!("(({}) - scalar({middle})) / ({width})", workload.demand);
    Asked { name: NAME.to_owned(), query, witness: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ForecastConfig;

    #[test]
    fn the_demand_is_set_beside_what_was_said_of_it_a_lead_ago() {
        let workload = Workload {
            name: "web".to_owned(),
            demand: "sum(rate(requests_total[5m]))".to_owned(),
            forecast: ForecastConfig { step: std::time::Duration::from_secs(300), ..ForecastConfig::default() },
            ..Workload::default()
        };
        let query = asked(&workload).query;
        let median = "bellwether_forecast{workload=\"web\",quantile=\"0.5\",horizon_seconds=\"300\"} offset 300s";
        assert!(query.starts_with(&format!("((sum(rate(requests_total[5m]))) - scalar({median})) / (")), "{query}");
        assert!(promql_parser::parser::parse(&query).is_ok(), "{query}");
    }
}
