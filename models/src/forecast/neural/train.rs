//! Learning the network's weights across series, with gradients by candle.

use std::collections::HashMap;

use candle_core::{D, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};

use super::input::{RECENT, SEASONS, Season, WIDTH, course, show};
use super::network::{HIDDEN, LEVELS, Network, NotANetwork, TENSORS};
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
/// Looks at what is held out on the whole way.
const LOOKS: usize = 20;
/// Batches between two turns of the pool.
const TURN: usize = 3;
/// Origins of a look, for each horizon.
const LOOKED_AT: usize = 48;
/// What the best weights are called in a checkpoint, before their names.
const BEST: &str = "best.";
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
    /// A source could not be read.
    #[error("a source could not be read: {0}")]
    Source(String),
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
    let course = Course { training: *training, pool: usize::MAX, held_out: 0.0, ..Course::default() };
    let mut supply = sources.iter().cloned();
    let mut next = || Ok(supply.next());
    let learnt = learn(&mut next, &course, start.map(Checkpoint::begin), |news| report(news.batches, news.loss))?;
    Ok(learnt.weights)
}

/// How to learn from more than memory holds, and when to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Course {
    /// How much to learn, and with which seed.
    pub training: Training,
    /// Numbers (of eight bytes) of series held at once; beyond it one source after the other takes the place of the oldest.
    pub pool: usize,
    /// Share of each series at its end that is not learnt from, but looked at to see when to stop; 0 to 0.5. At 0 nothing
    /// stops early.
    pub held_out: f64,
    /// Looks at what is held out without betterment, after which learning ends; there are twenty looks on the whole way.
    pub patience: usize,
}

impl Default for Course {
    fn default() -> Self {
        Self { training: Training::default(), pool: 16 << 20, held_out: 0.15, patience: 5 }
    }
}

/// Where learning was left: to go on from there.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    network: Network,
    best: Network,
    batches: usize,
    best_loss: f64,
}

/// How far learning has come.
pub struct News<'a> {
    /// Batches learnt from.
    pub batches: usize,
    /// Their mean loss since the last news.
    pub loss: f64,
    /// Loss on what is held out, at a look.
    pub held_out: Option<f64>,
    state: &'a Weights,
    best: &'a (f64, Plain),
}

/// What learning came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Learnt {
    /// The artefact's bytes (safetensors): the weights that did best on what is held out, or the last where nothing is.
    pub weights: Vec<u8>,
    /// Batches learnt from.
    pub batches: usize,
    /// Least loss on what is held out; `None` where nothing is.
    pub held_out: Option<f64>,
}

impl Checkpoint {
    /// From these weights, with the whole way before it.
    #[must_use]
    pub fn begin(network: &Network) -> Self {
        Self { network: network.clone(), best: network.clone(), batches: 0, best_loss: f64::INFINITY }
    }

    /// Reads what [`News::checkpoint`] gave.
    ///
    /// # Errors
    /// [`NotANetwork`] when it is none of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotANetwork> {
        let (_, head) = safetensors::SafeTensors::read_metadata(bytes)?;
        let told = |key: &str| head.metadata().as_ref().and_then(|m| m.get(key)).cloned();
        let network = Network::from_bytes(bytes)?;
        let best = Network::named(bytes, BEST)?;
        let batches = told("batches").and_then(|n| n.parse().ok()).unwrap_or(0);
        let best_loss = told("best_loss").and_then(|n| n.parse().ok()).unwrap_or(f64::INFINITY);
        Ok(Self { network, best, batches, best_loss })
    }
}

impl News<'_> {
    /// What to keep so that learning can go on from here. The optimiser's moments are not in it: they are found again within
    /// some dozens of batches.
    ///
    /// # Errors
    /// When the weights cannot be written down.
    pub fn checkpoint(&self) -> Result<Vec<u8>, TrainError> {
        let failed = |source| TrainError::Tensor { action: "read the weights", source };
        let told = [("batches", self.batches.to_string()), ("best_loss", self.best.0.to_string())];
        let told = told.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let now = self.state.to_bytes().map_err(failed)?;
        let mut views = now.views("")?;
        views.extend(self.best.1.views(BEST)?);
        Ok(safetensors::serialize(views, Some(told))?)
    }
}

