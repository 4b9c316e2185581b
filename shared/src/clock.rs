//! The clock, which is passed in so that a test can set the time (see `clippy.toml`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::UNIX_EPOCH;

/// Milliseconds since 1970-01-01 UTC: the only unit for points in time outside and inside the system.
pub type TimestampMs = i64;

/// A source of the current wall-clock time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> TimestampMs + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(|| {
            #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
            let now = std::time::SystemTime::now();
            // There are no messages from before 1970; a clock that reads such a time counts as 0.
            now.duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| TimestampMs::try_from(elapsed.as_millis()).unwrap_or(TimestampMs::MAX))
        }))
    }

    /// The machine's clock plus an offset in ms. A test changes `offset` while the clock is in use, to let five minutes
    /// pass or to step back.
    pub fn shifted(offset: Arc<AtomicI64>) -> Self {
        let system = Self::system();
        Self(Arc::new(move || system.now_ms().saturating_add(offset.load(Ordering::SeqCst))))
    }

    /// A clock that stands still.
    #[cfg(all(test, feature = "kafka-tls"))]
    pub(crate) fn fixed(now: TimestampMs) -> Self {
        Self(Arc::new(move || now))
    }

    /// Now, in ms since 1970 UTC.
    pub fn now_ms(&self) -> TimestampMs {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now_ms()).finish()
    }
}
