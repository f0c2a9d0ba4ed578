//! Rolling-origin replay: what would have been forecast then, from what was known then.

mod board;

pub use board::{Board, Summary};

use crate::accuracy::Tally;
use crate::forecast::{FitError, Fitted, Forecast, Forecaster, Horizon, Quantile};
use crate::series::Window;

/// From where and how far to forecast.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Numbers of observations known at forecast time, each at most the length of the series.
    pub origins: Vec<usize>,
    /// Newest observations a fit may see.
    pub context: usize,
    /// Steps ahead.
    pub horizon: Horizon,
}

impl Plan {
    /// The last `count` origins `stride` apart whose whole horizon lies within `len` observations, ascending.
    #[must_use]
    pub fn last(len: usize, count: usize, stride: usize, horizon: Horizon) -> Self {
        let newest = len.checked_sub(horizon.steps());
        let mut origins: Vec<usize> =
            (0..count).filter_map(|i| newest?.checked_sub(i * stride.max(1))).filter(|o| *o > 0).collect();
        origins.reverse();
        Self { origins, context: usize::MAX, horizon }
    }
}

/// The forecast made at each origin of `plan`, one by one as the iterator is driven. At each origin the forecaster sees
/// the newest `context` of the first `origin` values and nothing else.
pub fn replay<'a, F: Forecaster>(
    forecaster: &'a F,
    series: &'a Window,
    plan: &'a Plan,
    quantiles: &'a [Quantile],
) -> impl Iterator<Item = (usize, Result<Forecast, FitError>)> + 'a {
    plan.origins.iter().map(move |origin| {
        let known = known(series, *origin, plan.context);
        (*origin, forecaster.fit(&known).map(|fitted| fitted.forecast(plan.horizon, quantiles)))
    })
}

/// The newest `context` of the first `origin` points.
#[must_use]
pub fn known(series: &Window, origin: usize, context: usize) -> Window {
    let end = origin.min(series.len());
    let start = end.saturating_sub(context);
    Window { start: series.time_of(start), step: series.step, values: series.values[start..end].to_vec() }
}

/// Adds the forecast made at `origin` to `tally`, against what the series then brought.
pub fn score(tally: &mut Tally, series: &Window, origin: usize, forecast: &Forecast) {
    tally.add(forecast, series.values.get(origin..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::Kind;
    use crate::forecast::auto::Combination;
    use crate::series::{Step, Timestamp};

    fn series(n: usize) -> Window {
        let values = (0..n).map(|i| 10.0 + (i % 6) as f64 + ((i * 7) % 5) as f64 / 10.0).collect();
        Window { start: Timestamp::from_secs(0), step: Step::from_secs(60), values }
    }

    fn horizon(steps: usize) -> Horizon {
        Horizon::new(steps).expect("not zero")
    }

    #[test]
    fn the_last_origins_leave_room_for_the_horizon() {
        assert_eq!(Plan::last(100, 3, 10, horizon(5)).origins, [75, 85, 95]);
        assert_eq!(Plan::last(12, 5, 5, horizon(5)).origins, [2, 7]);
        assert!(Plan::last(3, 5, 5, horizon(5)).origins.is_empty());
    }

    #[test]
    fn nothing_after_the_origin_or_before_the_context_is_seen() {
        let whole = series(120);
        let plan = Plan { origins: vec![80, 100], context: 60, horizon: horizon(6) };
        let forecaster = Combination::only(Kind::Ets, plan.horizon).with_seasons(&[6]);
        let mut altered = whole.clone();
        altered.values[..20].fill(-1e6);
        altered.values[100..].fill(1e6);
        let on = |series: &Window| replay(&forecaster, series, &plan, &Quantile::STANDARD).collect::<Vec<_>>();
        assert_eq!(on(&whole), on(&altered));
    }

    #[test]
    fn a_replayed_forecast_is_scored_against_what_came() {
        let whole = series(120);
        let plan = Plan::last(120, 4, 6, horizon(6));
        let forecaster = Combination::only(Kind::SeasonalNaive, plan.horizon).with_seasons(&[6]);
        let mut tally = Tally::default();
        for (origin, forecast) in replay(&forecaster, &whole, &plan, &Quantile::STANDARD) {
            score(&mut tally, &whole, origin, &forecast.expect("long enough"));
        }
        assert_eq!(tally.points(), 24);
        assert!(tally.mean_absolute_error().expect("scored") < 0.5);
    }
}
