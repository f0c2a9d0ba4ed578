//! Workloads of a running server and their past, for the commands that learn from it or try something on it.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use bellwether_models::series::{Step, Timestamp, Window};
use bellwether_predictor::ForecastConfig;
use bellwether_scheduler::ScaleConfig;
use serde::Deserialize;
use serde_json::Value;

use super::client::Server;

/// Most points asked of a server at once.
const PAGE: usize = 5000;

/// What the server tells of a workload.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// The query of its demand.
    pub demand_query: String,
    /// How it is forecast.
    pub forecast: ForecastConfig,
    /// How it is scaled, without who carries it out; `None` when it is not.
    #[serde(default)]
    pub scale: Option<ScaleConfig>,
}

impl Told {
    /// Every workload of the server that is configured there; one that has just gone may still be listed.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub fn all(server: &Server) -> anyhow::Result<Vec<Self>> {
        let mut all: Vec<Value> = server.get("/api/v1/workloads", &[])?;
        all.retain(|told| !told["demand_query"].is_null());
        serde_json::from_value(Value::Array(all))
            .context("the server does not tell of its workloads as Bellwether does")
    }

    /// The demand of the `last` time as the server holds it, on the grid of its forecasts; the history that forecasts learn
    /// from when nothing is said. What comes before the first point is cut off.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses, and when it holds no demand.
    pub fn demand(&self, server: &Server, last: Option<Duration>) -> anyhow::Result<Window> {
        let ForecastConfig { step, history, .. } = self.forecast;
        let step = Step::try_from(i64::try_from(step.as_millis())?)?;
        let now: Value = server.get("/api/v1/outlooks", &[])?;
        let now = now["made_at"].as_i64().filter(|at| *at > 0).map_or_else(wall_clock, Timestamp::from_millis);
        let len = usize::try_from(last.unwrap_or(history).as_millis())? / usize::try_from(step.as_millis())?;
        let start = now.floor_to(step) - step.times(len.saturating_sub(1));
        let mut window = Window { start, step, values: vec![f64::NAN; len] };
        for first in (0..len).step_by(PAGE) {
            let last = (first + PAGE).min(len) - 1;
            let query = [
                ("query", self.demand_query.clone()),
                ("start", window.time_of(first).as_secs_f64().to_string()),
                ("end", window.time_of(last).as_secs_f64().to_string()),
                ("step", step.as_secs_f64().to_string()),
            ];
            take_in(&server.get("/api/v1/query_range", &query)?, &mut window);
        }
        let seen = window.values.iter().position(|v| v.is_finite());
        let seen = seen.with_context(|| format!("the server holds no demand of {:?}", self.name))?;
        Ok(window.last(window.len() - seen))
    }
}

/// The points of the first series of an answer.
fn take_in(answer: &Value, window: &mut Window) {
    let points = answer["data"]["result"][0]["values"].as_array().into_iter().flatten();
    for point in points {
        let at = point[0].as_f64().and_then(Timestamp::from_secs_f64);
        let value = point[1].as_str().and_then(|text| text.parse().ok());
        if let (Some(at), Some(value)) = (at, value) {
            let index = (at.as_millis() - window.start.as_millis()) / window.step.as_millis();
            let slot = usize::try_from(index).ok().and_then(|index| window.values.get_mut(index));
            slot.into_iter().for_each(|slot| *slot = value);
        }
    }
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
