//! Learning the network's weights across series, with gradients by candle.

use std::collections::HashMap;

use candle_core::{D, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};

use super::input::{RECENT, SEASONS, Season, WIDTH, course, show};
use super::network::{HIDDEN, LEVELS, Network, TENSORS};
use super::{Chance, made};
use crate::forecast::{Quantile, seasonality};
use crate::series::Window;

/// Horizons learnt in turn, in steps.
const HORIZONS: [usize; 3] = [12, 24, 48];
/// Fewest points a series is learnt from.
const FEWEST: usize = 160;
/// Steps at which series are seen beside their own, in milliseconds.
const STEPS: [i64; 4] = [60_000, 300_000, 900_000, 3_600_000];
/// One source of made series for so many real ones.
const MADE_IN: usize = 5;
/// Made series in a source.
const MADE: usize = 40;
/// Greatest step of the optimiser.
const RATE: f64 = 3e-3;
/// Most that one origin counts beside an ordinary one.
const MOST_WEIGHT: f64 = 4.0;

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Training {
    /// Batches to learn from.
    pub batches: usize,
    /// Origins in a batch.
    pub batch: usize,
    /// The same seed and series give the same weights on the same machine.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self { batches: 3000, batch: 128, seed: 1 }
    }
}

/// Why no network could be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// No series is long enough, or all repeat themselves exactly.
    #[error("none of the series has {FEWEST} points and changes from season to season")]
    NothingToLearn,
    /// The tensor library refused.
    #[error("the tensor library could not {action}")]
    Tensor {
        /// What was attempted.
        action: &'static str,
        /// What it says.
        source: candle_core::Error,
    },
    /// The weights could not be written down.
    #[error("the weights could not be written down")]
    Format(#[from] SafeTensorError),
}

/// Learns across the series of `sources` and gives the artefact's bytes (safetensors). Sources, such as the columns of one
/// file, count alike however many series they hold; each series is seen at its own step and averaged to 1, 5, 15 and 60
/// minutes. Made series with known seasons are learnt from as well. `report` hears the batches done and their mean loss
/// at every hundredth part of the way. With weights to `start` from, training goes on from there:
/// so a network is fitted to series of its own.
///
/// # Errors
/// [`TrainError`] when no series is long enough or the tensor library fails.
///
/// # Source
/// Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9, 1997; direct quantiles for all steps after
/// Wen, Torkkola, Narayanaswamy and Madeka, "A multi-horizon quantile recurrent forecaster", 2017; learning across series
/// after Salinas, Flunkert, Gasthaus and Januschowski, "DeepAR", Int. J. Forecasting 36, 2020; Loshchilov and Hutter,
/// "Decoupled weight decay regularization", ICLR 2019.
pub fn train(
    sources: &[Vec<Window>],
    training: &Training,
    start: Option<&Network>,
    mut report: impl FnMut(usize, f64),
) -> Result<Vec<u8>, TrainError> {
    let mut chance = Chance(training.seed);
    let learnt = |source: &Vec<Window>| source.iter().flat_map(at_every_step).filter_map(|y| Lesson::of(&y)).collect();
    let mut lessons: Vec<Vec<Lesson>> = sources.iter().map(learnt).filter(|l: &Vec<Lesson>| !l.is_empty()).collect();
    if lessons.is_empty() {
        return Err(TrainError::NothingToLearn);
    }
    for _ in 0..lessons.len().div_ceil(MADE_IN) {
        lessons.push((0..MADE).filter_map(|_| Lesson::of(&made::series(&mut chance))).collect());
    }
    let failed = |action| move |source| TrainError::Tensor { action, source };
    let weights = start.map_or_else(|| Weights::fresh(&mut chance), Weights::of).map_err(failed("make the weights"))?;
    let rate = ParamsAdamW { lr: RATE, weight_decay: 1e-3, ..ParamsAdamW::default() };
    let mut optimiser = AdamW::new(weights.0.to_vec(), rate).map_err(failed("make the optimiser"))?;
    let (part, mut losses) = ((training.batches / 100).max(1), 0.0);
    for round in 0..training.batches {
        let horizon = HORIZONS[round % HORIZONS.len()];
        let batch = Batch::draw(&lessons, training.batch, horizon, &mut chance).map_err(failed("make a batch"))?;
        optimiser.set_learning_rate(RATE * pace(round, training.batches));
        let loss = weights.loss(&batch).map_err(failed("compute the loss"))?;
        optimiser.backward_step(&loss).map_err(failed("take a step"))?;
        losses += f64::from(loss.to_scalar::<f32>().map_err(failed("read the loss"))?);
        if (round + 1) % part == 0 {
            report(round + 1, std::mem::take(&mut losses) / part as f64);
        }
    }
    weights.to_bytes().map_err(failed("read the weights"))?.write()
}

