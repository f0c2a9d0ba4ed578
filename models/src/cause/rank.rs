//! All evidence fused into one order of suspects.

use std::collections::{BTreeMap, BTreeSet};

use super::correlation::{Lagged, partial};
use super::dependence::follows;
use super::graph::CallGraph;
use super::measure::{Measure, UNHEALTHY, measures};
use super::signal::Signal;
use super::{ABSTAIN_BELOW, Cause, Evidence, IncidentWindow, Ranking, measure, words};

/// A fall counts this much of a rise of the same size: faults mostly raise load, latency and errors, and starve others.
const WEIGHT_OF_FALL: f64 = 0.5;
/// How much less likely a metric is the cause when a neighbour explains its whole move.
const DISCOUNT_OF_EXPLAINED: f64 = 0.9;
/// How much less likely a metric is the cause when it changed as far from the onset as the incident is long.
const DISCOUNT_OF_ANOTHER_TIME: f64 = 0.9;
/// How much less likely a metric is the cause when it does not move with the symptom at all.
const DISCOUNT_OF_UNRELATED: f64 = 0.2;
/// How much less likely the place is where trouble is felt, when nothing can break there.
const DISCOUNT_OF_VANTAGE: f64 = 0.9;
/// How much more likely a metric is the cause when its service was changed at the very onset. No recorded case carries a
/// change, so this is a choice and not a measurement: a change doubles what the metrics say, and makes up for nothing
/// that they do not say.
const WEIGHT_OF_CHANGE: f64 = 1.0;
/// Seconds in which that weight falls to a third.
const MEMORY_OF_CHANGE: f64 = 900.0;
/// A change this many seconds after the onset found may still be before the true one.
const CHANGE_AFTER: f64 = 60.0;
/// Scores below this are all the same to the lead of the first suspect.
const LEAST_SCORE: f64 = 0.3;
/// Coefficients of the confidence.
const INTERCEPT: f64 = -2.699;
/// See [`INTERCEPT`].
const WEIGHT_OF_LEAD: f64 = 0.500;
/// See [`INTERCEPT`].
const WEIGHT_OF_SIZE: f64 = 0.806;

/// Ranks every metric and every service of `window` by how likely it is the root cause. Pure and deterministic; the
/// order of the metrics plays no part. Gaps, infinities, constant and empty metrics are normal input; a window without
/// a row on either side of the onset gives an abstention.
///
/// # Source
/// `docs/explanation/root-cause.md` gives the mathematics and the measurements.
#[must_use]
pub fn rank(window: &IncidentWindow) -> Ranking {
    let graph = CallGraph::new(&window.calls);
    let measures = measures(window, &graph);
    let case = Case {
        window,
        unhealthy: unhealthy(window, &measures),
        vantage: vantage(window, &graph, &measures),
        graph,
        measures,
    };
    let metrics = case.order();
    let causes = case.causes(&metrics);
    let confidence = confidence(&causes);
    Ranking { abstained: abstention(&causes, confidence), causes, metrics, confidence, unmoved_confidence: None }
}

/// What stands behind a symptom comes before the symptom: saturation and errors before latency before demand.
fn weight(signal: Signal) -> f64 {
    match signal {
        Signal::Saturation | Signal::Errors => 1.0,
        Signal::Latency => 0.5,
        Signal::Traffic => 0.25,
    }
}

/// A window with what was measured in it.
struct Case<'a> {
    window: &'a IncidentWindow,
    graph: CallGraph<'a>,
    measures: Vec<Measure>,
    unhealthy: BTreeSet<&'a str>,
    vantage: Option<&'a str>,
}

/// Services that are slow, fail or are saturated; that one is merely asked more or less does not count.
fn unhealthy<'a>(window: &'a IncidentWindow, measures: &[Measure]) -> BTreeSet<&'a str> {
    let troubled = |measure: &Measure| measure.signal != Signal::Traffic && measure.sigmas() >= UNHEALTHY;
    let all = window.metrics.iter().zip(measures).filter(|(_, measure)| troubled(measure));
    all.map(|(metric, _)| metric.service.as_str()).collect()
}

/// The symptom's service, when it only tells what users feel (a probe, a load balancer's log): it is part of no call and
/// has nothing that could be used up.
fn vantage<'a>(window: &'a IncidentWindow, graph: &CallGraph<'_>, measures: &[Measure]) -> Option<&'a str> {
    let service = window.metrics.get(window.symptom?)?.service.as_str();
    let part_of_calls = graph.callees(service).chain(graph.callers(service)).next().is_some();
    let mut own = window.metrics.iter().zip(measures).filter(|(metric, _)| metric.service == service);
    (!part_of_calls && own.all(|(_, measure)| measure.signal != Signal::Saturation)).then_some(service)
}

