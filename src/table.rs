//! Reads the tables people keep their metrics in: CSV, gzipped or not, one series, many in long form, or wide.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bellwether_models::series::{Timestamp, Window};
use flate2::read::MultiGzDecoder;

/// A table of numbers over time: the first column is the time, each other column a series.
#[derive(Debug, Clone)]
pub struct Table {
    /// The file it was read from.
    pub path: PathBuf,
    /// Time of each row.
    pub times: Vec<Timestamp>,
    /// The same as it stood in the file.
    pub time_texts: Vec<String>,
    /// Names of the value columns.
    pub names: Vec<String>,
    /// Values, shape `[names.len()][times.len()]`; an empty cell is NaN.
    pub columns: Vec<Vec<f64>>,
}

/// One series with its observations in order of the file.
#[derive(Debug, Clone)]
pub struct NamedSeries {
    /// Its name: the column's, the id's, or the file's stem.
    pub name: String,
    /// Times of its rows.
    pub times: Vec<Timestamp>,
    /// Values of its rows; NaN for an empty cell.
    pub values: Vec<f64>,
}

impl NamedSeries {
    /// The regular grid this series lies on, as [`Window::from_rows`] finds it.
    ///
    /// # Errors
    /// When it lies on none.
    pub fn window(&self) -> anyhow::Result<Window> {
        let window = Window::from_rows(&self.times, &self.values);
        window.with_context(|| format!("series {:?} lies on no regular grid", self.name))
    }
}

/// Reads the time column and every value column of a table that is not in long form. A column named `label` is never
/// read, and where a column is named `value` it is the only one that is.
///
/// # Errors
/// When the file cannot be read or a cell is not what its column needs; the message names file, line and column.
pub fn read(path: &Path) -> anyhow::Result<Table> {
    parse(path, open(path)?)
}

/// As [`read`], from text at hand; `path` is the name that errors give it. Gzipped when that name ends in `.gz`.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(path: &Path, bytes: &'static [u8]) -> anyhow::Result<Table> {
    parse(path, csv_reader(path, bytes))
}

fn parse(path: &Path, mut csv: CsvReader) -> anyhow::Result<Table> {
    let header = header(&mut csv, path)?;
    let wanted = value_columns(&header);
    if wanted.is_empty() {
        bail!("{}: there is no value column beside {:?}", path.display(), header.first().map_or("", String::as_str));
    }
    let names: Vec<String> = wanted.iter().map(|column| header[*column].clone()).collect();
    let mut table = Table {
        path: path.to_owned(),
        times: Vec::new(),
        time_texts: Vec::new(),
        columns: vec![Vec::new(); names.len()],
        names,
    };
    for record in csv.records() {
        let record = record.with_context(|| format!("could not read {}", path.display()))?;
        let place = Place { path, line: record.position().map_or(0, csv::Position::line) };
        let text = record.get(0).unwrap_or("").trim();
        table.times.push(time(text, &place)?);
        table.time_texts.push(text.to_owned());
        for (values, column) in table.columns.iter_mut().zip(&wanted) {
            values.push(number(record.get(*column).unwrap_or(""), &header[*column], &place)?);
        }
    }
    if table.times.is_empty() {
        bail!("{}: there are no rows below the header", path.display());
    }
    Ok(table)
}

/// Reads every series of a table of any shape: `timestamp,value` (named after the file), long
/// (`series,timestamp,value`, or Nixtla's `unique_id,ds,y`), or wide (one column a series).
///
/// # Errors
/// As [`read`].
pub fn read_series(path: &Path) -> anyhow::Result<Vec<NamedSeries>> {
    let mut csv = open(path)?;
    let header = header(&mut csv, path)?;
    let column = |names: [&str; 2]| header.iter().position(|h| names.contains(&h.to_ascii_lowercase().as_str()));
    if let Some(id) = column(["series", "unique_id"]) {
        let at = column(["timestamp", "ds"]).with_context(|| missing_column(path, "timestamp"))?;
        let value = column(["value", "y"]).with_context(|| missing_column(path, "value"))?;
        return read_long(csv, path, [id, at, value]);
    }
    let table = read(path)?;
    let only = table.names.len() == 1;
    let name_of = |name: String| if only { stem(path) } else { name };
    let Table { times, names, columns, .. } = table;
    Ok(names
        .into_iter()
        .zip(columns)
        .map(|(name, values)| NamedSeries { name: name_of(name), times: times.clone(), values })
        .collect())
}

type CsvReader = csv::Reader<Box<dyn Read>>;

fn open(path: &Path) -> anyhow::Result<CsvReader> {
    let file = File::open(path).with_context(|| format!("could not open {}", path.display()))?;
    Ok(csv_reader(path, BufReader::new(file)))
}

fn csv_reader(path: &Path, bytes: impl BufRead + 'static) -> CsvReader {
    let gzipped = path.extension().is_some_and(|extension| extension == "gz");
    let text: Box<dyn Read> = if gzipped { Box::new(MultiGzDecoder::new(bytes)) } else { Box::new(bytes) };
    csv::ReaderBuilder::new().flexible(false).has_headers(true).from_reader(text)
}

fn header(csv: &mut CsvReader, path: &Path) -> anyhow::Result<Vec<String>> {
    let header = csv.headers().with_context(|| format!("could not read the header of {}", path.display()))?;
    let names: Vec<String> = header.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect();
    if names.len() < 2 {
        bail!("{}: the header has {} column; a time and a value column are needed", path.display(), names.len());
    }
    Ok(names)
}

