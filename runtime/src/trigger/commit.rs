//! Commits the offsets of finished records: one commit at a time for all lanes together. A failed commit is repeated.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::consumer::Consumer;
use super::lane::Lane;
use super::shared::Shared;

/// The pause before a failed commit is repeated.
const REPEAT: Duration = Duration::from_secs(1);

/// The longest wait for the answer to a commit. Longer than librdkafka's waits for a coordinator (the session
/// time-out) and for a broker (10 s) together. If Kafka dies during a commit in a rebalance, librdkafka may not
/// answer at all.
const LIMIT: Duration = Duration::from_secs(20);

/// Commits whenever a lane asks, until the trigger stops. The poller makes the last commit.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.due.notified() => {}
            () = tokio::time::sleep(REPEAT) => {}
            () = shared.stopping.cancelled() => return,
        }
        let for_thread = Arc::clone(&shared);
        let round = tokio::task::spawn_blocking(move || {
            // The lock is held during the commit, so that no partition is given up before its offset is committed.
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

/// Commits the finished offsets of these lanes and waits for the answer, at most [`LIMIT`]. The caller holds
/// `committing`.
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

/// Commits on a separate thread, so that a commit without an answer blocks no other thread. An asynchronous commit is
/// no way out: librdkafka reports only the results of its own automatic commits.
fn commit_in_time(consumer: Arc<Consumer>, places: TopicPartitionList) -> KafkaResult<()> {
    let (answered, answer) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("kafka-commit".to_owned()).spawn(move || {
        let outcome = consumer.commit(&places, CommitMode::Sync);
        // Drop the consumer before answering: the poller must be the one to drop the last reference, by which the
        // consumer leaves its group.
        drop(consumer);
        // The receiver is gone if the answer comes after the limit.
        let _ = answered.send(outcome);
    });
    let none = |code| Err(KafkaError::ConsumerCommit(code));
    match thread {
        Ok(_) => answer.recv_timeout(LIMIT).unwrap_or_else(|_| none(RDKafkaErrorCode::OperationTimedOut)),
        Err(_) => none(RDKafkaErrorCode::CriticalSystemResource),
    }
}
