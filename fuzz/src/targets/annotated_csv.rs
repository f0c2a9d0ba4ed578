//! The annotated CSV in which an InfluxDB answers.

use bellwether_collector::store::SeriesSamples;
use bellwether_collector::store::influx::read;

const LIMIT: usize = 64;

/// An answer is refused, or holds no more samples than allowed; cut after any row, it is refused or has no sample that the
/// whole has not.
pub fn annotated_csv(bytes: &[u8]) {
    let Ok(whole) = read(bytes, LIMIT) else { return };
    let flat = |all: Vec<SeriesSamples>| all.iter().map(|series| series.samples.len()).sum::<usize>();
    let count = |bytes: &[u8]| read(bytes, LIMIT).ok().map(flat);
    let samples = flat(whole);
    assert!(samples <= LIMIT);
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').take(16) {
        assert!(count(&bytes[..=at]).is_none_or(|kept| kept <= samples));
    }
}
