//! Turns windows of the store into outlooks and incidents.
