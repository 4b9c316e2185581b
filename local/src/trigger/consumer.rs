//! What librdkafka calls while the poller polls: partitions come and go.

use std::sync::{Arc, PoisonError};

use hongyan::queue::client::ClientEvents;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;

use super::lane::Lane;
use super::{Shared, poller};

pub(super) type Consumer = BaseConsumer<Context>;

pub(super) struct Context {
    pub(super) events: ClientEvents,
    shared: Arc<Shared>,
}

impl Context {
    pub(super) fn new(events: ClientEvents, shared: Arc<Shared>) -> Self {
        Self { events, shared }
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = ClientEvents::ENABLE_REFRESH_OAUTH_TOKEN;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
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
            Rebalance::Assign(_) => {}
            Rebalance::Error(error) => {
                tracing::error!(%error, "a rebalance failed; Kafka's client tries again");
            }
        }
    }

    fn post_rebalance(&self, _consumer: &Consumer, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(places) = rebalance else {
            return;
        };
        let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        for place in places.elements() {
            let lane = Lane::open(&self.shared, place.partition());
            lanes.insert(place.partition(), lane);
        }
        tracing::info!(partitions = ?lanes.keys().collect::<Vec<_>>(), "partitions assigned");
    }
}
