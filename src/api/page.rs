//! The page at `/`: workloads with forecast over actual, open incidents with their causes, the last decisions.

use bellwether_models::detect::Vigilance;
use bellwether_models::incident::{Incident, Severity, Status};
use bellwether_models::outlook::{Foresight, Outlook};
use bellwether_models::series::{Sample, Timestamp};
use bellwether_predictor::registry::{Place, Standing};
use bellwether_scheduler::plan::Decision;
use bellwether_scheduler::route::drain::Turn;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::words::{self, count};

use super::backends::BackendLine;
use super::chart::{DemandChart, clock, short_number};

/// How many causes of an incident the page names.
const CAUSES: usize = 3;

/// One workload with what is drawn of it.
#[derive(Debug)]
pub struct WorkloadView {
    /// The predictor's word.
    pub outlook: Outlook,
    /// Observed demand of the last day.
    pub actual: Vec<Sample>,
    /// What had been foreseen for that day.
    pub foreseen: Vec<Sample>,
    /// The newest decision.
    pub decision: Option<Decision>,
}

/// Everything the page shows.
#[derive(Debug, Default)]
pub struct View {
    /// The system's present: the wall clock's, or the replay's.
    pub now: Timestamp,
    /// Workloads in order of configuration.
    pub workloads: Vec<WorkloadView>,
    /// Incidents, open ones first.
    pub incidents: Vec<Incident>,
    /// Decisions, newest first.
    pub decisions: Vec<Decision>,
    /// What detection says of itself.
    pub detection: Vigilance,
    /// The models of workloads that have more than the one that comes with the program.
    pub models: Vec<Standing>,
    /// Backends that share a load.
    pub backends: Vec<BackendLine>,
    /// What became of drains, newest first.
    pub drains: Vec<Turn>,
    /// A line under the title, such as "replay of recorded data".
    pub banner: Option<String>,
}

/// The whole page. It asks the browser to come again every ten seconds.
#[must_use]
pub fn overview(view: &View) -> Markup {
    let open = view.incidents.iter().filter(|incident| incident.status == Status::Open).count();
    let title = if open == 0 { "Bellwether".to_owned() } else { format!("({open}) Bellwether") };
    frame(
        &title,
        view,
        Some(10),
        html! {
            (incidents(view))
            (detection(&view.detection))
            h2 { "Workloads" }
            @if view.workloads.is_empty() {
                p.quiet { "No workload is configured. Add one under " code { "workloads:" } " and reload." }
            }
            @for workload in &view.workloads { (workload_card(workload)) }
            (backends(&view.backends, &view.drains))
            (models(&view.models))
            h2 { "Last decisions" }
            (decision_table(&view.decisions))
        },
    )
}

/// One incident with all its evidence.
#[must_use]
pub fn incident_page(view: &View, incident: &Incident) -> Markup {
    frame(
        &format!("Incident {}", incident.id),
        view,
        None,
        html! {
            p { a href="/" { "← overview" } }
            (incident_card(incident, usize::MAX))
            h2 { "Anomalies" }
            div.scroll { table {
                tr { th { "began" } th { "series" } th { "kind" } th.number { "seen" } th.number { "expected" } th.number { "−log₁₀ p" } }
                @for anomaly in &incident.anomalies {
                    tr {
                        td { (clock(anomaly.onset)) }
                        td { code { (anomaly.series) } }
                        td { (anomaly.kind.map_or("–".to_owned(), |kind| format!("{kind:?}").to_lowercase())) }
                        td.number { (short_number(anomaly.observed)) }
                        td.number { @if anomaly.expected.is_finite() { (short_number(anomaly.expected)) } @else { "–" } }
                        td.number { (format!("{:.1}", anomaly.surprise)) }
                    }
                }
            } }
        },
    )
}

/// One decision with all its reasons.
#[must_use]
pub fn decision_page(view: &View, decision: &Decision) -> Markup {
    frame(
        &format!("Decision {}", decision.id),
        view,
        None,
        html! {
            p { a href="/" { "← overview" } }
            div.card {
                div.head { h3 { (decision.workload) } (mode_tag(decision)) }
                p { (decision) }
                (reasons(decision))
            }
        },
    )
}

