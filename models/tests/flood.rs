//! A storm: a hundred thousand anomalies within a minute, from many faults at once.

use bellwether_models::detect::Anomaly;
use bellwether_models::incident::{Grouping, Sighting, Topology, Tracker};
use bellwether_models::series::{Labels, Timestamp};

const FAULTS: usize = 40;
const SERVICES: usize = 25;
const SERIES: usize = 100;
const ROUNDS: usize = 12;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

/// Services of one fault, in a chain of calls; no call leads from one fault to another.
fn service(fault: usize, place: usize) -> String {
    format!("fault{fault:02}-s{place:02}")
}

fn sighting(fault: usize, place: usize, series: usize, now: i64) -> Sighting {
    let service = service(fault, place);
    let series = Labels::metric(&format!("metric_{series}")).with("service", &service);
    let (onset, last_seen) = (at(now), at(now));
    let symptom = place == 0;
    let anomaly = Anomaly { series, onset, last_seen, surprise: 6.0, kind: None, observed: 9.0, expected: 1.0 };
    Sighting { service, symptom, anomaly }
}

#[test]
fn a_hundred_thousand_anomalies_in_a_minute_lose_no_incident() {
    let chain = |fault: usize| (1..SERVICES).map(move |place| (service(fault, place - 1), service(fault, place)));
    let topology = Topology::new((0..FAULTS).flat_map(chain));
    let all: Vec<(usize, usize, usize)> = (0..SERIES)
        .flat_map(|series| (0..SERVICES).flat_map(move |place| (0..FAULTS).map(move |fault| (fault, place, series))))
        .collect();
    assert_eq!(all.len(), 100_000);
    let mut tracker = Tracker::default();
    for (round, part) in all.chunks(all.len().div_ceil(ROUNDS)).enumerate() {
        let now = round as i64 * 5;
        let seen: Vec<Sighting> =
            part.iter().map(|(fault, place, series)| sighting(*fault, *place, *series, now)).collect();
        tracker.observe(at(now), &seen, &topology, &Grouping::default());
    }
    let incidents = tracker.incidents();
    assert_eq!(incidents.len(), FAULTS, "one for each fault");
    for incident in incidents {
        assert_eq!(incident.services.len(), SERVICES, "whole: {:?}", incident.services);
        let fault = &incident.services[0][..7];
        assert!(incident.services.iter().all(|service| service.starts_with(fault)), "of one fault alone");
    }
}
