//! What librdkafka calls while the poller polls: partitions come and go.

use std::sync::{Arc, PoisonError};

use hongyan::queue::client::{ClientEvents, client_config};
use rdkafka::Offset;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};

use super::lane::Lane;
use super::{Shared, poller};

pub(super) type Consumer = BaseConsumer<Context>;

pub(super) struct Context {
    pub(super) events: ClientEvents,
    shared: Arc<Shared>,
    /// Which of the trigger's consumers this is.
    number: u64,
}

impl Context {
    pub(super) fn new(events: ClientEvents, shared: Arc<Shared>, number: u64) -> Self {
        Self { events, shared, number }
    }

    /// Whether another consumer has taken its place: then its partitions are nobody's matter any more.
    fn is_replaced(&self) -> bool {
        self.shared.watched.consumer_number() != self.number
    }
}

/// Whether librdkafka says that the topic of this name is not the one that it was: it was deleted and made again, however
/// quickly. (It has no other word for that, and reads on at its old offset.) The first id that it hears of is no change.
fn is_another_topic(text: &str) -> bool {
    const NONE_YET: &str = "changed id from AAAAAAAAAAAAAAAAAAAAAA";
    text.contains(" changed id from ") && !text.contains(NONE_YET)
}

/// Makes a consumer of the group and remembers it as the trigger's.
pub(super) fn make(shared: &Arc<Shared>, events: &ClientEvents) -> KafkaResult<Arc<Consumer>> {
    let mut client = client_config(&shared.options.kafka);
    shared.options.configure(&mut client);
    // For one line, see `is_another_topic`. The debug context `topic` has that line too, and must not be used: librdkafka
    // logs in it while it holds the lock of the consumer's queue, waits for that lock to queue the log line, and hangs.
    client.set("debug", "metadata").set_log_level(RDKafkaLogLevel::Debug);
    let number = shared.watched.next_consumer();
    let context = Context::new(events.clone(), Arc::clone(shared), number);
    let consumer = Arc::new(client.create_with_context(context)?);
    shared.set_consumer(&consumer);
    Ok(consumer)
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = ClientEvents::ENABLE_REFRESH_OAUTH_TOKEN;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        if matches!(level, RDKafkaLogLevel::Debug) {
            // Asked for because of this one line.
            if is_another_topic(text) && !self.is_replaced() {
                self.shared.watched.topic_was_remade();
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
        if self.is_replaced() {
            return;
        }
        match rebalance {
            Rebalance::Revoke(places) => {
                let partitions: Vec<i32> = places
                    .elements()
                    .iter()
                    .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
                    .collect();
                let lost = consumer.assignment_lost();
                tracing::info!(?partitions, lost, "partitions taken away");
                poller::close_lanes(&self.shared, &partitions, lost);
            }
            // Set in the list that is about to be assigned.
            Rebalance::Assign(places) => {
                for mut place in places.elements() {
                    if self.shared.watched.must_rewind(place.partition())
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
        if self.is_replaced() {
            return;
        }
        let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        for place in places.elements() {
            let lane = Lane::open(&self.shared, place.partition());
            lanes.insert(place.partition(), lane);
        }
        tracing::info!(partitions = ?lanes.keys().collect::<Vec<_>>(), "partitions assigned");
    }
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
