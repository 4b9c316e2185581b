//! The thread that polls: it hands records to their lanes, and in the end leaves the group.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use hongyan::queue::client::ClientEvents;
use rdkafka::client::ClientContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;

use super::consumer::{self, Consumer};
use super::{Shared, commit};

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
        close_all_lanes(shared, true);
        // Leaves the group, at once or when the last question to it is answered.
        drop(consumer);
        let Some(fresh) = renew(shared, &events) else { return };
        consumer = fresh;
    }
    close_all_lanes(shared, consumer.assignment_lost());
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
        let made = consumer::make(shared, events).and_then(|consumer| {
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

fn close_all_lanes(shared: &Shared, lost: bool) {
    let partitions: Vec<i32> = shared.all_lanes().iter().map(|lane| lane.partition).collect();
    close_lanes(shared, &partitions, lost);
}

/// Ends the lanes of these partitions: what is in flight may finish within the time-out, what is done is committed,
/// the rest is left to whoever reads the partition next. Of partitions that are lost to others nothing is committed,
/// and nothing waited for.
pub(super) fn close_lanes(shared: &Shared, partitions: &[i32], lost: bool) {
    let lanes: Vec<_> = {
        let mut all = shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        partitions.iter().filter_map(|partition| all.remove(partition)).collect()
    };
    for lane in &lanes {
        lane.cancel.cancel();
    }
    let deadline = Instant::now() + shared.options.stop_timeout;
    for lane in &lanes {
        if !lost && !lane.wait_until_ended(deadline) {
            tracing::warn!(
                partition = lane.partition,
                "the batch in flight did not finish in time; it will be delivered again"
            );
        }
    }
    let turn = shared.committing.lock().unwrap_or_else(PoisonError::into_inner);
    if !lost && let Err(error) = commit::commit(shared, &lanes) {
        tracing::warn!(%error, "the last commit failed; what was done will be delivered again");
    }
    for lane in &lanes {
        lane.close();
    }
    drop(turn);
}
