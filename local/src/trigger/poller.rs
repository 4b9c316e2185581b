//! The thread that polls: it hands records to their lanes, and in the end leaves the group.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;

use super::consumer::Consumer;
use super::{Shared, commit};

/// How long one poll waits; a stop is noticed within it.
const POLL: Duration = Duration::from_millis(50);

pub(super) fn run(shared: &Arc<Shared>, consumer: Arc<Consumer>) {
    while !shared.stopping.is_cancelled() {
        match consumer.poll(POLL) {
            Some(Ok(record)) => {
                consumer.context().events.answered();
                if let Some(lane) = shared.lane(record.partition()) {
                    lane.push(&consumer, &shared.options, record.detach());
                }
            }
            Some(Err(error)) => {
                let reason = error.to_string();
                consumer.context().error(error, &reason);
            }
            None => {}
        }
    }
    let partitions: Vec<i32> = shared.all_lanes().iter().map(|lane| lane.partition).collect();
    close_lanes(shared, &partitions, consumer.assignment_lost());
    // Leaves the group, unless a question is just being asked; then right after it.
    drop(consumer);
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