/// As [`train`], from sources that come one by one (`None` at their end; where not all fit into the pool, they are asked for
/// again from the first), with a part of each series held out to see when to stop. `report` hears at each twentieth and each
/// hundredth part of the way.
///
/// # Errors
/// As [`train`].
pub fn learn(
    supply: &mut Supply<'_>,
    course: &Course,
    from: Option<Checkpoint>,
    mut report: impl FnMut(&News<'_>),
) -> Result<Learnt, TrainError> {
    let Training { batches, batch, seed } = course.training;
    let failed = |action| move |source| TrainError::Tensor { action, source };
    let begun = from.as_ref().map_or(0, |from| from.batches);
    let mut chance = Chance(seed.wrapping_add(begun as u64));
    let mut pool = Pool::fill(supply, course)?;
    pool.add_made(&mut chance);
    let looked_at = Batch::held_out(&pool.lessons, seed).map_err(failed("make a batch"))?;
    let start = from.as_ref().map(|from| &from.network);
    let weights = start.map_or_else(|| Weights::fresh(&mut chance), Weights::of).map_err(failed("make the weights"))?;
    let rate = ParamsAdamW { lr: RATE, weight_decay: 1e-3, ..ParamsAdamW::default() };
    let mut optimiser = AdamW::new(weights.0.to_vec(), rate).map_err(failed("make the optimiser"))?;
    let mut best = match &from {
        Some(from) => (from.best_loss, Plain::of(&from.best)),
        None => (f64::INFINITY, weights.to_bytes().map_err(failed("read the weights"))?),
    };
    let (part, look, mut patience) = ((batches / 100).max(1), (batches / LOOKS).max(1), course.patience);
    let (mut losses, mut summed, mut done) = (0.0, 0, begun);
    while done < batches && patience > 0 {
        let horizon = HORIZONS[done % HORIZONS.len()];
        let drawn = Batch::draw(&pool.lessons, batch, horizon, &mut chance).map_err(failed("make a batch"))?;
        optimiser.set_learning_rate(RATE * pace(done, batches));
        let loss = weights.loss(&drawn).map_err(failed("compute the loss"))?;
        optimiser.backward_step(&loss).map_err(failed("take a step"))?;
        losses += f64::from(loss.to_scalar::<f32>().map_err(failed("read the loss"))?);
        (done, summed) = (done + 1, summed + 1);
        pool.turn(supply, course, done)?;
        let held_out =
            if done.is_multiple_of(look) || done == batches { weights.mean_loss(&looked_at) } else { Ok(None) };
        let held_out = held_out.map_err(failed("compute the loss"))?;
        if let Some(loss) = held_out {
            patience = if loss < best.0 { course.patience } else { patience - 1 };
            if loss < best.0 {
                best = (loss, weights.to_bytes().map_err(failed("read the weights"))?);
            }
        }
        if done.is_multiple_of(part) || held_out.is_some() {
            let loss = std::mem::take(&mut losses) / std::mem::take(&mut summed).max(1) as f64;
            report(&News { batches: done, loss, held_out, state: &weights, best: &best });
        }
    }
    let kept = if best.0.is_finite() { best.1 } else { weights.to_bytes().map_err(failed("read the weights"))? };
    Ok(Learnt { weights: kept.write()?, batches: done, held_out: best.0.is_finite().then_some(best.0) })
}

/// Gives the next source, `None` after the last, from where it begins anew; or says why it cannot.
pub type Supply<'a> = dyn FnMut() -> Result<Option<Vec<Window>>, String> + 'a;

/// The sources that are learnt from at present.
struct Pool {
    /// The real ones, then the made ones.
    lessons: Vec<Vec<Lesson>>,
    real: usize,
    /// Which gives way next.
    oldest: usize,
    whole: bool,
}

impl Pool {
    fn fill(supply: &mut Supply<'_>, course: &Course) -> Result<Self, TrainError> {
        let (mut lessons, mut held, mut whole) = (Vec::new(), 0, true);
        while let Some(source) = supply().map_err(TrainError::Source)? {
            let source = learnt_from(&source, course.held_out);
            held += source.iter().map(Lesson::numbers).sum::<usize>();
            lessons.extend((!source.is_empty()).then_some(source));
            if held >= course.pool {
                whole = false;
                break;
            }
        }
        let real = lessons.len();
        if real == 0 { Err(TrainError::NothingToLearn) } else { Ok(Self { lessons, real, oldest: 0, whole }) }
    }

    fn add_made(&mut self, chance: &mut Chance) {
        for _ in 0..self.real.div_ceil(MADE_IN) {
            let made = (0..MADE).filter_map(|_| Lesson::of(&made::series(chance), 0.0)).collect();
            self.lessons.push(made);
        }
    }

    /// Now and then, where not all fit, the next source takes the place of the oldest.
    fn turn(&mut self, supply: &mut Supply<'_>, course: &Course, done: usize) -> Result<(), TrainError> {
        if self.whole || !done.is_multiple_of(TURN) {
            return Ok(());
        }
        let mut ask = || supply().map_err(TrainError::Source);
        let Some(next) = ask().transpose().or_else(|| ask().transpose()).transpose()? else { return Ok(()) };
        let next = learnt_from(&next, course.held_out);
        if !next.is_empty() {
            self.lessons[self.oldest] = next;
            self.oldest = (self.oldest + 1) % self.real;
        }
        Ok(())
    }
}

fn learnt_from(source: &[Window], held_out: f64) -> Vec<Lesson> {
    source.iter().flat_map(at_every_step).filter_map(|y| Lesson::of(&y, held_out)).collect()
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
    /// What comes from here on is held out.
    cut: usize,
    seasons: Vec<(usize, Vec<f64>)>,
    /// Mean absolute difference to the shortest season before.
    size: f64,
}

impl Lesson {
    /// Periods and size are those of what is not held out.
    fn of(values: &[f64], held_out: f64) -> Option<Self> {
        let y = crate::forecast::clean::fill(values, None)?;
        let cut = y.len() - (y.len() as f64 * held_out.clamp(0.0, 0.5)) as usize;
        let known = y.get(..cut).filter(|known| known.len() >= FEWEST)?;
        let mut periods = seasonality::find(known);
        periods.truncate(SEASONS);
        periods.retain(|p| 2 * p + RECENT + HORIZONS[2] < cut);
        let lag = periods.first().copied().unwrap_or(1);
        let size = (lag..cut).map(|i| (y[i] - y[i - lag]).abs()).sum::<f64>() / (cut - lag) as f64;
        let seasons = periods.into_iter().map(|p| (p, course(&y, p))).collect();
        (size > 0.0).then_some(Self { y, cut, seasons, size })
    }

    /// How many numbers it holds.
    fn numbers(&self) -> usize {
        self.y.len() * (1 + self.seasons.len())
    }

    fn shown(&self, n: usize, horizon: usize) -> super::input::Shown {
        let seasons: Vec<_> =
            self.seasons.iter().map(|(period, usual)| Season { period: *period, usual: |i: usize| usual[i] }).collect();
        show(&self.y, n, &seasons, horizon)
    }

    /// An origin with enough before and after it.
    fn origin(&self, horizon: usize, chance: &mut Chance) -> usize {
        let first = self.seasons.last().map_or(0, |(p, _)| p + RECENT).max(RECENT + 1);
        first + chance.below(self.cut - horizon - first + 1)
    }

    /// An origin in what is held out; `None` where that is too short.
    fn origin_held_out(&self, horizon: usize, chance: &mut Chance) -> Option<usize> {
        let room = (self.y.len() - self.cut).checked_sub(horizon)?;
        Some(self.cut + chance.below(room + 1))
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
        let mut making = Making::new(size, horizon);
        while making.weights.len() < size {
            let source = &lessons[chance.below(lessons.len())];
            let lesson = &source[chance.below(source.len())];
            let n = lesson.origin(horizon, chance);
            making.add(lesson, n, chance);
        }
        making.end()
    }

    /// The same origins of what is held out for every look, a batch for each horizon; none where nothing is held out.
    fn held_out(lessons: &[Vec<Lesson>], seed: u64) -> candle_core::Result<Vec<Self>> {
        let mut chance = Chance(!seed);
        let mut batches = Vec::new();
        for horizon in HORIZONS {
            let mut making = Making::new(LOOKED_AT, horizon);
            for _ in 0..8 * LOOKED_AT {
                let source = &lessons[chance.below(lessons.len())];
                let lesson = &source[chance.below(source.len())];
                if let Some(n) =
                    lesson.origin_held_out(horizon, &mut chance).filter(|_| making.weights.len() < LOOKED_AT)
                {
                    making.add(lesson, n, &mut chance);
                }
            }
            if !making.weights.is_empty() {
                batches.push(making.end()?);
            }
        }
        Ok(batches)
    }
}

/// A batch that is being put together.
struct Making {
    horizon: usize,
    inputs: Vec<Vec<f32>>,
    targets: Vec<f32>,
    weights: Vec<f32>,
}

impl Making {
    fn new(size: usize, horizon: usize) -> Self {
        let inputs = vec![Vec::with_capacity(size * WIDTH); RECENT + horizon];
        Self { horizon, inputs, targets: Vec::with_capacity(size * horizon), weights: Vec::with_capacity(size) }
    }

    /// Takes the origin in, now and then upside down; not where nothing in view differs.
    fn add(&mut self, lesson: &Lesson, n: usize, chance: &mut Chance) {
        let shown = lesson.shown(n, self.horizon);
        if shown.scale <= 1e-3 * lesson.size {
            return;
        }
        let sign = if chance.below(4) == 0 { -1.0 } else { 1.0 };
        for (step, row) in self.inputs.iter_mut().zip(shown.inputs.chunks_exact(WIDTH)) {
            step.extend(row.iter().enumerate().map(|(i, v)| if i < 5 { sign as f32 * v } else { *v }));
        }
        let target = |v: &f64| (sign * (v - shown.last) / shown.scale) as f32;
        self.targets.extend(lesson.y[n..n + self.horizon].iter().map(target));
        self.weights.push((shown.scale / lesson.size).clamp(0.1, MOST_WEIGHT) as f32);
    }

    fn end(self) -> candle_core::Result<Batch> {
        let (cpu, size) = (Device::Cpu, self.weights.len());
        let rows = self.inputs.into_iter();
        let inputs = rows.map(|rows| Tensor::from_vec(rows, (size, WIDTH), &cpu)).collect::<Result<_, _>>()?;
        let targets = Tensor::from_vec(self.targets, (size, self.horizon), &cpu)?;
        Ok(Batch { inputs, targets, weights: Tensor::from_vec(self.weights, (size, 1, 1), &cpu)? })
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

    /// The mean over `batches`; `None` where there are none.
    fn mean_loss(&self, batches: &[Batch]) -> candle_core::Result<Option<f64>> {
        let mut sum = 0.0;
        for batch in batches {
            sum += f64::from(self.loss(batch)?.to_scalar::<f32>()?);
        }
        Ok((!batches.is_empty()).then(|| sum / batches.len() as f64))
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
    fn of(network: &Network) -> Self {
        let plain = |values: &Vec<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self(network.weights().iter().map(plain).collect())
    }

    /// The tensors by name, with `before` before each.
    fn views(&self, before: &str) -> Result<HashMap<String, TensorView<'_>>, TrainError> {
        let mut views = HashMap::new();
        for ((name, shape), bytes) in TENSORS.into_iter().zip(&self.0) {
            views.insert(format!("{before}{name}"), TensorView::new(Dtype::F32, shape.to_vec(), bytes)?);
        }
        Ok(views)
    }

    fn write(&self) -> Result<Vec<u8>, TrainError> {
        Ok(safetensors::serialize(self.views("")?, None)?)
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
    fn learning_that_was_broken_off_goes_on_from_its_checkpoint_and_keeps_the_best() {
        let mut supply = std::iter::once(source(&mut Chance(5)));
        let course = Course { training: short(4), ..Course::default() };
        let mut kept = Vec::new();
        let whole = learn(&mut || Ok(supply.next()), &course, None, |news| {
            kept.push((news.batches, news.checkpoint().unwrap()))
        });
        let whole = whole.unwrap();
        assert!(whole.held_out.is_some_and(f64::is_finite) && whole.batches == 4);
        let (at, bytes) = &kept[1];
        let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
        assert_eq!((checkpoint.batches, *at), (2, 2));
        let mut supply = std::iter::once(source(&mut Chance(5)));
        let mut heard = Vec::new();
        let on = learn(&mut || Ok(supply.next()), &course, Some(checkpoint.clone()), |news| heard.push(news.batches))
            .unwrap();
        assert_eq!(heard, [3, 4]);
        assert!(on.held_out <= Some(checkpoint.best_loss), "{on:?}");
        assert!(Checkpoint::from_bytes(&bytes[..bytes.len() - 9]).is_err());
    }

    #[test]
    fn learning_that_does_not_get_better_stops_early() {
        let mut supply = std::iter::once(source(&mut Chance(5)));
        let course = Course { training: Training { batches: 400, ..short(0) }, patience: 0, ..Course::default() };
        assert_eq!(learn(&mut || Ok(supply.next()), &course, None, |_| {}).unwrap().batches, 0);
    }

    #[test]
    fn a_small_pool_holds_few_sources_and_asks_for_them_in_turn() {
        let windows: Vec<Vec<Window>> = (0..6).map(|seed| source(&mut Chance(seed))).collect();
        let (mut next, mut asked) = (0, Vec::new());
        let mut supply = || {
            asked.push(next);
            next = (next + 1) % (windows.len() + 1);
            Ok(windows.get(asked[asked.len() - 1]).cloned())
        };
        let course = Course { training: short(12), pool: 1500, held_out: 0.0, ..Course::default() };
        learn(&mut supply, &course, None, |_| {}).unwrap();
        assert_eq!(asked, [0, 1, 2, 3, 4, 5, 6, 0, 1], "four at first, then one after the other, from the first again");
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
