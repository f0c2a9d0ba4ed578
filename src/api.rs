//! The HTTP faces.

pub mod chart;
pub mod page;
