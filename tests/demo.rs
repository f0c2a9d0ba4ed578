//! The demo tells its whole story and ends by itself.

use std::process::Command;

#[test]
fn the_story_has_a_forecast_an_earlier_order_and_the_true_cause_and_ends() {
    let output = Command::new(env!("CARGO_BIN_EXE_bellwether"))
        .args(["demo", "--exit", "--listen", "127.0.0.1:0"])
        .output()
        .expect("the binary runs");
    let story = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{story}\n{}", String::from_utf8_lossy(&output.stderr));
    let orders: Vec<(u32, u32)> = story.lines().filter_map(orders).collect();
    assert!(orders.iter().any(|(ours, reactive)| ours > reactive), "no order ahead of the reactive rule:\n{story}");
    let causes: Vec<&str> = story.lines().filter(|line| is_cause(line)).collect();
    assert!(causes.iter().any(|line| line.contains("currencyservice")), "true cause not named:\n{story}");
    assert!(story.contains("1 opened"), "not exactly one incident:\n{story}");
    assert!(story.contains("Where to go next"));
}

/// Our order and the reactive rule's, from a line such as `22 Oct 06:10  214  310  9  6  because …`.
fn orders(line: &str) -> Option<(u32, u32)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_order = words.get(2).is_some_and(|time| time.len() == 5 && time.as_bytes()[2] == b':');
    is_order.then(|| Some((words.get(5)?.parse().ok()?, words.get(6)?.parse().ok()?)))?
}

/// One of the first three causes of an incident.
fn is_cause(line: &str) -> bool {
    ["1. ", "2. ", "3. "].iter().any(|place| line.trim_start().starts_with(place))
}
