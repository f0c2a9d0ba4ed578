//! Unpacks bodies within bounds: what they claim is checked before memory is given to it.

use std::io::Read;

use flate2::read::MultiGzDecoder;

use super::refusal::PushRefusal;

/// Unpacks snappy's block format.
pub(super) fn snappy(body: &[u8], limit: u64) -> Result<Vec<u8>, PushRefusal> {
    let claimed = match snap::raw::decompress_len(body) {
        Err(snap::Error::TooBig { .. }) => u64::MAX,
        claimed => claimed.map_err(PushRefusal::Snappy)? as u64,
    };
    if claimed > limit {
        return Err(PushRefusal::TooLarge { what: "unpacked body", limit });
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(PushRefusal::Snappy)
}

/// Unpacks gzip.
pub(super) fn gzip(body: &[u8], limit: u64) -> Result<Vec<u8>, PushRefusal> {
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(body).take(limit.saturating_add(1)).read_to_end(&mut unpacked).map_err(PushRefusal::Gzip)?;
    if unpacked.len() as u64 > limit {
        return Err(PushRefusal::TooLarge { what: "unpacked body", limit });
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_claim_of_four_gigabytes_is_refused_before_memory_is_given() {
        for claim in [&[0xff, 0xff, 0xff, 0xff, 0x0f, 0][..], &[0xff, 0xff, 0xff, 0xff, 0x7f, 0]] {
            let refusal = snappy(claim, 1 << 20).unwrap_err();
            assert!(matches!(refusal, PushRefusal::TooLarge { .. }), "{refusal}");
        }
    }

    #[test]
    fn a_small_body_that_unpacks_to_too_much_is_refused() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
        let body = encoder.finish().unwrap();
        assert!(matches!(gzip(&body, 1 << 10), Err(PushRefusal::TooLarge { .. })));
        assert_eq!(gzip(&body, 1 << 20).unwrap().len(), 1 << 20);
    }

    proptest! {
        #[test]
        fn no_bytes_make_unpacking_panic(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (snappy(&body, 1 << 16), gzip(&body, 1 << 16));
        }

        #[test]
        fn a_damaged_body_is_refused_or_unpacks_within_bounds(at: usize, bit in 0u8..8, cut: usize) {
            let mut body = snap::raw::Encoder::new().compress_vec(&b"some text, some text".repeat(20)).unwrap();
            let (at, cut) = (at % body.len(), cut % body.len());
            body[at] ^= 1 << bit;
            for body in [&body[..], &body[..cut]] {
                if let Ok(unpacked) = snappy(body, 1 << 16) {
                    prop_assert!(unpacked.len() <= 1 << 16);
                }
            }
        }
    }
}