/// The values on their own grid, and averaged to each coarser one.
fn at_every_step(window: &Window) -> Vec<Vec<f64>> {
    let coarser =
        |millis: i64| (millis % window.step.as_millis() == 0).then(|| (millis / window.step.as_millis()) as usize);
    let mut every: Vec<usize> = STEPS.into_iter().filter_map(coarser).collect();
    if every.first() != Some(&1) {
        every.insert(0, 1);
    }
    every.into_iter().map(|every| window.values.chunks(every).map(mean_of_observed).collect()).collect()
}

/// NaN when nothing was observed.
fn mean_of_observed(values: &[f64]) -> f64 {
    let seen = || values.iter().filter(|v| v.is_finite());
    seen().sum::<f64>() / seen().count() as f64
}

/// Rises over the first twentieth, then falls as a cosine.
fn pace(round: usize, rounds: usize) -> f64 {
    let done = (round + 1) as f64 / rounds as f64;
    if done < 0.05 { done / 0.05 } else { 0.51 + 0.49 * (done * std::f64::consts::PI).cos() }
}

/// A series with what its seasons usually bring.
struct Lesson {
    y: Vec<f64>,
    seasons: Vec<(usize, Vec<f64>)>,
    /// Mean absolute difference to the shortest season before.
    size: f64,
}

impl Lesson {
    fn of(values: &[f64]) -> Option<Self> {
        let y = crate::forecast::clean::fill(values, None).filter(|y| y.len() >= FEWEST)?;
        let mut periods = seasonality::find(&y);
        periods.truncate(SEASONS);
        periods.retain(|p| 2 * p + RECENT + HORIZONS[2] < y.len());
        let lag = periods.first().copied().unwrap_or(1);
        let size = (lag..y.len()).map(|i| (y[i] - y[i - lag]).abs()).sum::<f64>() / (y.len() - lag) as f64;
        let seasons = periods.into_iter().map(|p| (p, course(&y, p))).collect();
        (size > 0.0).then_some(Self { y, seasons, size })
    }

    fn shown(&self, n: usize, horizon: usize) -> super::input::Shown {
        let seasons: Vec<_> =
            self.seasons.iter().map(|(period, usual)| Season { period: *period, usual: |i: usize| usual[i] }).collect();
        show(&self.y, n, &seasons, horizon)
    }

    /// An origin with enough before and after it.
    fn origin(&self, horizon: usize, chance: &mut Chance) -> usize {
        let first = self.seasons.last().map_or(0, |(p, _)| p + RECENT).max(RECENT + 1);
        first + chance.below(self.y.len() - horizon - first + 1)
    }
}

/// Inputs of shape `[step][batch, WIDTH]`, targets `[batch, horizon]` in units of each origin's scale, and what each
/// origin counts, `[batch, 1, 1]`.
struct Batch {
    inputs: Vec<Tensor>,
    targets: Tensor,
    weights: Tensor,
}

