//! Numbers for people.

use std::time::Duration;

/// A count as a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "counts of a measurement stay below 2^53")]
pub(crate) fn of_count(count: u64) -> f64 {
    count as f64
}

/// Whole µs; what is longer than u64 holds counts as its maximum.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A time shared by so many, in µs each; `None` for nobody.
pub(crate) fn micros_each(time: Duration, count: u64) -> Option<f64> {
    (count > 0).then(|| time.as_secs_f64() * 1_000_000.0 / of_count(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shared() {
        assert_eq!(micros_each(Duration::from_millis(3), 2), Some(1_500.0));
        assert_eq!(micros_each(Duration::from_millis(3), 0), None);
    }
}
