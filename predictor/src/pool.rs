//! Heavy work, off the threads that wait for the world, never more of it at once than the machine has cores.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// A bound on computations at the same time.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Semaphore>);

impl Pool {
    /// One computation for each core.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self(Arc::new(Semaphore::new(cores)))
    }

    /// Runs `work` when there is room; `None` when it panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let _room = self.0.acquire().await.ok();
        tokio::task::spawn_blocking(work).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_its_own_work_only() {
        let pool = Pool::of_this_machine();
        assert_eq!(pool.run(|| -> u32 { std::panic::resume_unwind(Box::new("broken")) }).await, None);
        assert_eq!(pool.run(|| 7).await, Some(7));
    }
}
