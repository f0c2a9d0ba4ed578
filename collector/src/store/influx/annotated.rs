//! Reads the annotated CSV in which InfluxDB 2 answers Flux queries. Pure.
//!
//! Tables follow each other; a change of columns comes with new annotations and a new header; a query that fails after the
//! answer has begun ends it with a table of the columns `error` and `reference`. An answer that was cut off anywhere is told
//! from a whole one. Source: the annotated CSV page of the InfluxDB 2 docs.

use bellwether_models::series::{Labels, METRIC_NAME, Sample, Timestamp};

use super::line::{BITS, decoded, label_name};
use crate::store::SeriesSamples;

/// Why an answer gives no samples.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The answer ends within a row.
    #[error("the answer is cut off after {bytes} bytes")]
    CutOff {
        /// Bytes that came.
        bytes: usize,
    },
    /// The query failed, maybe after a part of the answer.
    #[error("the query failed: {message} ({reference})")]
    Query {
        /// What the server says.
        message: String,
        /// Its number for that, if it gives one.
        reference: String,
    },
    /// It is not annotated CSV, or not such as was asked for.
    #[error("row {row} of the answer: {detail}")]
    Row {
        /// Rows before it, blank ones left out.
        row: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// More samples than allowed.
    #[error("the answer holds more than {limit} samples")]
    TooLarge {
        /// Most samples.
        limit: usize,
    },
}

/// The samples of an answer, a series for each of its tables, in its order. Columns of other types than numbers are passed
/// over.
///
/// # Errors
/// [`AnswerError`]; nothing of an answer that is not whole and good is given.
pub fn read(body: &[u8], limit: usize) -> Result<Vec<SeriesSamples>, AnswerError> {
    let quotes = body.iter().filter(|byte| **byte == b'"').count();
    if !body.is_empty() && (!body.ends_with(b"\n") || quotes % 2 == 1) {
        return Err(AnswerError::CutOff { bytes: body.len() });
    }
    let mut csv = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(body);
    let mut reader = Reader { limit, ..Reader::default() };
    let mut record = csv::StringRecord::new();
    loop {
        match csv.read_record(&mut record) {
            Ok(true) => reader.take(&record)?,
            Ok(false) => return reader.end(body.len()),
            Err(error) => return Err(reader.wrong(error.to_string())),
        }
        reader.row += 1;
    }
}

#[derive(Default)]
struct Reader {
    row: usize,
    limit: usize,
    samples: usize,
    columns: Vec<Column>,
    expects: Expects,
    /// The cells that tell the table of the last row apart.
    table: Vec<String>,
    found: Vec<SeriesSamples>,
}

#[derive(Clone, Debug, Default)]
struct Column {
    name: String,
    datatype: String,
    default: String,
}

/// What the next row may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expects {
    /// Annotations.
    #[default]
    Annotations,
    /// The header, or further annotations.
    Header,
    /// A row of the table, or the annotations of another.
    Rows,
    /// The row of an error table.
    Error,
}

impl Reader {
    fn take(&mut self, record: &csv::StringRecord) -> Result<(), AnswerError> {
        if record.len() < 2 {
            return if record.iter().all(str::is_empty) { Ok(()) } else { Err(self.wrong("a single cell")) };
        }
        if self.expects != Expects::Error && record[0].starts_with('#') {
            return self.annotation(record);
        }
        match self.expects {
            Expects::Error => Err(query_failed(record)),
            Expects::Annotations if is_error_header(record) => {
                self.expects = Expects::Error;
                Ok(())
            }
            Expects::Annotations => Err(self.wrong("there are no annotations")),
            Expects::Header => self.header(record),
            Expects::Rows => self.data(record),
        }
    }

    fn annotation(&mut self, record: &csv::StringRecord) -> Result<(), AnswerError> {
        if self.expects != Expects::Header {
            self.columns = vec![Column::default(); record.len() - 1];
            self.expects = Expects::Header;
            self.table.clear();
        }
        self.same_width(record)?;
        for (column, cell) in self.columns.iter_mut().zip(record.iter().skip(1)) {
            match &record[0] {
                "#datatype" => column.datatype = cell.to_owned(),
                "#default" => column.default = cell.to_owned(),
                _ => {}
            }
        }
        Ok(())
    }

