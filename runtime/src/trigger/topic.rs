//! What is known of the topic and of who reads it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Longer than the group takes to share out the partitions anew.
const REWIND_WITHIN: Duration = Duration::from_mins(2);

/// What is known of the topic and of who reads it.
#[derive(Default)]
pub(super) struct Watched {
    topic: Mutex<Topic>,
    consumer: AtomicU64,
    renew: AtomicBool,
    reads: AtomicBool,
    /// When a topic was found to be made anew, and the partitions that were begun at their start since. What the group
    /// committed meanwhile may be of the old log.
    rewound: Mutex<Option<(Instant, HashSet<i32>)>>,
}

/// The topic as it was seen last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Topic {
    /// Not looked at yet.
    #[default]
    Unseen,
    /// It does not exist.
    Missing,
    /// It has so many partitions.
    Partitions(usize),
}

impl Watched {
    pub(super) fn consumer_number(&self) -> u64 {
        self.consumer.load(Ordering::SeqCst)
    }

    /// The number of the next consumer, which takes the place of the one before.
    pub(super) fn next_consumer(&self) -> u64 {
        self.consumer.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whether a new consumer is wanted; asked once, it is not wanted any more.
    pub(super) fn take_renewal(&self) -> bool {
        self.renew.swap(false, Ordering::SeqCst)
    }

    /// A new consumer is wanted.
    pub(super) fn ask_for_renewal(&self) {
        self.renew.store(true, Ordering::SeqCst);
    }

    /// The topic is another one under the same name: a new consumer is to read it from its start.
    pub(super) fn topic_was_remade(&self) {
        *self.rewound.lock() = Some((Instant::now(), HashSet::new()));
        self.ask_for_renewal();
    }

    /// Whether this partition, which is about to be assigned, must be read from its start: once each, and not when another
    /// member, who has read it since, gives it away much later.
    pub(super) fn must_rewind(&self, partition: i32) -> bool {
        let mut rewound = self.rewound.lock();
        rewound
            .as_mut()
            .is_some_and(|(when, rewound)| when.elapsed() < REWIND_WITHIN && rewound.insert(partition))
    }

    /// Says that the topic is read, until the returned guard is dropped.
    pub(super) fn reading(&self) -> Reading<'_> {
        self.reads.store(true, Ordering::SeqCst);
        Reading(&self.reads)
    }

    /// Whether a thread reads the topic.
    pub(super) fn is_read(&self) -> bool {
        self.reads.load(Ordering::SeqCst)
    }

    /// The topic as it was seen last.
    pub(super) fn topic(&self) -> Topic {
        *self.topic.lock()
    }

    /// Notes the topic as it is seen now, and returns how it was seen before.
    pub(super) fn replace_topic(&self, seen: Topic) -> Topic {
        std::mem::replace(&mut *self.topic.lock(), seen)
    }
}

/// Held by the thread that polls.
pub(super) struct Reading<'a>(&'a AtomicBool);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
