//! A shop whose latency tells when the cart behind it breaks.

use std::time::Duration;

use bellwether_collector::store::{Batch, SeriesSamples};
use bellwether_models::detect::synthetic::Noise;
use bellwether_models::series::{Labels, Sample, Timestamp};

/// A quiet latency with a fault of ten minutes an hour before the end.
pub fn symptom(now: Timestamp, minutes: i64) -> Vec<(Timestamp, f64)> {
    let mut noise = Noise::new(7);
    let begin = now - Duration::from_secs(minutes as u64 * 60);
    let value = |minute: i64, noise: &mut Noise| {
        let quiet = 0.2 + 0.01 * noise.gaussian();
        if (minutes - 60..minutes - 50).contains(&minute) { quiet + 2.0 } else { quiet }
    };
    (0..=minutes).map(|m| (begin + Duration::from_secs(m as u64 * 60), value(m, &mut noise))).collect()
}

/// What is observed of the shop at `at`: with the latency rises the queue of what it calls.
pub fn batch(at: Timestamp, latency: f64) -> Batch {
    let one = |name: &str, service: &str, value: f64| SeriesSamples {
        labels: Labels::metric(name).with("service", service),
        samples: vec![Sample { at, value }],
    };
    let broken = latency > 1.0;
    vec![
        one("latency", "shop", latency),
        one("requests", "shop", 100.0),
        one("queue_length", "cart", if broken { 400.0 } else { 3.0 }),
        one("cpu", "cart", 0.4 + 0.01 * (latency - 0.2)),
    ]
}
