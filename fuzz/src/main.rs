//! Runs one target, named by `BELLWETHER_FUZZ_TARGET`, under libFuzzer.
#![no_main]

use std::sync::OnceLock;

use targets::{ALL, Target};

mod targets;

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(init: choose(), |bytes: &[u8]| {
    if let Some(target) = TARGET.get() {
        target(bytes);
    }
});

fn choose() {
    let wanted = std::env::var("BELLWETHER_FUZZ_TARGET").unwrap_or_default();
    let found = ALL.iter().find(|(name, _)| *name == wanted);
    let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
    let (_, target) = found.unwrap_or_else(|| panic!("BELLWETHER_FUZZ_TARGET is {wanted:?}; targets are {names:?}"));
    let _ = TARGET.set(*target);
}
