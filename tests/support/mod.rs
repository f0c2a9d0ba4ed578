//! What the tests of the whole share. Each test file takes what it needs, so parts are unused in some of them.
#![allow(dead_code, unused_macros, unused_imports)]

pub mod certificates;
pub mod gate;
pub mod http;
pub mod influx2;
pub mod node;
pub mod peer;
pub mod python;
pub mod remote_write;
pub mod served;
pub mod shop;
pub mod system;
pub mod tangle;
pub mod world;

pub use peer::{Peer, Program};

/// Ends the test early, saying so, when a program it needs is not installed.
///
/// With `CI` or `BELLWETHER_REQUIRE_PEERS=1` in the environment a missing program fails the test instead.
/// Takes one or more [`Program`]s: `require_peer!(Program::Prometheus, Program::NodeExporter);`
macro_rules! require_peer {
    ($($program:expr),+ $(,)?) => {
        $(if !$crate::support::peer::is_available($program) {
            return Default::default();
        })+
    };
}
pub(crate) use require_peer;