fn value_columns(header: &[String]) -> Vec<usize> {
    let named = |wanted: &str| header.iter().skip(1).position(|name| name.eq_ignore_ascii_case(wanted)).map(|i| i + 1);
    if let Some(value) = named("value") {
        return vec![value];
    }
    (1..header.len()).filter(|column| !header[*column].eq_ignore_ascii_case("label")).collect()
}

fn read_long(mut csv: CsvReader, path: &Path, [id, at, value]: [usize; 3]) -> anyhow::Result<Vec<NamedSeries>> {
    let mut series: Vec<NamedSeries> = Vec::new();
    let mut index = std::collections::HashMap::new();
    for record in csv.records() {
        let record = record.with_context(|| format!("could not read {}", path.display()))?;
        let place = Place { path, line: record.position().map_or(0, csv::Position::line) };
        let name = record.get(id).unwrap_or("").to_owned();
        let slot = *index.entry(name.clone()).or_insert_with(|| {
            series.push(NamedSeries { name, times: Vec::new(), values: Vec::new() });
            series.len() - 1
        });
        series[slot].times.push(time(record.get(at).unwrap_or("").trim(), &place)?);
        series[slot].values.push(number(record.get(value).unwrap_or(""), "value", &place)?);
    }
    if series.is_empty() {
        bail!("{}: there are no rows below the header", path.display());
    }
    Ok(series)
}

fn missing_column(path: &Path, name: &str) -> String {
    format!("{}: a table with a series column needs a {name} column too", path.display())
}

/// File name without `.csv` and `.gz`.
fn stem(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.strip_suffix(".csv").unwrap_or(name).to_owned()
}

struct Place<'a> {
    path: &'a Path,
    line: u64,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// Unix seconds (or a bare row number, which is then one second a row), `YYYY-MM-DD HH:MM:SS` in UTC, or ISO 8601.
fn time(text: &str, place: &Place<'_>) -> anyhow::Result<Timestamp> {
    parse_time(text).with_context(|| {
        format!("{place}: {text:?} is not a time; write unix seconds, YYYY-MM-DD HH:MM:SS (UTC) or ISO 8601")
    })
}

/// As the time column of a table; `None` when the text is no time.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(secs) = text.parse::<f64>() {
        return Timestamp::from_secs_f64(secs);
    }
    let instant = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(Timestamp::from_millis(instant.as_millisecond()))
}

fn number(text: &str, column: &str, place: &Place<'_>) -> anyhow::Result<f64> {
    let text = text.trim();
    if text.is_empty() || ["nan", "null", "na"].iter().any(|gap| text.eq_ignore_ascii_case(gap)) {
        return Ok(f64::NAN);
    }
    text.parse().ok().with_context(|| format!("{place}: {text:?} in column {column:?} is not a number"))
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::Step;

    use super::*;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn a_single_series_is_named_after_its_file_and_its_label_is_not_read() {
        let (_dir, path) = file("load.csv", "timestamp,value,label\n2018-06-13 00:00:00,4,x\n2018-06-13 00:01:00,,y\n");
        let series = read_series(&path).unwrap();
        assert_eq!(series[0].name, "load");
        assert_eq!(series[0].times[0], Timestamp::from_secs(1_528_848_000));
        assert!(series[0].values[1].is_nan());
    }

    #[test]
    fn long_and_wide_tables_give_the_same_series() {
        let (_a, long) = file("l.csv", "series,timestamp,value\na,0,1\nb,0,2\na,60,3\nb,60,4\n");
        let (_b, wide) = file("w.csv", "ds,a,b\n0,1,2\n60,3,4\n");
        for (x, y) in read_series(&long).unwrap().iter().zip(&read_series(&wide).unwrap()) {
            assert_eq!((&x.name, &x.times, &x.values), (&y.name, &y.times, &y.values));
        }
    }

    #[test]
    fn a_missing_row_becomes_a_gap_of_the_window() {
        let (_dir, path) = file("g.csv", "timestamp,value\n0,1\n60,2\n180,4\n240,5\n");
        let window = read_series(&path).unwrap()[0].window().unwrap();
        assert_eq!(window.step, Step::from_secs(60));
        assert!(window.values[2].is_nan());
        assert_eq!(window.values[4], 5.0);
    }

    #[test]
    fn errors_name_file_line_and_column() {
        let (_dir, path) = file("bad.csv", "timestamp,value\n0,1\n60,many\n");
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("bad.csv:3") && error.contains("\"many\"") && error.contains("value"), "{error}");
        let (_dir, path) = file("bad.csv", "timestamp,value\nsoon,1\n");
        assert!(read(&path).unwrap_err().to_string().contains("bad.csv:2"));
    }

    #[test]
    fn empty_headerless_and_backward_tables_are_refused() {
        let (_a, path) = file("e.csv", "timestamp,value\n");
        assert!(read(&path).unwrap_err().to_string().contains("no rows"));
        let (_b, path) = file("b.csv", "timestamp,value\n60,1\n0,2\n");
        let error = read_series(&path).unwrap()[0].window().unwrap_err();
        assert!(
            format!("{error:#}").contains("series \"b\"") && format!("{error:#}").contains("back in time"),
            "{error:#}"
        );
        assert!(read(Path::new("/nowhere/at/all.csv")).is_err());
    }
}
