//! Bellwether's mathematics for Python: the functions that the binary calls, and nothing of their own.
//!
//! This is the module `bellwether._native`; the package `bellwether` beside it turns data frames into what is taken here
//! and back. Times are integers, milliseconds since the Unix epoch, UTC. Arrays are copied once on their way in, since
//! another thread may write to them while the interpreter's lock is released, as it is for every computation.

mod causes;
mod detection;
mod errors;
mod forecasting;
mod scaling;
mod training;
mod window;

/// The module `bellwether._native`.
#[pyo3::pymodule]
mod _native {
    /// Version of the program this was built from.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use super::causes::rank;
    #[pymodule_export]
    use super::detection::{Detector, RowDetector};
    #[pymodule_export]
    use super::errors::{FitError, InputError, TrainError};
    #[pymodule_export]
    use super::forecasting::{Board, Fitted, Forecast, Model, fit, last_origins, models};
    #[pymodule_export]
    use super::scaling::{duration_ms, simulate};
    #[pymodule_export]
    use super::training::{check_network, pretrained, train};
    #[pymodule_export]
    use super::window::Window;
}
