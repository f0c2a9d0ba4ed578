//! What a store's server says beside an answer, such as that a part is missing, on its way to the one who asked.
//!
//! It travels with the task of the question, not with each value: stores on this machine have nothing to warn about.

use std::cell::RefCell;
use std::future::Future;

tokio::task_local! {
    static HEARD: RefCell<Vec<String>>;
}

/// Does `work` and gives back what was said meanwhile, each sentence once.
pub async fn heard<T>(work: impl Future<Output = T>) -> (T, Vec<String>) {
    let listening = async {
        let done = work.await;
        (done, HEARD.with(RefCell::take))
    };
    HEARD.scope(RefCell::default(), listening).await
}

/// Says something to the one who asked, if anyone listens.
pub fn say(warning: &str) {
    let _ = HEARD.try_with(|heard| {
        let mut heard = heard.borrow_mut();
        if !heard.iter().any(|said| said == warning) {
            heard.push(warning.to_owned());
        }
    });
}
