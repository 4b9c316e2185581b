//! The Kafka consumer, and the callbacks by which librdkafka tells of partitions that come and go.

use std::sync::Arc;

use hongyan::queue::client::{ClientEvents, client_config};
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::TriggerOptions;

pub(super) type Consumer = BaseConsumer<Context>;

/// Learns of the partitions that the group assigns to a consumer and takes away from it. librdkafka calls it while
/// the poller polls.
pub(super) trait Assignments: Send + Sync + 'static {
    /// True if another consumer of this trigger has taken this one's place. Callbacks of the old one are then
    /// ignored.
    fn is_replaced(&self) -> bool;

    /// True if this partition, which is about to be assigned, must be read from its start.
    fn must_rewind(&self, partition: i32) -> bool;

    /// These partitions are assigned to this consumer now.
    fn assigned(&self, partitions: &[i32]);

    /// These partitions are about to be taken away. If `lost`, other members have them already. Blocks until they can
    /// go.
    fn revoked(&self, partitions: &[i32], lost: bool);

    /// The topic was deleted and made again.
    fn topic_was_remade(&self);
}

pub(super) struct Context {
    pub(super) events: ClientEvents,
    assignments: Box<dyn Assignments>,
}

/// True if a log line of librdkafka says that the topic was deleted and made again under the same name: the id of the
/// topic changed. librdkafka reports this in no other way, and reads on at its old offset. The first id that
/// librdkafka learns is no change.
fn is_another_topic(text: &str) -> bool {
    const NONE_YET: &str = "changed id from AAAAAAAAAAAAAAAAAAAAAA";
    text.contains(" changed id from ") && !text.contains(NONE_YET)
}

/// Makes a consumer of the group that reports its partitions to `assignments`.
pub(super) fn make(
    options: &TriggerOptions,
    events: &ClientEvents,
    assignments: impl Assignments,
) -> KafkaResult<Arc<Consumer>> {
    let mut client = client_config(&options.kafka);
    options.configure(&mut client);
    // The debug context `metadata` is needed for the log line that `is_another_topic` looks for. The context `topic`
    // has that line too, and must not be used: librdkafka logs in it while it holds the lock of the consumer's queue,
    // waits for that lock to queue the log line, and hangs.
    client.set("debug", "metadata").set_log_level(RDKafkaLogLevel::Debug);
    let context = Context { events: events.clone(), assignments: Box::new(assignments) };
    Ok(Arc::new(client.create_with_context(context)?))
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = ClientEvents::ENABLE_REFRESH_OAUTH_TOKEN;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        if matches!(level, RDKafkaLogLevel::Debug) {
            // Debug lines are on only for this one line.
            if is_another_topic(text) && !self.assignments.is_replaced() {
                self.assignments.topic_was_remade();
            }
            return;
        }
        self.events.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.events.generate_oauth_token(config)
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &Consumer, rebalance: &Rebalance<'_>) {
        if self.assignments.is_replaced() {
            return;
        }
        match rebalance {
            Rebalance::Revoke(places) => {
                let partitions = partitions_of(places);
                let lost = consumer.assignment_lost();
                tracing::info!(?partitions, lost, "partitions taken away");
                self.assignments.revoked(&partitions, lost);
            }
            // Change the offsets in the list that librdkafka is about to assign.
            Rebalance::Assign(places) => {
                for mut place in places.elements() {
                    if self.assignments.must_rewind(place.partition())
                        && let Err(error) = place.set_offset(Offset::Beginning)
                    {
                        tracing::error!(partition = place.partition(), %error, "a partition cannot be read from its start");
                    }
                }
            }
            Rebalance::Error(error) => {
                tracing::error!(%error, "a rebalance failed; Kafka's client tries again");
            }
        }
    }

    fn post_rebalance(&self, _consumer: &Consumer, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(places) = rebalance else {
            return;
        };
        if self.assignments.is_replaced() {
            return;
        }
        self.assignments.assigned(&partitions_of(places));
    }
}

fn partitions_of(places: &TopicPartitionList) -> Vec<i32> {
    places.elements().iter().map(TopicPartitionListElem::partition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_another_once_its_id_changes() {
        let changed = "[thrd:main]: Topic im-message-private changed id from 5pPZ0IBoRzKvGwzGS4Cn8Q to 9Oqg3lk9QkK0TTmH3v1jYw";
        let first = "[thrd:main]: Topic im-message-private changed id from AAAAAAAAAAAAAAAAAAAAAA to 9Oqg3lk9QkK0TTmH3v1jYw";
        assert!(is_another_topic(changed));
        assert!(!is_another_topic(first) && !is_another_topic("Topic im-message-private [3] migrated"));
    }
}
