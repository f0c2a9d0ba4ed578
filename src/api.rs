//! The HTTP faces.

pub mod chart;
