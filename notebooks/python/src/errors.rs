//! Errors as exceptions, with the words they have everywhere else.

use std::error::Error;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::{PyErr, create_exception};

create_exception!(bellwether, InputError, PyValueError, "What was given is not what is needed; the text says what is.");
create_exception!(bellwether, FitError, PyValueError, "No forecast could be made of this history; the text says why.");
create_exception!(bellwether, TrainError, PyRuntimeError, "No network could be trained; the text says why.");

/// What an error says, with what caused it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// An [`InputError`] with the words of `error`.
pub(crate) fn input(error: impl Error) -> PyErr {
    InputError::new_err(chain(&error))
}

/// A [`FitError`] with the words of `error`.
pub(crate) fn fit(error: &bellwether_models::forecast::FitError) -> PyErr {
    FitError::new_err(chain(error))
}

/// A [`TrainError`] with the words of `error`.
pub(crate) fn training(error: impl Error) -> PyErr {
    TrainError::new_err(chain(&error))
}
