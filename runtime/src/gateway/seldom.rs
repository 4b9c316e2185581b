//! Refusals that anybody can cause a thousand times a second: counted, and told every 10 s.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The shortest time between two lines of the log.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// A count of refusals of one kind.
#[derive(Default)]
pub(super) struct Seldom(Mutex<Untold>);

#[derive(Default)]
struct Untold {
    count: u64,
    told: Option<Instant>,
}

impl Seldom {
    /// Counts one more. If it is time to tell, returns how many there were since the last time.
    pub(super) fn note(&self) -> Option<u64> {
        let mut untold = self.0.lock();
        untold.count += 1;
        if untold.told.is_some_and(|told| told.elapsed() < SAY_EVERY) {
            return None;
        }
        untold.told = Some(Instant::now());
        Some(std::mem::take(&mut untold.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_refusals_only_the_first_is_told_at_once() {
        let refusals = Seldom::default();
        assert_eq!(refusals.note(), Some(1));
        for _ in 0..1_000 {
            assert_eq!(refusals.note(), None);
        }
    }
}
