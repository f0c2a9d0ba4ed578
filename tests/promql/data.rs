//! Series with everything that makes PromQL hard: resets, gaps, late starts, early ends, staleness, NaN and infinities,
//! uneven times, colliding names, odd labels. Always the same.

use bellwether_collector::store::SeriesSamples;
use bellwether_models::series::{Labels, Sample, Timestamp, stale_marker};

/// First instant of the data, in milliseconds.
pub const START: i64 = 1_700_000_100_000;
/// Distance of most samples.
const INTERVAL: i64 = 15_000;
/// Most series have as many samples: two hours.
const COUNT: i64 = 480;

/// A small generator of pseudo-random numbers (xorshift64*, G. Marsaglia 2003): the same on every machine.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 33) % bound
    }

    /// Between 0 and 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

pub fn series() -> Vec<SeriesSamples> {
    [counters(), gauges(), histograms(), lives(), odd_values(), names()].concat()
}

fn labelled(name: &str, labels: &[(&str, &str)]) -> Labels {
    Labels::new([("__name__", name)].into_iter().chain(labels.iter().copied()))
}

fn at(index: i64) -> Timestamp {
    Timestamp::from_millis(START + index * INTERVAL)
}

fn sampled(labels: Labels, mut value: impl FnMut(i64) -> Option<f64>) -> SeriesSamples {
    let samples = (0..COUNT).filter_map(|index| value(index).map(|value| Sample { at: at(index), value })).collect();
    SeriesSamples { labels, samples }
}

/// Requests by method and code; some restart, all are scraped a few milliseconds off.
fn counters() -> Vec<SeriesSamples> {
    let mut all = Vec::new();
    for (i, instance) in ["a:80", "b:80", "c:80"].into_iter().enumerate() {
        for (j, (method, code)) in
            [("GET", "200"), ("GET", "500"), ("POST", "200"), ("POST", "404")].into_iter().enumerate()
        {
            let mut dice = Dice::new((i * 10 + j) as u64 + 1);
            let mut total = if j == 1 { 0.0 } else { (dice.below(100_000)) as f64 };
            let labels = [("job", "web"), ("instance", instance), ("method", method), ("code", code)];
            let mut one = sampled(labelled("http_requests_total", &labels), |_| {
                total = if i == 1 && dice.below(90) == 0 { 0.0 } else { total + dice.below(20 + 10 * j as u64) as f64 };
                Some(total)
            });
            for sample in &mut one.samples {
                sample.at = Timestamp::from_millis(sample.at.as_millis() + (dice.below(41) as i64 - 20));
            }
            all.push(one);
        }
    }
    all
}

/// Levels that wander: memory, a temperature below zero, a share with gaps, a load without labels.
fn gauges() -> Vec<SeriesSamples> {
    let mut all = Vec::new();
    for (i, instance) in ["a:80", "b:80", "c:80"].into_iter().enumerate() {
        let mut dice = Dice::new(100 + i as u64);
        let mut level = 1e9 * (i + 1) as f64;
        all.push(sampled(labelled("memory_bytes", &[("job", "web"), ("instance", instance)]), |_| {
            level += (dice.share() - 0.5) * 3e7;
            Some(level.round())
        }));
        let limit = 4e9 + i as f64;
        all.push(sampled(labelled("memory_limit_bytes", &[("job", "web"), ("instance", instance)]), |_| Some(limit)));
        let mut degrees = -3.0;
        all.push(sampled(labelled("temperature", &[("instance", instance), ("Zone", "Nord")]), |_| {
            degrees += dice.share() - 0.5;
            Some(degrees)
        }));
        let gap = 60 + 40 * i as i64..140 + 30 * i as i64;
        all.push(sampled(labelled("usage_ratio", &[("job", "db"), ("instance", instance)]), |index| {
            (!gap.contains(&index) && dice.below(9) > 0).then(|| dice.share())
        }));
    }
    let mut dice = Dice::new(150);
    all.push(sampled(labelled("load", &[]), |_| Some(dice.share() * 8.0)));
    all
}

/// Latency in buckets: one instance whole, one that restarts, one whose buckets disagree, one without `+Inf`.
fn histograms() -> Vec<SeriesSamples> {
    let bounds = ["0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf"];
    let mut all = Vec::new();
    for (i, instance) in ["a:80", "b:80", "c:80", "d:80"].into_iter().enumerate() {
        let mut dice = Dice::new(200 + i as u64);
        let (mut counts, mut sum) = ([0.0; 7], 0.0);
        let mut rows = vec![Vec::new(); 9];
        for index in 0..COUNT {
            if i == 1 && index == 200 {
                (counts, sum) = ([0.0; 7], 0.0);
            }
            for _ in 0..dice.below(12) {
                let latency = dice.share().powi(3) * 3.0;
                sum += latency;
                for (count, bound) in counts.iter_mut().zip([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, f64::INFINITY]) {
                    *count += f64::from(latency <= bound);
                }
            }
            for (row, count) in rows.iter_mut().zip(counts) {
                let disagreeing = f64::from(u8::from(i == 2 && dice.below(4) == 0));
                row.push(Sample { at: at(index), value: count - disagreeing });
            }
            rows[7].push(Sample { at: at(index), value: sum });
            rows[8].push(Sample { at: at(index), value: counts[6] });
        }
        let base = [("job", "web"), ("instance", instance)];
        for (bound, samples) in bounds.iter().zip(&rows).filter(|(bound, _)| i != 3 || **bound != "+Inf") {
            let labels = labelled("latency_seconds_bucket", &base).with("le", bound);
            all.push(SeriesSamples { labels, samples: samples.clone() });
        }
        all.push(SeriesSamples { labels: labelled("latency_seconds_sum", &base), samples: rows[7].clone() });
        all.push(SeriesSamples { labels: labelled("latency_seconds_count", &base), samples: rows[8].clone() });
    }
    all
}

