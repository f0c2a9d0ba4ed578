use bellwether_models::cause::{Cause, Ranking};
use proptest::prelude::*;

use super::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

fn config() -> AlertsConfig {
    AlertsConfig {
        alertmanagers: vec!["http://a:9093/".to_owned(), "http://b:9093".to_owned()],
        external_url: Some("https://bellwether.example/".to_owned()),
        runbooks: BTreeMap::from([("shop".to_owned(), "https://wiki/shop".to_owned())]),
        ..AlertsConfig::default()
    }
}

fn cause(service: &str) -> Cause {
    Cause {
        service: service.to_owned(),
        metric: "latency".to_owned(),
        score: 1.0,
        evidence: Vec::new(),
        summary: "latency rose from 0.2 to 4.1".to_owned(),
        doubt: "it is called by everybody".to_owned(),
    }
}

fn incident(id: &str) -> Incident {
    let causes = ["db", "cart", "node", "mail"].map(cause).to_vec();
    let text = serde_json::json!({
        "id": id, "workload": "shop", "status": "open", "onset": at(-60), "opened_at": at(0), "updated_at": at(0),
        "resolved_at": null, "anomalies": [], "ranking": Ranking { causes, confidence: 0.83, ..Ranking::default() },
        "severity": "critical", "services": ["shop", "db"], "merged_into": null
    });
    serde_json::from_value(text).expect("an incident")
}

fn resolved(id: &str, secs: i64) -> Incident {
    Incident { status: Status::Resolved, resolved_at: Some(at(secs)), updated_at: at(secs), ..incident(id) }
}

/// Answers everything that is due; returns the alerts the first member got.
fn exchange(notifier: &mut Notifier, now: Timestamp, up: bool) -> Vec<Alert> {
    let deliveries = notifier.poll(now);
    for delivery in &deliveries {
        notifier.on_answer(now, delivery, up);
    }
    deliveries.into_iter().filter(|d| d.member == 0).flat_map(|d| d.alerts).collect()
}

#[test]
fn an_incident_is_one_alert_with_its_first_three_causes() {
    let alert = alert::of(&incident("i/1"), &config());
    let text = serde_json::to_string_pretty(&alert).expect("json");
    assert_eq!(
        text,
        r#"{
  "labels": {
    "alertname": "BellwetherIncident",
    "incident": "i/1",
    "severity": "warning",
    "workload": "shop"
  },
  "annotations": {
    "affected": "shop, db",
    "cause_1": "db (latency): latency rose from 0.2 to 4.1",
    "cause_2": "cart (latency): latency rose from 0.2 to 4.1",
    "cause_3": "node (latency): latency rose from 0.2 to 4.1",
    "confidence": "0.83",
    "description": "Since 2023-11-14T22:12:20Z: 0 symptoms of shop out of line.\n1. db (latency): latency rose from 0.2 to 4.1\n2. cart (latency): latency rose from 0.2 to 4.1\n3. node (latency): latency rose from 0.2 to 4.1",
    "doubt": "it is called by everybody",
    "impact": "critical",
    "runbook_url": "https://wiki/shop",
    "summary": "shop is ill; most likely cause: latency of db"
  },
  "startsAt": "2023-11-14T22:12:20Z",
  "generatorURL": "https://bellwether.example/incidents/i%2F1"
}"#
    );
    assert_eq!(serde_json::from_str::<Alert>(&text).expect("readable"), alert);
}

#[test]
fn a_firing_alert_is_sent_at_once_and_again_so_that_it_stays_alive() {
    let mut notifier = Notifier::new(config(), Memory::default());
    notifier.on_incidents(at(0), &[incident("1")]);
    let first = exchange(&mut notifier, at(0), true);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].ends_at, None);
    assert!(exchange(&mut notifier, at(59), true).is_empty());
    assert_eq!(exchange(&mut notifier, at(60), true), first);
}

#[test]
fn every_member_of_the_cluster_gets_every_alert() {
    let mut notifier = Notifier::new(config(), Memory::default());
    notifier.on_incidents(at(0), &[incident("1")]);
    let urls: Vec<String> = notifier.poll(at(0)).into_iter().map(|d| d.url).collect();
    assert_eq!(urls, ["http://a:9093", "http://b:9093"]);
}

#[test]
fn a_new_ranking_is_news_under_the_same_identity() {
    let mut notifier = Notifier::new(config(), Memory::default());
    notifier.on_incidents(at(0), &[incident("1")]);
    let before = exchange(&mut notifier, at(0), true);
    let mut later = incident("1");
    later.updated_at = at(5);
    later.ranking.causes.swap(0, 1);
    notifier.on_incidents(at(5), &[later]);
    let after = exchange(&mut notifier, at(5), true);
    assert_eq!(before[0].labels, after[0].labels);
    assert_ne!(before[0].annotations, after[0].annotations);
}

