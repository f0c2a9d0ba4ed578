//! The newest errors of one step ahead, in order of time and in order of size.

use serde::{Deserialize, Serialize};

/// An error as sixteen bits that sort as the error does: sign, exponent and seven bits after the leading one. It is off by
/// a four hundredth at most, far less than a quantile of some hundred errors is known to; and of 400 series each keeps
/// thousands of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Code(u16);

impl Code {
    fn of(error: f32) -> Self {
        let bits = error.to_bits();
        let rounded = bits.saturating_add(0x7FFF + (bits >> 16 & 1)) >> 16;
        let upper = u16::try_from(rounded).unwrap_or(u16::MAX);
        Self(if upper & 0x8000 == 0 { upper | 0x8000 } else { !upper })
    }

    fn error(self) -> f32 {
        let upper = if self.0 & 0x8000 == 0 { !self.0 } else { self.0 & 0x7FFF };
        f32::from_bits(u32::from(upper) << 16)
    }
}

/// Errors in order of time and in order of size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub(super) struct Newest {
    /// In a ring, once there is no room for more.
    by_time: Vec<Code>,
    /// Place of the oldest in the ring.
    oldest: usize,
    /// The same, the least first; those taken in unsorted are missing.
    by_size: Vec<Code>,
    /// Whether errors have been thinned out.
    thinned: bool,
    /// Errors passed over since the last one kept.
    passed: usize,
}

#[derive(Clone, Serialize, Deserialize)]
struct Stored(Vec<f32>, bool, usize);

impl From<Stored> for Newest {
    fn from(Stored(errors, thinned, passed): Stored) -> Self {
        let by_time = errors.into_iter().map(Code::of).collect();
        let mut newest = Self { by_time, oldest: 0, by_size: Vec::new(), thinned, passed };
        newest.sort();
        newest
    }
}

impl From<Newest> for Stored {
    fn from(newest: Newest) -> Self {
        Self(newest.in_time().map(Code::error).collect(), newest.thinned, newest.passed)
    }
}

impl Newest {
    /// Errors seen.
    pub(super) fn len(&self) -> usize {
        self.by_size.len()
    }

    /// The error of this rank, the least first.
    pub(super) fn at(&self, rank: usize) -> f64 {
        f64::from(self.by_size[rank].error())
    }

    /// Whether errors have been thinned out.
    pub(super) fn is_thinned(&self) -> bool {
        self.thinned
    }

    /// Mean distance from `median` of the errors above it, or below: each side is half of them.
    pub(super) fn mean_distance(&self, median: f64, above: bool) -> f64 {
        let split = self.by_size.partition_point(|code| f64::from(code.error()) <= median);
        let (below, beyond) = self.by_size.split_at(split);
        let side = if above { beyond } else { below };
        let distance = (sum(side, Code::error) - side.len() as f64 * median).abs();
        2.0 * distance / self.len() as f64
    }

    pub(super) fn mean_size(&self) -> f64 {
        sum(&self.by_size, |code| code.error().abs()) / self.len() as f64
    }

    /// Takes in an error, of which `capacity` are kept; once there would be more, only one in `stride`.
    pub(super) fn push(&mut self, error: f32, (capacity, stride): (usize, usize)) {
        let Some(place) = self.place(capacity, stride) else { return };
        let code = Code::of(error);
        let gone = self.put(place, code);
        if let Some(rank) = gone.and_then(|gone| self.by_size.binary_search(&gone).ok()) {
            self.by_size.remove(rank);
        }
        let rank = self.by_size.partition_point(|other| *other < code);
        self.by_size.insert(rank, code);
    }

    /// As [`push`](Self::push), without its place in the order of size.
    pub(super) fn push_unsorted(&mut self, error: f32, (capacity, stride): (usize, usize)) {
        if let Some(place) = self.place(capacity, stride) {
            self.put(place, Code::of(error));
        }
    }

    /// Brings all errors into the order of size.
    pub(super) fn sort(&mut self) {
        self.by_size.clear();
        self.by_size.reserve_exact(self.by_time.capacity());
        self.by_size.extend_from_slice(&self.by_time);
        self.by_size.sort_unstable();
    }