impl Batch {
    fn draw(lessons: &[Vec<Lesson>], size: usize, horizon: usize, chance: &mut Chance) -> candle_core::Result<Self> {
        let steps = RECENT + horizon;
        let mut inputs = vec![Vec::with_capacity(size * WIDTH); steps];
        let (mut targets, mut weights) = (Vec::with_capacity(size * horizon), Vec::with_capacity(size));
        while weights.len() < size {
            let source = &lessons[chance.below(lessons.len())];
            let lesson = &source[chance.below(source.len())];
            let n = lesson.origin(horizon, chance);
            let shown = lesson.shown(n, horizon);
            if shown.scale <= 1e-3 * lesson.size {
                continue;
            }
            let sign = if chance.below(4) == 0 { -1.0 } else { 1.0 };
            for (step, row) in inputs.iter_mut().zip(shown.inputs.chunks_exact(WIDTH)) {
                step.extend(row.iter().enumerate().map(|(i, v)| if i < 5 { sign as f32 * v } else { *v }));
            }
            let target = |v: &f64| (sign * (v - shown.last) / shown.scale) as f32;
            targets.extend(lesson.y[n..n + horizon].iter().map(target));
            weights.push((shown.scale / lesson.size).clamp(0.1, MOST_WEIGHT) as f32);
        }
        let cpu = Device::Cpu;
        let inputs =
            inputs.into_iter().map(|rows| Tensor::from_vec(rows, (size, WIDTH), &cpu)).collect::<Result<_, _>>()?;
        let targets = Tensor::from_vec(targets, (size, horizon), &cpu)?;
        Ok(Self { inputs, targets, weights: Tensor::from_vec(weights, (size, 1, 1), &cpu)? })
    }
}

/// The weights as variables, in the order of [`TENSORS`].
pub(super) struct Weights([Var; 8]);

impl Weights {
    fn of(network: &Network) -> candle_core::Result<Self> {
        let known = TENSORS.into_iter().zip(network.weights());
        Self::made(known.map(|((_, shape), values)| Var::from_vec(values.clone(), shape, &Device::Cpu)))
    }

    fn made(made: impl Iterator<Item = candle_core::Result<Var>>) -> candle_core::Result<Self> {
        let made: Vec<Var> = made.collect::<Result<_, _>>()?;
        Ok(Self(made.try_into().unwrap_or_else(|_| unreachable!("as many as there are names"))))
    }

    /// Small random weights; the forget gate starts open.
    fn fresh(chance: &mut Chance) -> candle_core::Result<Self> {
        let mut fresh = |(name, shape): (&str, &'static [usize])| {
            let count: usize = shape.iter().product();
            let reach = if shape.len() > 1 { (1.0 / shape[0] as f64).sqrt() } else { 0.0 };
            let mut values: Vec<f32> = (0..count).map(|_| (reach * chance.symmetric()) as f32).collect();
            if name == "recurrent.bias" {
                values[HIDDEN..2 * HIDDEN].fill(1.0);
            }
            Var::from_vec(values, shape, &Device::Cpu)
        };
        Self::made(TENSORS.into_iter().map(&mut fresh))
    }

    /// Quantiles relative to the newest value, shape `[batch, horizon, LEVELS]`, for inputs of shape
    /// `[step][batch, WIDTH]`.
    pub(super) fn answer(&self, inputs: &[Tensor]) -> candle_core::Result<Tensor> {
        let [input, recurrent, bias, from_state, from_input, answer_bias, weight, level_bias] = &self.0;
        let batch = inputs[0].dim(0)?;
        let mut state = Tensor::zeros((batch, HIDDEN), candle_core::DType::F32, &Device::Cpu)?;
        let mut cell = state.clone();
        let mut answers = Vec::with_capacity(inputs.len() - RECENT);
        for (at, shown) in inputs.iter().enumerate() {
            let gates = (shown.matmul(input)? + state.matmul(recurrent)?)?.broadcast_add(bias)?;
            let gate = |which: usize| gates.narrow(1, which * HIDDEN, HIDDEN);
            let kept = (sigmoid(&gate(1)?)? * &cell)?;
            cell = (kept + (sigmoid(&gate(0)?)? * gate(2)?.tanh()?)?)?;
            state = (sigmoid(&gate(3)?)? * cell.tanh()?)?;
            if at >= RECENT {
                let units =
                    (state.matmul(from_state)? + shown.matmul(from_input)?)?.broadcast_add(answer_bias)?.relu()?;
                let all = Tensor::cat(&[&units, shown], 1)?;
                answers.push(all.matmul(weight)?.broadcast_add(level_bias)?);
            }
        }
        let raw = Tensor::stack(&answers, 1)?;
        let level = |which: usize| raw.narrow(2, which, 1);
        let (middle, high) = (level(1)?, (level(1)? + softplus(&level(2)?)?)?);
        let low = (&middle - softplus(&level(0)?)?)?;
        let top = (&high + softplus(&level(3)?)?)?;
        Tensor::cat(&[&low, &middle, &high, &top], 2)
    }

