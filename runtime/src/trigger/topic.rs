//! The last known state of the topic and of its reader.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// After a topic was made again, partitions assigned within this time are read from their start. Longer than a
/// rebalance takes.
const REWIND_WITHIN: Duration = Duration::from_mins(2);

/// The last known state of the topic and of its reader.
#[derive(Default)]
pub(super) struct Watched {
    topic: Mutex<Topic>,
    consumer: AtomicU64,
    renew: AtomicBool,
    reads: AtomicBool,
    /// The time when the topic was found to be made again, and the partitions that were begun at their start since
    /// then. Offsets that the group has committed for other partitions may belong to the old log.
    rewound: Mutex<Option<(Instant, HashSet<i32>)>>,
}

/// The topic at the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Topic {
    /// No look was taken yet.
    #[default]
    Unseen,
    /// The topic does not exist.
    Missing,
    /// The number of partitions of the topic.
    Partitions(usize),
}

impl Watched {
    pub(super) fn consumer_number(&self) -> u64 {
        self.consumer.load(Ordering::SeqCst)
    }

    /// The number of the next consumer, which replaces the current one.
    pub(super) fn next_consumer(&self) -> u64 {
        self.consumer.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// True if a new consumer was asked for since the last call.
    pub(super) fn take_renewal(&self) -> bool {
        self.renew.swap(false, Ordering::SeqCst)
    }

    /// Asks the poller for a new consumer.
    pub(super) fn ask_for_renewal(&self) {
        self.renew.store(true, Ordering::SeqCst);
    }

    /// Notes that the topic was deleted and made again under the same name: a new consumer must read it from its
    /// start.
    pub(super) fn topic_was_remade(&self) {
        *self.rewound.lock() = Some((Instant::now(), HashSet::new()));
        self.ask_for_renewal();
    }

    /// True if this partition, which is about to be assigned, must be read from its start. This holds once for each
    /// partition, and only for a limited time: later, another member that has read the partition may give it away.
    pub(super) fn must_rewind(&self, partition: i32) -> bool {
        let mut rewound = self.rewound.lock();
        rewound
            .as_mut()
            .is_some_and(|(when, rewound)| when.elapsed() < REWIND_WITHIN && rewound.insert(partition))
    }

    /// Notes that a thread reads the topic, until the returned guard is dropped.
    pub(super) fn reading(&self) -> Reading<'_> {
        self.reads.store(true, Ordering::SeqCst);
        Reading(&self.reads)
    }

    /// True while a thread reads the topic.
    pub(super) fn is_read(&self) -> bool {
        self.reads.load(Ordering::SeqCst)
    }

    /// The topic at the last look.
    pub(super) fn topic(&self) -> Topic {
        *self.topic.lock()
    }

    /// Notes the topic as seen now, and returns the topic at the look before.
    pub(super) fn replace_topic(&self, seen: Topic) -> Topic {
        std::mem::replace(&mut *self.topic.lock(), seen)
    }
}

/// Held by the polling thread for as long as it reads.
pub(super) struct Reading<'a>(&'a AtomicBool);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
