//! The network without a tensor library: one fused pass over plain slices.

use safetensors::{Dtype, SafeTensors};

use super::input::{RECENT, WIDTH};

/// Units of the recurrent layer.
pub(crate) const HIDDEN: usize = 48;
/// Units of the layer that answers.
pub(crate) const ANSWER: usize = 32;
/// Quantiles answered: 0.1, 0.5, 0.9, 0.95.
pub(crate) const LEVELS: usize = 4;

/// Names and shapes of the tensors of an artefact.
pub(crate) const TENSORS: [(&str, &[usize]); 8] = [
    ("recurrent.input", &[WIDTH, 4 * HIDDEN]),
    ("recurrent.state", &[HIDDEN, 4 * HIDDEN]),
    ("recurrent.bias", &[4 * HIDDEN]),
    ("answer.state", &[HIDDEN, ANSWER]),
    ("answer.input", &[WIDTH, ANSWER]),
    ("answer.bias", &[ANSWER]),
    ("levels.weight", &[ANSWER + WIDTH, LEVELS]),
    ("levels.bias", &[LEVELS]),
];

/// Why bytes are no network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotANetwork {
    /// The bytes are not in the safetensors format.
    #[error("the artefact is not in the safetensors format")]
    Format(#[from] safetensors::SafeTensorError),
    /// A tensor is missing or has another shape or type than this version needs.
    #[error("the artefact's tensor {name} is not of type f32 and shape {shape:?}; train it anew with this version")]
    Tensor {
        /// Which.
        name: &'static str,
        /// What is needed.
        shape: &'static [usize],
    },
    /// A weight is not finite.
    #[error("the artefact's tensor {name} holds a value that is not finite")]
    NotFinite {
        /// Which.
        name: &'static str,
    },
}

/// The weights, in the order of [`TENSORS`].
#[derive(Clone, Debug, PartialEq)]
pub struct Network([Vec<f32>; 8]);

impl Network {
    /// Reads an artefact.
    ///
    /// # Errors
    /// [`NotANetwork`] when it is not one of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotANetwork> {
        Self::named(bytes, "")
    }

    /// As [`from_bytes`](Self::from_bytes), with `before` before the name of each tensor.
    pub(super) fn named(bytes: &[u8], before: &str) -> Result<Self, NotANetwork> {
        let tensors = SafeTensors::deserialize(bytes)?;
        let mut weights = <[Vec<f32>; 8]>::default();
        for ((name, shape), weights) in TENSORS.into_iter().zip(&mut weights) {
            let found = tensors
                .tensor(&format!("{before}{name}"))
                .ok()
                .filter(|t| t.dtype() == Dtype::F32 && t.shape() == shape);
            let found = found.ok_or(NotANetwork::Tensor { name, shape })?;
            let value = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
            *weights = found.data().as_chunks::<4>().0.iter().map(value).collect();
            if weights.iter().any(|w| !w.is_finite()) {
                return Err(NotANetwork::NotFinite { name });
            }
        }
        Ok(Self(weights))
    }

    /// The weights that come with the program.
    #[must_use]
    pub fn pretrained() -> Option<Self> {
        Self::from_bytes(include_bytes!("../../../pretrained/lstm.safetensors")).ok()
    }

    /// The weights, in the order of [`TENSORS`].
    pub(super) fn weights(&self) -> &[Vec<f32>; 8] {
        &self.0
    }

    /// The answer to `inputs` (shape `[RECENT + horizon][WIDTH]`): quantiles relative to the newest value, shape
    /// `[horizon][LEVELS]`, flattened; they never cross. Runs on the widest vectors the processor has; every lane does the
    /// same sums in the same order, so that all processors give the same answer.
    pub(crate) fn answer(&self, inputs: &[f32]) -> Vec<f32> {
        pulp::Arch::new().dispatch(Pass { network: self, inputs })
    }

    #[inline(always)]
    fn pass(&self, inputs: &[f32]) -> Vec<f32> {
        let [input, recurrent, bias, ..] = &self.0;
        let (mut state, mut cell) = ([0.0; HIDDEN], [0.0; HIDDEN]);
        let mut gates = [0.0; 4 * HIDDEN];
        let mut answer = Vec::with_capacity((inputs.len() / WIDTH).saturating_sub(RECENT) * LEVELS);
        for (at, shown) in inputs.chunks_exact(WIDTH).enumerate() {
            gates.copy_from_slice(bias);
            add_product::<TILE>(&mut gates, shown, input);
            add_product::<TILE>(&mut gates, &state, recurrent);
            step(&gates, &mut cell, &mut state);
            if at >= RECENT {
                answer.extend(self.levels(&state, shown));
            }
        }
        answer
    }

    /// The median, and the other levels at distances from it that are sums of positive numbers.
    #[inline(always)]
    fn levels(&self, state: &[f32; HIDDEN], shown: &[f32]) -> [f32; LEVELS] {
        let [.., from_state, from_input, bias, weight, level_bias] = &self.0;
        let mut units = [0.0; ANSWER];
        units.copy_from_slice(bias);
        add_product::<ANSWER>(&mut units, state, from_state);
        add_product::<ANSWER>(&mut units, shown, from_input);
        units.iter_mut().for_each(|u| *u = u.max(0.0));
        let mut raw = [0.0; LEVELS];
        raw.copy_from_slice(level_bias);
        add_product::<LEVELS>(&mut raw, &units, weight);
        add_product::<LEVELS>(&mut raw, shown, &weight[ANSWER * LEVELS..]);
        let [down, middle, up, further] = raw;
        let high = middle + softplus(up);
        [middle - softplus(down), middle, high, high + softplus(further)]
    }
}

