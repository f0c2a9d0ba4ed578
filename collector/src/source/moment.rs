//! Instants as people and programs write them in JSON: RFC 3339 text, or seconds since the Unix epoch.

use std::borrow::Cow;

use bellwether_models::series::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant, written as `2026-05-04T10:00:00Z` (read with any offset) and read as seconds too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match jiff::Timestamp::from_millisecond(self.0.as_millis()) {
            Ok(instant) => serializer.serialize_str(&instant.to_string()),
            Err(_) => serializer.serialize_f64(self.0.as_secs_f64()), // beyond the years that have a date
        }
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Moment;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a time such as 2026-05-04T10:00:00Z, or seconds since 1970")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
                let instant: jiff::Timestamp = text.parse().map_err(E::custom)?;
                Ok(Moment(Timestamp::from_millis(instant.as_millisecond())))
            }
            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Moment, E> {
                Timestamp::from_secs_f64(seconds).map(Moment).ok_or_else(|| E::custom("not a time"))
            }
            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Moment, E> {
                Ok(Moment(Timestamp::from_secs(seconds)))
            }
            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Moment, E> {
                self.visit_f64(seconds as f64)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "description": "RFC 3339, or seconds since the Unix epoch" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_dates_and_as_seconds_and_written_as_dates() {
        for text in [r#""2023-11-14T22:13:20Z""#, r#""2023-11-14T23:13:20+01:00""#, "1700000000", "1700000000.0"] {
            let moment: Moment = serde_json::from_str(text).unwrap();
            assert_eq!(moment, Moment(Timestamp::from_secs(1_700_000_000)), "{text}");
        }
        let moment = Moment(Timestamp::from_millis(1_700_000_000_250));
        assert_eq!(serde_json::to_string(&moment).unwrap(), r#""2023-11-14T22:13:20.25Z""#);
        for text in [r#""yesterday""#, "null", "1e300"] {
            assert!(serde_json::from_str::<Moment>(text).is_err(), "{text}");
        }
    }
}
