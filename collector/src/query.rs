//! PromQL over any store.
