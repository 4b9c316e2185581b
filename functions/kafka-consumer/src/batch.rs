//! Reads Lambda's Kafka event into records, and turns their results into the partial batch response.

use hongyan::clock::TimestampMs;
use hongyan::event::{MessageEvent, Recall};
use hongyan::message::{Message, PersistStatus};
use hongyan::queue::{KafkaBatchResponse, KafkaEvent, KafkaRecord};
use hongyan::redact;
use hongyan::trace::{self, Trace};

/// The end of the year 9999. A message with a later time is refused; the time of a recall is limited to it. It lies far
/// below 2^52, up to which a score of the pending set can hold its half.
const LATEST_MS: TimestampMs = 253_402_300_799_999;

/// Stands for a partition or an offset that is not readable.
const UNKNOWN: i32 = -1;

/// The event is not one of a Kafka event source.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// The event comes from another source.
    #[error("eventSource must be aws:kafka or SelfManagedKafka, but is {}", .0.as_deref().unwrap_or("missing"))]
    Source(Option<String>),
    /// The event has no records.
    #[error("the Kafka event has no records")]
    Empty,
    /// A record of this partition must come again, and no offset of the partition is readable.
    #[error("the records of {0} have no offsets, so that none of them can be reported by it")]
    Nameless(String),
}

/// The records of one invocation.
#[derive(Debug)]
pub struct Batch {
    /// The records, sorted by partition and offset.
    pub records: Vec<Record>,
}

/// A record of the topic.
#[derive(Debug)]
pub struct Record {
    /// The key of the event's `records`, `{topic}-{partition}`: the batch response names a failed record by it.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition; -1 if it is not readable.
    pub partition: i32,
    /// The offset; -1 if it is not readable, or if Kafka never took the record.
    pub offset: i64,
    /// The bytes of the key.
    pub key: Option<Vec<u8>>,
    /// The bytes of the value.
    pub value: Option<Vec<u8>>,
    /// The trace of the record, if the record has one.
    pub trace: Option<Trace>,
    /// The meaning of the value.
    pub content: Content,
    /// True if the record is finished: written, skipped, recalled, or parked as a dead letter.
    pub done: bool,
}

/// The meaning of a record.
#[derive(Debug)]
pub enum Content {
    /// Write this message.
    Persist(Box<Message>),
    /// Recall this message.
    Recall(Recall),
    /// Nothing for now: a store that must be asked first is away. The record comes again.
    HeldUp,
    /// Nothing that could ever be done, with the reason: a dead letter.
    Broken(String),
}

impl Record {
    /// The record's name as the holder of a lock: `topic/partition/offset`.
    pub fn holder(&self) -> String {
        format!("{}/{}/{}", self.topic, self.partition, self.offset)
    }

    fn decode(group: &str, record: KafkaRecord) -> Self {
        let content = match (record.fault, &record.value) {
            (Some(fault), _) => Content::Broken(fault),
            (None, None) => Content::Broken("the record has no value".to_owned()),
            (None, Some(value)) => Content::parse(value),
        };
        // The key of the event says topic and partition if the record itself does not.
        let (topic, partition) = group.rsplit_once('-').unwrap_or((group, ""));
        Self {
            group: group.to_owned(),
            topic: record.topic.unwrap_or_else(|| topic.to_owned()),
            partition: record.partition.or_else(|| partition.parse().ok()).unwrap_or(UNKNOWN),
            offset: record.offset.unwrap_or(UNKNOWN.into()),
            key: record.key,
            value: record.value,
            trace: record.trace,
            content,
            done: false,
        }
    }

    /// A record that Kafka never took, with the value that it would have had.
    fn refused_by_kafka(topic: &str, partition: i32, event: &MessageEvent) -> serde_json::Result<Self> {
        let value = serde_json::to_vec(event)?;
        Ok(Self {
            group: format!("{topic}-{partition}"),
            topic: topic.to_owned(),
            partition,
            offset: UNKNOWN.into(),
            key: Some(event.conversation().to_string().into_bytes()),
            trace: trace::current(),
            content: Content::parse(&value),
            value: Some(value),
            done: false,
        })
    }
}

impl Content {
    /// Reads the value of a record.
    pub fn parse(value: &[u8]) -> Self {
        match MessageEvent::parse(value) {
            Ok(MessageEvent::Persist { data }) => Self::of_message(data),
            Ok(MessageEvent::Recall(recall)) => {
                Self::Recall(Recall { recall_time: recall.recall_time.clamp(0, LATEST_MS), ..recall })
            }
            Err(error) => {
                Self::Broken(format!("the value is not an event of this topic: {}", redact::json(&error)))
            }
        }
    }

    /// A message that says of itself that it is recalled counts as its recall. It never becomes a visible row.
    fn of_message(message: Message) -> Self {
        if message.is_recalled() || message.recall_time.is_some() {
            let recall_time = message.recall_time.unwrap_or(message.send_time).clamp(0, LATEST_MS);
            return Self::Recall(Recall::of(&message, recall_time));
        }
        if message.content.is_empty() {
            return Self::Broken("the message has no content".to_owned());
        }
        if !(0..=LATEST_MS).contains(&message.send_time) {
            return Self::Broken(format!("sendTime {} is no time of this calendar", message.send_time));
        }
        // PERSISTED, whatever the producer said: the row is written now.
        Self::Persist(Box::new(Message { persist_status: PersistStatus::Persisted, ..message }))
    }
}

