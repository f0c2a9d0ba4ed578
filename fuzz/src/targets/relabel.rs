//! Relabeling rules with their regular expressions.

use bellwether_collector::source::relabel::{RelabelConfig, Relabeling};
use bellwether_models::series::Labels;

/// The text is YAML rules. Those accepted give labels that are fit to be labels, the same each time, and mean the same
/// when written anew.
pub fn relabel(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(configs) = serde_saphyr::from_str::<Vec<RelabelConfig>>(text) else { return };
    let Ok(rules) = Relabeling::new(&configs) else { return };
    let anew = serde_json::to_string(&configs).expect("rules can be written");
    let anew = serde_saphyr::from_str::<Vec<RelabelConfig>>(&anew).expect("and read");
    assert_eq!(anew, configs);
    let again = Relabeling::new(&anew).expect("they were usable before");
    for labels in samples() {
        let relabeled = rules.apply(labels.clone());
        assert_eq!(relabeled, again.apply(labels));
        for (name, value) in relabeled.iter().flat_map(Labels::iter) {
            assert!(!name.is_empty() && !value.is_empty(), "{name:?}={value:?}");
        }
    }
}

fn samples() -> [Labels; 3] {
    [
        Labels::default(),
        Labels::new([("__name__", "up"), ("job", "node"), ("instance", "10.0.0.7:9100")]),
        Labels::new([("__address__", "[::1]:80"), ("__meta_x", "a;b;ä"), ("__tmp", "1"), ("a", "$1${b}")]),
    ]
}
