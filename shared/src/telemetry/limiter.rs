//! At most one log line of a kind in an interval.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lets one line of a kind through in each interval and counts the others, so that a fault that comes a thousand times a
/// second does not flood the log. There must be few kinds: each is remembered for good.
#[derive(Debug)]
pub struct Limiter {
    interval: Duration,
    /// For each kind, when its last line was admitted and how many lines were left out since.
    kinds: Mutex<HashMap<String, (Instant, u64)>>,
}

impl Limiter {
    /// A limiter that admits one line of a kind in each `interval`.
    pub fn new(interval: Duration) -> Self {
        Self { interval, kinds: Mutex::default() }
    }

    /// `Some` with the number of lines of this kind that were left out since the last one, if the line may be written.
    pub fn admit(&self, kind: &str) -> Option<u64> {
        self.admit_at(kind, Instant::now())
    }

    fn admit_at(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock();
        match kinds.get_mut(kind) {
            Some((last, left_out)) if now.duration_since(*last) < self.interval => {
                *left_out += 1;
                None
            }
            Some((last, left_out)) => {
                *last = now;
                Some(std::mem::take(left_out))
            }
            None => {
                kinds.insert(kind.to_owned(), (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_a_kind_in_each_interval() {
        let limiter = Limiter::new(Duration::from_secs(30));
        let start = Instant::now();
        assert_eq!(limiter.admit_at("FAIL", start), Some(0));
        assert_eq!(limiter.admit_at("FAIL", start), None);
        assert_eq!(limiter.admit_at("FAIL", start + Duration::from_secs(29)), None);
        assert_eq!(limiter.admit_at("other", start), Some(0));
        assert_eq!(limiter.admit_at("FAIL", start + Duration::from_secs(30)), Some(2));
        assert_eq!(limiter.admit_at("FAIL", start + Duration::from_secs(61)), Some(0));
    }
}
