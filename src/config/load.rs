//! Reads a YAML file strictly: an unknown key or a wrong type is refused with its place and the nearest key.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_saphyr::Error as YamlError;

/// Why a configuration was refused, with its place where it is known.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// Line and column, both from 1.
    pub place: Option<(u64, u64)>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Reads `path`, puts environment variables in the place of `${NAME}`, and parses the result.
///
/// # Errors
/// When the file cannot be read, names a variable that is not set, or does not fit `T`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError {
        path: path.to_owned(),
        place: None,
        message: format!("could not read the file: {source}"),
    })?;
    parse(path, &text, |name| std::env::var(name).ok())
}

/// As [`load`], from text and with the environment given.
///
/// # Errors
/// As [`load`].
pub fn parse<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    env: impl Fn(&str) -> Option<String>,
) -> Result<T, ConfigError> {
    let refuse = |place, message| ConfigError { path: path.to_owned(), place, message };
    let text = expand(text, env).map_err(|(place, message)| refuse(Some(place), message))?;
    serde_saphyr::from_str(&text).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().map(|at| (at.line(), at.column()));
        refuse(place.filter(|(line, _)| *line > 0), explain(error))
    })
}

fn explain(error: &YamlError) -> String {
    match error {
        YamlError::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
        YamlError::SerdeUnknownVariant { variant, expected, .. } => unknown("value", variant, expected),
        YamlError::SerdeMissingField { field, .. } => format!("the key {field:?} is missing here"),
        other => without_place(&other.to_string()),
    }
}

fn unknown(what: &str, given: &str, expected: &[&str]) -> String {
    let close = |candidate: &&&str| strsim::jaro_winkler(given, candidate) > 0.7;
    let by_closeness = |a: &&&str, b: &&&str| {
        strsim::jaro_winkler(given, a).total_cmp(&strsim::jaro_winkler(given, b)).then_with(|| b.cmp(a))
    };
    match expected.iter().filter(close).max_by(by_closeness) {
        Some(nearest) => format!("unknown {what} {given:?}; did you mean {nearest:?}?"),
        None => format!("unknown {what} {given:?}; known here: {}", expected.join(", ")),
    }
}

/// The parser's message without the place it repeats.
fn without_place(message: &str) -> String {
    let message = message.lines().next().unwrap_or(message);
    let end = message.find(" at line ").or_else(|| message.find(" (line ")).unwrap_or(message.len());
    message[..end].to_owned()
}

/// Puts variables in the place of `${NAME}` outside comments; `${1}` (relabeling) and lower case names stay.
fn expand(text: &str, env: impl Fn(&str) -> Option<String>) -> Result<String, ((u64, u64), String)> {
    let mut out = String::with_capacity(text.len());
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let mut rest = line;
        while let Some(start) = rest.find("${").filter(|_| !line.trim_start().starts_with('#')) {
            let after = &rest[start + 2..];
            let name_len = after.find('}').unwrap_or(0);
            let name = &after[..name_len];
            if !is_variable(name) {
                out.push_str(&rest[..start + 2]);
                rest = after;
                continue;
            }
            let column = (line.len() - rest.len() + start + 1) as u64;
            let value = env(name).ok_or_else(|| {
                (
                    (number as u64 + 1, column),
                    format!("the environment variable {name} is not set; export it or write a value"),
                )
            })?;
            out.push_str(&rest[..start]);
            out.push_str(&value);
            rest = &after[name_len + 1..];
        }
        out.push_str(rest);
    }
    Ok(out)
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        listen: String,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        scrape_interval: u32,
    }

    fn read(text: &str) -> Result<Outer, ConfigError> {
        parse(Path::new("bellwether.yaml"), text, |name| (name == "PORT").then(|| "9494".to_owned()))
    }

    #[test]
    fn an_unknown_key_is_refused_with_place_and_nearest_key() {
        let error = read("listen: a\ninner:\n  - scrape_intervall: 5\n").unwrap_err().to_string();
        assert_eq!(error, "bellwether.yaml:3:5: unknown key \"scrape_intervall\"; did you mean \"scrape_interval\"?");
        let error = read("listen: a\nxyz: 1\n").unwrap_err().to_string();
        assert!(error.contains("2:1") && error.contains("known here: listen, inner"), "{error}");
    }

    #[test]
    fn a_wrong_type_is_refused_with_its_place() {
        let error = read("listen: a\ninner:\n  - scrape_interval: often\n").unwrap_err();
        assert_eq!(error.place, Some((3, 22)), "{error}");
        assert!(!error.message.contains("line"), "{error}");
    }

    #[test]
    fn a_missing_key_and_broken_yaml_are_refused() {
        assert!(read("inner: []\n").unwrap_err().message.contains("\"listen\" is missing"));
        assert!(read("listen: [1\n").unwrap_err().place.is_some());
    }

    #[test]
    fn variables_are_read_from_the_environment_and_relabel_groups_are_left() {
        assert_eq!(read("listen: 127.0.0.1:${PORT}\n").unwrap().listen, "127.0.0.1:9494");
        assert_eq!(read("listen: '${1}-${x}' # ${ABSENT\n").unwrap().listen, "${1}-${x}");
        let error = read("# ${COMMENT}\nlisten: ${ABSENT}\n").unwrap_err();
        assert_eq!(error.place, Some((2, 9)));
        assert!(error.message.contains("ABSENT"));
    }
}
