//! Signals with known properties, seeded: what detectors are measured on when no label can be trusted.

use serde::{Deserialize, Serialize};

/// A seeded source of noise: the same seed gives the same numbers on every machine.
///
/// Source of the generator: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Noise(u64);

impl Noise {
    /// The stream of numbers that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0.0..1.0`, never zero.
    pub fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    pub fn gaussian(&mut self) -> f64 {
        let (u, v) = (self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Poisson with `mean` below a few dozen (Knuth's product of uniforms).
    pub fn poisson(&mut self, mean: f64) -> f64 {
        let limit = (-mean).exp();
        let (mut count, mut product) = (0.0, self.uniform());
        while product > limit {
            product *= self.uniform();
            count += 1.0;
        }
        count
    }

    /// Student's t with three degrees of freedom.
    pub fn student3(&mut self) -> f64 {
        let chi: f64 = (0..3).map(|_| self.gaussian().powi(2)).sum();
        self.gaussian() / (chi / 3.0).sqrt()
    }
}
