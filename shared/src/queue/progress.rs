//! The progress of the consumer group, asked from outside the group.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{ClientEvents, client_config, first_answer};
use crate::config::KafkaConfig;

/// The group's progress in one partition. It is decided by offsets alone: the producer sets a record's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Every record that arrived is done: none lies behind the committed position.
    CaughtUp,
    /// Some records are waiting or being handled.
    Behind {
        /// The committed position: the offset of the first record that is not done. The start of the log if the group
        /// has committed nothing yet, or if its position lies beyond the end, because the topic was created again.
        position: i64,
        /// The offset of the next record that arrives.
        end: i64,
    },
    /// The partition does not answer: it has no leader, or does not exist.
    Unknown,
}

impl Progress {
    fn of(committed: Offset, start: i64, end: i64) -> Self {
        let position = match committed {
            // Retention may have removed records that the group never read.
            Offset::Offset(offset) if offset <= end => offset.max(start),
            _ => start,
        };
        if position >= end { Self::CaughtUp } else { Self::Behind { position, end } }
    }
}

/// The progress of each partition, in order. An error if no partition answers. Blocks for at most twice `timeout`.
pub(super) fn of_group(
    config: &KafkaConfig,
    events: &ClientEvents,
    timeout: Duration,
) -> KafkaResult<Vec<Progress>> {
    const ONE_PARTITION: Duration = Duration::from_secs(2);
    const AT_LEAST: Duration = Duration::from_millis(200);
    let consumer = observer(config, events.clone())?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(&config.topic, 0, i32::from(config.partitions.get()) - 1);
    let committed =
        first_answer(&consumer, events, timeout, |limit| consumer.committed_offsets(asked.clone(), limit))?;

    let began = Instant::now();
    let (mut all, mut refused) = (Vec::new(), None);
    for place in committed.elements() {
        let limit = timeout.saturating_sub(began.elapsed()).clamp(AT_LEAST, ONE_PARTITION);
        let bounds = place.error().and_then(|()| {
            first_answer(&consumer, events, limit, |limit| {
                consumer.fetch_watermarks(place.topic(), place.partition(), limit)
            })
        });
        all.push(match bounds {
            Ok((start, end)) => Progress::of(place.offset(), start, end),
            Err(error) => {
                tracing::warn!(partition = place.partition(), %error, "queue.progress: a partition does not answer");
                refused = Some(error);
                Progress::Unknown
            }
        });
    }
    match refused {
        Some(error) if all.iter().all(|progress| *progress == Progress::Unknown) => Err(error),
        _ => Ok(all),
    }
}

/// A consumer that has the group's name, so that it may ask for the group's offsets, but never joins the group.
pub fn observer(config: &KafkaConfig, events: ClientEvents) -> KafkaResult<BaseConsumer<ClientEvents>> {
    let mut client = client_config(config);
    client
        .set("group.id", &config.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false");
    client.create_with_context(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_beyond_the_end_is_of_a_topic_that_is_gone() {
        let behind = |position, end| Progress::Behind { position, end };
        for (committed, start, end, expected) in [
            (Offset::Invalid, 0, 0, Progress::CaughtUp),
            (Offset::Invalid, 3, 5, behind(3, 5)),
            (Offset::Offset(4), 0, 5, behind(4, 5)),
            (Offset::Offset(1), 3, 5, behind(3, 5)),
            (Offset::Offset(5), 0, 5, Progress::CaughtUp),
            (Offset::Offset(6), 0, 5, behind(0, 5)),
            (Offset::Offset(6), 0, 0, Progress::CaughtUp),
        ] {
            assert_eq!(Progress::of(committed, start, end), expected, "{committed:?} {start} {end}");
        }
    }
}