impl Case<'_> {
    /// Every metric with its score, best first.
    fn order(&self) -> Vec<(usize, f64)> {
        let mut metrics: Vec<(usize, f64)> = (0..self.measures.len()).map(|i| (i, self.score(i))).collect();
        let name = |i: usize| (&self.window.metrics[i].service, &self.window.metrics[i].name);
        metrics.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| name(a.0).cmp(&name(b.0))));
        metrics
    }

    /// Size of the move, less what speaks against this metric as its origin.
    fn score(&self, index: usize) -> f64 {
        let measure = &self.measures[index];
        let only_felt = self.vantage == Some(self.window.metrics[index].service.as_str());
        let sigmas = measure.sigmas();
        let size = if sigmas >= 0.0 { sigmas } else { -WEIGHT_OF_FALL * sigmas };
        let unrelated = measure.correlation.map_or(0.0, |found| 1.0 - found.r.abs());
        size * weight(measure.signal)
            * (1.0 - DISCOUNT_OF_EXPLAINED * measure.explained_share())
            * (1.0 - DISCOUNT_OF_ANOTHER_TIME * self.distance_in_time(measure))
            * (1.0 - DISCOUNT_OF_UNRELATED * unrelated)
            * (if only_felt { 1.0 - DISCOUNT_OF_VANTAGE } else { 1.0 })
            * (1.0 + WEIGHT_OF_CHANGE * self.nearness_of_change(&self.window.metrics[index].service))
    }

    /// 1 for a change of `service` at the onset, less the earlier it came, 0 for none before it.
    fn nearness_of_change(&self, service: &str) -> f64 {
        match self.nearest_change(service) {
            Some(Evidence::Change { seconds_before, .. }) if seconds_before >= -CHANGE_AFTER => {
                (-seconds_before.max(0.0) / MEMORY_OF_CHANGE).exp()
            }
            _ => 0.0,
        }
    }

    /// Rows between the metric's change and the onset, as a share of the incident's rows, at most 1.
    fn distance_in_time(&self, measure: &Measure) -> f64 {
        let rows = self.window.times.len().saturating_sub(self.window.onset_row).max(1);
        (measure.row.abs_diff(self.window.onset_row) as f64 / rows as f64).min(1.0)
    }

    /// One cause for each service, by its best metric, best first.
    fn causes(&self, metrics: &[(usize, f64)]) -> Vec<Cause> {
        let mut best: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
        for (index, score) in metrics {
            best.entry(&self.window.metrics[*index].service).or_insert((*index, *score));
        }
        let mut services: Vec<(usize, f64)> = best.into_values().collect();
        services.sort_by(|a, b| b.1.total_cmp(&a.1)); // stable: equal scores stay in order of name
        let hops = self.graph.hops_from(self.symptom().map_or("", |metric| &metric.service));
        let causes = services.iter().enumerate();
        causes.map(|(at, (index, score))| self.cause(*index, *score, &hops, services.get(at + 1))).collect()
    }

    fn symptom(&self) -> Option<&super::Metric> {
        self.window.metrics.get(self.window.symptom?)
    }

    fn cause(&self, index: usize, score: f64, hops: &BTreeMap<&str, usize>, next: Option<&(usize, f64)>) -> Cause {
        let metric = &self.window.metrics[index];
        let evidence = self.evidence(index, hops);
        let summary = words::sentence(metric, &evidence, self.symptom());
        let doubt = self.doubt(index, score, next);
        Cause { service: metric.service.clone(), metric: metric.name.clone(), score, summary, doubt, evidence }
    }

    /// The strongest thing that speaks against a metric as the cause.
    fn doubt(&self, index: usize, score: f64, next: Option<&(usize, f64)>) -> String {
        let (metric, measure) = (&self.window.metrics[index], &self.measures[index]);
        if let Some(explained) = measure.explained.as_ref().filter(|explained| explained.share >= 0.5) {
            return words::explained(metric, &explained.by, explained.share);
        }
        if let Some((other, _)) = next.filter(|(other, _)| is_screened(self.window, index, *other)) {
            return words::screened(metric, &self.window.metrics[*other]);
        }
        match next.filter(|(_, other)| *other >= 0.5 * score && score > 0.0) {
            Some((other, _)) => words::rival(&self.window.metrics[*other]),
            None => String::new(),
        }
    }

    fn evidence(&self, index: usize, hops: &BTreeMap<&str, usize>) -> Vec<Evidence> {
        let (metric, measure) = (&self.window.metrics[index], &self.measures[index]);
        let mut evidence = Vec::new();
        if let Some((before, after, sigmas)) = measure.levels().filter(|(_, _, sigmas)| *sigmas != 0.0) {
            evidence.push(Evidence::Shift { before, after, sigmas });
            evidence.extend(self.seconds_to(measure.row).map(|seconds| Evidence::Onset { seconds }));
        }
        evidence.extend(measure.correlation.and_then(|found| self.correlation(found)));
        match hops.get(metric.service.as_str()) {
            Some(hops) => evidence.push(self.place(&metric.service, *hops)),
            None => evidence.extend(self.precedence(index)),
        }
        evidence.extend(self.nearest_change(&metric.service));
        evidence
    }

    /// Seconds from the onset to a row.
    fn seconds_to(&self, row: usize) -> Option<f64> {
        let times = &self.window.times;
        let at = times.get(row)?.as_secs_f64();
        Some(at - times.get(self.window.onset_row)?.as_secs_f64())
    }

    fn correlation(&self, found: Lagged) -> Option<Evidence> {
        let onset = self.window.onset_row;
        let lead_seconds = self.seconds_to(onset.saturating_add(found.lead)).unwrap_or(0.0);
        (found.r.abs() >= 0.5).then_some(Evidence::Correlation { r: found.r, lead_seconds })
    }

    /// How the symptom used to follow the metric, where that was worth a word.
    fn precedence(&self, index: usize) -> Option<Evidence> {
        let symptom = self.window.symptom.filter(|_| self.measures[index].is_unhealthy())?;
        let other = self.window.metrics.get(symptom)?.service != self.window.metrics[index].service;
        let before = |i: usize| measure::filled(&self.window.metrics[i], 0..self.window.onset_row);
        let found = follows(&before(index), &before(symptom)).filter(|_| other)?;
        let onset = self.window.onset_row;
        let lead_seconds = -self.seconds_to(onset.checked_sub(found.lead)?)?;
        Some(Evidence::Precedence { r: found.r, lead_seconds })
    }

    fn place(&self, service: &str, hops: usize) -> Evidence {
        let deepest = !self.graph.callees(service).any(|callee| self.unhealthy.contains(callee));
        Evidence::Topology { hops, deepest }
    }

    fn nearest_change(&self, service: &str) -> Option<Evidence> {
        let onset = self.window.times.get(self.window.onset_row)?.as_secs_f64();
        let changes = self.window.changes.iter().filter(|change| change.service == service);
        let nearest = changes.min_by(|a, b| {
            let distance = |at: f64| (onset - at).abs();
            distance(a.at.as_secs_f64()).total_cmp(&distance(b.at.as_secs_f64())).then_with(|| a.kind.cmp(&b.kind))
        })?;
        Some(Evidence::Change { change: nearest.kind.clone(), seconds_before: onset - nearest.at.as_secs_f64() })
    }
}

