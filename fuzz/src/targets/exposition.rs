//! Text that exporters serve.

use bellwether_collector::source::exposition::{Entry, Format, read, series_labels};
use bellwether_models::series::{Labels, Timestamp};

use super::choice;

/// What a sample says.
type Said = (Labels, u64, Option<Timestamp>);

/// Errors name a line of the text; what is accepted, written anew, says the same.
pub fn exposition(bytes: &[u8]) {
    let (first, text) = choice(bytes);
    let format = if first & 1 == 0 { Format::Prometheus } else { Format::OpenMetrics };
    let Some(said) = accepted(text, format) else { return };
    let again = accepted(written(&said, format).as_bytes(), format);
    assert_eq!(again.as_ref(), Some(&said), "written anew it says something else");
}

fn accepted(text: &[u8], format: Format) -> Option<Vec<Said>> {
    let lines = text.split(|byte| *byte == b'\n').count().max(1);
    let mut said = Vec::new();
    let entries = match read(text, format) {
        Ok(entries) => entries,
        Err(error) => {
            assert!((1..=lines).contains(&error.line), "{error} of {lines}");
            return None;
        }
    };
    for entry in entries {
        match entry {
            Err(error) => {
                assert!((1..=lines).contains(&error.line), "{error} of {lines}");
                return None;
            }
            Ok(Entry::Sample(sample)) => {
                assert!((1..=lines).contains(&sample.line));
                said.push((Labels::new(series_labels(sample.series).ok()?), sample.value.to_bits(), sample.at));
            }
            Ok(Entry::Metadata { .. }) => {}
        }
    }
    Some(said)
}

fn written(said: &[Said], format: Format) -> String {
    let mut text = String::new();
    for (labels, bits, at) in said {
        text.push_str(labels.metric_name());
        let others = labels.iter().filter(|(name, _)| *name != "__name__");
        let pairs: Vec<String> = others.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        text.push_str(&format!("{{{}}} {:?}", pairs.join(","), f64::from_bits(*bits)));
        match (at, format) {
            (None, _) => {}
            (Some(at), Format::Prometheus) => text.push_str(&format!(" {}", at.as_millis())),
            (Some(at), Format::OpenMetrics) => text.push_str(&format!(" {:?}", at.as_millis() as f64 / 1000.0)),
        }
        text.push('\n');
    }
    if format == Format::OpenMetrics { text + "# EOF\n" } else { text }
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