impl Batch {
    /// Reads an event. An unreadable record is in the batch as [`Content::Broken`].
    pub fn decode(event: KafkaEvent) -> Result<Self, InvalidEvent> {
        if !matches!(event.source.as_deref(), Some("aws:kafka" | "SelfManagedKafka")) {
            return Err(InvalidEvent::Source(event.source));
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

    /// A batch with one record that Kafka never took.
    pub(crate) fn refused_by_kafka(
        topic: &str,
        partition: i32,
        event: &MessageEvent,
    ) -> serde_json::Result<Self> {
        Ok(Self { records: vec![Record::refused_by_kafka(topic, partition, event)?] })
    }

    /// The RECALL records, with their indexes in the batch.
    pub(crate) fn recalls(&self) -> Vec<(usize, Recall)> {
        let recalls =
            self.records.iter().enumerate().filter_map(|(position, record)| match &record.content {
                Content::Recall(recall) => Some((position, *recall)),
                _ => None,
            });
        recalls.collect()
    }

    /// Reports every record that is not finished. Lambda repeats each partition from its lowest one.
    ///
    /// A record without an offset cannot be named; the first known offset of its partition is reported instead. If the
    /// partition has none, the result is an error, and the whole event comes again.
    pub fn response(&self) -> Result<KafkaBatchResponse, InvalidEvent> {
        let mut response = KafkaBatchResponse::done();
        for record in self.records.iter().filter(|record| !record.done) {
            let mut offsets = self.records.iter().filter(|other| other.group == record.group);
            let known = |record: &Record| (record.offset >= 0).then_some(record.offset);
            let Some(offset) = known(record).or_else(|| offsets.find_map(known)) else {
                return Err(InvalidEvent::Nameless(record.group.clone()));
            };
            response.fail(record.group.clone(), offset);
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use hongyan::id::{MessageId, UserId};
    use hongyan::message::{MessageType, Status};

    use super::*;

    fn message() -> Message {
        let (from, to) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
        Message::new(MessageId::new(7 << 22).unwrap(), from, to, MessageType::TEXT, "words".to_owned(), None)
    }

    fn parsed(data: Message) -> Content {
        Content::parse(&serde_json::to_vec(&MessageEvent::Persist { data }).unwrap())
    }

    #[test]
    fn a_message_that_says_it_is_recalled_is_never_a_row() {
        let recalled_at = |message| match parsed(message) {
            Content::Recall(recall) => recall.recall_time,
            other => panic!("{other:?}"),
        };
        let sent = message().send_time;
        assert_eq!(recalled_at(message().recalled(99)), 99);
        assert_eq!(recalled_at(Message { status: Status::Recalled, ..message() }), sent);
        assert_eq!(recalled_at(Message { recall_time: Some(5), ..message() }), 5);
        assert_eq!(recalled_at(Message { recall_time: Some(i64::MIN), ..message() }), 0);
        assert!(matches!(parsed(message()), Content::Persist(_)));
        assert!(matches!(parsed(Message { content: String::new(), ..message() }), Content::Broken(_)));
    }

    #[test]
    fn a_time_beyond_the_calendar_is_refused_of_a_message_and_bounded_of_a_recall() {
        for send_time in [-1, i64::MIN, LATEST_MS + 1, i64::MAX] {
            assert!(matches!(parsed(Message { send_time, ..message() }), Content::Broken(_)), "{send_time}");
        }
        for send_time in [0, LATEST_MS] {
            assert!(matches!(parsed(Message { send_time, ..message() }), Content::Persist(_)), "{send_time}");
        }
        for (said, taken) in [(-1, 0), (i64::MIN, 0), (5, 5), (i64::MAX, LATEST_MS)] {
            let event = MessageEvent::Recall(Recall::of(&message(), said));
            let Content::Recall(recall) = Content::parse(&serde_json::to_vec(&event).unwrap()) else {
                panic!("{said} is no recall");
            };
            assert_eq!(recall.recall_time, taken);
        }
    }

    #[test]
    fn what_has_no_offset_is_reported_by_its_partition() {
        let event = |json: &str| serde_json::from_str::<KafkaEvent>(json).unwrap();
        let batch = |records: &str| {
            Batch::decode(event(&format!(r#"{{"eventSource":"aws:kafka","records":{records}}}"#))).unwrap()
        };
        let failed = batch(r#"{"t-3":[null,{"offset":8},{"offset":7}],"u-0":[{"offset":1}]}"#);
        assert_eq!((failed.records[0].topic.as_str(), failed.records[0].partition), ("t", 3));
        let failures = failed.response().unwrap().batch_item_failures;
        let failures: Vec<_> = failures
            .iter()
            .map(|failure| (failure.item_identifier.partition.as_str(), failure.item_identifier.offset))
            .collect();
        assert_eq!(failures, [("t-3", 7), ("t-3", 7), ("t-3", 8), ("u-0", 1)]);
        let nameless = batch(r#"{"t-3":[null],"u-0":[{"offset":1}]}"#);
        assert_eq!(nameless.response(), Err(InvalidEvent::Nameless("t-3".to_owned())));
    }
}
