//! From Lambda's Kafka event to records, and from what became of them to the partial batch response.

use aws_lambda_events::kafka::{KafkaEvent, KafkaRecord};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hongyan::event::{MessageEvent, Recall};
use hongyan::message::{Message, PersistStatus, Status};
use hongyan::queue::KafkaBatchResponse;

/// The event is not what a Kafka event source sends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// It comes from elsewhere.
    #[error("eventSource must be aws:kafka or SelfManagedKafka, but is {}", .0.as_deref().unwrap_or("missing"))]
    Source(Option<String>),
    /// There is nothing in it.
    #[error("the Kafka event has no records")]
    Empty,
}

/// All records of one invocation, in the order of their partitions.
#[derive(Debug)]
pub struct Batch {
    /// The records, those of one partition together and by offset.
    pub records: Vec<Record>,
}

/// One record of the topic.
#[derive(Debug)]
pub struct Record {
    /// The key of the event's `records`, `topic-partition`: what a failure is reported by.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i64,
    /// The offset within it.
    pub offset: i64,
    /// The key as it was, if it could be decoded.
    pub key: Option<Vec<u8>>,
    /// The value as it was.
    pub value: Option<Vec<u8>>,
    /// What it says.
    pub content: Content,
    /// Whether it is finished: written, skipped, taken back, or parked as a dead letter.
    pub done: bool,
}

/// What a record says.
#[derive(Debug)]
pub enum Content {
    /// Write this message.
    Persist(Box<Message>),
    /// Take this message back.
    Recall(Recall),
    /// Nothing that could ever be done; why.
    Broken(String),
}

impl Record {
    /// The record's name, as the holder of a lock: `topic/partition/offset`.
    pub fn holder(&self) -> String {
        format!("{}/{}/{}", self.topic, self.partition, self.offset)
    }

    fn decode(group: &str, record: KafkaRecord) -> Self {
        let decode =
            |text: Option<String>| text.map(|text| STANDARD.decode(&text).map_err(|_| text.into_bytes()));
        let (key, value) = (decode(record.key), decode(record.value));
        let content = match (&key, &value) {
            (_, None) => Content::Broken("the record has no value".to_owned()),
            (_, Some(Err(_))) => Content::Broken("the value is not valid base64".to_owned()),
            (Some(Err(_)), _) => Content::Broken("the key is not valid base64".to_owned()),
            (_, Some(Ok(value))) => Content::parse(value),
        };
        let bytes = |decoded: Option<Result<Vec<u8>, Vec<u8>>>| {
            decoded.map(|decoded| decoded.unwrap_or_else(|raw| raw))
        };
        // The event's key ends with the partition; the topic is before it, should the record not name it.
        let topic = record
            .topic
            .unwrap_or_else(|| group.rsplit_once('-').map_or(group, |(topic, _)| topic).to_owned());
        Self {
            group: group.to_owned(),
            topic,
            partition: record.partition,
            offset: record.offset,
            key: bytes(key),
            value: bytes(value),
            content,
            done: false,
        }
    }
}

impl Content {
    fn parse(value: &[u8]) -> Self {
        match MessageEvent::parse(value) {
            Ok(MessageEvent::Persist { data }) => Self::Persist(Box::new(Message {
                // Whatever the producer said of these: the row is written now, and a recall is a tombstone's to say.
                status: Status::Normal,
                recall_time: None,
                persist_status: PersistStatus::Persisted,
                ..data
            })),
            Ok(MessageEvent::Recall(recall)) => Self::Recall(recall),
            Err(error) => Self::Broken(format!("the value is not an event of this topic: {error}")),
        }
    }
}

impl Batch {
    /// Reads an event. A record that cannot be read is part of the batch as [`Content::Broken`].
    pub fn decode(event: KafkaEvent) -> Result<Self, InvalidEvent> {
        if !matches!(event.event_source.as_deref(), Some("aws:kafka" | "SelfManagedKafka")) {
            return Err(InvalidEvent::Source(event.event_source));
        }
        let mut records: Vec<Record> = event
            .records
            .into_iter()
            .flat_map(|(group, records)| {
                records.into_iter().map(|record| Record::decode(&group, record)).collect::<Vec<_>>()
            })
            .collect();
        if records.is_empty() {
            return Err(InvalidEvent::Empty);
        }
        records.sort_by(|a, b| (&a.group, a.offset).cmp(&(&b.group, b.offset)));
        Ok(Self { records })
    }

    /// Reports every record that is not finished. Lambda goes back to the lowest of each partition.
    pub fn response(&self) -> KafkaBatchResponse {
        let mut response = KafkaBatchResponse::done();
        for record in self.records.iter().filter(|record| !record.done) {
            response.fail(record.group.clone(), record.offset);
        }
        response
    }
}
