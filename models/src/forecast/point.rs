//! Models that name one path; the distribution around it is learnt from their errors.

/// A fitted model of the next values.
///
/// The caller keeps the past, so that many models share one copy of it.
pub(crate) trait Path {
    /// The expected values of the `horizon` steps after `past`, whose last value is the newest the model has observed.
    fn path(&self, past: &[f64], horizon: usize) -> Vec<f64>;

    /// How many values of the past a path may need.
    fn reach(&self) -> usize {
        1
    }

    /// Whether a path costs so much that it should not be asked for at every point.
    fn is_dear(&self) -> bool {
        false
    }

    /// Takes in the newest value, which is the last of `past`.
    fn observe(&mut self, past: &[f64]);
}
