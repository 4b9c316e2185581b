//! How far the consumer group is behind, for operators: measured every few seconds as a metric.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hongyan::queue::client::{ClientEvents, group_offsets};
use hongyan::queue::observer;
use hongyan::telemetry::metric;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::shared::Shared;

/// The pause between two measurements.
const EVERY: Duration = Duration::from_secs(10);
/// The pause before the first measurement, and after one that failed: the group's coordinator may not be ready yet.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// The longest wait for one answer of Kafka. Short, because a stop waits for a question under way.
const LIMIT: Duration = Duration::from_secs(2);

/// The progress of the group in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionLag {
    /// The partition.
    pub partition: i32,
    /// The first offset that is not committed as done. The start of the log if the group has committed nothing.
    pub position: i64,
    /// The offset of the next record to be produced.
    pub end: i64,
}

impl PartitionLag {
    /// How many records wait or are in flight.
    pub fn records(&self) -> i64 {
        (self.end - self.position).max(0)
    }
}

/// Records the lag of the whole group, whichever member reads a partition, until the trigger stops. While Kafka does not
/// answer, the metric keeps its last value.
///
/// Kafka is asked by a client that is no member of the group. A member that waits for answers could be the last to hold a
/// consumer that the poller has replaced, and the group would wait for that consumer.
pub(super) async fn run(shared: Arc<Shared>) {
    let client = Arc::new(Mutex::new(None));
    // The group forms first.
    let mut pause = AFTER_FAILURE;
    while shared.stopping.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let (for_thread, client) = (Arc::clone(&shared), Arc::clone(&client));
        let measured = tokio::task::spawn_blocking(move || measure(&for_thread, &mut client.lock())).await;
        pause = match measured {
            Ok(true) => EVERY,
            Ok(false) => AFTER_FAILURE,
            Err(error) => {
                tracing::error!(%error, "measuring the lag ended by a panic and goes on");
                EVERY
            }
        };
    }
}

/// Measures once. False if Kafka did not answer; no log line, since the parts that need Kafka report that.
fn measure(shared: &Shared, client: &mut Option<BaseConsumer<ClientEvents>>) -> bool {
    if client.is_none() {
        let Some(consumer) = shared.consumer() else { return false };
        *client = observer(&shared.options.kafka, consumer.context().events.clone()).ok();
    }
    let Some(client) = client else { return false };
    // Serves the client's callbacks, as for a new token. Nothing is subscribed, so no record comes.
    while client.poll(Duration::ZERO).is_some() {}
    let Ok(lag) = of_group(client, &shared.options.kafka.topic, LIMIT) else { return false };
    for lag in lag {
        let records = f64::from(u32::try_from(lag.records()).unwrap_or(u32::MAX));
        metrics::gauge!(metric::CONSUMER_LAG, "partition" => lag.partition.to_string()).set(records);
    }
    true
}

/// The progress of the whole group in each partition, ordered by partition. Blocks; each request takes at most `limit`.
pub(super) fn of_group<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    limit: Duration,
) -> KafkaResult<Vec<PartitionLag>> {
    let (committed, bounds) = group_offsets(consumer, &partitions(consumer, topic, limit)?, limit)?;
    let places = committed.elements().into_iter().zip(bounds);
    let mut lag: Vec<PartitionLag> = places
        .map(|(place, (start, end))| PartitionLag {
            partition: place.partition(),
            position: offset_of(place.offset()).unwrap_or(start).max(start),
            end,
        })
        .collect();
    lag.sort_by_key(|lag| lag.partition);
    Ok(lag)
}

/// The committed offset of the group in each partition of the topic. Blocks; each request takes at most `limit`.
pub(super) fn positions<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    limit: Duration,
) -> KafkaResult<HashMap<i32, Option<i64>>> {
    let asked = partitions(consumer, topic, limit)?;
    let mut positions = HashMap::new();
    for place in consumer.committed_offsets(asked, limit)?.elements() {
        place.error()?;
        positions.insert(place.partition(), offset_of(place.offset()));
    }
    Ok(positions)
}

/// The partitions that the topic has.
fn partitions<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    limit: Duration,
) -> KafkaResult<TopicPartitionList> {
    let metadata = consumer.fetch_metadata(Some(topic), limit)?;
    let mut partitions = TopicPartitionList::new();
    for found in metadata.topics() {
        for partition in found.partitions() {
            partitions.add_partition(topic, partition.id());
        }
    }
    Ok(partitions)
}

/// The committed offset; `None` if the group has committed nothing.
fn offset_of(committed: Offset) -> Option<i64> {
    match committed {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}
