//! Commits what the lanes have done: one commit at a time, for all lanes together, and again when it failed.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::consumer::Consumer;
use super::lane::Lane;
use super::shared::Shared;

/// After how long a commit that failed is repeated.
const REPEAT: Duration = Duration::from_secs(1);

/// The longest wait for the answer to a commit: more than librdkafka waits for a coordinator (the session's time-out) and
/// for a broker (10 s) together. When Kafka dies under a commit while the group is being rebalanced, librdkafka may not
/// answer at all.
const LIMIT: Duration = Duration::from_secs(20);

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
            let _turn = for_thread.committing.lock();
            commit(&for_thread, &for_thread.all_lanes())
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

/// Commits what is due of these lanes and waits for the answer, at most [`LIMIT`]. The caller holds `committing`.
pub(super) fn commit(shared: &Shared, lanes: &[Arc<Lane>]) -> KafkaResult<()> {
    let Some(consumer) = shared.consumer() else { return Ok(()) };
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
    commit_in_time(consumer, places)?;
    for (lane, offset) in due {
        lane.committed(offset);
    }
    shared.committed.notify_waiters();
    Ok(())
}

/// Commits on a thread of its own, which nobody has to wait for. (A commit without waiting would never be answered:
/// librdkafka reports only those that it makes by itself.)
fn commit_in_time(consumer: Arc<Consumer>, places: TopicPartitionList) -> KafkaResult<()> {
    let (answered, answer) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("kafka-commit".to_owned()).spawn(move || {
        let outcome = consumer.commit(&places, CommitMode::Sync);
        // Before the answer, so that the poller alone decides when the consumer leaves its group.
        drop(consumer);
        // Nobody listens any more if it came too late.
        let _ = answered.send(outcome);
    });
    let none = |code| Err(KafkaError::ConsumerCommit(code));
    match thread {
        Ok(_) => answer.recv_timeout(LIMIT).unwrap_or_else(|_| none(RDKafkaErrorCode::OperationTimedOut)),
        Err(_) => none(RDKafkaErrorCode::CriticalSystemResource),
    }
}
