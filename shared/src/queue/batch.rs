//! The partial batch response of a function that consumes Kafka: the records that must come again.
//!
//! The form is AWS's ("Configuring error handling controls for Kafka event sources"): an item has the key of the
//! event's `records` ("topic-partition") and an offset. Lambda repeats a partition from its lowest failed offset.

use serde::{Deserialize, Serialize};

/// The function's answer. Without failures the whole batch is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaBatchResponse {
    /// The failed records. Of a partition, the first one is enough.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub batch_item_failures: Vec<BatchItemFailure>,
}

/// A failed record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItemFailure {
    /// The record.
    pub item_identifier: ItemIdentifier,
}

/// The place of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemIdentifier {
    /// The key of the event's `records`: topic and partition joined by a hyphen, `im-message-private-0`.
    pub partition: String,
    /// The record's offset.
    pub offset: i64,
}

impl KafkaBatchResponse {
    /// All records of the batch are done.
    pub fn done() -> Self {
        Self::default()
    }

    /// Reports the record at `offset` of `partition` (the key of the event's `records`) as failed.
    pub fn fail(&mut self, partition: impl Into<String>, offset: i64) {
        self.batch_item_failures.push(BatchItemFailure {
            item_identifier: ItemIdentifier { partition: partition.into(), offset },
        });
    }
}

/// Lambda takes a null list as an empty one.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<BatchItemFailure>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_lambdas() {
        let mut response = KafkaBatchResponse::done();
        assert_eq!(serde_json::to_string(&response).unwrap(), r#"{"batchItemFailures":[]}"#);
        response.fail("im-message-private-3", 41);
        let json =
            r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"im-message-private-3","offset":41}}]}"#;
        assert_eq!(serde_json::to_string(&response).unwrap(), json);
        assert_eq!(serde_json::from_str::<KafkaBatchResponse>(json).unwrap(), response);
    }

    #[test]
    fn nothing_at_all_means_done() {
        for empty in ["{}", r#"{"batchItemFailures":null}"#, r#"{"batchItemFailures":[]}"#] {
            assert_eq!(
                serde_json::from_str::<KafkaBatchResponse>(empty).unwrap(),
                KafkaBatchResponse::done()
            );
        }
    }
}