    /// The oldest first.
    fn in_time(&self) -> impl DoubleEndedIterator<Item = Code> + ExactSizeIterator {
        let (newer, older) = self.by_time.split_at(self.oldest);
        let errors: Vec<Code> = [older, newer].concat();
        errors.into_iter()
    }

    /// The place for one more error, if this one is to be kept.
    fn place(&mut self, capacity: usize, stride: usize) -> Option<usize> {
        if self.by_time.len() >= capacity && !self.thinned && stride > 1 {
            self.thin(stride);
        }
        self.passed += 1;
        if self.thinned && self.passed < stride {
            return None;
        }
        self.passed = 0;
        let room = capacity.saturating_sub(self.by_time.len());
        self.by_time.reserve_exact(room);
        Some(if room > 0 { self.by_time.len() } else { self.oldest })
    }

    /// Gives the error that had to go.
    fn put(&mut self, place: usize, code: Code) -> Option<Code> {
        let Some(oldest) = self.by_time.get_mut(place) else {
            self.by_time.push(code);
            return None;
        };
        let gone = std::mem::replace(oldest, code);
        self.oldest = (place + 1) % self.by_time.len();
        Some(gone)
    }

    fn thin(&mut self, stride: usize) {
        let sorted = !self.by_size.is_empty();
        let mut kept: Vec<Code> = self.in_time().rev().step_by(stride).collect();
        kept.reverse();
        self.by_time.clear();
        self.by_time.extend(kept);
        (self.oldest, self.thinned, self.passed) = (0, true, 0);
        if sorted {
            self.sort();
        }
    }
}

/// Summed in eight lanes, as this is asked at every point of many steps.
fn sum(codes: &[Code], value: impl Fn(Code) -> f32) -> f64 {
    let (eights, rest) = codes.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for eight in eights {
        lanes.iter_mut().zip(eight).for_each(|(lane, code)| *lane += f64::from(value(*code)));
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|code| f64::from(value(*code))).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::noise;

    #[test]
    fn sixteen_bits_keep_the_order_and_a_four_hundredth() {
        let errors: Vec<f32> = (0..2000).map(|i| (noise(i) * 10f64.powi((i % 60) as i32 - 30)) as f32).collect();
        for pair in errors.windows(2) {
            let (a, b) = (Code::of(pair[0]), Code::of(pair[1]));
            assert!((a.error() - pair[0]).abs() <= pair[0].abs() / 256.0, "{pair:?}");
            assert!(if pair[0] < pair[1] { a <= b } else { b <= a }, "{pair:?}");
        }
        for exact in [0.0, -1.0, 255.0, -0.75] {
            assert_eq!(Code::of(exact).error(), exact);
        }
        for greatest in [f32::MAX, f32::MIN] {
            assert_eq!(Code::of(greatest).error().signum(), greatest.signum());
        }
    }

    #[test]
    fn the_order_of_size_follows_what_comes_and_goes() {
        let (mut live, mut at_once) = (Newest::default(), Newest::default());
        for i in 0..500 {
            let error = noise(i) as f32;
            live.push(error, (64, 1));
            at_once.push_unsorted(error, (64, 1));
        }
        at_once.sort();
        assert_eq!(live, at_once);
        let distance = live.mean_distance(live.at(32), true);
        let plain = (33..64).map(|rank| live.at(rank) - live.at(32)).sum::<f64>() / 32.0;
        assert!((distance - plain).abs() < 1e-9);
    }

    #[test]
    fn what_was_written_down_is_read_again() {
        let mut newest = Newest::default();
        (0..100).for_each(|i| newest.push(noise(i) as f32, (30, 2)));
        let again: Newest = serde_json::from_str(&serde_json::to_string(&newest).expect("plain")).expect("the same");
        newest.push(1.0, (30, 2));
        let mut pushed = again;
        pushed.push(1.0, (30, 2));
        assert_eq!(newest.by_size, pushed.by_size);
    }
}
