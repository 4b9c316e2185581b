//! The event that Lambda makes of Kafka's records, read so that one odd record affects no other.
//!
//! Of a record only topic, partition, offset, key, value and one header, the trace, are read. Each is read by itself, so an
//! invalid header byte or time affects nothing (`docs/decisions/0037-envelope.md`).

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeStruct as _, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::clock::TimestampMs;
use crate::trace::{TRACEPARENT, Trace};

/// An event of a Kafka event source. Reading it fails only if the JSON is not an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaEvent {
    /// `aws:kafka` or `SelfManagedKafka`; `None` if it is missing or not a text.
    pub source: Option<String>,
    /// The ARN of an MSK cluster. Only written, never read.
    pub source_arn: Option<String>,
    /// `host:port`, several joined by commas. Only written, never read.
    pub bootstrap_servers: Option<String>,
    /// The records by `{topic}-{partition}`.
    pub records: BTreeMap<String, Vec<KafkaRecord>>,
}

/// One record of the event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaRecord {
    /// The topic, if it is readable.
    pub topic: Option<String>,
    /// The partition, if it is readable.
    pub partition: Option<i32>,
    /// The offset, if it is readable; never negative.
    pub offset: Option<i64>,
    /// The bytes of the key; the JSON itself if it cannot be decoded.
    pub key: Option<Vec<u8>>,
    /// The bytes of the value; the JSON itself if it cannot be decoded.
    pub value: Option<Vec<u8>>,
    /// The reason why the record can never be handled, if its envelope is unreadable.
    pub fault: Option<String>,
    /// The trace of the header `traceparent`; `None` if there is none, or none that is readable.
    pub trace: Option<Trace>,
    /// The rest of the envelope. Only written, never read.
    pub metadata: Metadata,
}

/// The fields of the envelope that no function needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Kafka's time of the record, ms since 1970 UTC; -1 without one.
    pub timestamp: TimestampMs,
    /// `CREATE_TIME`, `LOG_APPEND_TIME` or `NO_TIMESTAMP_TYPE`.
    pub timestamp_type: &'static str,
    /// The headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl<'de> Deserialize<'de> for KafkaEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Fields::<Box<RawValue>>::deserialize(deserializer)?;
        let mut event = Self { source: fields.text("eventSource"), ..Self::default() };
        // Records that are not an object count as none: an event without records is an error of its own.
        let groups = fields.last("records").and_then(read::<Fields<&RawValue>>);
        for (group, records) in groups.into_iter().flat_map(|groups| groups.0) {
            event.records.entry(group).or_default().extend(records_of(records));
        }
        Ok(event)
    }
}

/// The records of one group. A value that is not a list counts as one unreadable record.
fn records_of(json: &RawValue) -> Vec<KafkaRecord> {
    match read::<Option<Vec<&RawValue>>>(json) {
        Some(records) => records.unwrap_or_default().into_iter().map(KafkaRecord::read).collect(),
        None => vec![KafkaRecord::unreadable(json)],
    }
}

impl KafkaRecord {
    fn read(json: &RawValue) -> Self {
        let Some(fields) = read::<Fields<&RawValue>>(json) else { return Self::unreadable(json) };
        let offset = fields.last("offset").and_then(read::<i64>).filter(|offset| *offset >= 0);
        let (value, value_fault) = bytes("value", fields.last("value"));
        // The key has only chosen the partition, so a record with an unreadable key is handled all the same.
        let (key, _) = bytes("key", fields.last("key"));
        let offset_fault = offset.is_none().then(|| "the record's offset cannot be read".to_owned());
        Self {
            topic: fields.text("topic"),
            partition: fields.last("partition").and_then(read::<i32>).filter(|partition| *partition >= 0),
            offset,
            key,
            value,
            fault: value_fault.or(offset_fault),
            trace: fields.last("headers").and_then(trace),
            metadata: Metadata::default(),
        }
    }

    fn unreadable(json: &RawValue) -> Self {
        Self {
            value: Some(json.get().as_bytes().to_vec()),
            fault: Some("the record's envelope is not a JSON object".to_owned()),
            ..Self::default()
        }
    }
}

