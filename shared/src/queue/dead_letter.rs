//! Dead letters: records that can never be handled, with everything that a person needs to judge them and send them
//! back.

use crate::clock::TimestampMs;
use crate::trace::{TRACEPARENT, Trace};

/// The header with the reason.
pub const ERROR: &str = "error";
/// The header with the number of tries.
pub const ATTEMPTS: &str = "attempts";
/// The header with the original topic.
pub const ORIGINAL_TOPIC: &str = "original-topic";
/// The header with the original partition.
pub const ORIGINAL_PARTITION: &str = "original-partition";
/// The header with the original offset.
pub const ORIGINAL_OFFSET: &str = "original-offset";
/// The header with the time at which the record was parked, ms since 1970 UTC.
pub const FAILED_AT: &str = "failed-at";

/// The most bytes of a reason in its header: a record that was just small enough must still fit with it.
const MAX_ERROR_BYTES: usize = 1_024;

/// A record for the dead-letter topic (`docs/contract.md`, "Dead letters").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value.
    pub value: Option<Vec<u8>>,
    /// The reason why the record can never be handled.
    pub error: String,
    /// How many times handling the record was tried.
    pub attempts: u32,
    /// The original topic.
    pub topic: String,
    /// The original partition.
    pub partition: i32,
    /// The original offset.
    pub offset: i64,
    /// When the record was parked, ms since 1970 UTC.
    pub failed_at_ms: TimestampMs,
    /// The trace of the record, if the record had one.
    pub trace: Option<Trace>,
}

impl DeadLetter {
    /// The headers, in a fixed order, all of them text.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            (ERROR, shortened(&self.error).to_owned()),
            (ATTEMPTS, self.attempts.to_string()),
            (ORIGINAL_TOPIC, self.topic.clone()),
            (ORIGINAL_PARTITION, self.partition.to_string()),
            (ORIGINAL_OFFSET, self.offset.to_string()),
            (FAILED_AT, self.failed_at_ms.to_string()),
        ];
        headers.extend(self.trace.map(|trace| (TRACEPARENT, trace.to_string())));
        headers
    }
}

/// The first [`MAX_ERROR_BYTES`] of `text`, cut between two characters.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MAX_ERROR_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_are_those_of_the_contract() {
        let letter = DeadLetter {
            key: Some(b"1_2".to_vec()),
            value: None,
            error: "鸿".repeat(1_000),
            attempts: 3,
            topic: "im-message-private".to_owned(),
            partition: 4,
            offset: 17,
            failed_at_ms: 1_732_723_200_000,
            trace: Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
        };
        let headers = letter.headers();
        assert_eq!(
            headers.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
            [
                "error",
                "attempts",
                "original-topic",
                "original-partition",
                "original-offset",
                "failed-at",
                "traceparent"
            ]
        );
        assert_eq!(headers[0].1, "鸿".repeat(341), "cut at 1,024 bytes, between characters");
        assert_eq!(
            headers[1..6].iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(),
            ["3", "im-message-private", "4", "17", "1732723200000"]
        );
        let untraced = DeadLetter { trace: None, ..letter };
        assert_eq!(untraced.headers().len(), 6);
    }
}
