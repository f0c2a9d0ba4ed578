//! Sizes in bytes as Prometheus writes them: `512KB`, `10MB`, `1GB`, powers of 1024.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes; written as a number, or as text with a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

/// The reason why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size; write it as 512KB, 10MB or 1GB (units B KB MB GB TB, powers of 1024)")]
pub struct NotASize(pub String);

const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1 << 10),
    ("MB", 1 << 20),
    ("GB", 1 << 30),
    ("TB", 1 << 40),
    ("B", 1),
];

impl ByteSize {
    /// From a number of bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Reads `10MB`, `1.5GB` or `0`.
    ///
    /// # Errors
    /// [`NotASize`] for anything else.
    pub fn parse(text: &str) -> Result<Self, NotASize> {
        let unit = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
        let (number, size) = unit.unwrap_or((text, 1));
        let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let value: f64 = number.trim().parse().ok().filter(|_| plain).ok_or_else(|| NotASize(text.to_owned()))?;
        let bytes = value * size as f64;
        if bytes < u64::MAX as f64 { Ok(Self(bytes as u64)) } else { Err(NotASize(text.to_owned())) }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = |(_, size): &&(&str, u64)| self.0 >= *size && self.0.is_multiple_of(*size);
        let (unit, size) = UNITS[4..].iter().filter(whole).max_by_key(|(_, size)| *size).unwrap_or(&("B", 1));
        serializer.serialize_str(&format!("{}{unit}", self.0 / size))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a size such as 10MB")
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                ByteSize::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "description": "bytes, or text such as 10MB" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units_and_nothing_else() {
        let bytes = |text| ByteSize::parse(text).map(ByteSize::bytes).ok();
        assert_eq!(bytes("10MB"), Some(10 << 20));
        assert_eq!(bytes("1.5KiB"), Some(1536));
        assert_eq!((bytes("0"), bytes("17B")), (Some(0), Some(17)));
        for text in ["", "MB", "-1MB", "10 XB", "infB", "1e400", "99999999999999TB"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_is_written_as_it_is_read() {
        for text in ["10MB", "3B", "1GB", "1536KB"] {
            let size: ByteSize = serde_saphyr::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&size).unwrap(), format!("\"{text}\""));
        }
        assert_eq!(serde_saphyr::from_str::<ByteSize>("4096").unwrap().bytes(), 4096);
    }
}
