//! A replica that reads history, and may lag behind the writer (`docs/decisions/0030-replica.md`).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::pool::Pool;

/// How long a replica is not asked after an error.
pub(super) const BACK_OFF: Duration = Duration::from_secs(5);

/// A replica that reads history.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    pub(super) pool: Pool,
    /// The replica is not asked before this time.
    backing_off_until: Arc<Mutex<Option<Instant>>>,
}

impl Replica {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, backing_off_until: Arc::default() }
    }

    pub(super) fn is_backing_off(&self) -> bool {
        let until = *self.backing_off_until.lock();
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Stops asking the replica for [`BACK_OFF`]. False if that was the case already.
    pub(super) fn back_off(&self) -> bool {
        let now = Instant::now();
        let mut until = self.backing_off_until.lock();
        let begins = until.is_none_or(|until| until <= now);
        *until = Some(now + BACK_OFF);
        begins
    }
}