    fn header(&mut self, record: &csv::StringRecord) -> Result<(), AnswerError> {
        if is_error_header(record) {
            self.expects = Expects::Error;
            return Ok(());
        }
        self.same_width(record)?;
        for (column, cell) in self.columns.iter_mut().zip(record.iter().skip(1)) {
            column.name = cell.to_owned();
        }
        for needed in ["_time", "_value", "_field", "_measurement"] {
            if !self.columns.iter().any(|column| column.name == needed) {
                return Err(self.wrong(format!("the column {needed} is missing")));
            }
        }
        self.expects = Expects::Rows;
        Ok(())
    }

    fn data(&mut self, record: &csv::StringRecord) -> Result<(), AnswerError> {
        self.same_width(record)?;
        let cells = || {
            let pairs = self.columns.iter().zip(record.iter().skip(1));
            pairs.map(|(column, cell)| (column, if cell.is_empty() { &*column.default } else { cell }))
        };
        let (mut at, mut value, mut bits) = (None, None, false);
        for (column, cell) in cells() {
            match column.name.as_str() {
                "_time" => at = Some(time(cell).ok_or_else(|| self.wrong(format!("{cell:?} is no time")))?),
                "_field" => bits = cell == BITS,
                "_value" if !cell.is_empty() => value = Some((column, cell)),
                _ => {}
            }
        }
        let Some(value) = value.and_then(|(column, cell)| number(&column.datatype, cell, bits).transpose()) else {
            return Ok(()); // null, or no number
        };
        let value = value.map_err(|cell| self.wrong(format!("{cell:?} is no number")))?;
        let at = at.ok_or_else(|| self.wrong("there is no time"))?;
        self.samples += 1;
        if self.samples > self.limit {
            return Err(AnswerError::TooLarge { limit: self.limit });
        }
        let is_key = |column: &Column| !matches!(column.name.as_str(), "_time" | "_value" | "_start" | "_stop");
        if !cells().filter(|(column, _)| is_key(column)).map(|(_, cell)| cell).eq(self.table.iter()) {
            let labels = labels(cells());
            self.table = cells().filter(|(column, _)| is_key(column)).map(|(_, cell)| cell.to_owned()).collect();
            self.found.push(SeriesSamples { labels, samples: Vec::new() });
        }
        if let Some(series) = self.found.last_mut() {
            series.samples.push(Sample { at, value });
        }
        Ok(())
    }

    fn end(self, bytes: usize) -> Result<Vec<SeriesSamples>, AnswerError> {
        match self.expects {
            Expects::Header | Expects::Error => Err(AnswerError::CutOff { bytes }),
            Expects::Annotations | Expects::Rows => Ok(self.found),
        }
    }

    fn same_width(&self, record: &csv::StringRecord) -> Result<(), AnswerError> {
        let (cells, columns) = (record.len() - 1, self.columns.len());
        if cells == columns { Ok(()) } else { Err(self.wrong(format!("{cells} cells in {columns} columns"))) }
    }

    fn wrong(&self, detail: impl Into<String>) -> AnswerError {
        AnswerError::Row { row: self.row, detail: detail.into() }
    }
}

/// With the column of annotations or, as some servers write it, without.
fn is_error_header(record: &csv::StringRecord) -> bool {
    record.iter().find(|cell| !cell.is_empty()) == Some("error")
}

fn query_failed(record: &csv::StringRecord) -> AnswerError {
    let cells: Vec<&str> = record.iter().skip_while(|cell| cell.is_empty()).collect();
    let cell = |place: usize| cells.get(place).copied().unwrap_or("unknown").to_owned();
    AnswerError::Query { message: cell(0), reference: cell(1) }
}

fn time(cell: &str) -> Option<Timestamp> {
    cell.parse::<jiff::Timestamp>().ok().map(|at| Timestamp::from_millis(at.as_millisecond()))
}

/// The cell as a sample's value; `None` where the type is none of numbers.
fn number<'a>(datatype: &str, cell: &'a str, bits: bool) -> Result<Option<f64>, &'a str> {
    match datatype {
        "long" if bits => cell.parse().map(|bits: i64| Some(f64::from_bits(bits as u64))).map_err(|_| cell),
        "double" | "long" | "unsignedLong" => cell.parse().map(Some).map_err(|_| cell),
        _ => Ok(None),
    }
}

