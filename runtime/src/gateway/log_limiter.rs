//! Limits the log lines about refusals, which any client can cause a thousand times a second: refusals are counted,
//! and logged every 10 s.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The shortest time between two lines of the log.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Counts the refusals of one kind.
#[derive(Default)]
pub(super) struct LogLimiter(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    count: u64,
    logged: Option<Instant>,
}

impl LogLimiter {
    /// Counts one refusal. If it is time for a line of the log, returns how many refusals there were since the last
    /// line.
    pub(super) fn note(&self) -> Option<u64> {
        let mut counted = self.0.lock();
        counted.count += 1;
        if counted.logged.is_some_and(|logged| logged.elapsed() < LOG_EVERY) {
            return None;
        }
        counted.logged = Some(Instant::now());
        Some(std::mem::take(&mut counted.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_refusals_only_the_first_is_told_at_once() {
        let refusals = LogLimiter::default();
        assert_eq!(refusals.note(), Some(1));
        for _ in 0..1_000 {
            assert_eq!(refusals.note(), None);
        }
    }
}
