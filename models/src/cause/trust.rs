//! How far a team's own verdicts move the confidence of a ranking.

use serde::{Deserialize, Serialize};

use super::{ABSTAIN_BELOW, Ranking};

/// Newton steps; the posterior is concave, so few are enough.
const STEPS: usize = 30;
/// Confidences are held this far from certainty, where the log-odds are still finite.
const MARGIN: f64 = 1e-6;

/// A confidence that was given, and whether the first cause turned out to be the true one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The confidence before any verdict moved it.
    pub confidence: f64,
    /// Whether people named the same service.
    pub right: bool,
}

/// By how much confidences are moved, in log-odds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    shift: f64,
}

impl Trust {
    /// What a team's verdicts teach: the shift `b` of greatest posterior probability, with the chance of being right
    /// `1 / (1 + exp(-(logit(confidence) + b)))` and a standard normal prior on `b`. So a single verdict moves little,
    /// and many override what was learnt from other systems.
    ///
    /// # Source
    /// Platt (1999) with the slope held; the prior is that of ridge regression (Hoerl and Kennard 1970).
    #[must_use]
    pub fn learn(verdicts: &[Verdict]) -> Self {
        let mut shift = 0.0;
        for _ in 0..STEPS {
            let (mut slope, mut bend) = (-shift, 1.0);
            for verdict in verdicts.iter().filter(|v| v.confidence.is_finite()) {
                let p = logistic(logit(verdict.confidence) + shift);
                slope += f64::from(u8::from(verdict.right)) - p;
                bend += p * (1.0 - p);
            }
            shift += (slope / bend).clamp(-1.0, 1.0);
        }
        Self { shift }
    }

    /// A confidence in the light of the verdicts.
    #[must_use]
    pub fn applied_to(self, confidence: f64) -> f64 {
        if self.shift == 0.0 || confidence <= 0.0 { confidence } else { logistic(logit(confidence) + self.shift) }
    }

    /// The ranking with its confidence moved, and an abstention where too little is left of it.
    #[must_use]
    pub fn judge(self, ranking: &Ranking) -> Ranking {
        let confidence = self.applied_to(ranking.confidence);
        let doubtful = ranking.abstained.is_none() && confidence < ABSTAIN_BELOW && ranking.confidence >= ABSTAIN_BELOW;
        let abstained = ranking.abstained.clone();
        let abstained =
            if doubtful { Some("causes named here were often not the true ones".to_owned()) } else { abstained };
        let unmoved = (confidence != ranking.confidence).then_some(ranking.confidence);
        Ranking { confidence, abstained, unmoved_confidence: unmoved, ..ranking.clone() }
    }
}

fn logit(p: f64) -> f64 {
    let p = p.clamp(MARGIN, 1.0 - MARGIN);
    (p / (1.0 - p)).ln()
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdicts(right: usize, wrong: usize) -> Vec<Verdict> {
        let all = [vec![true; right], vec![false; wrong]].concat();
        all.into_iter().map(|right| Verdict { confidence: 0.8, right }).collect()
    }

    #[test]
    fn without_verdicts_nothing_moves() {
        assert_eq!(Trust::learn(&[]).applied_to(0.83), 0.83);
    }

    #[test]
    fn one_verdict_moves_little_and_many_override() {
        let once = Trust::learn(&verdicts(0, 1)).applied_to(0.8);
        let often = Trust::learn(&verdicts(0, 50)).applied_to(0.8);
        assert!(once < 0.8 && once > 0.5, "{once}");
        assert!(often < 0.2, "{often}");
        assert!(Trust::learn(&verdicts(8, 2)).applied_to(0.8) - 0.8 < 1e-9, "as right as it was sure");
    }

    #[test]
    fn the_shift_agrees_with_a_second_implementation() {
        // scipy.optimize.minimize_scalar(lambda b: b*b/2 - 3*log(s(l+b)) - 7*log(1-s(l+b))), l = log(4): b = -1.5619605
        let found = logit(Trust::learn(&verdicts(3, 7)).applied_to(0.8)) - logit(0.8);
        assert!((found + 1.561_960_5).abs() < 1e-4, "{found}");
    }

    #[test]
    fn a_ranking_that_was_often_wrong_abstains() {
        let ranking = Ranking { confidence: 0.8, ..Ranking::default() };
        let judged = Trust::learn(&verdicts(0, 20)).judge(&ranking);
        assert!(judged.abstained.is_some() && judged.unmoved_confidence == Some(0.8));
        assert_eq!(Trust::default().judge(&ranking), ranking);
    }

    proptest! {
        #[test]
        fn confidences_stay_probabilities_and_keep_their_order(
            said in prop::collection::vec((prop_oneof![0.0..=1.0, Just(f64::NAN)], any::<bool>()), 0..40),
            a in 0.0..=1.0_f64, b in 0.0..=1.0_f64
        ) {
            let said: Vec<Verdict> = said.into_iter().map(|(confidence, right)| Verdict { confidence, right }).collect();
            let trust = Trust::learn(&said);
            let (x, y) = (trust.applied_to(a), trust.applied_to(b));
            prop_assert!((0.0..=1.0).contains(&x));
            prop_assert!(a >= b || x <= y);
        }
    }
}
