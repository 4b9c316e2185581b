//! The figures of one load.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::number::micros;
use crate::scenario::Kind;

/// One second of a load.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Point {
    /// Since the load began, in s: the end of this second.
    pub second: u64,
    /// Requests that were answered in it.
    pub answered: u64,
    /// Half of them took no longer, in ms.
    pub p50: f64,
    /// 99 % of them took no longer, in ms.
    pub p99: f64,
    /// The longest, in ms.
    pub max: f64,
}

/// The figures of one load.
pub(crate) struct Measured {
    /// From the moment a request was due to its answer, in µs, by what it does.
    pub(crate) latencies: BTreeMap<Kind, Histogram<u64>>,
    /// From the moment a request was due to that at which the generator got to it, in µs: its own delay.
    pub(crate) late: Histogram<u64>,
    /// How long requests waited until one of the connections was free, in µs.
    pub(crate) waited: Histogram<u64>,
    /// Answers that were none of success, by what was done and the problem's code.
    pub(crate) errors: BTreeMap<(Kind, String), u64>,
    /// How many requests were due.
    pub(crate) due: u64,
    /// How many were left out, because too many were waiting.
    pub(crate) left_out: u64,
    /// The ids of the messages that were accepted.
    pub(crate) accepted: Vec<i64>,
    /// Sends that may have been kept although they were not accepted: no answer, or a 5xx.
    pub(crate) unsure: u64,
    /// Each second that has ended.
    pub(crate) timeline: Vec<Point>,
    /// From the beginning to the last answer.
    pub(crate) took: Duration,
    /// Why the load ended too early.
    pub(crate) ended: Option<String>,
    /// The answers of the second under way.
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

    /// Counts an answer, or a connection's failure, with its `error` if it is none of success.
    pub(crate) fn count(&mut self, kind: Kind, times: &Times, error: Option<String>) {
        record(self.latencies.entry(kind).or_insert_with(histogram), times.latency);
        record(&mut self.late, times.late);
        record(&mut self.waited, times.waited);
        record(&mut self.second, times.latency);
        if let Some(error) = error {
            *self.errors.entry((kind, error)).or_default() += 1;
        }
    }

    /// Ends the second under way; `second` have passed.
    pub(crate) fn end_second(&mut self, second: u64) -> Point {
        let at = |quantile| millis(self.second.value_at_quantile(quantile));
        let (p50, p99, max) = (at(0.5), at(0.99), millis(self.second.max()));
        let point = Point { second, answered: self.second.len(), p50, p99, max };
        self.timeline.push(point);
        self.second.reset();
        point
    }

    /// Requests that were answered, well or not.
    pub(crate) fn answered(&self) -> u64 {
        self.latencies.values().map(Histogram::len).sum()
    }

    /// Requests that were answered with success.
    pub(crate) fn answered_well(&self) -> u64 {
        self.answered().saturating_sub(self.errors.values().sum())
    }
}

/// For times in µs, to three digits; what is longer than ten minutes counts as ten.
pub(crate) fn histogram() -> Histogram<u64> {
    // It fails only for bounds that are the wrong way round, or more than 5 digits.
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