    /// Mean weighted pinball loss over the standard quantiles.
    fn loss(&self, batch: &Batch) -> candle_core::Result<Tensor> {
        let errors = batch.targets.unsqueeze(D::Minus1)?.broadcast_sub(&self.answer(&batch.inputs)?)?;
        let levels: Vec<f32> = Quantile::STANDARD.iter().map(|q| q.value() as f32).collect();
        let levels = Tensor::from_vec(levels, (1, 1, LEVELS), &Device::Cpu)?;
        let above = errors.broadcast_mul(&levels)?;
        let pinball = above.maximum(&(&above - &errors)?)?;
        pinball.broadcast_mul(&batch.weights)?.mean_all()
    }

    fn to_bytes(&self) -> candle_core::Result<Plain> {
        let plain = |var: &Var| {
            let values = var.flatten_all()?.to_vec1::<f32>()?;
            Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect())
        };
        self.0.iter().map(plain).collect::<candle_core::Result<_>>().map(Plain)
    }
}

/// The bytes of each tensor, in the order of [`TENSORS`].
struct Plain(Vec<Vec<u8>>);

impl Plain {
    fn write(&self) -> Result<Vec<u8>, TrainError> {
        let mut views = HashMap::new();
        for ((name, shape), bytes) in TENSORS.into_iter().zip(&self.0) {
            views.insert(name, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?);
        }
        Ok(safetensors::serialize(views, None)?)
    }
}

fn sigmoid(x: &Tensor) -> candle_core::Result<Tensor> {
    candle_nn::ops::sigmoid(x)
}

fn softplus(x: &Tensor) -> candle_core::Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Step, Timestamp};

    fn source(chance: &mut Chance) -> Vec<Window> {
        let values = made::series(chance).into_iter().take(24 * 14).collect();
        vec![Window { start: Timestamp::from_secs(0), step: Step::from_secs(3600), values }]
    }

    fn short(batches: usize) -> Training {
        Training { batches, batch: 8, seed: 7 }
    }

    #[test]
    fn the_fused_pass_answers_what_the_tensor_library_answers() {
        let mut chance = Chance(3);
        let weights = Weights::fresh(&mut chance).unwrap();
        let network = Network::from_bytes(&weights.to_bytes().unwrap().write().unwrap()).unwrap();
        let inputs: Vec<f32> = (0..(RECENT + 5) * WIDTH).map(|_| (3.0 * chance.symmetric()) as f32).collect();
        let step = |rows: &[f32]| Tensor::from_vec(rows.to_vec(), (1, WIDTH), &Device::Cpu).unwrap();
        let tensors: Vec<Tensor> = inputs.chunks_exact(WIDTH).map(step).collect();
        let theirs = weights.answer(&tensors).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let ours = network.answer(&inputs);
        assert_eq!(ours.len(), 5 * LEVELS);
        assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-4), "{ours:?} {theirs:?}");
        assert!(ours.chunks_exact(LEVELS).all(|levels| levels.is_sorted()));
    }

    #[test]
    fn the_same_seed_gives_the_same_weights_and_another_start_others() {
        let sources = [source(&mut Chance(5))];
        let bytes = |start: Option<&Network>| train(&sources, &short(2), start, |_, _| {}).unwrap();
        let once = bytes(None);
        assert_eq!(once, bytes(None));
        assert_ne!(once, bytes(Some(&Network::from_bytes(&once).unwrap())));
    }

    #[test]
    fn training_lowers_the_loss() {
        let mut losses = Vec::new();
        train(&[source(&mut Chance(5))], &short(30), None, |_, loss| losses.push(loss)).unwrap();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        assert!(mean(&losses[20..]) < 0.95 * mean(&losses[..10]), "{losses:?}");
    }

    #[test]
    fn nothing_is_learnt_from_series_that_are_too_short_or_constant() {
        let window = |values: Vec<f64>| Window { start: Timestamp::from_secs(0), step: Step::from_secs(60), values };
        let sources = [vec![window(vec![1.0; 500]), window((0..50).map(f64::from).collect())]];
        assert!(matches!(train(&sources, &short(1), None, |_, _| {}), Err(TrainError::NothingToLearn)));
    }
}
