//! A record that can never be handled, put aside for a person with all that is needed to judge it and send it back.

use crate::clock::TimestampMs;

/// Why it was put aside.
pub const ERROR: &str = "error";
/// How often handling it was tried.
pub const ATTEMPTS: &str = "attempts";
/// The topic it was on.
pub const ORIGINAL_TOPIC: &str = "original-topic";
/// The partition it was in.
pub const ORIGINAL_PARTITION: &str = "original-partition";
/// Its offset there.
pub const ORIGINAL_OFFSET: &str = "original-offset";
/// When it was put aside, ms since 1970 UTC.
pub const FAILED_AT: &str = "failed-at";

/// The most bytes of the reason that a header keeps: a record that was just small enough must still fit with it.
const MAX_ERROR_BYTES: usize = 1_024;

/// A record for the dead-letter topic (`docs/contract.md`, "Dead letters").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record's key, as it was.
    pub key: Option<Vec<u8>>,
    /// The record's value, as it was.
    pub value: Option<Vec<u8>>,
    /// Why it can never be handled.
    pub error: String,
    /// How often handling it was tried.
    pub attempts: u32,
    /// The topic it was on.
    pub topic: String,
    /// The partition it was in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// When it was given up.
    pub failed_at_ms: TimestampMs,
}

impl DeadLetter {
    /// The headers that it carries, in a fixed order, all of them text.
    pub fn headers(&self) -> [(&'static str, String); 6] {
        [
            (ERROR, shortened(&self.error).to_owned()),
            (ATTEMPTS, self.attempts.to_string()),
            (ORIGINAL_TOPIC, self.topic.clone()),
            (ORIGINAL_PARTITION, self.partition.to_string()),
            (ORIGINAL_OFFSET, self.offset.to_string()),
            (FAILED_AT, self.failed_at_ms.to_string()),
        ]
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
        };
        let headers = letter.headers();
        assert_eq!(
            headers.each_ref().map(|(key, _)| *key),
            ["error", "attempts", "original-topic", "original-partition", "original-offset", "failed-at"]
        );
        assert_eq!(headers[0].1, "鸿".repeat(341), "cut at 1,024 bytes, between characters");
        assert_eq!(
            headers[1..].iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(),
            ["3", "im-message-private", "4", "17", "1732723200000"]
        );
    }
}
