//! One chart as inline SVG: what was, what was foreseen, what is foreseen.

use bellwether_models::forecast::Forecast;
use bellwether_models::series::{Sample, Timestamp};
use jiff::tz::TimeZone;
use maud::{Markup, html};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 10.0;

/// Demand over time: the observed line, an earlier forecast of the same times, and the fan of the forecast to come.
#[derive(Debug, Default)]
pub struct DemandChart<'a> {
    /// What was observed, ascending in time.
    pub actual: &'a [Sample],
    /// What had been foreseen for those times.
    pub foreseen: &'a [Sample],
    /// What is foreseen now.
    pub forecast: Option<&'a Forecast>,
}

impl DemandChart<'_> {
    /// Draws the chart; a sentence stands in for it when there is nothing to draw.
    #[must_use]
    pub fn draw(&self) -> Markup {
        let Some(frame) = Frame::around(self) else {
            return html! { p.quiet { "No samples in this range yet." } };
        };
        html! {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label="demand and forecast over time" {
                (frame.axes())
                @if let Some(forecast) = self.forecast {
                    (frame.fan(forecast))
                }
                polyline.foreseen points=(frame.path(self.foreseen)) {}
                polyline.actual points=(frame.path(self.actual)) {}
            }
        }
    }
}

/// The area of time and value that the chart shows.
struct Frame {
    from: i64,
    to: i64,
    top: f64,
}

impl Frame {
    fn around(chart: &DemandChart<'_>) -> Option<Self> {
        let drawn = chart.actual.iter().chain(chart.foreseen).filter(|sample| sample.value.is_finite());
        let mut points: Vec<(i64, f64)> = drawn.map(|sample| (sample.at.as_millis(), sample.value)).collect();
        if let Some(forecast) = chart.forecast {
            let highest = forecast.quantiles.last().unwrap_or(&forecast.mean);
            points.extend(highest.iter().enumerate().map(|(i, v)| (forecast.time_of(i).as_millis(), *v)));
        }
        let from = points.iter().map(|point| point.0).min()?;
        let to = points.iter().map(|point| point.0).max().filter(|to| *to > from)?;
        let top = points.iter().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
        Some(Self { from, to, top: round_up(top) })
    }

    fn x(&self, at: Timestamp) -> f64 {
        LEFT + (at.as_millis() - self.from) as f64 / (self.to - self.from) as f64 * (WIDTH - LEFT - 8.0)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value / self.top).clamp(0.0, 1.0);
        HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
    }

    fn path(&self, samples: &[Sample]) -> String {
        let finite = samples.iter().filter(|sample| sample.value.is_finite());
        finite.map(|sample| format!("{:.1},{:.1} ", self.x(sample.at), self.y(sample.value))).collect()
    }

    fn fan(&self, forecast: &Forecast) -> Markup {
        let point = |(i, v): (usize, &f64)| format!("{:.1},{:.1} ", self.x(forecast.time_of(i)), self.y(*v));
        let line = |values: &[f64]| values.iter().enumerate().map(point).collect::<String>();
        let band = |low: &[f64], high: &[f64]| {
            let back: Vec<String> = low.iter().enumerate().map(point).collect();
            line(high) + &back.into_iter().rev().collect::<String>()
        };
        let pairs = forecast.quantiles.first().zip(forecast.quantiles.last());
        html! {
            @if let Some((low, high)) = pairs {
                polygon.fan points=(band(low, high)) {}
            }
            polyline.median points=(line(&forecast.mean)) {}
            @if let Some((_, high)) = pairs {
                polyline.upper points=(line(high)) {}
            }
        }
    }

    fn axes(&self) -> Markup {
        let levels = [0.0, self.top / 2.0, self.top];
        let span = self.to - self.from;
        html! {
            @for level in levels {
                line.grid x1=(LEFT) x2=(WIDTH) y1=(self.y(level)) y2=(self.y(level)) {}
                text.label x=(LEFT - 6.0) y=(self.y(level) + 4.0) text-anchor="end" { (short_number(level)) }
            }
            @for tick in 0..=4 {
                @let at = Timestamp::from_millis(self.from + span * tick / 4);
                @let anchor = if tick == 4 { "end" } else { "middle" };
                text.label x=(self.x(at)) y=(HEIGHT - 6.0) text-anchor=(anchor) { (clock(at)) }
            }
        }
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let base = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|step| step * base).find(|round| *round >= value).unwrap_or(value)
}

/// A number in as few characters as a label needs: `1.2k`, `35`, `0.04`.
#[must_use]
pub fn short_number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size >= 1e9 => format!("{:.1}G", value / 1e9),
        _ if size >= 1e6 => format!("{:.1}M", value / 1e6),
        _ if size >= 1e4 => format!("{:.0}k", value / 1e3),
        _ if size >= 100.0 || value == value.trunc() => format!("{value:.0}"),
        _ if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// Day and time of day, UTC.
#[must_use]
pub fn clock(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_millis())
        .map(|instant| instant.to_zoned(TimeZone::UTC).strftime("%d %b %H:%M").to_string())
        .unwrap_or_else(|_| format!("{} ms", at.as_millis()))
}

#[cfg(test)]
mod tests {
    use bellwether_models::forecast::Quantile;
    use bellwether_models::series::Step;

    use super::*;

    #[test]
    fn a_chart_without_samples_says_so() {
        assert!(DemandChart::default().draw().into_string().contains("No samples"));
    }

    #[test]
    fn a_chart_keeps_every_point_inside_its_frame() {
        let sample = |s, value| Sample { at: Timestamp::from_secs(s), value };
        let actual = [sample(0, 3.0), sample(60, f64::NAN), sample(120, 7.0)];
        let forecast = Forecast {
            start: Timestamp::from_secs(180),
            step: Step::from_secs(60),
            mean: vec![8.0, 9.0],
            levels: Quantile::STANDARD.to_vec(),
            quantiles: vec![vec![6.0, 6.0], vec![8.0, 9.0], vec![10.0, 11.0], vec![12.0, 14.0]],
            peaks: vec![],
        };
        let svg = DemandChart { actual: &actual, foreseen: &[], forecast: Some(&forecast) }.draw().into_string();
        assert!(!svg.contains("NaN"), "{svg}");
        let fan = svg.split("class=\"fan\" points=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        for point in fan.split_whitespace() {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y), "{point}");
        }
    }

    #[test]
    fn numbers_on_labels_are_short() {
        assert_eq!(short_number(12_345.0), "12k");
        assert_eq!(short_number(0.5), "0.500");
        assert_eq!(short_number(42.0), "42");
        assert_eq!(clock(Timestamp::from_secs(1_633_651_200)), "08 Oct 00:00");
    }
}
