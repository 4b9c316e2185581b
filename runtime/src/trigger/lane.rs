//! One partition: its records that wait, and how far it is done.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::{Message as _, OwnedMessage};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::TriggerOptions;
use super::consumer::Consumer;

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
    /// A lane without its task, and the records that it will hand to the task.
    pub(super) fn new(partition: i32) -> (Arc<Self>, mpsc::UnboundedReceiver<OwnedMessage>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let lane = Arc::new(Self {
            partition,
            cancel: CancellationToken::new(),
            records: sender,
            flow: Mutex::default(),
            offsets: Mutex::default(),
            ended: (Mutex::new(false), Condvar::new()),
        });
        (lane, receiver)
    }

    /// Takes a record; pauses the partition when enough of it waits.
    pub(super) fn push(&self, consumer: &Consumer, options: &TriggerOptions, record: OwnedMessage) {
        let bytes = size(&record);
        let mut flow = self.flow.lock();
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
    pub(super) fn taken(
        &self,
        consumer: impl FnOnce() -> Option<Arc<Consumer>>,
        options: &TriggerOptions,
        bytes: usize,
    ) {
        let mut flow = self.flow.lock();
        flow.records = flow.records.saturating_sub(1);
        flow.bytes = flow.bytes.saturating_sub(bytes);
        let little = flow.records <= most_records(options) / 2 && flow.bytes <= MAX_QUEUED_BYTES / 2;
        if flow.paused
            && little
            && let Some(consumer) = consumer()
        {
            flow.paused = !self.switch(&consumer, options, false);
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
    pub(super) fn finish(&self, next: i64) {
        self.offsets.lock().finished = Some(next);
    }

    /// What is done and not committed.
    pub(super) fn due(&self) -> Option<i64> {
        self.offsets.lock().due()
    }

    /// The first offset that is not done, if any before it was.
    pub(super) fn place(&self) -> Option<i64> {
        let offsets = self.offsets.lock();
        offsets.finished.max(offsets.committed)
    }

    /// Everything before `offset` is committed.
    pub(super) fn committed(&self, offset: i64) {
        let mut offsets = self.offsets.lock();
        offsets.committed = offsets.committed.max(Some(offset));
    }

    /// From now on nothing of the lane is due.
    pub(super) fn close(&self) {
        self.offsets.lock().closed = true;
    }

    /// Whether the lane's task has ended, at the latest at `deadline`. Blocks.
    pub(super) fn wait_until_ended(&self, deadline: Instant) -> bool {
        let (ended, changed) = &self.ended;
        let mut ended = ended.lock();
        changed.wait_while_until(&mut ended, |ended| !*ended, deadline);
        *ended
    }
}

impl Offsets {
    fn due(&self) -> Option<i64> {
        self.finished.filter(|_| !self.closed && self.finished > self.committed)
    }
}

/// Says that the task is over, however it ended.
pub(super) struct Ended(pub(super) Arc<Lane>);

impl Drop for Ended {
    fn drop(&mut self) {
        let (ended, changed) = &self.0.ended;
        *ended.lock() = true;
        changed.notify_all();
    }
}

/// How many records of a partition wait in memory at most.
fn most_records(options: &TriggerOptions) -> usize {
    (options.kafka.batch_size * 4).max(1_000)
}

pub(super) fn size(record: &OwnedMessage) -> usize {
    record.key().map_or(0, <[u8]>::len) + record.payload().map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

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
