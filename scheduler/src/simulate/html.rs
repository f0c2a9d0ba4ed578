//! The report as one page that needs nothing else: figures drawn as SVG, no script.

use std::fmt::Write;

use bellwether_models::series::{Timestamp, Window};

use super::report::{EqualCost, Line, Report};
use super::{Outcome, Setting, tick_time};
use crate::plan::Decision;

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 320.0;
const MARGIN: f64 = 56.0;
/// Points drawn along a time axis.
const COLUMNS: usize = 700;
/// Decisions listed.
const MOST_DECISIONS: usize = 300;
const COLOURS: [(&str, &str); 7] = [
    ("hpa", "#8a8f98"),
    ("seasonal_naive", "#c98b2b"),
    ("cron", "#b0592f"),
    ("holt_winters", "#9b59b6"),
    ("fft", "#d4537e"),
    ("bellwether", "#2563c9"),
    ("oracle", "#2f9e63"),
];

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:920px;margin:2rem auto;padding:0 1rem;color:#1d2330;background:#fff}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{text-align:right;padding:.2rem .6rem;border-bottom:1px solid #e3e6eb}\
th:first-child,td:first-child,.why td:last-child,.why th:last-child{text-align:left}.why td{vertical-align:top;white-space:nowrap}.why td:last-child{white-space:normal}svg{width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:#5a6270}\
@media(prefers-color-scheme:dark){body{background:#14171d;color:#dde1e8}th,td{border-color:#2b303a}text{fill:#9aa2b0}}";

/// The page of one report; `demand` and `outcomes` are those it was made of.
#[must_use]
pub fn page(report: &Report, demand: &Window, setting: &Setting, outcomes: &[Outcome]) -> String {
    let title = format!("{}: scaling policies at equal cost", escape(&report.trace));
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><h1>{title}</h1><p>A replica serves {} and starts in {} s. A violation \
         is a minute in which demand was above the capacity of the ready replicas.</p>",
        number(report.capacity),
        report.startup_seconds
    );
    page.push_str(&kinds(report));
    page.push_str("<h2>Violations against cost</h2>");
    page.push_str(&pareto(report));
    page.push_str("<h2>At equal cost</h2>");
    page.push_str(&equal_cost(report));
    if let Some((ours, hpa)) = rivals(report, outcomes) {
        let ticks = 0..ours.ready.len();
        let _ = write!(page, "<h2>Demand and capacity</h2>{}", course(demand, setting, [ours, hpa], ticks));
        let day = worst_day(demand, setting, ours);
        let _ = write!(page, "<h2>Our worst day</h2>{}", course(demand, setting, [ours, hpa], day.clone()));
        let span = tick_time(demand, setting, day.start)..tick_time(demand, setting, day.end);
        page.push_str(&decisions(ours, &span));
    }
    page.push_str("<h2>All policies</h2>");
    page.push_str(&all(report));
    page.push_str("</html>\n");
    page
}

/// Ours at its middle knob, and the plain autoscaler whose cost is nearest.
fn rivals<'a>(report: &Report, outcomes: &'a [Outcome]) -> Option<(&'a Outcome, &'a Outcome)> {
    let of = |name: &str| -> Vec<usize> {
        (0..report.policies.len()).filter(|i| report.policies[*i].name == name).collect()
    };
    let (ours, plain) = (of("bellwether"), of("hpa"));
    let ours = *ours.get(ours.len() / 2)?;
    let cost = report.policies[ours].replica_hours;
    let away = |i: &usize| (report.policies[*i].replica_hours - cost).abs();
    let hpa = plain.into_iter().min_by(|a, b| away(a).total_cmp(&away(b)))?;
    Some((outcomes.get(ours)?, outcomes.get(hpa)?))
}

fn pareto(report: &Report) -> String {
    let shown: Vec<&Line> = report.policies.iter().collect();
    let most = |of: fn(&Line) -> f64| shown.iter().map(|l| of(l)).fold(0.0, f64::max);
    let costs = Axis::new(
        shown.iter().map(|l| l.replica_hours).fold(f64::INFINITY, f64::min) * 0.95,
        most(|l| l.replica_hours),
    );
    let violations = Axis::new(0.0, most(|l| l.violation_minutes));
    let mut svg = frame(&costs, &violations, "replica-hours", "violation minutes");
    for (name, colour) in COLOURS {
        let mut points: Vec<(f64, f64)> = shown
            .iter()
            .filter(|l| l.name == name)
            .map(|l| (costs.x(l.replica_hours), violations.y(l.violation_minutes)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        svg.push_str(&polyline(&points, colour, 1.5));
        for (x, y) in &points {
            let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        }
        if let Some((x, y)) = points.first() {
            let _ =
                write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" style=\"fill:{colour}\">{name}</text>", x + 6.0, y - 6.0);
        }
    }
    svg + "</svg>"
}

/// Demand, in replicas, with the ready replicas of two policies, over a range of ticks.
fn course(demand: &Window, setting: &Setting, [ours, hpa]: [&Outcome; 2], ticks: std::ops::Range<usize>) -> String {
    let truth = super::world::Demand::of(demand);
    let stride = (ticks.len() / COLUMNS).max(1);
    let columns: Vec<std::ops::Range<usize>> =
        ticks.clone().step_by(stride).map(|from| from..(from + stride).min(ticks.end)).collect();
    let wanted = |column: &std::ops::Range<usize>| -> f64 {
        let peak = truth.peak(tick_time(demand, setting, column.start), tick_time(demand, setting, column.end));
        peak.map_or(f64::NAN, |p| p / setting.capacity)
    };
    let ready = |outcome: &Outcome, column: &std::ops::Range<usize>| -> f64 {
        let least = outcome.ready[column.clone()].iter().filter(|r| **r != u32::MAX).min();
        least.map_or(f64::NAN, |r| f64::from(*r))
    };
    let lines = [
        (columns.iter().map(wanted).collect::<Vec<f64>>(), "#1d9a6c", "demand"),
        (columns.iter().map(|c| ready(hpa, c)).collect(), colour_of("hpa"), "hpa"),
        (columns.iter().map(|c| ready(ours, c)).collect(), colour_of("bellwether"), "bellwether"),
    ];
    let hours = |tick: usize| tick as f64 * setting.cadence.as_secs_f64() / 3600.0;
    let time = Axis::new(hours(ticks.start), hours(ticks.end));
    let top = lines.iter().flat_map(|(v, ..)| v).copied().filter(|v| v.is_finite()).fold(1.0, f64::max);
    let replicas = Axis::new(0.0, top);
    let mut svg = frame(&time, &replicas, "hours", "replicas");
    for (i, (values, colour, name)) in lines.iter().enumerate() {
        for run in known_runs(values) {
            let points: Vec<(f64, f64)> =
                run.map(|c| (time.x(hours(columns[c].start)), replicas.y(values[c]))).collect();
            svg.push_str(&polyline(&points, colour, 1.3));
        }
        let x = MARGIN + 10.0 + 110.0 * i as f64;
        let _ = write!(svg, "<text x=\"{x}\" y=\"16\" style=\"fill:{colour}\">{name}</text>");
    }
    svg + "</svg>"
}

/// Stretches without gaps.
fn known_runs(values: &[f64]) -> Vec<std::ops::Range<usize>> {
    let mut runs = Vec::new();
    let mut from = None;
    for (i, value) in values.iter().enumerate() {
        match (value.is_finite(), from) {
            (true, None) => from = Some(i),
            (false, Some(start)) => {
                runs.push(start..i);
                from = None;
            }
            _ => {}
        }
    }
    runs.extend(from.map(|start| start..values.len()));
    runs
}

/// The 24 hours, counted from the start, with most violations.
fn worst_day(demand: &Window, setting: &Setting, ours: &Outcome) -> std::ops::Range<usize> {
    let truth = super::world::Demand::of(demand);
    let day = (86_400.0 / setting.cadence.as_secs_f64()).ceil().max(1.0) as usize;
    let violated = |tick: usize| {
        let at = tick_time(demand, setting, tick) + setting.cadence / 2;
        let ready = ours.ready[tick];
        ready != u32::MAX && truth.at(at).is_some_and(|d| d > f64::from(ready) * setting.capacity)
    };
    let days = (0..ours.ready.len()).step_by(day).map(|from| from..(from + day).min(ours.ready.len()));
    days.max_by_key(|range| range.clone().filter(|tick| violated(*tick)).count()).unwrap_or(0..ours.ready.len())
}

/// What the trace is called, with the rule behind it.
fn kinds(report: &Report) -> String {
    let said: Vec<String> =
        report.archetypes.iter().map(|kind| format!("<b>{}</b> ({})", kind.name(), escape(kind.rule()))).collect();
    let said = if said.is_empty() { "steady (none of the rules holds)".to_owned() } else { said.join("; ") };
    format!("<p>Kind of demand: {said}.</p>")
}

/// What was decided within `span`, and why.
fn decisions(ours: &Outcome, span: &std::ops::Range<Timestamp>) -> String {
    let within: Vec<&Decision> = ours.changes.iter().filter(|d| span.contains(&d.at)).collect();
    let replicas = |count: Option<u32>| count.map_or("–".to_owned(), |count| count.to_string());
    let rows = within.iter().take(MOST_DECISIONS).map(|d| {
        let why: Vec<String> = d.reasons.iter().map(|reason| escape(&reason.to_string())).collect();
        let change = format!("{} → {}", replicas(d.from), replicas(d.to));
        [clock(d.at), change, replicas(d.reactive), why.join("<br>")]
    });
    let table = table(["UTC", "replicas", "a plain autoscaler", "why"], rows);
    let left_out = within.len().saturating_sub(MOST_DECISIONS);
    let more = if left_out > 0 { format!("<p>{left_out} more are left out.</p>") } else { String::new() };
    format!(
        "<details class=\"why\"><summary>What was decided on that day, and why: {} changes at cost ratio {}</summary>\
         {table}{more}</details>",
        within.len(),
        number(ours.knob)
    )
}

fn clock(at: Timestamp) -> String {
    let instant = jiff::Timestamp::from_millisecond(at.as_millis());
    instant.map_or_else(|_| at.as_millis().to_string(), |t| t.strftime("%d %b %H:%M:%S").to_string())
}

fn colour_of(policy: &str) -> &'static str {
    COLOURS.iter().find(|(name, _)| *name == policy).map_or("#888", |(_, colour)| colour)
}

/// Ours in sight, the others a click away.
fn equal_cost(report: &Report) -> String {
    let (ours, others): (Vec<_>, Vec<_>) = report.equal_cost.iter().partition(|e| e.policy == "bellwether");
    let others = format!("<details><summary>The other policies</summary>{}</details>", compared(&others));
    compared(&ours) + &others
}

fn compared(lines: &[&EqualCost]) -> String {
    let rows = lines.iter().map(|e| {
        let saved = e.best_hpa_replica_hours.map_or("–".to_owned(), |hpa| percent(1.0 - e.replica_hours / hpa));
        let (cost, ours, best) = (e.replica_hours, e.violation_minutes, e.best_hpa_violation_minutes);
        [escape(&e.policy), number(e.knob), number(cost), number(ours), number(best), saved]
    });
    let saved = "cheaper at as many violations";
    table(["policy", "knob", "replica-hours", "violation minutes", "best hpa at that cost", saved], rows)
}

fn all(report: &Report) -> String {
    let rows = report.policies.iter().map(|l| {
        [
            escape(&l.name),
            number(l.knob),
            number(l.replica_hours),
            number(l.violation_minutes),
            percent(l.unserved_fraction),
            format!("{} / {}", l.scale_events, l.flips),
        ]
    });
    table(["policy", "knob", "replica-hours", "violation minutes", "unserved", "changes / flips"], rows)
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let cells = |tag: &str, cells: &[String]| cells.iter().map(|c| format!("<{tag}>{c}</{tag}>")).collect::<String>();
    let body: String = rows.map(|row| format!("<tr>{}</tr>", cells("td", &row))).collect();
    format!("<table><tr>{}</tr>{body}</table>", cells("th", &head.map(str::to_owned)))
}

/// A range of values along one side of a figure.
struct Axis {
    least: f64,
    most: f64,
}

impl Axis {
    fn new(least: f64, most: f64) -> Self {
        Self { least, most: if most > least { most } else { least + 1.0 } }
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.least) / (self.most - self.least)
    }

    fn x(&self, value: f64) -> f64 {
        MARGIN + self.share(value) * (WIDTH - 1.5 * MARGIN)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - MARGIN - self.share(value) * (HEIGHT - 1.5 * MARGIN)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let rough = (self.most - self.least) / 5.0;
        let size = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * size).find(|s| *s >= rough).unwrap_or(rough);
        let (first, most) = ((self.least / step).ceil() as i64, self.most);
        (first..).map(move |i| i as f64 * step).take_while(move |v| *v <= most)
    }
}

fn frame(x: &Axis, y: &Axis, x_name: &str, y_name: &str) -> String {
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{y_name} against {x_name}\">");
    let (left, right, bottom) = (MARGIN, WIDTH - MARGIN / 2.0, HEIGHT - MARGIN);
    for value in y.ticks() {
        let at = y.y(value);
        let _ = write!(
            svg,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#8884\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            at + 4.0,
            number(value)
        );
    }
    for value in x.ticks() {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x.x(value),
            bottom + 18.0,
            number(value)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{x_name}</text><text x=\"4\" y=\"16\">{y_name}</text>",
        right,
        bottom + 38.0
    );
    svg
}

fn polyline(points: &[(f64, f64)], colour: &str, width: f64) -> String {
    let path: String = points.iter().map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
    format!("<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>", path.trim_end())
}

fn number(x: f64) -> String {
    let text = if x.abs() >= 100.0 { format!("{x:.0}") } else { format!("{x:.2}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn percent(x: f64) -> String {
    format!("{} %", number(x * 100.0))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
