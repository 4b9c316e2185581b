//! One partition: the records that wait in memory, and the progress of the partition.

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

/// The most bytes of records that one lane keeps in memory before it pauses its partition.
const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;

pub(super) struct Lane {
    pub(super) partition: i32,
    pub(super) cancel: CancellationToken,
    records: mpsc::UnboundedSender<OwnedMessage>,
    flow: Mutex<Flow>,
    offsets: Mutex<Offsets>,
    ended: (Mutex<bool>, Condvar),
}

/// The records that wait in memory.
#[derive(Default)]
struct Flow {
    records: usize,
    bytes: usize,
    paused: bool,
}

/// The progress of the partition. Each offset is that of the next record.
#[derive(Default)]
struct Offsets {
    finished: Option<i64>,
    committed: Option<i64>,
    /// The partition belongs to another member, so nothing may be committed.
    closed: bool,
}

impl Lane {
    /// A lane without its task, and the receiving end of its records, for the task.
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

    /// Adds a record. Pauses the partition once enough records wait.
    pub(super) fn push(&self, consumer: &Consumer, options: &TriggerOptions, record: OwnedMessage) {
        let bytes = size(&record);
        let mut flow = self.flow.lock();
        // Count the record before sending it, since the worker may take it at once.
        flow.records += 1;
        flow.bytes += bytes;
        if self.records.send(record).is_err() {
            // The lane has just ended. The next reader of the partition gets the record.
            return;
        }
        if !flow.paused && (flow.records >= most_records(options) || flow.bytes >= MAX_QUEUED_BYTES) {
            flow.paused = self.switch(consumer, options, true);
        }
    }

    /// Notes that the task took a record. Resumes the partition once few records wait.
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

    /// Notes that all records before `next` are done.
    pub(super) fn finish(&self, next: i64) {
        self.offsets.lock().finished = Some(next);
    }

    /// The offset to commit, if any progress is not committed yet.
    pub(super) fn due(&self) -> Option<i64> {
        self.offsets.lock().due()
    }

    /// The offset of the first record that is not done; `None` before the first record is done.
    pub(super) fn place(&self) -> Option<i64> {
        let offsets = self.offsets.lock();
        offsets.finished.max(offsets.committed)
    }

    /// Notes that the group has committed `offset`.
    pub(super) fn committed(&self, offset: i64) {
        let mut offsets = self.offsets.lock();
        offsets.committed = offsets.committed.max(Some(offset));
    }

    /// From now on the lane has nothing to commit.
    pub(super) fn close(&self) {
        self.offsets.lock().closed = true;
    }

    /// Waits for the end of the lane's task, at most until `deadline`. True if the task has ended. Blocks.
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

/// Reports the end of the task when dropped, so also after a panic.
pub(super) struct Ended(pub(super) Arc<Lane>);

impl Drop for Ended {
    fn drop(&mut self) {
        let (ended, changed) = &self.0.ended;
        *ended.lock() = true;
        changed.notify_all();
    }
}

/// How many records of a partition may wait in memory.
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
