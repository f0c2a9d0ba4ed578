//! A sealed chunk: the samples of one series over a stretch of time, in as few bytes as they allow.
//!
//! Times that lie on a grid cost their step alone, others are kept as compressed differences. Values that never change
//! cost one value; whole numbers and other floats go through pco. Every bit of every value comes back, NaN payloads
//! included.

use pco::ChunkConfig;
use pco::data_types::Number;
use pco::standalone::{simple_compress, simple_decompress};

use super::wire::{Reader, put_bytes, put_varint, put_zigzag};

/// A sample as the engine handles it: milliseconds since the epoch and the value's bits.
pub(super) type Point = (i64, u64);

/// No chunk holds more points than this; a longer claim is damage.
pub(super) const MAX_POINTS: usize = 1 << 20;

const WHOLE: u8 = 0;
const FLOATS: u8 = 1;

const CONSTANT: u8 = 0;
const PACKED: u8 = 1;
const RAW: u8 = 2;

/// Encodes points in strictly ascending order of time.
pub(super) fn encode(points: &[Point], level: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, points.len() as u64);
    let Some((first, _)) = points.first() else { return out };
    put_zigzag(&mut out, *first);
    let steps: Vec<i64> = points.windows(2).map(|pair| pair[1].0.wrapping_sub(pair[0].0)).collect();
    put_column(&mut out, &steps, level);
    match points.iter().map(|(_, bits)| as_whole(*bits)).collect::<Option<Vec<i64>>>() {
        Some(whole) => {
            out.push(WHOLE);
            put_column(&mut out, &whole, level);
        }
        None => {
            out.push(FLOATS);
            let floats: Vec<f64> = points.iter().map(|(_, bits)| f64::from_bits(*bits)).collect();
            put_column(&mut out, &floats, level);
        }
    }
    out
}

/// Decodes what [`encode`] wrote; `None` when the bytes are something else.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Point>> {
    let mut points = Vec::new();
    decode_into(bytes, &mut points).then_some(points)
}

/// Appends the points that [`encode`] wrote; `false`, and nothing appended, when the bytes are something else.
pub(super) fn decode_into(bytes: &[u8], points: &mut Vec<Point>) -> bool {
    let before = points.len();
    let done = append(bytes, points).is_some();
    if !done {
        points.truncate(before);
    }
    done
}

fn append(bytes: &[u8], points: &mut Vec<Point>) -> Option<()> {
    let mut reader = Reader::new(bytes);
    let count = reader.length().filter(|count| *count <= MAX_POINTS)?;
    if count > 0 {
        let first = reader.zigzag()?;
        let steps = column::<i64>(&mut reader, count - 1)?;
        points.reserve(count);
        match reader.byte()? {
            WHOLE => {
                let wholes = column::<i64>(&mut reader, count)?;
                put_points(points, count, first, &steps, |place| (wholes.at(place) as f64).to_bits());
            }
            FLOATS => {
                let floats = column::<f64>(&mut reader, count)?;
                put_points(points, count, first, &steps, |place| floats.at(place).to_bits());
            }
            _ => return None,
        }
    }
    reader.is_empty().then_some(())
}

fn put_points(out: &mut Vec<Point>, count: usize, first: i64, steps: &Column<i64>, bits: impl Fn(usize) -> u64) {
    let mut at = first;
    out.extend((0..count).map(|place| {
        at = if place == 0 { at } else { at.wrapping_add(steps.at(place - 1)) };
        (at, bits(place))
    }));
}

/// The whole number that these bits are exactly, if they are one (minus zero is not).
fn as_whole(bits: u64) -> Option<i64> {
    let value = f64::from_bits(bits);
    let whole = value as i64;
    (value.abs() < 9.0e15 && (whole as f64).to_bits() == bits).then_some(whole)
}

