//! The silence of MySQL: after MySQL has failed to answer one send, the next sends do not wait for it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long MySQL is not asked after it did not answer in time.
const BACK_OFF: Duration = Duration::from_secs(1);

/// The silence of MySQL, as the sends of this process have met it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Silence(Arc<Mutex<Option<Instant>>>);

impl Silence {
    /// Notes that MySQL did not answer in time.
    pub fn begin(&self) {
        *self.0.lock() = Some(Instant::now() + BACK_OFF);
    }

    /// True for a second after MySQL did not answer.
    pub fn is_recent(&self) -> bool {
        self.0.lock().is_some_and(|until| Instant::now() < until)
    }
}