/// The weights of backends, and what became of drains; nothing where there are no backends.
fn backends(lines: &[BackendLine], drains: &[Turn]) -> Markup {
    if lines.is_empty() {
        return html! {};
    }
    html! {
        h2 { "Backends" }
        div.scroll { table {
            tr { th { "backend" } th.number { "weight" } th.number { "saturation" } th { "why" } th { "drain" } }
            @for BackendLine { weight, drain } in lines {
                tr {
                    td { (weight.backend) }
                    td.number { b { (percent(weight.weight)) } }
                    td.number { (weight.saturation.map_or("–".to_owned(), percent)) }
                    td { (weight.grounds) }
                    td { @if let Some(drain) = drain { (words::drain(drain)) } }
                }
            }
        } }
        @if !drains.is_empty() {
            ul.reasons { @for turn in drains { li { (clock(turn.at)) " UTC, " code { (turn.id) } ": " (turn) } } }
        }
    }
}

/// Champions and challengers beside each other; nothing where there is no registered model.
fn models(standings: &[Standing]) -> Markup {
    if standings.is_empty() {
        return html! {};
    }
    html! {
        h2 { "Models" }
        div.scroll { table {
            tr { th { "workload" } th { "version" } th { "kind" } th { "state" } th.number { "pinball loss" } th.number { "coverage p95" } th.number { "outcomes" } }
            @for standing in standings {
                (model_row(&standing.workload, if standing.pinned { "champion, pinned" } else { "champion" }, &standing.champion))
                @for place in &standing.challengers { (model_row(&standing.workload, "challenger", place)) }
            }
        } }
    }
}

fn model_row(workload: &str, state: &str, place: &Place) -> Markup {
    html! {
        tr {
            td { (workload) }
            td { (place.version) }
            td { (place.kind) }
            td { (state) }
            @match place.live {
                Some(live) => {
                    td.number { (short_number(live.pinball)) }
                    td.number { (format!("{:.3}", live.coverage_p95)) }
                    td.number { (live.origins) }
                }
                None => { td.number { "–" } td.number { "–" } td.number { "0" } }
            }
        }
    }
}

fn frame(title: &str, view: &View, refresh_seconds: Option<u32>, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(seconds) = refresh_seconds { meta http-equiv="refresh" content=(seconds); }
                title { (title) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                header {
                    h1 { "Bellwether" }
                    span.quiet { (clock(view.now)) " UTC" }
                    @if let Some(banner) = &view.banner { span.tag { (banner) } }
                }
                main { (body) }
                footer {
                    "Also here: " a href="/metrics" { "metrics" } ", " a href="/api/v1/outlooks" { "outlooks" } ", "
                    a href="/api/v1/incidents" { "incidents" } ", " a href="/api/v1/decisions" { "decisions" }
                    ", and Prometheus' query API under " code { "/api/v1/query" } " for Grafana."
                }
            }
        }
    }
}

fn incidents(view: &View) -> Markup {
    html! {
        h2 { "Incidents" }
        @if view.incidents.is_empty() {
            p.quiet { "None. The symptoms of every workload follow their normal course." }
        }
        @for incident in &view.incidents { (incident_card(incident, CAUSES)) }
    }
}

/// The budget, what came of it, and what would have come at half and at double.
fn detection(told: &Vigilance) -> Markup {
    let [half, alarms, double] = told.alarms_last_week;
    let [learning, useful, full] = told.series;
    html! {
        p.quiet {
            (count(learning + useful + full, "series", "series")) " watched: " (full) " known fully, " (useful) " for an hour or more, "
            (learning) " still learnt. Budget of false alarms: " (short_number(told.budget_per_week))
            " a week over all. Raised in the last seven days, true ones too: " b { (alarms) }
            " (at half the budget " (half) ", at double " (double) ")."
            @if told.lenient > 0 { " " (told.lenient) " with a higher bar since people called their alarms false." }
        }
    }
}

