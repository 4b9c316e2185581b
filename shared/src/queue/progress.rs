//! How far the consumer group has come, looked at from outside the group.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{ClientEvents, client_config, first_answer, group_offsets};
use crate::clock::TimestampMs;
use crate::config::KafkaConfig;

/// How far the consumer group has come in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No record lies behind the committed position: every record that arrived is done.
    CaughtUp,
    /// The record at the committed position, the first one not done, has this time. A group that has committed nothing
    /// yet stands at the start of the log.
    PassedUpTo(TimestampMs),
}

/// One for each partition, in order. Blocks; each question to Kafka at most `timeout`.
pub(super) fn of_group(
    config: &KafkaConfig,
    events: &ClientEvents,
    timeout: Duration,
) -> KafkaResult<Vec<Progress>> {
    let consumer = observer(config, events.clone())?;
    let partitions = i32::from(config.partitions.get());
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(&config.topic, 0, partitions - 1);
    let (committed, bounds) =
        first_answer(&consumer, events, timeout, |limit| group_offsets(&consumer, &asked, limit))?;

    let mut progress = vec![Progress::CaughtUp; usize::from(config.partitions.get())];
    let mut behind = TopicPartitionList::new();
    for (place, (start, end)) in committed.elements().iter().zip(bounds) {
        let position = match place.offset() {
            // Retention may have removed what the group never read.
            Offset::Offset(offset) => offset.max(start),
            _ => start,
        };
        if position < end {
            behind.add_partition_offset(&config.topic, place.partition(), Offset::Offset(position))?;
        }
    }
    read_times(&consumer, &behind, timeout, &mut progress)?;
    Ok(progress)
}

/// Fills in the time of the first record at each place of `behind`.
fn read_times(
    consumer: &BaseConsumer<ClientEvents>,
    behind: &TopicPartitionList,
    timeout: Duration,
    progress: &mut [Progress],
) -> KafkaResult<()> {
    let mut waiting: HashSet<i32> = behind.elements().iter().map(TopicPartitionListElem::partition).collect();
    consumer.assign(behind)?;
    let mut since = Instant::now();
    while !waiting.is_empty() {
        let (partition, time) = match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                (record.partition(), Some(record.timestamp().to_millis().unwrap_or_default()))
            }
            // Only markers lie there, no record.
            Some(Err(KafkaError::PartitionEOF(partition))) => (partition, None),
            Some(Err(error)) => return Err(error),
            None if since.elapsed() > timeout => {
                return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
            }
            None => continue,
        };
        if !waiting.remove(&partition) {
            continue;
        }
        since = Instant::now();
        let slot = usize::try_from(partition).ok().and_then(|index| progress.get_mut(index));
        if let (Some(slot), Some(time)) = (slot, time) {
            *slot = Progress::PassedUpTo(time);
        }
        // One record of a partition is enough; the rest of it need not come.
        if let Some(place) = behind.elements().into_iter().find(|place| place.partition() == partition) {
            let mut done = TopicPartitionList::new();
            done.add_partition(place.topic(), partition);
            consumer.pause(&done)?;
        }
    }
    Ok(())
}

/// A consumer that knows the group's name, so that it may ask for its offsets, but never joins it.
fn observer(config: &KafkaConfig, events: ClientEvents) -> KafkaResult<BaseConsumer<ClientEvents>> {
    let mut client = client_config(config);
    client
        .set("group.id", &config.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.message.max.bytes", "65536")
        .set("queued.max.messages.kbytes", "1024");
    client.create_with_context(events)
}
