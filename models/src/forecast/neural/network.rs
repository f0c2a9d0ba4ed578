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
        let tensors = SafeTensors::deserialize(bytes)?;
        let mut weights = <[Vec<f32>; 8]>::default();
        for ((name, shape), weights) in TENSORS.into_iter().zip(&mut weights) {
            let found = tensors.tensor(name).ok().filter(|t| t.dtype() == Dtype::F32 && t.shape() == shape);
            let found = found.ok_or(NotANetwork::Tensor { name, shape })?;
            let value = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
            *weights = found.data().as_chunks::<4>().0.iter().map(value).collect();
            if weights.iter().any(|w| !w.is_finite()) {
                return Err(NotANetwork::NotFinite { name });
            }
        }
        Ok(Self(weights))
    }

    /// The weights, in the order of [`TENSORS`].
    pub(super) fn weights(&self) -> &[Vec<f32>; 8] {
        &self.0
    }

    /// The answer to `inputs` (shape `[RECENT + horizon][WIDTH]`): quantiles relative to the newest value, shape
    /// `[horizon][LEVELS]`, flattened; they never cross.
    pub(crate) fn answer(&self, inputs: &[f32]) -> Vec<f32> {
        let [input, recurrent, bias, ..] = &self.0;
        let (mut state, mut cell) = ([0.0; HIDDEN], [0.0; HIDDEN]);
        let mut gates = [0.0; 4 * HIDDEN];
        let mut answer = Vec::with_capacity((inputs.len() / WIDTH).saturating_sub(RECENT) * LEVELS);
        for (at, shown) in inputs.chunks_exact(WIDTH).enumerate() {
            gates.copy_from_slice(bias);
            add_product(&mut gates, shown, input);
            add_product(&mut gates, &state, recurrent);
            for (unit, (cell, state)) in cell.iter_mut().zip(&mut state).enumerate() {
                let gate = |which: usize| gates[which * HIDDEN + unit];
                *cell = sigmoid(gate(1)) * *cell + sigmoid(gate(0)) * tanh(gate(2));
                *state = sigmoid(gate(3)) * tanh(*cell);
            }
            if at >= RECENT {
                answer.extend(self.levels(&state, shown));
            }
        }
        answer
    }

    /// The median, and the other levels at distances from it that are sums of positive numbers.
    fn levels(&self, state: &[f32; HIDDEN], shown: &[f32]) -> [f32; LEVELS] {
        let [.., from_state, from_input, bias, weight, level_bias] = &self.0;
        let mut units = [0.0; ANSWER];
        units.copy_from_slice(bias);
        add_product(&mut units, state, from_state);
        add_product(&mut units, shown, from_input);
        units.iter_mut().for_each(|u| *u = u.max(0.0));
        let mut raw = [0.0; LEVELS];
        raw.copy_from_slice(level_bias);
        add_product(&mut raw, &units, weight);
        add_product(&mut raw, shown, &weight[ANSWER * LEVELS..]);
        let [down, middle, up, further] = raw;
        let high = middle + softplus(up);
        [middle - softplus(down), middle, high, high + softplus(further)]
    }
}

/// Adds `x` (shape `[n]`) times `weights` (shape `[n][out]`) to `out`.
fn add_product(out: &mut [f32], x: &[f32], weights: &[f32]) {
    for (x, row) in x.iter().zip(weights.chunks_exact(out.len())) {
        if *x != 0.0 {
            out.iter_mut().zip(row).for_each(|(o, w)| *o += x * w);
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn tanh(x: f32) -> f32 {
    2.0 * sigmoid(2.0 * x) - 1.0
}

fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
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
    fn a_network_is_refused_with_the_tensor_that_is_wrong() {
        assert!(Network::from_bytes(&artefact(|_| {})).is_ok());
        assert!(matches!(Network::from_bytes(b"no network"), Err(NotANetwork::Format(_))));
        let broken = Network::from_bytes(&artefact(|values| values[0] = f32::NAN)).unwrap_err();
        assert_eq!(broken.to_string(), "the artefact's tensor recurrent.input holds a value that is not finite");
    }
}