#[test]
fn the_end_is_repeated_for_five_minutes_then_forgotten() {
    let mut notifier = Notifier::new(config(), Memory::default());
    notifier.on_incidents(at(0), &[incident("1")]);
    exchange(&mut notifier, at(0), true);
    let mut ends = Vec::new();
    for secs in (10..600).step_by(10) {
        notifier.on_incidents(at(secs), &[resolved("1", 10)]);
        ends.extend(exchange(&mut notifier, at(secs), true).into_iter().map(|a| (secs, a.ends_at)));
    }
    let expected: Vec<_> = [10, 70, 130, 190, 250].map(|secs| (secs, Some(at(10)))).to_vec();
    assert_eq!(ends, expected);
    assert!(notifier.status().is_empty());
}

#[test]
fn an_incident_that_vanishes_has_ended() {
    let mut notifier = Notifier::new(config(), Memory::default());
    notifier.on_incidents(at(0), &[incident("1")]);
    exchange(&mut notifier, at(0), true);
    notifier.on_incidents(at(30), &[]);
    assert_eq!(exchange(&mut notifier, at(30), true)[0].ends_at, Some(at(30)));
}

#[test]
fn a_member_that_is_down_is_tried_again_with_growing_waits_and_misses_nothing() {
    let mut notifier = Notifier::new(config(), Memory::default());
    notifier.on_incidents(at(0), &[incident("1")]);
    let tries: Vec<i64> = (0..40).filter(|secs| !exchange(&mut notifier, at(*secs), false).is_empty()).collect();
    assert_eq!(tries, [0, 1, 3, 7, 15, 31]);
    notifier.on_incidents(at(50), &[resolved("1", 50)]);
    assert_eq!(exchange(&mut notifier, at(63), true)[0].ends_at, Some(at(50)), "it hears of the end");
}

#[test]
fn what_fired_before_a_restart_and_ended_meanwhile_is_ended_after_it() {
    let mut before = Notifier::new(config(), Memory::default());
    before.on_incidents(at(0), &[incident("1"), incident("2")]);
    exchange(&mut before, at(0), true);
    let kept = serde_json::to_string(&before.memory()).expect("json");
    let mut after = Notifier::new(config(), serde_json::from_str(&kept).expect("json"));
    after.on_incidents(at(100), &[resolved("1", 60), incident("2")]);
    let sent = exchange(&mut after, at(100), true);
    let ends: Vec<_> = sent.iter().map(|a| a.ends_at).collect();
    assert_eq!(ends, [Some(at(60)), None]);
}

#[test]
fn an_incident_that_was_over_before_we_came_is_no_news() {
    let mut notifier = Notifier::new(config(), Memory::default());
    assert!(!notifier.on_incidents(at(0), &[resolved("1", -100)]));
    assert!(notifier.poll(at(0)).is_empty());
}

proptest! {
    /// Incidents come and go, the member is up or down: whenever it is up for long enough, it knows the truth.
    #[test]
    fn a_member_that_answers_in_the_end_knows_what_fires(
        story in prop::collection::vec((prop::collection::vec(any::<bool>(), 3), any::<bool>()), 1..40)
    ) {
        let mut notifier = Notifier::new(config(), Memory::default());
        let mut known: BTreeMap<String, bool> = BTreeMap::new();
        let calm = story.last().map(|(open, _)| (open.clone(), true)).into_iter();
        let days = story.iter().cloned().chain(calm.cycle().take(40));
        let mut last = Vec::new();
        for (i, (open, up)) in days.enumerate() {
            let now = at(10 * i as i64);
            let open_now = open.iter().enumerate().filter(|(_, open)| **open);
            let incidents: Vec<Incident> = open_now.map(|(id, _)| incident(&id.to_string())).collect();
            notifier.on_incidents(now, &incidents);
            for alert in exchange(&mut notifier, now, up).into_iter().filter(|_| up) {
                known.insert(alert.labels["incident"].clone(), alert.ends_at.is_none());
            }
            last = incidents;
        }
        let firing: Vec<&String> = known.iter().filter(|(_, firing)| **firing).map(|(id, _)| id).collect();
        let truth: Vec<&String> = last.iter().map(|i| &i.id).collect();
        prop_assert_eq!(firing, truth);
    }
}
