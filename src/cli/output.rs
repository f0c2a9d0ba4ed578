//! How commands print: a table for people, JSON and CSV for programs.

use std::io::Write;

/// A form of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// What the server answered, indented.
    Json,
    /// Comma-separated values with a header.
    Csv,
}

impl Format {
    /// Prints rows under a header. For [`Format::Json`], an array of objects.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn print(self, header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
        match self {
            Self::Table => line(&aligned(header, rows)),
            Self::Csv => {
                let mut csv = csv::Writer::from_writer(Vec::new());
                csv.write_record(header)?;
                for row in rows {
                    csv.write_record(row)?;
                }
                line(String::from_utf8_lossy(&csv.into_inner()?).trim_end())
            }
            Self::Json => {
                let object = |row: &Vec<String>| {
                    header.iter().zip(row).map(|(n, v)| ((*n).to_owned(), v.clone().into())).collect()
                };
                let objects: Vec<serde_json::Map<String, serde_json::Value>> = rows.iter().map(object).collect();
                line(&serde_json::to_string_pretty(&objects)?)
            }
        }
    }
}

/// Writes one line to standard output.
///
/// # Errors
/// When standard output is closed.
pub fn line(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Writes one line to standard error.
///
/// # Errors
/// When standard error is closed.
pub fn complain(text: &impl std::fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stderr().lock(), "{text}")?)
}

fn aligned(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let print = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        padded.join("  ").trim_end().to_owned()
    };
    let body = rows.iter().map(|row| print(row.iter().map(String::as_str).collect()));
    std::iter::once(print(header.to_vec())).chain(body).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "2".to_owned()]];
        assert_eq!(aligned(&["n", "value"], &rows), "n       value\na       1\nlonger  2");
    }
}
