use bellwether_models::cause::{Cause, Ranking};
use bellwether_models::incident::{Incident, Maintenance, Said, Status, Word};
use proptest::prelude::*;

use super::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

fn config() -> AlertsConfig {
    AlertsConfig {
        alertmanagers: vec!["http://a:9093/".to_owned(), "http://b:9093".to_owned()],
        external_url: Some("https://bellwether.example/".to_owned()),
        runbooks: vec![config::Runbook {
            workload: Some("shop".to_owned()),
            url: "https://wiki/shop".to_owned(),
            ..config::Runbook::default()
        }],
        ..AlertsConfig::default()
    }
}

/// One chat and one pager.
fn people_only() -> AlertsConfig {
    let (url_file, routing_key_file) = ("chat".into(), "key".into());
    AlertsConfig {
        slack: vec![config::SlackConfig { name: "ops".to_owned(), url_file }],
        pagerduty: vec![config::PagerDutyConfig {
            name: "on-call".to_owned(),
            routing_key_file,
            url: "https://events.example".to_owned(),
        }],
        ..AlertsConfig::default()
    }
}

fn notices(incidents: &[Incident], people: &People) -> Vec<Notice> {
    incidents.iter().map(|i| Notice::of(i, &people.standing(&i.id), &[], &config())).collect()
}

impl Notifier {
    fn on_incidents(&mut self, now: Timestamp, incidents: &[Incident]) -> bool {
        self.on_notices(now, &notices(incidents, &People::default()), &People::default())
    }

    fn hears(&mut self, now: Timestamp, incidents: &[Incident], people: &People) {
        self.on_notices(now, &notices(incidents, people), people);
    }
}

fn word(number: usize, said: Said, secs: i64) -> Word {
    let (id, by, note) = (format!("w-{number}"), "kim".to_owned(), String::new());
    Word { id, at: at(secs), by, incident: "1".to_owned(), said, note }
}

fn alerts_in(delivery: &Delivery) -> Vec<Alert> {
    serde_json::from_value(delivery.body.clone()).expect("alerts")
}

/// What each receiver is sent, as one word each: the kind of receiver and what it is told.
fn told(notifier: &mut Notifier, now: Timestamp) -> Vec<String> {
    let mut words = Vec::new();
    for delivery in notifier.poll(now) {
        let word = match &delivery.target.way {
            Way::PagerDuty { .. } => delivery.body["event_action"].as_str().expect("an action").to_owned(),
            Way::Slack { .. } => {
                let text = delivery.body["text"].as_str().expect("a text");
                text.chars().take_while(|c| *c != ' ').collect()
            }
            _ => String::new(),
        };
        words.push(word);
        notifier.on_answer(now, &delivery, Answer::Delivered);
    }
    words
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
        let answer = if up { Answer::Delivered } else { Answer::Failed { retry_after: None } };
        notifier.on_answer(now, delivery, answer);
    }
    deliveries.iter().filter(|d| d.target.key == "alertmanager http://a:9093").flat_map(alerts_in).collect()
}

