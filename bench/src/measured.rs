//! The figures of one load.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::number::micros;
use crate::scenario::Kind;

/// One second of a load.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Point {
    /// The end of this second, in s since the load began.
    pub second: u64,
    /// The number of requests answered in this second.
    pub answered: u64,
    /// Half of the answers took no longer, in ms.
    pub p50: f64,
    /// 99 % of the answers took no longer, in ms.
    pub p99: f64,
    /// The longest answer, in ms.
    pub max: f64,
}

/// The figures of one load.
pub(crate) struct Measured {
    /// The time from the moment a request was due to its answer, in µs, by kind of request.
    pub(crate) latencies: BTreeMap<Kind, Histogram<u64>>,
    /// The time from the moment a request was due to the moment when the generator got to it, in µs: the delay of the
    /// generator itself.
    pub(crate) late: Histogram<u64>,
    /// How long requests waited for a free connection, in µs.
    pub(crate) waited: Histogram<u64>,
    /// Error answers, by kind of request and code of the problem.
    pub(crate) errors: BTreeMap<(Kind, String), u64>,
    /// The number of requests that were due.
    pub(crate) due: u64,
    /// The number of requests left out because too many were waiting.
    pub(crate) left_out: u64,
    /// The ids of the accepted messages.
    pub(crate) accepted: Vec<i64>,
    /// Sends without an answer or with a 5xx. Their messages may have been kept.
    pub(crate) unsure: u64,
    /// The seconds that have ended.
    pub(crate) timeline: Vec<Point>,
    /// The time from the beginning to the last answer.
    pub(crate) took: Duration,
    /// The reason why the load ended too early.
    pub(crate) ended: Option<String>,
    /// The answers of the current second.
    second: Histogram<u64>,
}

/// The times of one answer.
pub(crate) struct Times {
    pub(crate) late: Duration,
    pub(crate) waited: Duration,
    pub(crate) latency: Duration,
}

impl Measured {
    pub(crate) fn new() -> Self {
        Self {
            latencies: BTreeMap::new(),
            late: histogram(),
            waited: histogram(),
            errors: BTreeMap::new(),
            due: 0,
            left_out: 0,
            accepted: Vec::new(),
            unsure: 0,
            timeline: Vec::new(),
            took: Duration::ZERO,
            ended: None,
            second: histogram(),
        }
    }

    /// Counts an answer or a failure of the connection. `error` is the code if it was no success.
    pub(crate) fn count(&mut self, kind: Kind, times: &Times, error: Option<String>) {
        record(self.latencies.entry(kind).or_insert_with(histogram), times.latency);
        record(&mut self.late, times.late);
        record(&mut self.waited, times.waited);
        record(&mut self.second, times.latency);
        if let Some(error) = error {
            *self.errors.entry((kind, error)).or_default() += 1;
        }
    }

    /// Ends the current second. `second` seconds have passed.
    pub(crate) fn end_second(&mut self, second: u64) -> Point {
        let at = |quantile| millis(self.second.value_at_quantile(quantile));
        let (p50, p99, max) = (at(0.5), at(0.99), millis(self.second.max()));
        let point = Point { second, answered: self.second.len(), p50, p99, max };
        self.timeline.push(point);
        self.second.reset();
        point
    }

    /// The number of answered requests, errors included.
    pub(crate) fn answered(&self) -> u64 {
        self.latencies.values().map(Histogram::len).sum()
    }

    /// The number of successful answers.
    pub(crate) fn answered_well(&self) -> u64 {
        self.answered().saturating_sub(self.errors.values().sum())
    }
}

/// A histogram for times in µs, with three digits. Times above ten minutes count as ten minutes.
pub(crate) fn histogram() -> Histogram<u64> {
    // Fails only for reversed bounds or more than 5 digits.
    Histogram::new_with_bounds(1, 600_000_000, 3).unwrap_or_else(|_| unreachable!())
}

pub(crate) fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(micros(time).max(1));
}

/// µs as ms.
pub(crate) fn millis(micros: u64) -> f64 {
    crate::number::of_count(micros) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_the_answers_that_came_in_it() {
        let mut measured = Measured::new();
        let times =
            |ms| Times { late: Duration::ZERO, waited: Duration::ZERO, latency: Duration::from_millis(ms) };
        measured.count(Kind::Send, &times(2), None);
        measured.count(Kind::Send, &times(4), Some("503 unavailable".to_owned()));
        let first = measured.end_second(1);
        measured.count(Kind::Query, &times(8), None);
        let second = measured.end_second(2);
        assert_eq!((first.answered, second.answered, second.second), (2, 1, 2));
        assert!((3.9..4.1).contains(&first.max) && (7.9..8.1).contains(&second.p50), "{first:?} {second:?}");
        assert_eq!((measured.answered(), measured.answered_well()), (3, 2));
    }
}
