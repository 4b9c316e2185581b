//! Commits what the lanes have done: one commit at a time, for all lanes together, and again when it failed.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::Shared;
use super::consumer::Consumer;
use super::lane::Lane;

/// After how long a commit that failed is repeated.
const REPEAT: Duration = Duration::from_secs(1);

/// Until the trigger stops; the poller makes the last commit.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.due.notified() => {}
            () = tokio::time::sleep(REPEAT) => {}
            () = shared.stopping.cancelled() => return,
        }
        let for_thread = Arc::clone(&shared);
        let round = tokio::task::spawn_blocking(move || {
            // Held while committing, so that a partition is not given up in between.
            let _turn = for_thread.committing.lock().unwrap_or_else(PoisonError::into_inner);
            match for_thread.consumer() {
                Some(consumer) => commit(&for_thread, &consumer, &for_thread.all_lanes()),
                None => Ok(()),
            }
        });
        match round.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "a commit failed and will be repeated");
                tokio::time::sleep(REPEAT).await;
            }
            Err(error) => tracing::error!(%error, "committing ended by a panic and will be repeated"),
        }
    }
}

/// Commits what is due of these lanes and waits for the answer. The caller holds `committing`.
pub(super) fn commit(shared: &Shared, consumer: &Consumer, lanes: &[Arc<Lane>]) -> KafkaResult<()> {
    let mut places = TopicPartitionList::new();
    let mut due = Vec::new();
    for lane in lanes {
        if let Some(offset) = lane.due() {
            let topic = &shared.options.kafka.topic;
            places.add_partition_offset(topic, lane.partition, Offset::Offset(offset))?;
            due.push((lane, offset));
        }
    }
    if due.is_empty() {
        return Ok(());
    }
    // A commit without waiting would never be answered: librdkafka reports only those that it makes by itself.
    consumer.commit(&places, CommitMode::Sync)?;
    for (lane, offset) in due {
        lane.committed(offset);
    }
    shared.committed.notify_waiters();
    Ok(())
}
