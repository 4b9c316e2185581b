//! The thread that polls: it hands records to their lanes, replaces the consumer when the topic has changed, and
//! leaves the group in the end.

use std::sync::Arc;
use std::time::Duration;

use hongyan::queue::client::ClientEvents;
use rdkafka::client::ClientContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;

use super::consumer::Consumer;
use super::lanes;
use super::shared::Shared;

/// How long one poll waits. A stop is noticed within this time.
const POLL: Duration = Duration::from_millis(50);

/// The pause before the next try to make a new consumer.
const TRY_AGAIN: Duration = Duration::from_secs(1);

pub(super) fn run(shared: &Arc<Shared>, mut consumer: Arc<Consumer>) {
    // Reports to the trigger's health that the topic is read, until the thread ends, even by a panic.
    let _reading = shared.watched.reading();
    while poll(shared, &consumer) == Next::Renew {
        let events = consumer.context().events.clone();
        tracing::warn!(
            topic = shared.options.kafka.topic,
            "trigger: the topic is not as it was; a new consumer reads it"
        );
        // Commit nothing: finished records of the old topic must not count as finished in the new one.
        lanes::close_all(shared, true);
        // The consumer leaves the group now, or when the last question to Kafka under way is answered.
        drop(consumer);
        let Some(fresh) = renew(shared, &events) else { return };
        consumer = fresh;
    }
    lanes::close_all(shared, consumer.assignment_lost());
    // The consumer leaves the group now, or right after the question to Kafka under way.
    drop(consumer);
}

#[derive(PartialEq, Eq)]
enum Next {
    Stop,
    Renew,
}

/// Hands records to their lanes until the trigger stops or needs a new consumer.
fn poll(shared: &Arc<Shared>, consumer: &Arc<Consumer>) -> Next {
    while !shared.stopping.is_cancelled() {
        if shared.watched.take_renewal() {
            return Next::Renew;
        }
        match consumer.poll(POLL) {
            Some(Ok(record)) => {
                consumer.context().events.answered();
                if let Some(lane) = shared.lane(record.partition()) {
                    lane.push(consumer, &shared.options, record.detach());
                }
            }
            Some(Err(error)) => {
                let reason = error.to_string();
                consumer.context().error(error, &reason);
            }
            None => {}
        }
    }
    Next::Stop
}

/// Makes a new consumer and subscribes. `None` if the trigger is stopped before.
fn renew(shared: &Arc<Shared>, events: &ClientEvents) -> Option<Arc<Consumer>> {
    while !shared.stopping.is_cancelled() {
        let made = lanes::consumer(shared, events).and_then(|consumer| {
            consumer.subscribe(&[&shared.options.kafka.topic])?;
            Ok(consumer)
        });
        match made {
            Ok(consumer) => return Some(consumer),
            Err(error) => {
                tracing::error!(%error, "trigger: no new consumer; nothing is read until there is one");
                std::thread::sleep(TRY_AGAIN);
            }
        }
    }
    None
}
