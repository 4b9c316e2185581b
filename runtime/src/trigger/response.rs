//! Reads the consumer function's answer to a batch.

use hongyan::queue::KafkaBatchResponse;

use crate::host::InvokeError;

/// The outcome of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All records are done.
    Done,
    /// The records before this index are done. The record at the index and all after it must be delivered again.
    FailedFrom {
        /// Index into the batch.
        index: usize,
        /// The reason, for the log.
        reason: String,
    },
}

/// Reads the answer to a batch of one partition. `key` is the key of the partition in the event's `records`, and
/// `offsets` are the offsets of the batch.
///
/// The rules are those of AWS. No failures: all is done. Failures: the lowest failed offset is the checkpoint. An
/// error, or an identifier that was not in the event: the whole batch failed.
pub(super) fn outcome(
    key: &str,
    offsets: &[i64],
    answer: Result<KafkaBatchResponse, InvokeError>,
) -> Outcome {
    let response = match answer {
        Ok(response) => response,
        Err(error) => {
            return Outcome::FailedFrom { index: 0, reason: error.to_string() };
        }
    };
    let mut lowest = None;
    for failure in response.batch_item_failures {
        let item = failure.item_identifier;
        let found = offsets.iter().position(|offset| *offset == item.offset);
        let Some(index) = found.filter(|_| item.partition == key) else {
            return Outcome::FailedFrom {
                index: 0,
                reason: format!(
                    "the answer names {} offset {}, which was not in the batch",
                    item.partition, item.offset
                ),
            };
        };
        lowest = Some(lowest.map_or(index, |lowest: usize| lowest.min(index)));
    }
    match lowest {
        None => Outcome::Done,
        Some(index) => Outcome::FailedFrom { index, reason: "reported as failed".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(failures: &[(&str, i64)]) -> Outcome {
        let mut response = KafkaBatchResponse::done();
        for (partition, offset) in failures {
            response.fail(*partition, *offset);
        }
        outcome("t-0", &[10, 11, 13], Ok(response))
    }

    fn index(outcome: &Outcome) -> Option<usize> {
        match outcome {
            Outcome::Done => None,
            Outcome::FailedFrom { index, .. } => Some(*index),
        }
    }

    #[test]
    fn the_lowest_failed_offset_is_the_checkpoint() {
        assert_eq!(answer(&[]), Outcome::Done);
        assert_eq!(index(&answer(&[("t-0", 13), ("t-0", 11), ("t-0", 13)])), Some(1));
        assert_eq!(index(&answer(&[("t-0", 10)])), Some(0));
    }

    #[test]
    fn what_was_not_in_the_batch_fails_all_of_it() {
        for wrong in [("t-0", 12), ("t-1", 11), ("", 11), ("t-0", -1)] {
            assert_eq!(index(&answer(&[("t-0", 13), wrong])), Some(0), "{wrong:?}");
        }
    }

    #[test]
    fn an_error_fails_all_of_it() {
        let error = InvokeError::new("kafka-consumer", "boom");
        assert_eq!(index(&outcome("t-0", &[1], Err(error))), Some(0));
    }
}
