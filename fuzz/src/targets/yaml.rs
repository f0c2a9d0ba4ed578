//! The configuration file.

use std::path::Path;

use bellwether::config::Config;

/// What is accepted, written anew, is the same configuration; what is refused names a place inside the text.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = Path::new("bellwether.yaml");
    let config = match Config::parse(path, text) {
        Ok(config) => config,
        Err(faults) => {
            let breaks = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
            let lines = text.split(breaks).count() as u64 + 1;
            for fault in faults {
                assert!(!fault.message.is_empty());
                assert!(fault.place.is_none_or(|(line, _)| line <= lines), "{fault}");
            }
            return;
        }
    };
    let anew = serde_json::to_string(&config).expect("a configuration can be written");
    let again = Config::parse(path, &anew).unwrap_or_else(|faults| panic!("{faults:?}: {anew}"));
    assert_eq!(serde_json::to_string(&again).expect("a configuration can be written"), anew);
}
