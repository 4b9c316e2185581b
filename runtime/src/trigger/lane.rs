//! One partition: gathers its records into batches, one in flight at a time, and knows what is done.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng as _;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::{Message as _, OwnedMessage};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::consumer::Consumer;
use super::event::{event, partition_key};
use super::response::{Outcome, outcome};
use super::{Shared, TriggerOptions};
use crate::functions::FUNCTIONS;
use crate::host::InvokeError;

/// Lambda's payload ends at 6 MB; base64 makes three bytes four.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What one lane keeps in memory at most before its partition is paused.
const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;

pub(super) struct Lane {
    pub(super) partition: i32,
    pub(super) cancel: CancellationToken,
    records: mpsc::UnboundedSender<OwnedMessage>,
    flow: Mutex<Flow>,
    offsets: Mutex<Offsets>,
    ended: (Mutex<bool>, Condvar),
}

/// What waits in memory.
#[derive(Default)]
struct Flow {
    records: usize,
    bytes: usize,
    paused: bool,
}

/// How far the partition is done: all offsets are those of the next record.
#[derive(Default)]
struct Offsets {
    finished: Option<i64>,
    committed: Option<i64>,
    /// Nothing may be committed any more: the partition belongs to somebody else.
    closed: bool,
}

impl Lane {
    /// Makes the lane and its task.
    pub(super) fn open(shared: &Arc<Shared>, partition: i32) -> Arc<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let lane = Arc::new(Self {
            partition,
            cancel: CancellationToken::new(),
            records: sender,
            flow: Mutex::default(),
            offsets: Mutex::default(),
            ended: (Mutex::new(false), Condvar::new()),
        });
        let worker = Worker {
            key: partition_key(&shared.options.kafka.topic, partition),
            lane: Arc::clone(&lane),
            shared: Arc::clone(shared),
            records: receiver,
            next_offset: i64::MIN,
        };
        let ended = Ended(Arc::clone(&lane));
        shared.runtime.spawn(async move {
            let _ended = ended;
            worker.run().await;
        });
        lane
    }

    /// Takes a record; pauses the partition when enough of it waits.
    pub(super) fn push(&self, consumer: &Consumer, options: &TriggerOptions, record: OwnedMessage) {
        let bytes = size(&record);
        let mut flow = lock(&self.flow);
        // Counted before it is sent, as the worker may take it at once.
        flow.records += 1;
        flow.bytes += bytes;
        if self.records.send(record).is_err() {
            // The lane has just ended; whoever reads the partition next gets the record.
            return;
        }
        if !flow.paused && (flow.records >= most_records(options) || flow.bytes >= MAX_QUEUED_BYTES) {
            flow.paused = self.switch(consumer, options, true);
        }
    }

    /// Notes that a record was taken out; lets the partition go on when little waits.
    fn taken(&self, shared: &Shared, bytes: usize) {
        let mut flow = lock(&self.flow);
        flow.records = flow.records.saturating_sub(1);
        flow.bytes = flow.bytes.saturating_sub(bytes);
        let little = flow.records <= most_records(&shared.options) / 2 && flow.bytes <= MAX_QUEUED_BYTES / 2;
        if flow.paused
            && little
            && let Some(consumer) = shared.consumer()
        {
            flow.paused = !self.switch(&consumer, &shared.options, false);
        }
    }

    /// Pauses or resumes the partition; false if Kafka's client refused.
    fn switch(&self, consumer: &Consumer, options: &TriggerOptions, pause: bool) -> bool {
        let mut place = TopicPartitionList::new();
        place.add_partition(&options.kafka.topic, self.partition);
        let result = if pause { consumer.pause(&place) } else { consumer.resume(&place) };
        if let Err(error) = &result {
            tracing::warn!(partition = self.partition, pause, %error, "a partition cannot be paused or resumed");
        }
        result.is_ok()
    }

    /// All records before `next` are done.
    fn finish(&self, shared: &Shared, next: i64) {
        lock(&self.offsets).finished = Some(next);
        shared.due.notify_one();
    }

    /// What is done and not committed.
    pub(super) fn due(&self) -> Option<i64> {
        lock(&self.offsets).due()
    }

    /// The first offset that is not done, if any before it was.
    pub(super) fn place(&self) -> Option<i64> {
        let offsets = lock(&self.offsets);
        offsets.finished.max(offsets.committed)
    }

    /// Everything before `offset` is committed.
    pub(super) fn committed(&self, offset: i64) {
        let mut offsets = lock(&self.offsets);
        offsets.committed = offsets.committed.max(Some(offset));
    }

    /// From now on nothing of the lane is due.
    pub(super) fn close(&self) {
        lock(&self.offsets).closed = true;
    }

    /// Whether the lane's task has ended, at the latest at `deadline`. Blocks.
    pub(super) fn wait_until_ended(&self, deadline: Instant) -> bool {
        let (ended, changed) = &self.ended;
        let left = deadline.saturating_duration_since(Instant::now());
        let (ended, _) = changed
            .wait_timeout_while(lock(ended), left, |ended| !*ended)
            .unwrap_or_else(PoisonError::into_inner);
        *ended
    }
}

