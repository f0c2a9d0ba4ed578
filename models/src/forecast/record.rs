//! What was said beforehand, and how it compares with what came.

use serde::{Deserialize, Serialize};

use super::Quantile;
use crate::accuracy::pinball;
use crate::outlook::ModelScore;

/// Errors of one model at one step that tell how good it was.
const ENOUGH: usize = 96;

/// What was expected at one instant, all of it relative to the newest value then known: so single precision loses
/// nothing that an error could tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Issued {
    newest: f64,
    /// Whether every member was asked anew; otherwise nothing is judged by it and only the first step was said.
    pub(super) fresh: bool,
    /// Whether bounds were said too; not while the history is replayed, nor where not fresh.
    bounded: bool,
    steps: Box<[Said]>,
    /// Shape `[probes, members]`, one after the other.
    members: Box<[f32]>,
}

/// What was said of one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Said {
    combined: f32,
    /// Relative width of the errors.
    width: f32,
    low: f32,
    high: f32,
}

impl Issued {
    /// The path of the combination when `newest` was the newest value, the relative widths of its errors, and what each
    /// member expects of each probed step, step by step.
    pub(super) fn new(newest: f64, combined: &[f64], widths: &[f64], members: impl Iterator<Item = f64>) -> Self {
        let relative = |value: f64| (value - newest) as f32;
        let said = |(value, width): (&f64, &f64)| Said {
            combined: relative(*value),
            width: *width as f32,
            low: 0.0,
            high: 0.0,
        };
        let steps = combined.iter().zip(widths).map(said).collect();
        Self { newest, fresh: true, bounded: false, steps, members: members.map(relative).collect() }
    }

    /// With the bounds whose promise is watched, lower and upper, for each step.
    pub(super) fn within(mut self, bounds: impl Iterator<Item = (f64, f64)>) -> Self {
        self.bounded = true;
        for (said, (low, high)) in self.steps.iter_mut().zip(bounds) {
            (said.low, said.high) = ((low - self.newest) as f32, (high - self.newest) as f32);
        }
        self
    }

    /// What the combination expected of step `step`.
    pub(super) fn combined(&self, step: usize) -> f64 {
        self.newest + f64::from(self.steps[step].combined)
    }

    /// The relative width of its error there.
    pub(super) fn width(&self, step: usize) -> f64 {
        f64::from(self.steps[step].width)
    }

    /// The bounds of step `step`, where there were any.
    pub(super) fn bounds(&self, step: usize) -> Option<(f64, f64)> {
        let said = self.steps.get(step).filter(|_| self.bounded)?;
        Some((self.newest + f64::from(said.low), self.newest + f64::from(said.high)))
    }

    /// What each of so many members expected of a probed step.
    pub(super) fn of_probe(&self, probe: usize, members: usize) -> impl Iterator<Item = f64> {
        self.members[probe * members..(probe + 1) * members].iter().map(|v| self.newest + f64::from(*v))
    }
}

/// Errors of each member, the combination last, at each probed step.
pub(super) struct Record {
    probes: Vec<usize>,
    /// Shape `[members + 1][probes][origins]`.
    errors: Vec<Vec<Vec<f64>>>,
}

impl Record {
    pub(super) fn new(members: usize, probes: &[usize]) -> Self {
        Self { probes: probes.to_vec(), errors: vec![vec![Vec::new(); probes.len()]; members + 1] }
    }

    pub(super) fn add(&mut self, probe: usize, members: &[f64], combined: f64) {
        for (errors, error) in self.errors.iter_mut().zip(members.iter().chain([&combined])) {
            errors[probe].push(*error);
        }
    }

    /// Mean pinball losses over origins, probed steps and the standard quantiles, each model's path shifted to the
    /// quantiles of its own errors; relative to repeating the last `period` over the same origins of `past`. Best first.
    pub(super) fn scores(&self, names: Vec<String>, past: &[f64], period: usize) -> Vec<ModelScore> {
        let baseline = self.probes.iter().map(|step| {
            let lag = (step + 1).div_ceil(period) * period;
            let origins = self.errors[0].first().map_or(0, Vec::len);
            let from = past.len().saturating_sub(origins).max(lag.min(past.len()));
            mean_pinball((from..past.len()).map(|i| past[i] - past[i - lag]).collect())
        });
        let baseline: f64 = baseline.sum();
        let score = |(model, errors): (String, &Vec<Vec<f64>>)| {
            let loss: f64 = errors.iter().map(|e| mean_pinball(e.clone())).sum();
            ModelScore { model, relative_pinball_loss: relative(loss, baseline) }
        };
        let single = names.len() == 1;
        let names = names.into_iter().chain((!single).then(|| "combination".to_owned()));
        let mut scores: Vec<ModelScore> = names.zip(&self.errors).map(score).collect();
        scores.sort_by(|a, b| a.relative_pinball_loss.total_cmp(&b.relative_pinball_loss));
        scores
    }
}

/// One where both are nothing; bounded where only the baseline is faultless.
fn relative(loss: f64, baseline: f64) -> f64 {
    if loss <= 0.0 && baseline <= 0.0 { 1.0 } else { (loss / baseline.max(f64::MIN_POSITIVE)).min(1e6) }
}

/// Mean pinball loss over the standard quantiles of errors around their own quantiles. Of many errors, neighbours in
/// time that are nearly alike, an even share is enough.
fn mean_pinball(errors: Vec<f64>) -> f64 {
    let mut errors: Vec<f64> = errors.iter().copied().step_by(errors.len().div_ceil(ENOUGH).max(1)).collect();
    errors.sort_unstable_by(f64::total_cmp);
    let n = errors.len();
    let of = |level: &Quantile| {
        let quantile = errors[((level.value() * n as f64) as usize).min(n - 1)];
        errors.iter().map(|e| pinball(*level, *e, quantile)).sum::<f64>() / n as f64
    };
    if n == 0 { 0.0 } else { Quantile::STANDARD.iter().map(of).sum::<f64>() / 4.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_errs_half_as_much_scores_half() {
        let past: Vec<f64> = (0..40).map(|i| if i % 4 < 2 { 1.0 } else { -1.0 }).collect();
        let mut record = Record::new(2, &[0]);
        (0..39).for_each(|i| record.add(0, &[(past[i + 1] - past[i]) / 2.0, past[i + 1] - past[i]], 0.0));
        let scores = record.scores(vec!["half".into(), "same".into()], &past, 1);
        assert_eq!(scores[0].model, "combination");
        assert!((scores[1].relative_pinball_loss - 0.5).abs() < 1e-9, "{scores:?}");
        assert!((scores[2].relative_pinball_loss - 1.0).abs() < 1e-9);
    }
}
