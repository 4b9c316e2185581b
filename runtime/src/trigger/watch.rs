//! Watches whether the topic was deleted and made again. librdkafka does not report that and reads on at its old
//! offsets, which may lie anywhere in the new log (`docs/decisions/0039-lost-by-offsets.md`).

use std::sync::Arc;
use std::time::Duration;

use hongyan::error::ServerError;
use hongyan::queue::error::transient;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use super::consumer::Consumer;
use super::shared::Shared;
use super::topic::Topic;

/// The pause between two looks. A change in between is noticed by librdkafka's log, see [`super::consumer`].
const EVERY: Duration = Duration::from_millis(500);
/// One look in so many also compares the lanes' positions with the ends of their partitions.
const ENDS_EVERY: u32 = 10;
/// The longest wait for one answer of Kafka.
const LIMIT: Duration = Duration::from_secs(2);

/// Looks at the topic until the trigger stops.
pub(super) async fn run(shared: Arc<Shared>) {
    for look in 0_u32.. {
        if shared.stopping.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
        let for_thread = Arc::clone(&shared);
        let looked = tokio::task::spawn_blocking(move || look_at(&for_thread, look % ENDS_EVERY == 0));
        if let Err(error) = looked.await {
            tracing::error!(%error, "watching the topic ended by a panic and goes on");
        }
    }
}

fn look_at(shared: &Shared, ends_too: bool) {
    let Some(consumer) = shared.consumer() else { return };
    // No log line: the parts that need Kafka report that it does not answer.
    let Ok(seen) = topic_of(&consumer, &shared.options.kafka.topic) else { return };
    match changed(shared, seen) {
        Change::Remade => shared.watched.topic_was_remade(),
        Change::Grown => shared.watched.ask_for_renewal(),
        Change::None if ends_too && is_beyond_an_end(shared, &consumer) => shared.watched.topic_was_remade(),
        Change::None => {}
    }
}

fn topic_of(consumer: &Consumer, topic: &str) -> KafkaResult<Topic> {
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT)?;
    let found = metadata.topics().first();
    let code = found.and_then(rdkafka::metadata::MetadataTopic::error).map(RDKafkaErrorCode::from);
    Ok(match (code, found) {
        (Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition), _) => {
            Topic::Missing
        }
        // Kafka answers so while the leaders of the partitions are being elected.
        (Some(code), _) => return Err(rdkafka::error::KafkaError::MetadataFetch(code)),
        (None, found) => match found.map_or(0, |topic| topic.partitions().len()) {
            0 => Topic::Missing,
            partitions => Topic::Partitions(partitions),
        },
    })
}

/// The difference between two looks at the topic.
enum Change {
    None,
    /// The topic has more partitions than before.
    Grown,
    /// The topic was away, or has fewer partitions than before.
    Remade,
}

/// Notes the topic as seen now, logs what is wrong with it, and returns the change since the look before.
fn changed(shared: &Shared, seen: Topic) -> Change {
    let before = shared.watched.replace_topic(seen);
    if before == seen {
        return Change::None;
    }
    let (topic, wanted) = (&shared.options.kafka.topic, shared.options.kafka.partitions.get());
    match seen {
        Topic::Unseen => {}
        Topic::Missing => {
            tracing::error!(
                topic,
                "trigger: the topic does not exist; what is sent stays PENDING until it is made again"
            );
        }
        Topic::Partitions(found) if found != usize::from(wanted) => {
            tracing::error!(
                topic,
                found,
                wanted,
                "trigger: the topic has another number of partitions than KAFKA_PARTITIONS says; what belongs in a partition \
                 that does not exist stays PENDING"
            );
        }
        Topic::Partitions(found) => tracing::info!(topic, found, "trigger: the topic is as it should be"),
    }
    match (before, seen) {
        (Topic::Unseen, _) | (_, Topic::Unseen | Topic::Missing) => Change::None,
        (Topic::Partitions(before), Topic::Partitions(found)) if found > before => Change::Grown,
        (Topic::Missing | Topic::Partitions(_), Topic::Partitions(_)) => Change::Remade,
    }
}

/// True if the position of a lane lies beyond the end of its partition's log: then the log is another one.
fn is_beyond_an_end(shared: &Shared, consumer: &Consumer) -> bool {
    let topic = &shared.options.kafka.topic;
    shared.all_lanes().iter().any(|lane| {
        let place = lane.place();
        let end = consumer.fetch_watermarks(topic, lane.partition, LIMIT).map(|(_, end)| end);
        let beyond = matches!((place, &end), (Some(place), Ok(end)) if place > *end);
        if beyond {
            tracing::warn!(
                topic,
                partition = lane.partition,
                ?place,
                ?end,
                "trigger: the log ends before what was read"
            );
        }
        beyond
    })
}

/// An error if no thread reads the topic, or the topic is missing or has the wrong number of partitions.
pub(super) fn health(shared: &Shared) -> Result<(), ServerError> {
    let (topic, wanted) = (&shared.options.kafka.topic, shared.options.kafka.partitions.get());
    let wrong = match shared.watched.topic() {
        _ if !shared.watched.is_read() => "nothing reads the topic any more".to_owned(),
        Topic::Missing => format!("the topic {topic} does not exist"),
        Topic::Partitions(found) if found != usize::from(wanted) => {
            format!("KAFKA_PARTITIONS is {wanted}, but the topic {topic} has {found} partitions")
        }
        Topic::Unseen | Topic::Partitions(_) => return Ok(()),
    };
    Err(transient("trigger.health", wrong))
}
