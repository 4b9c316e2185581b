//! The thread that polls: it hands records to their lanes, and in the end leaves the group.

use std::sync::Arc;
use std::time::Duration;

use hongyan::queue::client::ClientEvents;
use rdkafka::client::ClientContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;

use super::consumer::Consumer;
use super::lanes;
use super::shared::Shared;

/// How long one poll waits; a stop is noticed within it.
const POLL: Duration = Duration::from_millis(50);

/// How long to wait before a new consumer is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

pub(super) fn run(shared: &Arc<Shared>, mut consumer: Arc<Consumer>) {
    // Told to whoever asks for the trigger's health, also after a panic.
    let _reading = shared.watched.reading();
    while poll(shared, &consumer) == Next::Renew {
        let events = consumer.context().events.clone();
        tracing::warn!(
            topic = shared.options.kafka.topic,
            "trigger: the topic is not as it was; a new consumer reads it"
        );
        // Nothing that is done of the old topic may be committed in the new one.
        lanes::close_all(shared, true);
        // Leaves the group, at once or when the last question to it is answered.
        drop(consumer);
        let Some(fresh) = renew(shared, &events) else { return };
        consumer = fresh;
    }
    lanes::close_all(shared, consumer.assignment_lost());
    // Leaves the group, unless a question is just being asked; then right after it.
    drop(consumer);
}

#[derive(PartialEq, Eq)]
enum Next {
    Stop,
    Renew,
}

/// Hands records to their lanes until the trigger stops or needs another consumer.
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

/// A new consumer that has subscribed; `None` if the trigger is stopped before.
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
