//! One file into each part's configuration.

pub mod load;