/// The bytes of a base64 field; or the JSON itself, and why it is not base64.
fn bytes(name: &str, json: Option<&RawValue>) -> (Option<Vec<u8>>, Option<String>) {
    let Some(json) = json else { return (None, None) };
    match read::<Option<String>>(json) {
        Some(None) => (None, None),
        Some(Some(text)) => match STANDARD.decode(&text) {
            Ok(bytes) => (Some(bytes), None),
            Err(_) => (Some(text.into_bytes()), Some(format!("the {name} is not valid base64"))),
        },
        None => (Some(json.get().as_bytes().to_vec()), Some(format!("the {name} is not a text"))),
    }
}

/// The trace of a record with these headers: a list of objects with one field each, whose value is a list of signed bytes.
fn trace(headers: &RawValue) -> Option<Trace> {
    let header = read::<Vec<&RawValue>>(headers)?
        .into_iter()
        .find_map(|header| read::<Fields<&RawValue>>(header)?.last(TRACEPARENT).and_then(read::<Vec<i8>>))?;
    Trace::of_record(&header.into_iter().map(i8::cast_unsigned).collect::<Vec<u8>>())
}

fn read<'a, T: Deserialize<'a>>(json: &'a RawValue) -> Option<T> {
    serde_json::from_str(json.get()).ok()
}

/// The fields of an object, unread.
struct Fields<R>(Vec<(String, R)>);

impl<R: Borrow<RawValue>> Fields<R> {
    /// The field with this name; the last of several, like most JSON readers.
    fn last(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().rfind(|(found, _)| found == name).map(|(_, json)| json.borrow())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.last(name).and_then(read::<String>)
    }
}

impl<'de, R: Deserialize<'de>> Deserialize<'de> for Fields<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<R>(std::marker::PhantomData<R>);

        impl<'de, R: Deserialize<'de>> Visitor<'de> for Collect<R> {
            type Value = Fields<R>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Collect(std::marker::PhantomData))
    }
}

impl Serialize for KafkaEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut event = serializer.serialize_struct("KafkaEvent", 4)?;
        event.serialize_field("eventSource", &self.source)?;
        event.serialize_field("eventSourceArn", &self.source_arn)?;
        event.serialize_field("bootstrapServers", &self.bootstrap_servers)?;
        event.serialize_field("records", &self.records)?;
        event.end()
    }
}

impl Serialize for KafkaRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let encoded = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
        let mut record = serializer.serialize_struct("KafkaRecord", 8)?;
        record.serialize_field("topic", &self.topic)?;
        record.serialize_field("partition", &self.partition)?;
        record.serialize_field("offset", &self.offset)?;
        record.serialize_field("timestamp", &self.metadata.timestamp)?;
        record.serialize_field("timestampType", self.metadata.timestamp_type)?;
        record.serialize_field("key", &encoded(&self.key))?;
        record.serialize_field("value", &encoded(&self.value))?;
        record.serialize_field("headers", &Headers(&self.metadata.headers))?;
        record.end()
    }
}

/// A list of objects with one field each. Its bytes are signed, as Java's are.
struct Headers<'a>(&'a [(String, Vec<u8>)]);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(name, value)| Header(name, value)))
    }
}

