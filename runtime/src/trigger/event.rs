//! Builds the event that Lambda makes of Kafka records.

use hongyan::queue::envelope::Metadata;
use hongyan::queue::{KafkaEvent, KafkaRecord};
use hongyan::trace::{TRACEPARENT, Trace};
use rdkafka::message::{Headers as _, Message, Timestamp};

/// The source that events name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventSource {
    /// `SelfManagedKafka`: any Kafka but Amazon MSK.
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

/// The event of one batch. `records` are of one partition, in order.
pub(super) fn event<M: Message>(source: &EventSource, key: &str, records: &[M]) -> KafkaEvent {
    let (name, arn, servers) = match source {
        EventSource::SelfManaged { bootstrap_servers } => ("SelfManagedKafka", None, bootstrap_servers),
        EventSource::Msk { arn, bootstrap_servers } => ("aws:kafka", Some(arn.clone()), bootstrap_servers),
    };
    KafkaEvent {
        source: Some(name.to_owned()),
        source_arn: arn,
        bootstrap_servers: Some(servers.clone()),
        records: [(key.to_owned(), records.iter().map(record).collect())].into(),
    }
}

fn record<M: Message>(message: &M) -> KafkaRecord {
    let (timestamp_type, timestamp) = match message.timestamp() {
        Timestamp::CreateTime(ms) => ("CREATE_TIME", ms),
        Timestamp::LogAppendTime(ms) => ("LOG_APPEND_TIME", ms),
        Timestamp::NotAvailable => ("NO_TIMESTAMP_TYPE", -1),
    };
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect()
    });
    let trace = message.headers().and_then(|headers| {
        let header = headers.iter().find(|header| header.key == TRACEPARENT)?;
        Trace::of_record(header.value?)
    });
    KafkaRecord {
        topic: Some(message.topic().to_owned()),
        partition: Some(message.partition()),
        offset: Some(message.offset()),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        fault: None,
        trace,
        metadata: Metadata { timestamp, timestamp_type, headers: headers.unwrap_or_default() },
    }
}

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
        assert_eq!(serde_json::to_value(event).unwrap(), expected);
    }

    #[test]
    fn a_time_outside_the_calendar_is_told_as_it_is() {
        for ms in [i64::MIN, -1, i64::MAX] {
            let record = OwnedMessage::new(None, None, "t".to_owned(), Timestamp::CreateTime(ms), 0, 0, None);
            let source = EventSource::SelfManaged { bootstrap_servers: String::new() };
            let json = serde_json::to_value(event(&source, "t-0", &[record])).unwrap();
            assert_eq!(json["records"]["t-0"][0]["timestamp"], ms);
        }
    }
}
