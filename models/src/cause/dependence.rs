//! Who follows whom in ordinary times: a weak hint, where no call says who depends on whom.

use ndarray::{Array1, Array2, Axis};

use super::correlation::{Lagged, lagged};

/// The longest lead that is tried, in rows.
const MAX_LEAD: usize = 5;
/// Fewest rows before the incident that teach anything.
const FEWEST_ROWS: usize = 60;
/// Least correlation of changes that is told.
const LEAST: f64 = 0.3;
/// And so many standard deviations of the correlation of noise: several leads of many metrics are looked at.
const LEAST_DEVIATES: f64 = 4.0;
/// By how much it must exceed the correlation at no lead and that the other way round.
const MARGIN: f64 = 0.1;

/// By how many rows changes of `symptom` used to follow those of `metric`, both without gaps, over the rows before an
/// incident; `None` where they did not, or as well the other way round. Changes from row to row are compared, as levels
/// share the hours of the day.
///
/// # Source
/// The precedence of Granger, "Investigating causal relations by econometric models and cross-spectral methods",
/// Econometrica 37, 1969, in its plainest form: pairs, and lags one at a time. What a third one drives is not told apart,
/// which is why this is a hint and weighs nothing in the order of causes.
pub(super) fn follows(metric: &[f64], symptom: &[f64]) -> Option<Lagged> {
    let rows = metric.len().min(symptom.len());
    if rows < FEWEST_ROWS {
        return None;
    }
    let (leader, follower) = (changes(&metric[..rows]), changes(&symptom[..rows]));
    let forward = strongest(&leader[..rows - 2], &follower[1..], MAX_LEAD - 1);
    let other = strongest(&follower, &leader, MAX_LEAD);
    let least = LEAST.max(LEAST_DEVIATES / (rows as f64).sqrt());
    (forward.r.abs() >= least.max(other.r.abs() + MARGIN)).then_some(Lagged { lead: forward.lead + 1, ..forward })
}

fn changes(values: &[f64]) -> Vec<f64> {
    values.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

fn strongest(leader: &[f64], follower: &[f64], max_lead: usize) -> Lagged {
    let leader: Array2<f64> = Array1::from_vec(leader.to_vec()).insert_axis(Axis(0));
    lagged(&leader, Array1::from_vec(follower.to_vec()).view(), max_lead)[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::noise;

    /// A wandering load and what follows it by `lag` rows, with noise of its own.
    fn pair(lag: usize, own: f64) -> (Vec<f64>, Vec<f64>) {
        let load: Vec<f64> = (0..300).map(|i| 10.0 + 4.0 * noise(i)).collect();
        let late = (0..300usize).map(|i| load[i.saturating_sub(lag)] + own * noise(9000 + i)).collect();
        (load, late)
    }

    #[test]
    fn what_follows_by_two_rows_is_found_with_its_lead_and_not_the_other_way_round() {
        let (load, late) = pair(2, 1.0);
        let found = follows(&load, &late).expect("it follows");
        assert!(found.lead == 2 && found.r > 0.8, "{found:?}");
        assert_eq!(follows(&late, &load), None);
    }

    #[test]
    fn what_moves_together_at_once_and_what_does_not_hang_together_are_no_dependence() {
        let (load, at_once) = pair(0, 0.5);
        assert_eq!(follows(&load, &at_once), None);
        let (_, alone) = pair(2, 500.0);
        assert_eq!(follows(&load, &alone), None);
        assert_eq!(follows(&load[..40], &load[..40]), None);
        assert_eq!(follows(&[5.0; 300], &load), None);
    }
}