/// One pass over `inputs`; not a closure, as those are not always put into the code made for the wider vectors.
struct Pass<'a> {
    network: &'a Network,
    inputs: &'a [f32],
}

impl pulp::NullaryFnOnce for Pass<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn call(self) -> Vec<f32> {
        self.network.pass(self.inputs)
    }
}

/// Outputs summed side by side, so that their sums stay in registers.
const TILE: usize = 96;

/// Adds `x` (shape `[n]`) times `weights` (shape `[n][out]`) to `out`, whose length `N` divides.
#[inline(always)]
fn add_product<const N: usize>(out: &mut [f32], x: &[f32], weights: &[f32]) {
    let width = out.len();
    for (tile, out) in out.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        let mut sums = *out;
        for (x, row) in x.iter().zip(weights.chunks_exact(width)) {
            for (sum, w) in sums.iter_mut().zip(&row[tile * N..][..N]) {
                *sum += x * w;
            }
        }
        *out = sums;
    }
}

/// One step of the recurrent layer: gates to take in, to keep, of what is new, and to show.
#[inline(always)]
fn step(gates: &[f32; 4 * HIDDEN], cell: &mut [f32; HIDDEN], state: &mut [f32; HIDDEN]) {
    let (take, gates) = gates.split_at(HIDDEN);
    let (keep, gates) = gates.split_at(HIDDEN);
    let (new, show) = gates.split_at(HIDDEN);
    for unit in 0..HIDDEN {
        cell[unit] = sigmoid(keep[unit]) * cell[unit] + sigmoid(take[unit]) * tanh(new[unit]);
        state[unit] = sigmoid(show[unit]) * tanh(cell[unit]);
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    2.0 * sigmoid(2.0 * x) - 1.0
}

fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The exponential function to six digits without branches, so that many are computed at once: a power of two by its bits
/// times a polynomial of what is left, at most half of ln 2. Arguments beyond ±87 count as that.
///
/// # Source
/// Cody and Waite, "Software manual for the elementary functions", 1980, for the reduction in two parts; the polynomial is
/// the Taylor series.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it leaves no bits behind the point
    let x = x.clamp(-87.0, 87.0);
    let power = x * std::f32::consts::LOG2_E + ROUND;
    let whole = power - ROUND;
    let rest = (x - whole * 0.693_359_4) + whole * 2.121_944_4e-4;
    let mut value = 1.0 / 720.0;
    for term in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        value = value * rest + term;
    }
    value * f32::from_bits(power.to_bits().wrapping_add(127) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artefact(change: impl Fn(&mut [f32])) -> Vec<u8> {
        let made: Vec<Vec<u8>> = TENSORS
            .iter()
            .map(|(_, shape)| {
                let mut values = vec![0.01; shape.iter().product()];
                change(&mut values);
                values.iter().flat_map(|v: &f32| v.to_le_bytes()).collect()
            })
            .collect();
        let view = |((name, shape), bytes): ((&'static str, &'static [usize]), &'_ Vec<u8>)| {
            let bytes: &'static [u8] = bytes.clone().leak();
            (name, safetensors::tensor::TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap())
        };
        safetensors::serialize(TENSORS.into_iter().zip(&made).map(view), None).unwrap()
    }

    #[test]
    fn the_exponential_agrees_with_that_of_the_library() {
        for i in -870..=870i16 {
            let x = f32::from(i) / 10.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 2e-6, "{x}");
        }
        assert!(exp(f32::INFINITY).is_finite() && exp(f32::NEG_INFINITY) > 0.0);
    }

    #[test]
    fn a_network_is_refused_with_the_tensor_that_is_wrong() {
        assert!(Network::from_bytes(&artefact(|_| {})).is_ok());
        assert!(matches!(Network::from_bytes(b"no network"), Err(NotANetwork::Format(_))));
        let broken = Network::from_bytes(&artefact(|values| values[0] = f32::NAN)).unwrap_err();
        assert_eq!(broken.to_string(), "the artefact's tensor recurrent.input holds a value that is not finite");
    }
}