fn put_column<T: Cell>(out: &mut Vec<u8>, cells: &[T], level: usize) {
    let first = cells.first().map_or(0, |cell| cell.bits());
    if cells.iter().all(|cell| cell.bits() == first) {
        out.push(CONSTANT);
        return T::put(out, first);
    }
    match simple_compress(cells, &ChunkConfig::default().with_compression_level(level)) {
        Ok(packed) => {
            out.push(PACKED);
            put_bytes(out, &packed);
        }
        Err(_) => {
            out.push(RAW);
            cells.iter().for_each(|cell| out.extend_from_slice(&cell.bits().to_le_bytes()));
        }
    }
}

/// The cells of a column.
enum Column<T> {
    Same(T),
    Each(Vec<T>),
}

impl<T: Copy> Column<T> {
    fn at(&self, place: usize) -> T {
        match self {
            Self::Same(cell) => *cell,
            Self::Each(cells) => cells[place],
        }
    }
}

fn column<T: Cell>(reader: &mut Reader<'_>, count: usize) -> Option<Column<T>> {
    let cells = match reader.byte()? {
        CONSTANT => return Some(Column::Same(T::of(T::get(reader)?))),
        PACKED => simple_decompress::<T>(reader.bytes()?).ok()?,
        RAW => (0..count).map(|_| reader.array().map(|b| T::of(u64::from_le_bytes(b)))).collect::<Option<_>>()?,
        _ => return None,
    };
    (cells.len() == count).then_some(Column::Each(cells))
}

/// A number of a column, seen as 64 bits, and the short form of a column that repeats it.
trait Cell: Number + Copy {
    fn bits(self) -> u64;
    fn of(bits: u64) -> Self;
    fn put(out: &mut Vec<u8>, bits: u64);
    fn get(reader: &mut Reader<'_>) -> Option<u64>;
}

impl Cell for i64 {
    fn bits(self) -> u64 {
        self as u64
    }
    fn of(bits: u64) -> Self {
        bits as i64
    }
    fn put(out: &mut Vec<u8>, bits: u64) {
        put_zigzag(out, bits as i64);
    }
    fn get(reader: &mut Reader<'_>) -> Option<u64> {
        reader.zigzag().map(|whole| whole as u64)
    }
}

impl Cell for f64 {
    fn bits(self) -> u64 {
        self.to_bits()
    }
    fn of(bits: u64) -> Self {
        f64::from_bits(bits)
    }
    fn put(out: &mut Vec<u8>, bits: u64) {
        out.extend_from_slice(&bits.to_le_bytes());
    }
    fn get(reader: &mut Reader<'_>) -> Option<u64> {
        reader.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::STALE_NAN_BITS;
    use proptest::prelude::*;

    use super::*;

    fn any_bits() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            any::<f64>().prop_map(f64::to_bits),
            (-1000i64..1000).prop_map(|whole| (whole as f64).to_bits()),
            (0..50u64).prop_map(|payload| STALE_NAN_BITS + payload),
            Just((-0.0f64).to_bits()),
            Just(f64::INFINITY.to_bits()),
        ]
    }

    fn any_points() -> impl Strategy<Value = Vec<Point>> {
        let steps = prop_oneof![Just(15_000i64), 1..100_000i64];
        let values =
            prop_oneof![prop::collection::vec(any_bits(), 0..300), any_bits().prop_map(|bits| vec![bits; 200])];
        (any::<i32>(), steps, any::<bool>(), values).prop_map(|(first, step, ragged, values)| {
            let time = |i: usize| i64::from(first) + i as i64 * step + if ragged { (i as i64 * 7) % step } else { 0 };
            values.into_iter().enumerate().map(|(i, bits)| (time(i), bits)).collect::<Vec<_>>()
        })
    }

    proptest! {
        #[test]
        fn every_bit_comes_back(points in any_points(), level in 0usize..9) {
            prop_assert_eq!(decode(&encode(&points, level)), Some(points));
        }

        #[test]
        fn arbitrary_bytes_decode_to_nothing_or_something_but_never_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_constant_series_on_a_grid_costs_almost_nothing() {
        let points: Vec<Point> = (0..480).map(|i| (1_700_000_000_000 + i * 15_000, 1.0f64.to_bits())).collect();
        assert!(encode(&points, 8).len() < 24);
    }
}
