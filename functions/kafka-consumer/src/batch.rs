//! From Lambda's Kafka event to records, and from what became of them to the partial batch response.

use hongyan::clock::TimestampMs;
use hongyan::event::{MessageEvent, Recall};
use hongyan::message::{Message, PersistStatus};
use hongyan::queue::{KafkaBatchResponse, KafkaEvent, KafkaRecord};

/// The end of the year 9999: a later time of a message is refused, and that of a recall is bounded by it. Also far below 2^52, where a score of the pending set would lose
/// its half.
const LATEST_MS: TimestampMs = 253_402_300_799_999;

/// In place of a partition or an offset that cannot be read.
const UNKNOWN: i32 = -1;

/// The event is not what a Kafka event source sends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// It comes from elsewhere.
    #[error("eventSource must be aws:kafka or SelfManagedKafka, but is {}", .0.as_deref().unwrap_or("missing"))]
    Source(Option<String>),
    /// There is nothing in it.
    #[error("the Kafka event has no records")]
    Empty,
    /// A record of this partition must come again, and no offset of the partition could be read.
    #[error("the records of {0} have no offsets, so that none of them can be reported by it")]
    Nameless(String),
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
    /// The key of the event's `records`, `{topic}-{partition}`: a failure is reported by it.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition; -1 if it cannot be read.
    pub partition: i32,
    /// The offset within it; -1 if it cannot be read, or if Kafka never took the record.
    pub offset: i64,
    /// The key as it was.
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
    /// Nothing that is done now: a store that has to be asked first is away, and the record comes again.
    HeldUp,
    /// Nothing that could ever be done; why.
    Broken(String),
}

impl Record {
    /// The record's name, as the holder of a lock: `topic/partition/offset`.
    pub fn holder(&self) -> String {
        format!("{}/{}/{}", self.topic, self.partition, self.offset)
    }

    fn decode(group: &str, record: KafkaRecord) -> Self {
        let content = match (record.fault, &record.value) {
            (Some(fault), _) => Content::Broken(fault),
            (None, None) => Content::Broken("the record has no value".to_owned()),
            (None, Some(value)) => Content::parse(value),
        };
        // The event's key is topic and partition, should the record not name them.
        let (topic, partition) = group.rsplit_once('-').unwrap_or((group, ""));
        Self {
            group: group.to_owned(),
            topic: record.topic.unwrap_or_else(|| topic.to_owned()),
            partition: record.partition.or_else(|| partition.parse().ok()).unwrap_or(UNKNOWN),
            offset: record.offset.unwrap_or(UNKNOWN.into()),
            key: record.key,
            value: record.value,
            content,
            done: false,
        }
    }

    /// A record that Kafka never took, as it would have carried it.
    fn refused_by_kafka(topic: &str, partition: i32, event: &MessageEvent) -> serde_json::Result<Self> {
        let value = serde_json::to_vec(event)?;
        Ok(Self {
            group: format!("{topic}-{partition}"),
            topic: topic.to_owned(),
            partition,
            offset: UNKNOWN.into(),
            key: Some(event.conversation().to_string().into_bytes()),
            content: Content::parse(&value),
            value: Some(value),
            done: false,
        })
    }
}

impl Content {
    /// What a record with this value says.
    pub fn parse(value: &[u8]) -> Self {
        match MessageEvent::parse(value) {
            Ok(MessageEvent::Persist { data }) => Self::of_message(data),
            Ok(MessageEvent::Recall(recall)) => {
                Self::Recall(Recall { recall_time: recall.recall_time.clamp(0, LATEST_MS), ..recall })
            }
            Err(error) => Self::Broken(format!("the value is not an event of this topic: {error}")),
        }
    }

    /// A message that says itself that it is recalled is its recall, and never a row that can be seen.
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
        // Whatever the producer said of it: the row is written now.
        Self::Persist(Box::new(Message { persist_status: PersistStatus::Persisted, ..message }))
    }
}

impl Batch {
    /// Reads an event. A record that cannot be read is part of the batch as [`Content::Broken`].
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

    /// A batch of one record that Kafka never took.
    pub(crate) fn refused_by_kafka(
        topic: &str,
        partition: i32,
        event: &MessageEvent,
    ) -> serde_json::Result<Self> {
        Ok(Self { records: vec![Record::refused_by_kafka(topic, partition, event)?] })
    }

    /// The recall events among the records, with their positions in the batch.
    pub(crate) fn recalls(&self) -> Vec<(usize, Recall)> {
        let recalls =
            self.records.iter().enumerate().filter_map(|(position, record)| match &record.content {
                Content::Recall(recall) => Some((position, *recall)),
                _ => None,
            });
        recalls.collect()
    }

    /// Reports every record that is not finished. Lambda goes back to the lowest of each partition.
    ///
    /// A record without an offset cannot be reported by it: its partition is reported from the first offset that is
    /// known. A partition without any is an error, by which all of the event comes again.
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
