//! The report of a backtest: one HTML file that needs nothing else.

use bellwether_models::forecast::{Forecast, Quantile};
use bellwether_models::series::{Sample, Window};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::api::chart::{DemandChart, short_number};

/// Horizons of the past drawn before the last forecast.
const HORIZONS_DRAWN: usize = 8;
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 140.0;
const COLOURS: [&str; 10] =
    ["#1f6fb2", "#d1603d", "#3b8f5a", "#8c5fb0", "#b8860b", "#2a9d9d", "#c04a7a", "#6b7280", "#7a9a2e", "#444c9c"];
const STYLE: &str = "
body{font:15px/1.45 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#1d2430}
table{border-collapse:collapse}td,th{padding:.15em .7em;text-align:right}td:first-child,th:first-child{text-align:left}
svg{width:100%;height:auto}figure{margin:0}figcaption{color:#5a6472;font-size:13px}.pair{display:flex;gap:1em}
.pair figure{flex:1}.grid{stroke:#e3e7ec}.label{font-size:11px;fill:#5a6472}polyline{fill:none}
.actual{stroke:#1d2430;stroke-width:1.3}.foreseen{stroke:#d1603d;stroke-dasharray:4 3}.fan{fill:#1f6fb2;opacity:.22}
.median{stroke:#1f6fb2;stroke-width:1.6}.upper{stroke:#1f6fb2;stroke-dasharray:2 2}.key{font-size:13px}";

/// One series replayed by the first model.
pub(super) struct Replayed {
    pub(super) series: String,
    pub(super) window: Window,
    pub(super) made: Vec<Made>,
}

/// What was forecast at one origin, and the share of each member in it.
pub(super) struct Made {
    pub(super) origin: usize,
    pub(super) forecast: Forecast,
    pub(super) shares: Vec<(String, f64)>,
}

/// The whole page: the score table, then each series.
pub(super) fn page(model: &str, scores: &str, replayed: &[Replayed]) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "Backtest of " (model) } style { (PreEscaped(STYLE)) } }
            body {
                h1 { "Backtest" }
                p { "Each forecast saw only what was known at its origin. Plots show the model " b { (model) } "." }
                pre { (scores) }
                @for series in replayed { (series.section()) }
            }
        }
    };
    page.into_string()
}

impl Replayed {
    fn section(&self) -> Markup {
        html! {
            h2 { (self.series) }
            (self.fan())
            div.pair { (self.residuals()) (self.weights()) }
            (self.coverage())
        }
    }

    /// The last forecast over what came, and before it the medians of earlier ones.
    fn fan(&self) -> Markup {
        let Some(last) = self.made.last() else { return html! { p { "No forecast was made." } } };
        let horizon = last.forecast.horizon();
        let from = last.origin.saturating_sub(HORIZONS_DRAWN * horizon);
        let sample = |i: usize| Some(Sample { at: self.window.time_of(i), value: *self.window.values.get(i)? });
        let actual: Vec<Sample> = (from..last.origin + horizon).filter_map(sample).collect();
        let earlier = self.made.iter().filter(|made| made.origin >= from && made.origin < last.origin);
        let medians = earlier.flat_map(|made| made.forecast.mean.iter().enumerate().map(move |(k, v)| (made, k, *v)));
        let foreseen: Vec<Sample> =
            medians.map(|(made, k, value)| Sample { at: made.forecast.time_of(k), value }).collect();
        let chart = DemandChart { actual: &actual, foreseen: &foreseen, forecast: Some(&last.forecast) };
        html! {
            figure {
                (chart.draw())
                figcaption { "What came (dark), medians said before (dashed), and the last forecast from its lowest to its "
                    "highest quantile." }
            }
        }
    }

    /// Actual less forecast, for each step ahead of each origin.
    fn errors(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.made.iter().flat_map(|made| {
            let came = self.window.values.get(made.origin..).unwrap_or_default();
            let error = |(k, (y, f)): (usize, (&f64, &f64))| (k, y - f);
            came.iter().zip(&made.forecast.mean).enumerate().map(error).filter(|(_, e)| e.is_finite())
        })
    }

