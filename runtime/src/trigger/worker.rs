//! The task of a lane: gathers records into batches, one in flight at a time, and retries failed ones.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rdkafka::message::{Message as _, OwnedMessage};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::TriggerOptions;
use super::event::{event, partition_key};
use super::lane::{Ended, Lane, size};
use super::response::{Outcome, outcome};
use super::shared::Shared;
use crate::functions::FUNCTIONS;
use crate::host::InvokeError;

/// The largest batch, in bytes of keys and values. Lambda's payload limit is 6 MB, and base64 makes four bytes of
/// three.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The task of a lane.
struct Worker {
    key: String,
    lane: Arc<Lane>,
    shared: Arc<Shared>,
    records: mpsc::UnboundedReceiver<OwnedMessage>,
    /// Records before this offset were taken already and are skipped.
    next_offset: i64,
}

/// Makes a lane and starts its task.
pub(super) fn start(shared: &Arc<Shared>, partition: i32) -> Arc<Lane> {
    let (lane, records) = Lane::new(partition);
    let worker = Worker {
        key: partition_key(&shared.options.kafka.topic, partition),
        lane: Arc::clone(&lane),
        shared: Arc::clone(shared),
        records,
        next_offset: i64::MIN,
    };
    let ended = Ended(Arc::clone(&lane));
    shared.runtime.spawn(async move {
        let _ended = ended;
        worker.run().await;
    });
    lane
}

impl Worker {
    async fn run(mut self) {
        let lane = Arc::clone(&self.lane);
        // Cancelling never interrupts a running invocation: `one_batch` checks `cancel` only while it waits for
        // records, for its turn or for the next try.
        while self.one_batch(&lane.cancel).await.is_some() {}
    }

    /// Gathers a batch and retries it until all of it is done. `None` once cancelled.
    async fn one_batch(&mut self, cancel: &CancellationToken) -> Option<()> {
        let shared = Arc::clone(&self.shared);
        let mut batch = cancel.run_until_cancelled(self.gather()).await?;
        let mut tries = 0_u32;
        while !batch.is_empty() {
            let pass = cancel.run_until_cancelled(shared.gate.enter()).await?;
            if tries == 0 {
                self.top_up(&mut batch);
            }
            let outcome = self.invoke(&batch).await;
            drop(pass);
            match outcome {
                Outcome::Done => {
                    if let Some(last) = batch.last() {
                        self.finish(last.offset() + 1);
                    }
                    batch.clear();
                }
                Outcome::FailedFrom { index, reason } => {
                    let Some(failed) = batch.get(index).map(OwnedMessage::offset) else {
                        continue;
                    };
                    if index > 0 {
                        self.finish(failed);
                        batch.drain(..index);
                        tries = 0;
                    }
                    let pause = pause(&shared.options, tries);
                    tries = tries.saturating_add(1);
                    tracing::warn!(
                        partition = self.lane.partition,
                        offset = failed,
                        waiting = batch.len(),
                        tries,
                        retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                        "a batch failed and its partition is held: {reason}"
                    );
                    cancel.run_until_cancelled(tokio::time::sleep(pause)).await?;
                }
            }
        }
        (!cancel.is_cancelled()).then_some(())
    }

    /// Waits for a first record, then until the batch is full or its window has passed.
    async fn gather(&mut self) -> Vec<OwnedMessage> {
        let (size, window) = (self.shared.options.kafka.batch_size, self.shared.options.kafka.batch_window);
        let mut batch = Vec::new();
        let Some(first) = self.records.recv().await else {
            // Cannot happen, since the lane holds a sender. If it did, waiting would be right.
            return std::future::pending().await;
        };
        self.take(&mut batch, first);
        self.top_up(&mut batch);
        let until = tokio::time::Instant::now() + window;
        while batch.len() < size && bytes(&batch) < MAX_BATCH_BYTES {
            match tokio::time::timeout_at(until, self.records.recv()).await {
                Ok(Some(record)) => self.take(&mut batch, record),
                Ok(None) | Err(_) => break,
            }
        }
        batch
    }

    /// Adds records that are there already, without waiting.
    fn top_up(&mut self, batch: &mut Vec<OwnedMessage>) {
        while batch.len() < self.shared.options.kafka.batch_size && bytes(batch) < MAX_BATCH_BYTES {
            let Ok(record) = self.records.try_recv() else {
                return;
            };
            self.take(batch, record);
        }
    }

    fn take(&mut self, batch: &mut Vec<OwnedMessage>, record: OwnedMessage) {
        self.lane.taken(|| self.shared.consumer(), &self.shared.options, size(&record));
        if record.offset() >= self.next_offset {
            self.next_offset = record.offset() + 1;
            batch.push(record);
        }
    }

    /// Notes that all records before `next` are done, and has them committed.
    fn finish(&self, next: i64) {
        self.lane.finish(next);
        self.shared.due.notify_one();
    }

    async fn invoke(&self, batch: &[OwnedMessage]) -> Outcome {
        let offsets: Vec<i64> = batch.iter().map(OwnedMessage::offset).collect();
        let event = event(&self.shared.options.source, &self.key, batch);
        // In a task of its own: a panic in the handler then fails the batch and not the lane.
        let answer = match tokio::spawn((self.shared.invoke)(event)).await {
            Ok(answer) => answer,
            Err(panic) => Err(InvokeError::new(FUNCTIONS.kafka.name, panic)),
        };
        outcome(&self.key, &offsets, answer)
    }
}

/// The pause after so many failed tries. It grows, with jitter, so that lanes do not retry in step.
fn pause(options: &TriggerOptions, tries: u32) -> Duration {
    let full = options.first_pause.saturating_mul(2_u32.saturating_pow(tries)).min(options.longest_pause);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}

fn bytes(batch: &[OwnedMessage]) -> usize {
    batch.iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_stay_there() {
        let options = TriggerOptions::new(
            hongyan::config::Config::from_lookup(hongyan::config::minimal).unwrap().kafka,
        );
        for (tries, full_ms) in [(0, 100), (1, 200), (4, 1_600), (9, 5_000), (u32::MAX, 5_000)] {
            let full = Duration::from_millis(full_ms);
            for _ in 0..20 {
                let pause = pause(&options, tries);
                assert!(pause >= full / 2 && pause <= full, "{tries}: {pause:?}");
            }
        }
    }
}