#[test]
fn an_incident_is_one_alert_with_its_first_three_causes() {
    let notice = Notice::of(&incident("i/1"), &Default::default(), &[], &config());
    let alert = Alert::of(&notice, &alert::labels(&notice, &config()));
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
    let keys: Vec<String> = notifier.poll(at(0)).into_iter().map(|d| d.target.key).collect();
    assert_eq!(keys, ["alertmanager http://a:9093", "alertmanager http://b:9093"]);
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

#[test]
fn a_chat_hears_each_piece_of_news_once_and_a_reminder_until_somebody_takes_it_on() {
    let mut notifier = Notifier::new(people_only(), Memory::default());
    let mut people = People::default();
    let hour = 3600;
    let mut heard = |secs: i64, incident: Incident, people: &People| {
        notifier.hears(at(secs), &[incident], people);
        told(&mut notifier, at(secs))
    };
    assert_eq!(heard(0, incident("1"), &people), ["[critical]", "trigger"]);
    assert!(heard(15, incident("1"), &people).is_empty());
    let mut grown = incident("1");
    grown.services.push("mail".to_owned());
    assert!(heard(30, grown.clone(), &people).is_empty(), "one more service is for the page to show");
    grown.ranking.causes.swap(0, 1);
    assert_eq!(heard(45, grown.clone(), &people), ["[critical]", "trigger"], "another first suspect is news");
    assert_eq!(heard(45 + 4 * hour, grown.clone(), &people), ["[critical]"], "a pager reminds by itself");
    people.words.push(word(1, Said::Acknowledged, 5 * hour));
    assert_eq!(heard(5 * hour, grown.clone(), &people), ["[acknowledged]", "acknowledge"]);
    assert!(heard(20 * hour, grown, &people).is_empty(), "no reminder of what somebody looks after");
    assert_eq!(heard(21 * hour, resolved("1", 21 * hour), &people), ["[over]", "resolve"]);
    assert!(heard(21 * hour + 60, resolved("1", 21 * hour), &people).is_empty());
}

#[test]
fn a_false_alarm_ends_the_alert_and_taking_that_back_fires_it_again() {
    let mut notifier = Notifier::new(config(), Memory::default());
    let mut people = People::default();
    notifier.hears(at(0), &[incident("1")], &people);
    exchange(&mut notifier, at(0), true);
    people.words.push(word(1, Said::FalseAlarm, 20));
    notifier.hears(at(30), &[incident("1")], &people);
    let ended = exchange(&mut notifier, at(30), true);
    assert_eq!((ended[0].ends_at, ended[0].annotations["remark"].as_str()), (Some(at(20)), "a false alarm, says kim"));
    notifier.hears(at(900), &[incident("1")], &people);
    assert!(notifier.status().is_empty(), "told and forgotten, though the incident still lasts");
    people.words.push(word(2, Said::TakenBack { word: "w-1".to_owned() }, 950));
    notifier.hears(at(960), &[incident("1")], &people);
    assert_eq!(exchange(&mut notifier, at(960), true)[0].ends_at, None);
}

#[test]
fn maintenance_opens_no_alert_but_lets_what_outlasts_it_through() {
    let mut notifier = Notifier::new(config(), Memory::default());
    let services = vec!["shop".to_owned(), "db".to_owned()];
    let (id, by, note) = ("m-1".to_owned(), "kim".to_owned(), String::new());
    let maintenance = Maintenance { id, at: at(0), by, from: at(10), to: at(100), services, note, ended: None };
    let people = People { maintenance: vec![maintenance], ..People::default() };
    let before = Incident { services: vec!["db".to_owned()], ..incident("before") };
    notifier.hears(at(0), std::slice::from_ref(&before), &people);
    assert_eq!(exchange(&mut notifier, at(0), true).len(), 1);
    let short = resolved("short", 50);
    let all = [before.clone(), incident("long"), incident("short")];
    notifier.hears(at(20), &all, &people);
    assert!(exchange(&mut notifier, at(20), true).is_empty(), "both new ones are held back");
    assert_eq!(
        notifier.status().iter().filter(|s| s.held_by.as_deref() == Some("m-1")).count(),
        2,
        "and shown as such"
    );
    notifier.hears(at(60), &[before.clone(), incident("long"), short.clone()], &people);
    let repeated = exchange(&mut notifier, at(60), true);
    assert_eq!(repeated.len(), 1, "what fired before goes on");
    let stranger = Incident { services: vec!["shop".to_owned(), "mail".to_owned()], ..incident("stranger") };
    notifier.hears(at(70), &[before.clone(), incident("long"), stranger.clone()], &people);
    assert_eq!(exchange(&mut notifier, at(70), true)[0].labels["incident"], "stranger", "mail was not announced");
    notifier.hears(at(100), &[before, incident("long"), short, stranger], &people);
    let after: Vec<String> =
        exchange(&mut notifier, at(100), true).iter().map(|a| a.labels["incident"].clone()).collect();
    assert_eq!(after, ["long"], "it outlasted the maintenance; the short one is over");
}

#[test]
fn a_restart_repeats_nothing_to_people_and_drops_nothing_that_was_not_delivered() {
    let mut before = Notifier::new(people_only(), Memory::default());
    before.on_incidents(at(0), &[incident("1"), incident("2")]);
    let first = before.poll(at(0)).remove(0);
    assert_eq!((first.target.key.as_str(), first.ids.as_slice()), ("slack ops", ["1".to_owned()].as_slice()));
    assert!(before.on_answer(at(0), &first, Answer::Delivered), "to be kept");
    let kept = serde_json::to_string(&before.memory()).expect("json");
    let mut after = Notifier::new(people_only(), serde_json::from_str(&kept).expect("json"));
    after.on_incidents(at(30), &[incident("1"), incident("2")]);
    let due: Vec<(String, String)> = after.poll(at(30)).into_iter().map(|d| (d.target.key, d.ids.join(","))).collect();
    let expected = [("slack ops", "2"), ("pagerduty on-call", "1")];
    assert_eq!(due, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[test]
fn a_receiver_that_is_new_hears_of_what_lasts_and_not_of_what_is_over() {
    let mut notifier = Notifier::new(config(), Memory::default());
    notifier.on_incidents(at(0), &[incident("1"), incident("2")]);
    exchange(&mut notifier, at(0), true);
    notifier.on_incidents(at(10), &[resolved("1", 10), incident("2")]);
    exchange(&mut notifier, at(10), true);
    notifier.follow(AlertsConfig { alertmanagers: config().alertmanagers, ..people_only() });
    let to_chat: Vec<Delivery> = notifier.poll(at(20)).into_iter().filter(|d| d.target.key == "slack ops").collect();
    assert_eq!(to_chat[0].ids, ["2"]);
    notifier.on_answer(at(20), &to_chat[0], Answer::Delivered);
    assert!(notifier.poll(at(20)).iter().all(|d| d.target.key != "slack ops"));
}

#[test]
fn a_reload_with_other_labels_keeps_the_identity_of_what_fires() {
    let mut notifier = Notifier::new(config(), Memory::default());
    notifier.on_incidents(at(0), &[incident("1")]);
    let before = exchange(&mut notifier, at(0), true);
    let labels = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
    notifier.follow(AlertsConfig { labels, ..config() });
    notifier.on_incidents(at(60), &[incident("1")]);
    assert_eq!(exchange(&mut notifier, at(60), true)[0].labels, before[0].labels);
}

#[test]
fn a_receiver_that_asks_for_a_pause_gets_it_and_one_that_refuses_is_not_asked_again() {
    let mut notifier = Notifier::new(people_only(), Memory::default());
    notifier.on_incidents(at(0), &[incident("1")]);
    let [chat, pager] = notifier.poll(at(0)).try_into().expect("two deliveries");
    notifier.on_answer(at(0), &chat, Answer::Failed { retry_after: Some(Duration::from_secs(40)) });
    notifier.on_answer(at(0), &pager, Answer::Refused);
    assert!(notifier.poll(at(39)).is_empty());
    assert_eq!(notifier.poll(at(40)).into_iter().map(|d| d.target.key).collect::<Vec<_>>(), ["slack ops"]);
}

#[test]
fn beyond_the_bound_incidents_wait_for_room_and_are_not_lost() {
    let mut notifier = Notifier::new(AlertsConfig { most_alerts: 2, ..config() }, Memory::default());
    let all: Vec<Incident> = (1..=3).map(|i| incident(&i.to_string())).collect();
    notifier.on_incidents(at(0), &all);
    assert_eq!(exchange(&mut notifier, at(0), true).len(), 2);
    let over = |i: usize| resolved(&all[i].id, 10);
    notifier.on_incidents(at(10), &[over(0), all[1].clone(), all[2].clone()]);
    exchange(&mut notifier, at(10), true);
    exchange(&mut notifier, at(310), true);
    notifier.on_incidents(at(311), &[over(0), all[1].clone(), all[2].clone()]);
    notifier.on_incidents(at(312), &[over(0), all[1].clone(), all[2].clone()]);
    let last = exchange(&mut notifier, at(312), true);
    assert_eq!(last.iter().map(|a| a.labels["incident"].as_str()).collect::<Vec<_>>(), ["3"]);
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