    fn residuals(&self) -> Markup {
        let steps = self.made.first().map_or(1, |made| made.forecast.horizon());
        let most = self.errors().map(|(_, e)| e.abs()).fold(f64::MIN_POSITIVE, f64::max);
        let x = |k: usize| 8.0 + (k as f64 + 0.5) / steps as f64 * (WIDTH - 16.0);
        let y = |e: f64| HEIGHT / 2.0 - e / most * (HEIGHT / 2.0 - 6.0);
        html! {
            figure {
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label="residuals by step" {
                    line.grid x1="0" x2=(WIDTH) y1=(y(0.0)) y2=(y(0.0)) {}
                    @for (k, error) in self.errors() {
                        circle cx=(format!("{:.1}", x(k))) cy=(format!("{:.1}", y(error))) r="1.6" fill="#1f6fb2" opacity=".45" {}
                    }
                    text.label x="4" y="12" { "± " (short_number(most)) }
                }
                figcaption { "What came less the forecast, by step ahead." }
            }
        }
    }

    /// The share of each member at each origin, one above the other.
    fn weights(&self) -> Markup {
        let names: Vec<&str> = self
            .made
            .first()
            .map(|made| made.shares.iter().map(|(name, _)| name.as_str()).collect())
            .unwrap_or_default();
        let last = self.made.len().saturating_sub(1).max(1) as f64;
        let x = |i: usize| 8.0 + i as f64 / last * (WIDTH - 16.0);
        let below = |made: &Made, member: usize| made.shares.iter().take(member).map(|(_, share)| share).sum::<f64>();
        let edge = |member: usize| -> Vec<String> {
            let y = |made: &Made| HEIGHT - 4.0 - below(made, member) * (HEIGHT - 8.0);
            self.made.iter().enumerate().map(|(i, made)| format!("{:.1},{:.1}", x(i), y(made))).collect()
        };
        let area = |member: usize| [edge(member), edge(member + 1).into_iter().rev().collect()].concat().join(" ");
        html! {
            figure {
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label="weights of the models over time" {
                    @for member in 0..names.len() {
                        polygon points=(area(member)) fill=(COLOURS[member % COLOURS.len()]) opacity=".75" {}
                    }
                }
                figcaption {
                    "Share of each model, origin by origin: "
                    @for (member, name) in names.iter().enumerate() {
                        span.key style=(format!("color:{}", COLOURS[member % COLOURS.len()])) { (name) " " }
                    }
                }
            }
        }
    }

    fn coverage(&self) -> Markup {
        let share = |level: Quantile| {
            let (mut below, mut all) = (0usize, 0usize);
            for made in &self.made {
                let came = self.window.values.get(made.origin..).unwrap_or_default();
                for (y, q) in came.iter().zip(made.forecast.quantile(level)).filter(|(y, _)| y.is_finite()) {
                    (below, all) = (below + usize::from(*y <= q), all + 1);
                }
            }
            if all == 0 { "–".to_owned() } else { format!("{:.1} %", 100.0 * below as f64 / all as f64) }
        };
        html! {
            table {
                tr { th { "promised" } @for level in Quantile::STANDARD { th { (format!("{:.0} %", 100.0 * level.value())) } } }
                tr { td { "at or below" } @for level in Quantile::STANDARD { td { (share(level)) } } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::{Step, Timestamp};

    use super::*;

    fn replayed() -> Replayed {
        let window = Window {
            start: Timestamp::from_secs(0),
            step: Step::from_secs(60),
            values: (0..20).map(f64::from).collect(),
        };
        let forecast = |origin: usize| Forecast {
            start: window.time_of(origin),
            step: window.step,
            mean: vec![origin as f64; 4],
            levels: Quantile::STANDARD.to_vec(),
            quantiles: [-1.0, 0.0, 1.5, 9.0].map(|v| vec![origin as f64 + v; 4]).to_vec(),
            peaks: vec![],
        };
        let shares = vec![("ets".to_owned(), 0.25), ("a<b".to_owned(), 0.75)];
        let made = [12, 16].map(|origin| Made { origin, forecast: forecast(origin), shares: shares.clone() });
        Replayed { series: "web & db".to_owned(), window: window.clone(), made: made.into() }
    }

    #[test]
    fn the_report_shows_every_part_and_needs_no_other_file() {
        let page = page("combination", "model 1.0", &[replayed()]);
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("web &amp; db") && page.contains("a&lt;b"));
        assert!(page.contains("<td>0.0 %</td><td>25.0 %</td><td>50.0 %</td><td>100.0 %</td>"), "{page}");
        assert!(!page.contains("http") && !page.contains("<script"));
    }

    #[test]
    fn a_series_without_forecasts_is_said_to_have_none() {
        let none = Replayed { made: vec![], ..replayed() };
        assert!(page("ets", "", &[none]).contains("No forecast was made."));
    }
}
