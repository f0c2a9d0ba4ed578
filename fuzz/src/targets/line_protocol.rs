//! Influx line protocol.

use bellwether_collector::source::line_protocol::{Points, Precision, read};

use super::choice;
use super::door::{Door, NOW, flat};

/// Bad lines are named by number; good ones given twice are read twice; the endpoint keeps what the reader reads.
pub fn line_protocol(bytes: &[u8]) {
    let (first, body) = choice(bytes);
    let name = PRECISIONS[usize::from(first) % PRECISIONS.len()];
    let precision = Precision::by_name(name).expect("a known precision");
    let points = read(body, precision, NOW);
    let lines = body.split(|byte| *byte == b'\n').count();
    assert!(points.errors.iter().all(|error| (1..=lines).contains(&error.line)), "{:?}", points.errors);
    assert!(points.good_lines + points.errors.len() <= lines);
    assert!(points.batch.iter().flat_map(|series| &series.samples).all(|sample| sample.value.is_finite()));
    if points.errors.is_empty() {
        let again = read(&[body, b"\n", body].concat(), precision, NOW);
        assert_eq!(again, doubled(&points));
    }
    posted(name, body, points);
}

const PRECISIONS: [&str; 6] = ["ns", "us", "ms", "s", "m", "h"];

fn doubled(points: &Points) -> Points {
    Points {
        batch: [points.batch.clone(), points.batch.clone()].concat(),
        text_fields: 2 * points.text_fields,
        good_lines: 2 * points.good_lines,
        errors: Vec::new(),
    }
}

fn posted(precision: &str, body: &[u8], points: Points) {
    let door = Door::new();
    let (status, text) = door.post(&format!("/api/v2/write?precision={precision}"), &[], body.to_vec());
    let (read, kept) = (flat(points.batch), door.kept());
    assert!(kept.iter().all(|sample| read.binary_search(sample).is_ok()), "kept {kept:?}, read {read:?}");
    if status.is_success() {
        assert!(points.errors.is_empty(), "{text}");
        assert!(read.iter().all(|sample| kept.binary_search(sample).is_ok()), "kept {kept:?}, read {read:?}");
    }
}
