//! The small readers: durations, sizes, moments.

use bellwether_collector::source::moment::Moment;
use bellwether_collector::source::size::ByteSize;
use bellwether_models::duration;

/// What is accepted, written anew, is the same.
pub fn numbers(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(span) = duration::parse(text) {
        assert_eq!(duration::parse(&duration::format(span)), Ok(span));
    }
    if let Ok(size) = ByteSize::parse(text) {
        let anew = serde_json::to_string(&size).expect("a size can be written");
        assert_eq!(serde_json::from_str::<ByteSize>(&anew).expect("and read"), size);
    }
    if let Ok(moment) = serde_json::from_str::<Moment>(text) {
        let anew = serde_json::to_string(&moment).expect("a moment can be written");
        let again = serde_json::from_str::<Moment>(&anew).expect("and read");
        // Beyond the years that have a date a moment is written as seconds, which are not exact there.
        assert!(again == moment || !anew.starts_with('"'), "{anew}");
    }
}
