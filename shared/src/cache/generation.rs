//! MySQL's generation of the cache as this process knows it, and which messages unknown to Redis it has reported to
//! MySQL (`docs/decisions/0033-epochs.md`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::clock::{Clock, TimestampMs};
use crate::store::Store;
use crate::store::generation::CacheGeneration;

/// The greatest age of a process's knowledge of MySQL's generation. A recall that Redis could not take waits this long
/// before its answer: by then every process knows the new generation.
pub const GENERATION_MAX_AGE: Duration = Duration::from_secs(1);

/// MySQL's generation as this process knows it. Clones share it.
#[derive(Clone)]
pub(super) struct Generation {
    pub(super) store: Option<Store>,
    known: Arc<Mutex<Known>>,
    /// The epoch that this process read last.
    seen: Arc<Mutex<Seen>>,
    /// Held while MySQL is asked, so that only one request asks.
    refreshing: Arc<tokio::sync::Mutex<()>>,
    clock: Clock,
}

#[derive(Default)]
pub(super) struct Seen {
    /// The name of the epoch.
    pub(super) name: String,
    /// The latest tick, in seconds since 1970 UTC. A data set with an earlier tick is an older one.
    pub(super) tick: u64,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Known {
    pub(super) value: CacheGeneration,
    /// When MySQL was last asked, by both clocks: a process that was frozen may see only one of them advance.
    asked: Option<(Instant, TimestampMs)>,
    /// True if MySQL did not answer then.
    mysql_is_away: bool,
}

impl Generation {
    pub(super) fn new(clock: Clock) -> Self {
        Self { store: None, known: Arc::default(), seen: Arc::default(), refreshing: Arc::default(), clock }
    }

    /// The name of the epoch that this process read last.
    pub(super) fn last_epoch(&self) -> String {
        self.seen().name.clone()
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock()
    }

    pub(super) fn known(&self) -> Known {
        *self.known.lock()
    }

    fn is_fresh(&self, known: Known) -> bool {
        known.asked.is_some_and(|(instant, time)| {
            let passed_ms = self.clock.now_ms().saturating_sub(time);
            instant.elapsed() < GENERATION_MAX_AGE
                && TimestampMs::try_from(GENERATION_MAX_AGE.as_millis()).is_ok_and(|most| passed_ms < most)
        })
    }

    /// The generation, at most 1 s old. While MySQL is away, the last one known.
    pub(super) async fn current(&self) -> u64 {
        let known = self.known();
        if self.is_fresh(known) || self.store.is_none() {
            return known.value.generation;
        }
        if known.mysql_is_away {
            // A request does not wait for a MySQL that is away; a task in the background asks again.
            let this = self.clone();
            tokio::spawn(async move { this.refresh_if_stale().await });
            return known.value.generation;
        }
        Box::pin(self.refresh_if_stale()).await;
        self.known().value.generation
    }

    async fn refresh_if_stale(&self) {
        let _one_at_a_time = self.refreshing.lock().await;
        if !self.is_fresh(self.known()) {
            self.refresh().await;
        }
    }

    pub(super) async fn refresh(&self) {
        let Some(store) = &self.store else { return };
        // The time before the question, so that the answer is at least as new.
        let asked = Some((Instant::now(), self.clock.now_ms()));
        let answer = tokio::time::timeout(GENERATION_MAX_AGE, store.cache_generation()).await;
        let mut known = self.known.lock();
        known.asked = asked;
        if let Ok(Ok(value)) = answer {
            (known.value, known.mysql_is_away) = (value, false);
        } else {
            known.mysql_is_away = true;
            tracing::warn!(
                "cache.epoch: MySQL does not answer with the cache's generation; the last known one counts"
            );
        }
    }
}

/// How much of what Redis does not know this process has reported to MySQL.
#[derive(Default)]
pub(super) struct Reported {
    /// MySQL knows that messages sent before this time may be unknown to Redis.
    pub(super) until: TimestampMs,
    /// MySQL did not answer; it is not asked again before this time.
    pub(super) silent_until: Option<Instant>,
}
