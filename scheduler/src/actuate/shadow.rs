//! The actuator that does nothing: decisions are on record, and that is all.

use async_trait::async_trait;
use bellwether_models::series::Timestamp;

use super::{ActError, Actuator, Applied, Effect};
use crate::plan::Decision;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shadow;

#[async_trait]
impl Actuator for Shadow {
    fn name(&self) -> &'static str {
        "shadow"
    }

    async fn observe(&self, _: &str) -> Result<Option<u32>, ActError> {
        Ok(None)
    }

    async fn apply(&self, _: &Decision, effect: Effect, _: Timestamp) -> Result<Applied, ActError> {
        Ok(match effect {
            Effect::Real => Applied::Recorded,
            Effect::DryRun => Applied::WouldApply,
        })
    }
}
