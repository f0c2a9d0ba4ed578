//! Brings the samples a plan names.

use bellwether_models::series::Timestamp;
use futures::future::try_join_all;

use super::QueryError;
use super::eval::Budget;
use super::plan::Selector;
use crate::store::{SeriesSamples, SharedStore, StoreError, TimeRange};

/// One list of series for each selector, in the order of the selectors.
pub(super) async fn fetch(
    store: &SharedStore,
    selectors: &[Selector],
    budget: &mut Budget,
) -> Result<Vec<Vec<SeriesSamples>>, QueryError> {
    let limit = budget.limit();
    let reads = selectors.iter().map(async |selector| {
        let range = TimeRange { from: Timestamp::from_millis(selector.from), to: Timestamp::from_millis(selector.to) };
        match selector.instants {
            Some(instants) => store.select_last(&selector.matchers, range, instants, limit).await,
            None => store.select(&selector.matchers, range, limit).await,
        }
    });
    let data = try_join_all(reads).await.map_err(|error| match error {
        StoreError::TooLarge { .. } => QueryError::TooManySamples { limit },
        other => QueryError::Store(other),
    })?;
    budget.charge(data.iter().flatten().map(|series| series.samples.len()).sum())?;
    Ok(data)
}
