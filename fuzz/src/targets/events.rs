//! Change and task events in JSON.

use axum::http::StatusCode;
use bellwether_collector::source::changes::ChangeEvent;
use bellwether_collector::source::tasks::TaskEvent;

use super::choice;
use super::door::{Door, NOW};

/// Refused whole or taken whole; a change, written anew, is the same change.
pub fn events(bytes: &[u8]) {
    let (first, body) = choice(bytes);
    let door = Door::new();
    if first & 1 == 0 {
        let (status, text) = door.post("/api/v1/tasks/events", &[], body.to_vec());
        assert_eq!(status == StatusCode::NO_CONTENT, !door.kept().is_empty() || is_empty_list(body), "{text}");
        if let Ok(event) = serde_json::from_slice::<TaskEvent>(body) {
            let anew = serde_json::to_vec(&event).expect("an event can be written");
            assert_eq!(serde_json::from_slice::<TaskEvent>(&anew).expect("and read"), event);
        }
        return;
    }
    let (status, text) = door.post("/api/v1/changes", &[], body.to_vec());
    assert!(status != StatusCode::NO_CONTENT || !door.kept().is_empty() || is_empty_list(body), "{text}");
    if let Ok(change) = serde_json::from_slice::<ChangeEvent>(body) {
        let anew = serde_json::to_vec(&change).expect("a change can be written");
        let anew = serde_json::from_slice::<ChangeEvent>(&anew).expect("and read");
        assert_eq!(anew.to_samples(NOW).ok(), change.to_samples(NOW).ok());
    }
}

fn is_empty_list(body: &[u8]) -> bool {
    serde_json::from_slice::<Vec<serde_json::Value>>(body).is_ok_and(|list| list.is_empty())
}