/// Whether a metric's tie with the symptom is all in what it shares with `other`, and not the other way round.
fn is_screened(window: &IncidentWindow, index: usize, other: usize) -> bool {
    let Some(symptom) = window.symptom.filter(|s| *s != index && *s != other) else { return false };
    let r = |a: usize, b: usize| measure::together(window, a, b);
    let (own, others, shared) = (r(index, symptom), r(other, symptom), r(index, other));
    own.abs() >= 0.5 && partial(own, shared, others).abs() < 0.2 && partial(others, shared, own).abs() >= 0.4
}

/// Probability that the first suspect is the cause: a logistic function of how far it moved and of how far it stands out
/// from the second.
///
/// # Source
/// Platt (1999); coefficients from `models/tests/reference/cause.py calibrate` over recorded faults of five systems.
fn confidence(causes: &[Cause]) -> f64 {
    let score = |i: usize| causes.get(i).map_or(0.0, |cause: &Cause| cause.score.max(0.0));
    let (first, second) = (score(0), score(1));
    if first == 0.0 {
        return 0.0;
    }
    let lead = (first.max(LEAST_SCORE) / second.max(LEAST_SCORE)).ln();
    1.0 / (1.0 + (-(INTERCEPT + WEIGHT_OF_LEAD * lead + WEIGHT_OF_SIZE * first.ln_1p())).exp())
}