/// Series that come and go: stale and back, late, early, sparse, and versions that follow each other.
fn lives() -> Vec<SeriesSamples> {
    let mut all = Vec::new();
    all.push(sampled(labelled("up", &[("job", "web"), ("instance", "a:80")]), |index| match index {
        100 | 250 => Some(stale_marker()),
        101..=110 | 251..=299 => None,
        _ => Some(f64::from(index % 50 > 5)),
    }));
    all.push(sampled(labelled("up", &[("job", "web"), ("instance", "b:80")]), |_| Some(1.0)));
    all.push(sampled(labelled("up", &[("job", "db"), ("instance", "c:80")]), |index| {
        (index < 200).then(|| f64::from(index % 7 > 0))
    }));
    for (version, lifetime) in [("1.0", 0..160), ("1.1", 160..330), ("2.0", 330..COUNT)] {
        let end = lifetime.end;
        all.push(sampled(labelled("build_info", &[("job", "web"), ("version", version)]), |index| {
            if lifetime.contains(&index) { Some(1.0) } else { (index == end).then(stale_marker) }
        }));
    }
    all.push(sampled(labelled("late_total", &[("job", "web")]), |index| {
        (index >= 240).then_some((index - 240) as f64 * 1.5)
    }));
    all.push(sampled(labelled("early_total", &[("job", "web")]), |index| (index <= 120).then_some(index as f64 * 2.5)));
    all.push(sampled(labelled("sparse", &[("every", "4m")]), |index| (index % 16 == 3).then_some(index as f64)));
    all.push(sampled(labelled("sparse", &[("every", "7m")]), |index| (index % 28 == 5).then_some(-(index as f64))));
    all.push(sampled(labelled("sparse", &[("every", "once")]), |index| (index == 222).then_some(42.5)));
    all
}

/// Values at the edges of what a float can be.
fn odd_values() -> Vec<SeriesSamples> {
    let cycle = [1.0, f64::NAN, 2.0, f64::INFINITY, -1.0, f64::NEG_INFINITY, 0.0, -0.0, 1e300, 1e-300, 3.5];
    vec![
        sampled(labelled("odd", &[("kind", "mixed")]), |index| Some(cycle[(index % 11) as usize])),
        sampled(labelled("odd", &[("kind", "nan")]), |_| Some(f64::NAN)),
        sampled(labelled("odd", &[("kind", "inf")]), |_| Some(f64::INFINITY)),
        sampled(labelled("odd", &[("kind", "tiny")]), |index| Some(index as f64 * 1e-12)),
        sampled(labelled("odd", &[("kind", "huge")]), |index| Some(1e22 + index as f64 * 1e20)),
        sampled(labelled("odd", &[("kind", "constant")]), |_| Some(0.1)),
        sampled(labelled("epoch_seconds", &[("when", "now")]), |index| Some((START / 1000 + index * 15) as f64)),
        sampled(labelled("epoch_seconds", &[("when", "past")]), |index| Some(-1e9 + index as f64 * 1e6 + 0.9)),
        sampled(labelled("epoch_seconds", &[("when", "leap")]), |index| Some(1_709_164_800.0 + index as f64 * 3601.0)),
    ]
}

/// Names that collide once the metric's name is gone, and labels that need care.
fn names() -> Vec<SeriesSamples> {
    let mut all = Vec::new();
    for (name, factor) in [("first_total", 1.0), ("second_total", 3.0)] {
        for shard in ["0", "1", "2"] {
            let labels = labelled(name, &[("shard", shard), ("job", "web")]);
            let start: f64 = shard.parse().expect("a digit");
            all.push(sampled(labels, move |index| Some(start * 7.0 + factor * index as f64)));
        }
    }
    let odd = [("path", "/a \"quoted\" \\ path"), ("text", "zwei\nZeilen")];
    all.push(sampled(labelled("labels_total", &[odd[0], odd[1]]), |index| Some(index as f64)));
    all.push(sampled(labelled("labels_total", &[("path", "日本語"), ("_under", "1")]), |index| {
        Some(2.0 * index as f64)
    }));
    all.push(sampled(labelled("job:memory:sum", &[("job", "web")]), |index| Some(index as f64 / 3.0)));
    for (team, service) in [("blue", "a:80"), ("blue", "b:80"), ("red", "c:80")] {
        all.push(sampled(labelled("owner", &[("instance", service), ("team", team), ("job", "web")]), |_| Some(1.0)));
    }
    all
}
