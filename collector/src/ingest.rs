//! The one door by which samples enter: limits, counts and back-pressure, then the store.
