//! Opens a lane for each partition that the group assigns, and closes the lanes of partitions that are taken away.

use std::sync::Arc;
use std::time::Instant;

use hongyan::queue::client::ClientEvents;
use rdkafka::error::KafkaResult;

use super::consumer::{self, Assignments, Consumer};
use super::shared::Shared;
use super::{commit, worker};

/// The lanes of one of the trigger's consumers.
pub(super) struct Lanes {
    shared: Arc<Shared>,
    /// The number of the consumer. The trigger numbers its consumers in order.
    number: u64,
}

/// Makes a consumer of the group and sets it as the trigger's current one.
pub(super) fn consumer(shared: &Arc<Shared>, events: &ClientEvents) -> KafkaResult<Arc<Consumer>> {
    let number = shared.watched.next_consumer();
    let lanes = Lanes { shared: Arc::clone(shared), number };
    let consumer = consumer::make(&shared.options, events, lanes)?;
    shared.set_consumer(&consumer);
    Ok(consumer)
}

impl Assignments for Lanes {
    fn is_replaced(&self) -> bool {
        self.shared.watched.consumer_number() != self.number
    }

    fn must_rewind(&self, partition: i32) -> bool {
        self.shared.watched.must_rewind(partition)
    }

    fn assigned(&self, partitions: &[i32]) {
        let mut lanes = self.shared.lanes.lock();
        for partition in partitions {
            lanes.insert(*partition, worker::start(&self.shared, *partition));
        }
        tracing::info!(partitions = ?lanes.keys().collect::<Vec<_>>(), "partitions assigned");
    }

    fn revoked(&self, partitions: &[i32], lost: bool) {
        close(&self.shared, partitions, lost);
    }

    fn topic_was_remade(&self) {
        self.shared.watched.topic_was_remade();
    }
}

/// Closes every lane.
pub(super) fn close_all(shared: &Shared, lost: bool) {
    let partitions: Vec<i32> = shared.all_lanes().iter().map(|lane| lane.partition).collect();
    close(shared, &partitions, lost);
}

/// Closes the lanes of these partitions. Batches in flight may finish within the time-out, then finished offsets are
/// committed. The next reader of the partition gets all other records. For partitions that are `lost` to other
/// members, commits nothing and waits for nothing.
pub(super) fn close(shared: &Shared, partitions: &[i32], lost: bool) {
    let lanes: Vec<_> = {
        let mut all = shared.lanes.lock();
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
    let turn = shared.committing.lock();
    if !lost && let Err(error) = commit::commit(shared, &lanes) {
        tracing::warn!(%error, "the last commit failed; what was done will be delivered again");
    }
    for lane in &lanes {
        lane.close();
    }
    drop(turn);
}
