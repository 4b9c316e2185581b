//! Reads the dead-letter topic from its start to the end that it has when the reading begins.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hongyan::config::KafkaConfig;
use hongyan::queue::client::{ClientEvents, client_config, first_answer, group_offsets};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::done::{Done, redrive_group};
use super::letter::{Filter, Letter};

/// The longest wait for one answer of Kafka.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Reader {
    consumer: BaseConsumer<ClientEvents>,
    topic: String,
    done: BTreeMap<i32, Done>,
    /// The end offset of each partition that is not read to its end yet.
    ends: BTreeMap<i32, i64>,
}

impl Reader {
    pub(super) fn new(config: &KafkaConfig, events: &ClientEvents) -> KafkaResult<Self> {
        let mut client = client_config(config);
        client
            .set("group.id", redrive_group(config))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true");
        let consumer: BaseConsumer<ClientEvents> = client.create_with_context(events.clone())?;
        let topic = config.dead_letter_topic.clone();
        let metadata =
            first_answer(&consumer, events, TIMEOUT, |limit| consumer.fetch_metadata(Some(&topic), limit))?;
        let mut asked = TopicPartitionList::new();
        for found in metadata.topics() {
            if let Some(error) = found.error() {
                return Err(KafkaError::MetadataFetch(error.into()));
            }
            for partition in found.partitions() {
                asked.add_partition(&topic, partition.id());
            }
        }
        let (mut done, mut ends, mut starts) = (BTreeMap::new(), BTreeMap::new(), TopicPartitionList::new());
        let (committed, bounds) =
            first_answer(&consumer, events, TIMEOUT, |limit| group_offsets(&consumer, &asked, limit))?;
        for (place, (start, end)) in committed.elements().iter().zip(bounds) {
            let partition = place.partition();
            let remembered = match place.offset() {
                Offset::Offset(offset) if offset <= end => Done::new(offset.max(start), place.metadata()),
                // No offset was committed yet, or it lies beyond the end: then it belongs to a deleted topic of the
                // same name.
                _ => Done::new(start, ""),
            };
            done.insert(partition, remembered);
            if start < end {
                ends.insert(partition, end);
                starts.add_partition_offset(&topic, partition, Offset::Offset(start))?;
            }
        }
        consumer.assign(&starts)?;
        Ok(Self { consumer, topic, done, ends })
    }

    /// Calls `visit` with every letter that matches `filter`.
    pub(super) fn each(
        &mut self,
        filter: &Filter,
        mut visit: impl FnMut(Letter) -> KafkaResult<()>,
    ) -> KafkaResult<()> {
        while let Some(letter) = self.next()? {
            if filter.admits(&letter) {
                visit(letter)?;
            }
        }
        Ok(())
    }

    /// The next letter; `None` at the end.
    pub(super) fn next(&mut self) -> KafkaResult<Option<Letter>> {
        let mut since = Instant::now();
        while !self.ends.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => {
                    since = Instant::now();
                    let partition = record.partition();
                    let Some(end) = self.ends.get(&partition).copied() else {
                        // The record was produced after the reading had begun.
                        continue;
                    };
                    if record.offset() + 1 >= end {
                        self.ends.remove(&partition);
                    }
                    if record.offset() < end {
                        let redriven =
                            self.done.get(&partition).is_some_and(|done| done.has(record.offset()));
                        return Ok(Some(Letter::new(&record, redriven)));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.ends.remove(&partition);
                }
                Some(Err(error)) => return Err(error),
                None if since.elapsed() > TIMEOUT => {
                    return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
                }
                None => {}
            }
        }
        Ok(None)
    }

    /// True if [`Reader::remember`] will have room for this letter.
    pub(super) fn can_remember(&self, letter: &Letter) -> bool {
        self.done.get(&letter.partition).is_some_and(|done| done.clone().add(letter.offset))
    }

    /// Commits to Kafka that this letter was sent back.
    pub(super) fn remember(&mut self, letter: &Letter) -> KafkaResult<()> {
        let Some(done) = self.done.get_mut(&letter.partition) else {
            return Ok(());
        };
        done.add(letter.offset);
        let mut place = TopicPartitionList::new();
        place.add_partition_offset(&self.topic, letter.partition, Offset::Offset(done.before()))?;
        if let Some(mut element) = place.find_partition(&self.topic, letter.partition) {
            element.set_metadata(done.metadata());
        }
        self.consumer.commit(&place, CommitMode::Sync)
    }
}
