//! The event that Lambda makes of Kafka's records.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use aws_lambda_events::encodings::MillisecondTimestamp;
use aws_lambda_events::kafka::{KafkaEvent, KafkaRecord};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rdkafka::message::{Headers as _, Message, Timestamp};

/// What the events say they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventSource {
    /// `SelfManagedKafka`: a Kafka of one's own.
    SelfManaged {
        /// `host:port`, several joined by commas.
        bootstrap_servers: String,
    },
    /// `aws:kafka`: Amazon MSK.
    Msk {
        /// The cluster's ARN.
        arn: String,
        /// `host:port`, several joined by commas.
        bootstrap_servers: String,
    },
}

/// The key of the event's `records` for a partition.
pub(super) fn partition_key(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// The event of one batch; `records` are in order and of one partition.
pub(super) fn event<M: Message>(source: &EventSource, key: &str, records: &[M]) -> KafkaEvent {
    let mut event = KafkaEvent::default();
    let servers = match source {
        EventSource::SelfManaged { bootstrap_servers } => {
            event.event_source = Some("SelfManagedKafka".to_owned());
            bootstrap_servers
        }
        EventSource::Msk { arn, bootstrap_servers } => {
            event.event_source = Some("aws:kafka".to_owned());
            event.event_source_arn = Some(arn.clone());
            bootstrap_servers
        }
    };
    event.bootstrap_servers = Some(servers.clone());
    event.records.insert(key.to_owned(), records.iter().map(record).collect());
    event
}

fn record<M: Message>(message: &M) -> KafkaRecord {
    let mut record = KafkaRecord::default();
    record.topic = Some(message.topic().to_owned());
    record.partition = i64::from(message.partition());
    record.offset = message.offset();
    let (kind, ms) = match message.timestamp() {
        Timestamp::CreateTime(ms) => ("CREATE_TIME", ms),
        Timestamp::LogAppendTime(ms) => ("LOG_APPEND_TIME", ms),
        Timestamp::NotAvailable => ("NO_TIMESTAMP_TYPE", 0),
    };
    record.timestamp_type = Some(kind.to_owned());
    // A time before 1970 or beyond the calendar is no time: Lambda's field has no room for it.
    let elapsed = u64::try_from(ms).unwrap_or_default();
    record.timestamp = MillisecondTimestamp(
        UNIX_EPOCH.checked_add(Duration::from_millis(elapsed.min(MAX_TIME_MS))).unwrap_or(UNIX_EPOCH).into(),
    );
    record.key = message.key().map(|key| STANDARD.encode(key));
    record.value = message.payload().map(|value| STANDARD.encode(value));
    record.headers = message
        .headers()
        .map(|headers| {
            headers
                .iter()
                .map(|header| {
                    let bytes = header.value.unwrap_or_default();
                    // Lambda's bytes are Java's: signed.
                    let signed = bytes.iter().map(|byte| byte.cast_signed()).collect();
                    HashMap::from([(header.key.to_owned(), signed)])
                })
                .collect()
        })
        .unwrap_or_default();
    record
}

/// The end of the year 9999.
const MAX_TIME_MS: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    use super::*;

    #[test]
    fn the_event_is_lambdas() {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "trace", value: Some(&[1_u8, 255]) })
            .insert(Header { key: "empty", value: None::<&[u8]> });
        let record = OwnedMessage::new(
            Some(br#"{"action":"RECALL"}"#.to_vec()),
            Some(b"1_2".to_vec()),
            "im-message-private".to_owned(),
            Timestamp::CreateTime(1_732_723_200_250),
            4,
            17,
            Some(headers),
        );
        let tombstone = OwnedMessage::new(
            None,
            None,
            "im-message-private".to_owned(),
            Timestamp::LogAppendTime(5),
            4,
            18,
            None,
        );
        let source = EventSource::Msk {
            arn: "arn:aws:kafka:eu-west-1:123456789012:cluster/im/1".to_owned(),
            bootstrap_servers: "b-1:9092,b-2:9092".to_owned(),
        };
        let event = event(&source, "im-message-private-4", &[record, tombstone]);
        let expected = serde_json::json!({
            "eventSource": "aws:kafka",
            "eventSourceArn": "arn:aws:kafka:eu-west-1:123456789012:cluster/im/1",
            "bootstrapServers": "b-1:9092,b-2:9092",
            "records": {"im-message-private-4": [
                {
                    "topic": "im-message-private", "partition": 4, "offset": 17,
                    "timestamp": 1_732_723_200_250_i64, "timestampType": "CREATE_TIME",
                    "key": "MV8y", "value": "eyJhY3Rpb24iOiJSRUNBTEwifQ==",
                    "headers": [{"trace": [1, -1]}, {"empty": []}],
                },
                {
                    "topic": "im-message-private", "partition": 4, "offset": 18,
                    "timestamp": 5, "timestampType": "LOG_APPEND_TIME",
                    "key": null, "value": null, "headers": [],
                },
            ]},
        });
        assert_eq!(event, serde_json::from_value::<KafkaEvent>(expected).unwrap());
    }

    #[test]
    fn a_time_outside_the_calendar_does_not_make_it_panic() {
        for ms in [i64::MIN, -1, i64::MAX] {
            let record = OwnedMessage::new(None, None, "t".to_owned(), Timestamp::CreateTime(ms), 0, 0, None);
            let source = EventSource::SelfManaged { bootstrap_servers: String::new() };
            event(&source, "t-0", &[record]);
        }
    }
}