fn abstention(causes: &[Cause], confidence: f64) -> Option<String> {
    let first = causes.first().map_or(0.0, |cause| cause.score);
    if first < UNHEALTHY {
        return Some("no metric left its usual level by more than three times its spread".to_owned());
    }
    (confidence < ABSTAIN_BELOW).then(|| "several services changed alike".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cause::{Change, Metric};
    use crate::series::Timestamp;

    fn metric(service: &str, name: &str, values: &[f64]) -> Metric {
        Metric { service: service.to_owned(), name: name.to_owned(), values: values.to_vec() }
    }

    fn window(metrics: Vec<Metric>, rows: usize, onset_row: usize) -> IncidentWindow {
        let times = (0..rows).map(|i| Timestamp::from_secs(i as i64 * 10)).collect();
        IncidentWindow { times, metrics, onset_row, ..IncidentWindow::default() }
    }

    fn step(level: f64, to: f64) -> Vec<f64> {
        (0..20).map(|i| if i < 12 { level + 0.01 * f64::from(i % 3) } else { to }).collect()
    }

    #[test]
    fn the_service_whose_level_moved_most_comes_first_with_its_evidence() {
        let mut window = window(
            vec![
                metric("web", "latency", &step(1.0, 2.0)),
                metric("db", "cpu", &step(0.2, 4.0)),
                metric("cart", "cpu", &step(0.2, 0.2)),
            ],
            20,
            12,
        );
        window.symptom = Some(0);
        window.calls = vec![("web".to_owned(), "db".to_owned())];
        window.changes =
            vec![Change { service: "db".to_owned(), kind: "deploy".to_owned(), at: Timestamp::from_secs(90) }];
        let ranking = rank(&window);
        let services: Vec<&str> = ranking.causes.iter().map(|c| c.service.as_str()).collect();
        assert_eq!(services, ["db", "web", "cart"]);
        let first = &ranking.causes[0];
        assert!(first.evidence.contains(&Evidence::Topology { hops: 1, deepest: true }), "{:?}", first.evidence);
        assert!(first.evidence.contains(&Evidence::Onset { seconds: 0.0 }));
        assert!(first.evidence.contains(&Evidence::Change { change: "deploy".to_owned(), seconds_before: 30.0 }));
        assert_eq!(ranking.metrics[0].0, 1);
        assert_eq!(ranking.abstained, None);
    }

    #[test]
    fn without_calls_what_the_symptom_used_to_follow_is_told_as_a_hint_that_weighs_nothing() {
        let load: Vec<f64> =
            (0..120).map(|i| 10.0 + crate::laws::noise(i) + if i < 100 { 0.0 } else { 30.0 }).collect();
        let late: Vec<f64> = (0..120).map(|i: usize| 2.0 * load[i.saturating_sub(2)]).collect();
        let mut window = IncidentWindow {
            symptom: Some(0),
            ..window(vec![metric("web", "latency", &late), metric("db", "queue", &load)], 120, 100)
        };
        let of_db =
            |ranking: &Ranking| ranking.causes.iter().find(|cause| cause.service == "db").expect("it moved").clone();
        let hinted = of_db(&rank(&window));
        let lead = |e: &Evidence| matches!(e, Evidence::Precedence { lead_seconds, .. } if *lead_seconds == 20.0);
        assert!(hinted.evidence.iter().any(lead), "{:?}", hinted.evidence);
        assert!(hinted.summary.contains("used to follow it by 20 s (learnt, a weak hint)"), "{}", hinted.summary);
        window.calls = vec![("web".to_owned(), "db".to_owned())];
        let told = of_db(&rank(&window));
        assert!(!told.evidence.iter().any(lead), "a call that is known needs no hint");
        window.calls = vec![("web".to_owned(), "cart".to_owned())];
        assert_eq!(of_db(&rank(&window)).score, hinted.score);
    }

    #[test]
    fn a_change_just_before_the_onset_decides_between_equals_and_overrules_no_evidence() {
        let mut window = window(
            vec![
                metric("cart", "cpu", &step(0.2, 1.0)),
                metric("db", "cpu", &step(0.2, 1.0)),
                metric("mail", "cpu", &step(0.2, 0.2)),
            ],
            20,
            12,
        );
        let changed = |service: &str, secs: i64| Change {
            service: service.to_owned(),
            kind: "deploy".to_owned(),
            at: Timestamp::from_secs(secs),
        };
        assert_eq!(rank(&window).causes[0].service, "cart", "equal but for the name");
        window.changes = vec![changed("db", 100), changed("mail", 119)];
        let services: Vec<String> = rank(&window).causes.into_iter().map(|c| c.service).collect();
        assert_eq!(services, ["db", "cart", "mail"]);
        window.changes = vec![changed("db", 190)];
        assert_eq!(rank(&window).causes[0].service, "cart", "what came after the onset did not cause it");
    }

    #[test]
    fn a_tie_with_the_symptom_is_screened_by_the_one_that_explains_it_and_not_the_other_way_round() {
        let values = |value: &dyn Fn(usize) -> f64| (0..40).map(value).collect::<Vec<f64>>();
        let base = |i: usize| if i < 30 { 0.0 } else { 2.0 } + ((i * 3) % 7) as f64 / 70.0;
        let symptom = values(&|i| base(i) + ((i * i) % 11) as f64 / 20.0);
        let follower = values(&|i| 3.0 * base(i) + ((i * i * i) % 13) as f64 / 4.0);
        let metrics = vec![
            metric("web", "latency", &symptom),
            metric("db", "cpu", &values(&base)),
            metric("cart", "cpu", &follower),
        ];
        let window = IncidentWindow { symptom: Some(0), ..window(metrics, 40, 30) };
        assert!(is_screened(&window, 2, 1));
        assert!(!is_screened(&window, 1, 2));
        assert!(!is_screened(&IncidentWindow { symptom: None, ..window }, 2, 1));
    }

    #[test]
    fn nothing_happened_is_an_abstention_with_a_reason() {
        let ranking = rank(&window(vec![metric("web", "cpu", &step(1.0, 1.0))], 20, 12));
        assert!(ranking.abstained.is_some());
        assert!(ranking.confidence < 0.1, "{}", ranking.confidence);
    }

    fn any_window() -> impl Strategy<Value = IncidentWindow> {
        let value = prop_oneof![
            4 => -10.0..10.0_f64,
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
            1 => Just(1e308),
            1 => Just(-1e308),
            1 => Just(0.0)
        ];
        let column = prop::collection::vec(value, 0..12);
        (prop::collection::vec(column, 0..6), 0..12_usize, 0..14_usize, prop::option::of(0..8_usize)).prop_map(
            |(columns, rows, onset_row, symptom)| {
                let metrics = columns
                    .iter()
                    .enumerate()
                    .map(|(i, values)| metric(&format!("s{}", i % 3), &format!("m{i}"), values))
                    .collect();
                let calls = vec![("s0".to_owned(), "s1".to_owned()), ("s1".to_owned(), "s0".to_owned())];
                IncidentWindow { symptom, calls, ..window(metrics, rows, onset_row) }
            },
        )
    }

    fn named(window: &IncidentWindow, ranking: &Ranking) -> Vec<String> {
        ranking
            .metrics
            .iter()
            .map(|(i, _)| format!("{}_{}", window.metrics[*i].service, window.metrics[*i].name))
            .collect()
    }

    proptest! {
        #[test]
        fn any_window_gives_a_whole_ranking_with_numbers_that_are_numbers(window in any_window()) {
            let ranking = rank(&window);
            prop_assert_eq!(ranking.metrics.len(), window.metrics.len());
            prop_assert!((0.0..=1.0).contains(&ranking.confidence));
            prop_assert!(ranking.causes.iter().all(|cause| cause.score.is_finite()));
            prop_assert!(ranking.metrics.iter().all(|(_, score)| score.is_finite()));
            prop_assert_eq!(serde_json::to_string(&ranking).unwrap(), serde_json::to_string(&rank(&window)).unwrap());
        }

        #[test]
        fn the_order_of_the_metrics_plays_no_part(window in any_window()) {
            let mut turned = window.clone();
            turned.metrics.reverse();
            turned.symptom = window.symptom.filter(|i| *i < window.metrics.len()).map(|i| window.metrics.len() - 1 - i);
            let (a, b) = (rank(&window), rank(&turned));
            prop_assert_eq!(named(&window, &a), named(&turned, &b));
            prop_assert_eq!(a.confidence, b.confidence);
            let services = |r: &Ranking| r.causes.iter().map(|c| c.service.clone()).collect::<Vec<_>>();
            prop_assert_eq!(services(&a), services(&b));
        }
    }
}