struct Header<'a>(&'a str, &'a [u8]);

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut header = serializer.serialize_map(Some(1))?;
        let signed: Vec<i8> = self.1.iter().map(|byte| byte.cast_signed()).collect();
        header.serialize_entry(self.0, &signed)?;
        header.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn one(record: &Value) -> KafkaRecord {
        let json = json!({"eventSource": "aws:kafka", "records": {"t-4": [record]}}).to_string();
        let mut event: KafkaEvent = serde_json::from_str(&json).unwrap();
        event.records.remove("t-4").unwrap().remove(0)
    }

    #[test]
    fn what_is_not_needed_is_not_read() {
        let plain = json!({"topic": "t", "partition": 4, "offset": 7, "key": "MV8y", "value": "e30="});
        let read = one(&plain);
        let expected = KafkaRecord {
            topic: Some("t".to_owned()),
            partition: Some(4),
            offset: Some(7),
            key: Some(b"1_2".to_vec()),
            value: Some(b"{}".to_vec()),
            ..KafkaRecord::default()
        };
        assert_eq!(read, expected);
        for (name, value) in [
            ("headers", json!([{"h": [200, 255]}])),
            ("headers", json!([{"h": null}])),
            ("headers", Value::Null),
            ("headers", json!({"h": {"deep": [1.5]}})),
            ("headers", json!([5, {"traceparent": [1, 2]}, {"traceparent": "00"}])),
            ("timestamp", json!(-1)),
            ("timestamp", json!(1.5)),
            ("timestamp", json!(i64::MAX)),
            ("timestamp", json!(u64::MAX)),
            ("timestamp", Value::Null),
            ("timestampType", json!(5)),
            ("extra", json!({})),
        ] {
            let mut record = plain.clone();
            record[name] = value;
            assert_eq!(one(&record), expected, "{record}");
        }
        // Nested deeper than a JSON reader goes, and a number larger than any.
        for odd in ["[".repeat(5_000) + &"]".repeat(5_000), "1e999".to_owned()] {
            let json = format!(
                r#"{{"odd":{odd},"records":{{"t-4":[{{"headers":{odd},"offset":7,"value":"e30="}}]}}}}"#
            );
            let event: KafkaEvent = serde_json::from_str(&json).unwrap();
            assert_eq!((event.records["t-4"][0].offset, &event.records["t-4"][0].fault), (Some(7), &None));
        }
    }

    #[test]
    fn what_cannot_be_read_says_so_and_keeps_what_stands_there() {
        let faults = |record: Value| one(&record).fault.unwrap();
        assert!(faults(json!(null)).contains("envelope"));
        assert!(faults(json!([1])).contains("envelope"));
        assert!(faults(json!({"offset": 1, "value": 5})).contains("not a text"));
        assert!(faults(json!({"offset": 1, "value": "%"})).contains("base64"));
        for offset in [json!(null), json!(-1), json!(1.5), json!("1"), json!(u64::MAX)] {
            assert!(faults(json!({"offset": offset, "value": "e30="})).contains("offset"), "{offset}");
        }
        assert_eq!(one(&json!({"offset": 1, "value": {"a": 1}})).value.unwrap(), br#"{"a":1}"#);
        assert_eq!(one(&json!("who")).value.unwrap(), br#""who""#);
        for key in [json!(5), json!(null), json!("%"), json!([])] {
            assert_eq!(one(&json!({"offset": 1, "value": "e30=", "key": key})).fault, None, "{key}");
        }
        let groups = |json: &str| serde_json::from_str::<KafkaEvent>(json).unwrap().records;
        assert_eq!(groups(r#"{"records":null}"#).len(), 0);
        assert_eq!(groups(r#"{"records":[]}"#).len(), 0);
        assert_eq!(groups(r#"{"records":{"t-1":null}}"#)["t-1"], []);
        assert_eq!(groups(r#"{"records":{"t-1":5}}"#)["t-1"].len(), 1);
        assert_eq!(groups(r#"{"records":{"t-1":[{}],"t-1":[{}]}}"#)["t-1"].len(), 2, "none is lost");
    }

    #[test]
    fn the_trace_of_a_record_is_read_from_its_header() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let headers = json!([{"h": [200]}, {"traceparent": text.as_bytes()}]);
        let read = one(&json!({"offset": 7, "value": "e30=", "headers": headers}));
        assert_eq!(read.trace.map(|trace| trace.to_string()).as_deref(), Some(text));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
            header in prop::collection::vec(any::<u8>(), 0..5),
            timestamp in any::<i64>(),
            offset in 0..=i64::MAX,
        ) {
            let metadata = Metadata { timestamp, timestamp_type: "CREATE_TIME", headers: vec![("h".to_owned(), header)] };
            let (topic, partition) = (Some("t".to_owned()), Some(4));
            let record = KafkaRecord { topic, partition, offset: Some(offset), key, value, fault: None, trace: None, metadata };
            let json = serde_json::to_value(&record).unwrap();
            prop_assert_eq!(one(&json), KafkaRecord { metadata: Metadata::default(), ..record });
        }
    }
}
