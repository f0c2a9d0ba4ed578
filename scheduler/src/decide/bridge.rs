//! Demand between now and the points of a forecast that lie further apart than replicas take to start.

use std::time::Duration;

use bellwether_models::forecast::Forecast;
use bellwether_models::outlook::Observed;
use bellwether_models::series::Timestamp;

/// The demand foreseen for any instant: straight between the points of a path; from what was seen last to the first point
/// its middle is straight too, and its spread grows with the square root of time, as that of a random walk does.
pub(crate) struct Bridge<'a> {
    forecast: &'a Forecast,
    path: &'a [f64],
    seen: Observed,
}

impl<'a> Bridge<'a> {
    /// Over the steps of `forecast`, if one is longer than `startup` and the present is known: between points that lie
    /// closer, each of the two is near enough. `path` is one quantile of the forecast.
    pub(crate) fn over(
        forecast: &'a Forecast,
        path: &'a [f64],
        seen: Option<Observed>,
        startup: Duration,
    ) -> Option<Self> {
        let seen = seen.filter(|seen| seen.value.is_finite() && forecast.step.times(1) > startup)?;
        Some(Self { forecast, path, seen })
    }

    /// The highest from `from` to `to`, and when; `None` where the forecast does not reach.
    pub(crate) fn peak(&self, from: Timestamp, to: Timestamp) -> Option<(Timestamp, f64)> {
        let points = (0..self.path.len()).map(|i| self.forecast.time_of(i)).filter(|at| *at > from && *at < to);
        let values = [from, to].into_iter().chain(points).filter_map(|at| Some((at, self.at(at)?)));
        values.filter(|(_, value)| value.is_finite()).reduce(|a, b| if b.1 > a.1 { b } else { a })
    }

    fn at(&self, at: Timestamp) -> Option<f64> {
        let mut points = (0..self.path.len()).filter(|i| self.forecast.time_of(*i) > self.seen.at);
        let first = points.next()?;
        let next = (first..self.path.len()).find(|i| self.forecast.time_of(*i) >= at)?;
        let (after, end) = (self.path[next], self.forecast.time_of(next));
        if next > first {
            let before = self.path[next - 1];
            return Some(before + (after - before) * share(self.forecast.time_of(next - 1), at, end));
        }
        let (share, middle) = (share(self.seen.at, at, end), *self.forecast.mean.get(next)?);
        Some(self.seen.value + (middle - self.seen.value) * share + (after - middle) * share.sqrt())
    }
}

/// How far `at` is on the way from `from` to `to`.
fn share(from: Timestamp, at: Timestamp, to: Timestamp) -> f64 {
    (at.since(from).as_secs_f64() / to.since(from).as_secs_f64()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use bellwether_models::forecast::Quantile;
    use bellwether_models::series::Step;

    use super::*;

    fn hourly() -> Forecast {
        Forecast {
            start: Timestamp::from_secs(3600),
            step: Step::from_secs(3600),
            mean: vec![200.0, 100.0],
            levels: Quantile::STANDARD.to_vec(),
            quantiles: vec![vec![280.0, 180.0]; 4],
            peaks: vec![],
        }
    }

    fn peak(seen: f64, from: i64, to: i64) -> Option<f64> {
        let (forecast, path) = (hourly(), [280.0, 180.0]);
        let seen = Some(Observed { at: Timestamp::from_secs(0), value: seen });
        let bridge = Bridge::over(&forecast, &path, seen, Duration::from_secs(900)).expect("an hour is longer");
        bridge.peak(Timestamp::from_secs(from), Timestamp::from_secs(to)).map(|(_, value)| value)
    }

    #[test]
    fn it_leads_from_what_was_seen_to_the_first_point_and_on_to_the_next() {
        assert_eq!(peak(100.0, 0, 0), Some(100.0), "the present is known");
        assert_eq!(peak(100.0, 900, 900), Some(100.0 + 25.0 + 40.0), "a quarter of the way, half of the spread");
        assert_eq!(peak(100.0, 3600, 3600), Some(280.0));
        assert_eq!(peak(100.0, 5400, 5400), Some(230.0));
        assert_eq!(peak(100.0, 900, 5400), Some(280.0), "the point between is the highest");
        assert_eq!(peak(100.0, 7201, 7300), None, "beyond the last point nothing is said");
    }

    #[test]
    fn none_is_needed_between_close_points_or_led_from_an_unknown_present() {
        let (forecast, path) = (hourly(), [280.0, 180.0]);
        let seen = |value| Some(Observed { at: Timestamp::from_secs(0), value });
        assert!(Bridge::over(&forecast, &path, seen(1.0), Duration::from_secs(3600)).is_none());
        assert!(Bridge::over(&forecast, &path, seen(f64::NAN), Duration::from_secs(60)).is_none());
        assert!(Bridge::over(&forecast, &path, None, Duration::from_secs(60)).is_none());
    }
}