fn labels<'a>(cells: impl Iterator<Item = (&'a Column, &'a str)>) -> Labels {
    Labels::new(cells.filter_map(|(column, cell)| match column.name.as_str() {
        "_measurement" => Some((METRIC_NAME.to_owned(), decoded(cell))),
        "result" | "table" => None,
        name if name.starts_with('_') => None,
        tag => Some((label_name(tag), decoded(cell))),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = "#datatype,string,long,dateTime:RFC3339,double,string,string,string\r\n\
        #group,false,false,false,false,true,true,true\r\n\
        #default,_result,,,,,,\r\n\
        ,result,table,_time,_value,_field,_measurement,job\r\n\
        ,,0,1970-01-01T00:00:10Z,1.5,value,up,\"a\r\n,\"\"b\"\r\n\
        ,,0,1970-01-01T00:00:20.5Z,+Inf,value,up,\"a\r\n,\"\"b\"\r\n\
        ,,1,1970-01-01T00:00:10Z,2,value,up,c\r\n\r\n\
        #datatype,string,long,dateTime:RFC3339,long,string,string\r\n\
        #group,false,false,false,false,true,true\r\n\
        #default,_result,,,,,\r\n\
        ,result,table,_time,_value,_field,_measurement\r\n\
        ,,2,1970-01-01T00:00:30Z,9218868437227405314,bits,up\r\n\r\n";

    fn all(body: &str) -> Result<Vec<SeriesSamples>, AnswerError> {
        read(body.as_bytes(), usize::MAX)
    }

    #[test]
    fn several_tables_a_change_of_columns_and_quoted_line_breaks_are_read() {
        let found = all(WHOLE).unwrap();
        let up = Labels::metric("up");
        let keys: Vec<Labels> = found.iter().map(|series| series.labels.clone()).collect();
        assert_eq!(keys, [up.with("job", "a\r\n,\"b"), up.with("job", "c"), up]);
        assert_eq!(found[0].samples[1].at, Timestamp::from_millis(20_500));
        assert_eq!(found[0].samples[1].value, f64::INFINITY);
        assert!(bellwether_models::series::is_stale(found[2].samples[0].value));
    }

    #[test]
    fn an_empty_answer_has_no_series() {
        assert_eq!(all(""), Ok(vec![]));
        assert_eq!(all("\r\n"), Ok(vec![]));
        let header_only = WHOLE.split_inclusive("job\r\n").next().unwrap();
        assert_eq!(all(header_only), Ok(vec![]));
    }

    #[test]
    fn cut_anywhere_an_answer_is_refused_or_is_a_row_shorter() {
        let whole = all(WHOLE).unwrap();
        let flat = |found: &[SeriesSamples]| -> Vec<(Labels, Sample)> {
            found.iter().flat_map(|s| s.samples.iter().map(|sample| (s.labels.clone(), *sample))).collect()
        };
        let key = |(labels, sample): &(Labels, Sample)| (labels.clone(), sample.at, sample.value.to_bits());
        let whole: Vec<_> = flat(&whole).iter().map(key).collect();
        for len in 0..WHOLE.len() {
            if let Ok(found) = all(&WHOLE[..len]) {
                let found: Vec<_> = flat(&found).iter().map(key).collect();
                assert!(whole.starts_with(&found), "cut at {len}");
            }
        }
        assert!(matches!(all(&WHOLE[..WHOLE.len() - 40]), Err(AnswerError::CutOff { .. })));
    }

    #[test]
    fn an_error_amid_the_answer_is_an_error_whatever_came_before() {
        let error =
            "#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n,error,reference\r\n,out of memory,897\r\n";
        let expected = AnswerError::Query { message: "out of memory".to_owned(), reference: "897".to_owned() };
        assert_eq!(all(&format!("{WHOLE}{error}")), Err(expected.clone()));
        assert_eq!(all(error), Err(expected.clone()));
        assert_eq!(all("error,reference\r\nout of memory,897\r\n"), Err(expected));
    }

    #[test]
    fn what_was_not_asked_for_is_refused_or_passed_over() {
        assert!(all("a,b\r\n1,2\r\n").unwrap_err().to_string().contains("no annotations"));
        assert!(all(&WHOLE.replace("2,value,up,c", "2,value,up")).unwrap_err().to_string().contains("cells"));
        assert!(all(&WHOLE.replace(",1.5,", ",x,")).unwrap_err().to_string().contains("no number"));
        assert!(all(&WHOLE.replace("00:00:10Z,1.5", "noon,1.5")).unwrap_err().to_string().contains("no time"));
        assert_eq!(all(&WHOLE.replace(",1.5,", ",,")).unwrap()[0].samples.len(), 1, "a null");
        assert_eq!(read(WHOLE.as_bytes(), 3), Err(AnswerError::TooLarge { limit: 3 }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, at in 0..WHOLE.len(), with: u8) {
            let _ = read(&bytes, 100);
            let mut changed = WHOLE.as_bytes().to_vec();
            changed[at] = with;
            let _ = read(&changed, 100);
        }
    }
}