impl Offsets {
    fn due(&self) -> Option<i64> {
        self.finished.filter(|_| !self.closed && self.finished > self.committed)
    }
}

/// Says that the task is over, however it ended.
struct Ended(Arc<Lane>);

impl Drop for Ended {
    fn drop(&mut self) {
        let (ended, changed) = &self.0.ended;
        *lock(ended) = true;
        changed.notify_all();
    }
}

/// The task of a lane.
struct Worker {
    key: String,
    lane: Arc<Lane>,
    shared: Arc<Shared>,
    records: mpsc::UnboundedReceiver<OwnedMessage>,
    /// What lies before it was taken already.
    next_offset: i64,
}

impl Worker {
    async fn run(mut self) {
        let lane = Arc::clone(&self.lane);
        // A batch in flight is not given up by it: `step` looks at it only where nothing is.
        while self.one_batch(&lane.cancel).await.is_some() {}
    }

    /// Gathers a batch and carries it to its end. `None` when cancelled.
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
                        self.lane.finish(&shared, last.offset() + 1);
                    }
                    batch.clear();
                }
                Outcome::FailedFrom { index, reason } => {
                    let Some(failed) = batch.get(index).map(OwnedMessage::offset) else {
                        continue;
                    };
                    if index > 0 {
                        self.lane.finish(&shared, failed);
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

    /// Waits for a record, then until the batch is full or its window has passed.
    async fn gather(&mut self) -> Vec<OwnedMessage> {
        let (size, window) = (self.shared.options.kafka.batch_size, self.shared.options.kafka.batch_window);
        let mut batch = Vec::new();
        let Some(first) = self.records.recv().await else {
            // The lane holds a sender, so this cannot be; were it so, waiting is all there is to do.
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

    /// Adds what is there without waiting.
    fn top_up(&mut self, batch: &mut Vec<OwnedMessage>) {
        while batch.len() < self.shared.options.kafka.batch_size && bytes(batch) < MAX_BATCH_BYTES {
            let Ok(record) = self.records.try_recv() else {
                return;
            };
            self.take(batch, record);
        }
    }

    fn take(&mut self, batch: &mut Vec<OwnedMessage>, record: OwnedMessage) {
        self.lane.taken(&self.shared, size(&record));
        if record.offset() >= self.next_offset {
            self.next_offset = record.offset() + 1;
            batch.push(record);
        }
    }

    async fn invoke(&self, batch: &[OwnedMessage]) -> Outcome {
        let offsets: Vec<i64> = batch.iter().map(OwnedMessage::offset).collect();
        let event = event(&self.shared.options.source, &self.key, batch);
        // A task of its own, so that a panic in the handler fails a batch and not the lane.
        let answer = match tokio::spawn((self.shared.invoke)(event)).await {
            Ok(answer) => answer,
            Err(panic) => Err(InvokeError::new(FUNCTIONS.kafka.name, panic)),
        };
        outcome(&self.key, &offsets, answer)
    }
}

/// The pause after so many failed tries: growing, and never the same for two lanes.
fn pause(options: &TriggerOptions, tries: u32) -> Duration {
    let full = options.first_pause.saturating_mul(2_u32.saturating_pow(tries)).min(options.longest_pause);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// How many records of a partition wait in memory at most.
fn most_records(options: &TriggerOptions) -> usize {
    (options.kafka.batch_size * 4).max(1_000)
}

fn size(record: &OwnedMessage) -> usize {
    record.key().map_or(0, <[u8]>::len) + record.payload().map_or(0, <[u8]>::len)
}

fn bytes(batch: &[OwnedMessage]) -> usize {
    batch.iter().map(size).sum()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn only_what_is_done_and_not_committed_is_due() {
        let mut offsets = Offsets::default();
        assert_eq!(offsets.due(), None);
        offsets.finished = Some(5);
        assert_eq!(offsets.due(), Some(5));
        offsets.committed = Some(5);
        assert_eq!(offsets.due(), None);
        offsets.finished = Some(7);
        offsets.closed = true;
        assert_eq!(offsets.due(), None, "the partition belongs to somebody else");
    }
}
