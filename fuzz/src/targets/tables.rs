//! CSV of the offline commands.

use std::io::Write;

use bellwether::table;

use super::choice;

/// A table is refused or its series are whole: a value for each time, and a grid no longer than promised.
pub fn tables(bytes: &[u8]) {
    let (first, text) = choice(bytes);
    let suffix = if first & 1 == 0 { ".csv" } else { ".csv.gz" };
    let mut file = tempfile::Builder::new().suffix(suffix).tempfile().expect("a file");
    file.write_all(text).expect("it can be written");
    let Ok(all) = table::read_series(file.path()) else { return };
    for series in all {
        assert_eq!(series.times.len(), series.values.len());
        let Ok(window) = series.window() else { continue };
        assert!(window.values.len() <= series.times.len() * 100);
        let finite = |values: &[f64]| values.iter().filter(|value| value.is_finite()).count();
        assert!(finite(&window.values) <= finite(&series.values));
    }
}
