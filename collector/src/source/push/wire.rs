//! Reads protobuf messages in place, field by field, without copying.
//!
//! Remote write carries up to millions of short strings a second; borrowed fields keep the allocator out of the way.
//! Source: the encoding chapter of the Protocol Buffers documentation.

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the message is cut off")]
    Truncated,
    #[error("a number is longer than its type")]
    Overlong,
    #[error("wire type {0} is unknown")]
    WireType(u8),
    #[error("field number 0")]
    FieldZero,
    #[error("field {field} has the wrong wire type")]
    FieldType { field: u32 },
    #[error("taken apart, the request is larger than {limit} bytes")]
    Larger { limit: u64 },
}

/// The fields of a message in the order of the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn read(&mut self) -> Result<(u32, Value<'a>), WireError> {
        let key = u32::try_from(varint(&mut self.0)?).map_err(|_| WireError::Overlong)?;
        let field = key >> 3;
        if field == 0 {
            return Err(WireError::FieldZero);
        }
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.0)?),
            1 => Value::Fixed64(u64::from_le_bytes(fixed(&mut self.0)?)),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).map_err(|_| WireError::Truncated)?;
                Value::Bytes(take(&mut self.0, length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(fixed(&mut self.0)?)),
            other => return Err(WireError::WireType(other as u8)),
        };
        Ok((field, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Takes a message of two short texts, in fields 1 and 2, off the front, where it stands in field 1 and is written as every
/// sender writes it; otherwise leaves the bytes as they are, for [`Fields`] to read.
pub(super) fn take_pair<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let [0x0a, length @ ..0x80, 0x0a, first @ ..0x80, after @ ..] = *rest else { return None };
    let (name, after) = after.split_at_checked(usize::from(*first))?;
    let [0x12, second @ ..0x80, after @ ..] = after else { return None };
    let (value, after) = after.split_at_checked(usize::from(*second))?;
    if usize::from(*length) != name.len() + value.len() + 4 {
        return None;
    }
    *rest = after;
    Some((name, value))
}

/// Takes a message of a double in field 1 and a number in field 2, either of them left out where it is 0, off the front,
/// where it stands in field 2; otherwise leaves the bytes as they are.
pub(super) fn take_sample(rest: &mut &[u8]) -> Option<(f64, i64)> {
    let [0x12, length @ ..0x80, after @ ..] = *rest else { return None };
    let (mut message, after) = after.split_at_checked(usize::from(*length))?;
    let mut value = 0.0;
    if let [0x09, number @ ..] = message {
        let (bits, behind) = number.split_first_chunk::<8>()?;
        (value, message) = (f64::from_le_bytes(*bits), behind);
    }
    let mut at = 0;
    if let [0x10, number @ ..] = message {
        message = number;
        at = varint(&mut message).ok()? as i64;
    }
    message.is_empty().then(|| *rest = after)?;
    Some((value, at))
}

/// The numbers of a packed repeated field.
pub(super) fn packed(mut bytes: &[u8]) -> impl Iterator<Item = Result<u64, WireError>> {
    std::iter::from_fn(move || (!bytes.is_empty()).then(|| varint(&mut bytes).inspect_err(|_| bytes = &[])))
}

fn varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut number = 0u64;
    for (place, byte) in rest.iter().enumerate().take(10) {
        if place == 9 && *byte > 1 {
            return Err(WireError::Overlong);
        }
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            *rest = &rest[place + 1..];
            return Ok(number);
        }
    }
    Err(if rest.len() < 10 { WireError::Truncated } else { WireError::Overlong })
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], WireError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
    *rest = tail;
    Ok(*head)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], WireError> {
    let (head, tail) = rest.split_at_checked(length).ok_or(WireError::Truncated)?;
    *rest = tail;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Reference {
        #[prost(uint64, tag = "1")]
        number: u64,
        #[prost(double, tag = "2")]
        float: f64,
        #[prost(string, tag = "3")]
        text: String,
        #[prost(uint32, repeated, tag = "400")]
        list: Vec<u32>,
        #[prost(fixed32, tag = "5")]
        small: u32,
    }

    proptest! {
        #[test]
        fn what_prost_writes_is_read(number: u64, bits: u64, text: String, list: Vec<u32>, small: u32) {
            let message = Reference { number, float: f64::from_bits(bits), text, list, small };
            let bytes = prost::Message::encode_to_vec(&message);
            let mut read = Reference::default();
            for field in Fields::of(&bytes) {
                match field.unwrap() {
                    (1, Value::Varint(number)) => read.number = number,
                    (2, Value::Fixed64(bits)) => read.float = f64::from_bits(bits),
                    (3, Value::Bytes(text)) => read.text = String::from_utf8(text.to_vec()).unwrap(),
                    (400, Value::Bytes(bytes)) => read.list = packed(bytes).map(|n| n.unwrap() as u32).collect(),
                    (5, Value::Fixed32(small)) => read.small = small,
                    other => panic!("{other:?}"),
                }
            }
            prop_assert_eq!(read.float.to_bits(), message.float.to_bits());
            read.float = 0.0;
            prop_assert_eq!(read, Reference { float: 0.0, ..message });
        }

        #[test]
        fn a_short_pair_is_read_as_the_fields_would_be(name in "[a-z]{0,70}", value in "[a-z]{0,70}", tail: Vec<u8>) {
            let part = |tag: u8, text: &str| [&[tag, text.len() as u8], text.as_bytes()].concat();
            let pair = [part(0x0a, &name), part(0x12, &value)].concat();
            let mut message = vec![0x0a];
            prost::encoding::encode_varint(pair.len() as u64, &mut message);
            message.extend([&pair[..], &tail].concat());
            let mut rest = &message[..];
            if pair.len() < 0x80 {
                prop_assert_eq!(take_pair(&mut rest), Some((name.as_bytes(), value.as_bytes())));
                prop_assert_eq!(rest, &tail[..]);
            } else {
                prop_assert_eq!(take_pair(&mut rest), None);
                prop_assert_eq!(rest, &message[..]);
            }
        }

        #[test]
        fn a_pair_taken_is_what_the_fields_say(bytes in proptest::collection::vec(0u8..24, 0..40)) {
            let mut rest = &bytes[..];
            if let Some((name, value)) = take_pair(&mut rest) {
                let mut fields = Fields::of(&bytes);
                let Some(Ok((1, Value::Bytes(inner)))) = fields.next() else { panic!("field 1 of {bytes:?}") };
                let inner: Result<Vec<_>, _> = Fields::of(inner).collect();
                prop_assert_eq!(inner, Ok(vec![(1, Value::Bytes(name)), (2, Value::Bytes(value))]));
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic_or_run_on(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(Fields::of(&bytes).count() <= bytes.len());
            prop_assert!(packed(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_refused_without_reserving_it() {
        let claim = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(Fields::of(&claim).next(), Some(Err(WireError::Truncated)));
        assert_eq!(Fields::of(&[0xff; 11]).next(), Some(Err(WireError::Overlong)));
        let past_64_bits = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(Fields::of(&past_64_bits).next(), Some(Err(WireError::Overlong)));
        let past_32_bits = [0xf5, 0xbe, 0x9e, 0xfe, 0x1e, 0, 0, 0, 0];
        assert_eq!(Fields::of(&past_32_bits).next(), Some(Err(WireError::Overlong)));
        assert_eq!(Fields::of(&[0x0b]).next(), Some(Err(WireError::WireType(3))));
    }
}