fn incident_card(incident: &Incident, most: usize) -> Markup {
    let class = match incident.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
    };
    let ranking = &incident.ranking;
    html! {
        div class=(format!("card {class}")) {
            div.head {
                h3 { a href=(format!("/incidents/{}", incident.id)) { (incident.workload) } }
                span class=(format!("tag {class}")) { (class) " · " (state(incident)) }
            }
            @match &ranking.abstained {
                Some(why) => p { b { "Not sure what broke first" } ": " (why) ". The likeliest, all the same:" },
                None => p { "What broke first, " (percent(ranking.confidence)) " sure:" },
            }
            ol.causes {
                @for cause in ranking.causes.iter().take(most) {
                    li {
                        b { (cause.service) } " " span.quiet { (cause.metric) } br; (cause.summary)
                        @if !cause.doubt.is_empty() { span.quiet { " " (cause.doubt) } }
                    }
                }
            }
            @if ranking.causes.is_empty() { p.quiet { "The ranking is still being made." } }
            p.quiet {
                (count(incident.anomalies.len(), "anomaly", "anomalies")) " in "
                (count(incident.services.len(), "service", "services"))
                @if !incident.services.is_empty() { ": " (incident.services.join(", ")) }
            }
        }
    }
}

fn state(incident: &Incident) -> String {
    match (incident.status, incident.resolved_at) {
        (Status::Resolved, Some(at)) => format!("{} to {}", clock(incident.onset), clock(at)),
        (Status::Resolved, None) => format!("began {}, over", clock(incident.onset)),
        (Status::Open, _) => format!("since {}", clock(incident.onset)),
    }
}

fn workload_card(view: &WorkloadView) -> Markup {
    let outlook = &view.outlook;
    let forecast = match &outlook.foresight {
        Foresight::Forecast { forecast, .. } => Some(forecast),
        Foresight::Abstained { .. } => None,
    };
    html! {
        div.card id=(format!("workload-{}", outlook.workload)) {
            div.head {
                h3 { (outlook.workload) }
                span.quiet {
                    "demand " (outlook.demand.map_or("unknown".to_owned(), |seen| short_number(seen.value)))
                    " · replicas " (outlook.replicas.map_or("unknown".to_owned(), |seen| short_number(seen.value)))
                }
            }
            (DemandChart { actual: &view.actual, foreseen: &view.foreseen, forecast }.draw())
            div.legend {
                span.actual { b { "—" } " observed" }
                @if !view.foreseen.is_empty() { span.foreseen { b { "┄" } " foreseen for then (p90)" } }
                @if forecast.is_some() { span.median { b { "—" } " foreseen, with the band from p10 to p95" } }
            }
            @match &outlook.foresight {
                Foresight::Forecast { model, .. } => p.quiet { "Forecast by " (model) "." },
                Foresight::Abstained { reason } => p { b { "No forecast" } ": " (reason) "." },
            }
            @if let Some(decision) = &view.decision {
                div.head { span { a href=(format!("/decisions/{}", decision.id)) { (decision) } } (mode_tag(decision)) }
                (reasons(decision))
            }
        }
    }
}

fn reasons(decision: &Decision) -> Markup {
    html! { ul.reasons { @for reason in &decision.reasons { li { (reason) } } } }
}

fn mode_tag(decision: &Decision) -> Markup {
    let mode = format!("{:?}", decision.mode).to_lowercase();
    html! { span class=(format!("tag {mode}")) { (mode) } }
}

fn decision_table(decisions: &[Decision]) -> Markup {
    let number = |replicas: Option<u32>| replicas.map_or("–".to_owned(), |n| n.to_string());
    html! {
        @if decisions.is_empty() { p.quiet { "None yet." } }
        @else {
            div.scroll { table {
                tr {
                    th { "when" } th { "workload" } th { "mode" } th.number { "from" } th.number { "to" }
                    th.number { "reactive says" } th { "because" }
                }
                @for decision in decisions {
                    tr {
                        td { a href=(format!("/decisions/{}", decision.id)) { (clock(decision.at)) } }
                        td { (decision.workload) }
                        td { (mode_tag(decision)) }
                        td.number { (number(decision.from)) }
                        td.number { b { (number(decision.to)) } }
                        td.number { (number(decision.reactive)) }
                        td { @if let Some(reason) = decision.reasons.first() { (reason) } }
                    }
                }
            } }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
