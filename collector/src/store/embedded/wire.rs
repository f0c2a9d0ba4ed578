//! Bytes on disk: variable-length integers, strings, and frames that carry their own length and CRC.

use crc32fast::Hasher;

/// Appends `value` in groups of seven bits, lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number so that small magnitudes stay short.
pub(super) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a length and then the bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a frame: CRC-32 of what follows, length of the payload, payload. Returns the frame's length.
pub(super) fn put_frame(out: &mut Vec<u8>, payload: &[u8]) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    put_bytes(out, payload);
    let crc = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    out.len() - start
}

/// CRC-32 of two pieces as if they were one.
pub(super) fn crc_of(first: &[u8], second: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(first);
    hasher.update(second);
    hasher.finalize()
}

/// Reads what the functions above wrote; every method gives `None` when the bytes do not hold it.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn zigzag(&mut self) -> Option<i64> {
        let raw = self.varint()?;
        Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    pub(super) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.length()?;
        self.take(len)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The payload of a frame whose CRC holds.
    pub(super) fn frame(&mut self) -> Option<&'a [u8]> {
        let crc = u32::from_le_bytes(self.array()?);
        let start = self.at;
        let payload = self.bytes()?;
        (crc32fast::hash(&self.bytes[start..self.at]) == crc).then_some(payload)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_read_back_as_written(unsigned: u64, signed: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, unsigned);
            put_zigzag(&mut out, signed);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Some(unsigned));
            prop_assert_eq!(reader.zigzag(), Some(signed));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn a_frame_with_one_bit_flipped_is_never_read(payload: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let mut out = Vec::new();
            put_frame(&mut out, &payload);
            prop_assert_eq!(Reader::new(&out).frame(), Some(payload.as_slice()));
            let at = at.index(out.len());
            out[at] ^= 1 << bit;
            prop_assert_eq!(Reader::new(&out).frame(), None);
        }
    }
}
