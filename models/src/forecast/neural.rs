//! A recurrent network that was trained on other series and needs no training on this one.

mod chance;
pub(crate) mod input;
mod made;
mod network;
mod train;

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::point::Path;
use chance::Chance;
use input::{RECENT, SEASONS, Season, course, show};
use network::LEVELS;
pub use network::{Network, NotANetwork};
pub use train::{Checkpoint, Course, Learnt, News, Supply, TrainError, Training, learn, train};

/// What the network needs of a series beside its newest values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lstm {
    periods: Vec<usize>,
    /// Usual course of each period: one value for each place of the cycle, that of the next value first.
    courses: Vec<Vec<f64>>,
    /// Weights of its own; without them those in use everywhere. Not kept with the model: who keeps it gives them again.
    #[serde(skip)]
    pub(crate) network: Option<Arc<Network>>,
}

impl Lstm {
    /// Learns the usual courses of `y` (finite); `None` when it is too short to be shown.
    pub(crate) fn fit(y: &[f64], periods: &[usize]) -> Option<Self> {
        let fits = |p: &usize| *p >= 2 && 2 * p <= y.len() && p + RECENT < y.len();
        let periods: Vec<usize> = periods.iter().copied().filter(fits).take(SEASONS).collect();
        let tail = |p: &usize| course(y, *p).split_off(y.len() - p - RECENT);
        let courses = periods.iter().map(tail).collect();
        (y.len() > RECENT).then_some(Self { periods, courses, network: None })
    }
}

impl Path for Lstm {
    fn path(&self, past: &[f64], horizon: usize) -> Vec<f64> {
        let n = past.len();
        let last = past.last().copied().unwrap_or(0.0);
        let network: Option<&Network> = self.network.as_deref().or_else(|| network());
        let Some(network) = network.filter(|_| n >= self.reach()) else { return vec![last; horizon] };
        let season = |(period, course): (&usize, &Vec<f64>)| {
            let (first, course) = (n - course.len(), course.clone());
            Season { period: *period, usual: move |i: usize| course[i.saturating_sub(first)] }
        };
        let seasons: Vec<_> = self.periods.iter().zip(&self.courses).map(season).collect();
        let shown = show(past, n, &seasons, horizon);
        let median = network.answer(&shown.inputs).into_iter().skip(1).step_by(LEVELS);
        median.map(|v| last + shown.scale * f64::from(v)).collect()
    }

    fn reach(&self) -> usize {
        self.periods.last().copied().unwrap_or(0) + RECENT + 1
    }

    fn is_dear(&self) -> bool {
        true
    }

    fn observe(&mut self, past: &[f64]) {
        if let Some(value) = past.last() {
            for course in &mut self.courses {
                let usual = course[RECENT];
                course.rotate_left(1);
                if let Some(newest) = course.last_mut() {
                    *newest = usual + input::GAIN * (value - usual);
                }
            }
        }
    }
}

static NETWORK: OnceLock<Option<Network>> = OnceLock::new();

/// The weights in use: those installed, or those that come with the program.
fn network() -> Option<&'static Network> {
    NETWORK.get_or_init(Network::pretrained).as_ref()
}

/// Uses `network` in place of the weights that come with the program; gives it back when a forecast was made before.
///
/// # Errors
/// The network itself, when it is too late.
pub fn install(network: Network) -> Result<(), Box<Network>> {
    NETWORK.set(Some(network)).map_err(|refused| Box::new(refused.unwrap_or_else(|| unreachable!("some was set"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize) -> Vec<f64> {
        (0..n).map(|i| (i as f64 / 24.0 * std::f64::consts::TAU).sin() * 10.0 + 50.0).collect()
    }

    #[test]
    fn the_network_that_comes_with_the_program_continues_a_wave_it_never_saw() {
        let y = wave(412);
        let lstm = Lstm::fit(&y[..400], &[24]).expect("long enough");
        let path = lstm.path(&y[..400], 12);
        assert!(path.iter().zip(&y[400..]).all(|(a, b)| (a - b).abs() < 3.0), "{path:?}");
    }

    #[test]
    fn observing_keeps_the_courses_in_step() {
        let y = wave(512);
        let mut lstm = Lstm::fit(&y[..401], &[24]).expect("long enough");
        (402..=500).for_each(|n| lstm.observe(&y[..n]));
        let (path, fresh) =
            (lstm.path(&y[..500], 12), Lstm::fit(&y[..500], &[24]).expect("long enough").path(&y[..500], 12));
        assert!(path.iter().zip(&fresh).all(|(a, b)| (a - b).abs() < 1e-3), "{path:?} {fresh:?}");
    }

    #[test]
    fn a_short_history_is_not_shown_and_a_short_past_repeats_its_last_value() {
        assert_eq!(Lstm::fit(&wave(RECENT), &[]), None);
        let lstm = Lstm::fit(&wave(400), &[24]).expect("long enough");
        assert_eq!(lstm.path(&[3.0], 2), [3.0, 3.0]);
    }
}
