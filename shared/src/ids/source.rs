//! Who may make ids with which worker number: a lease in Redis (`docs/protocol.md`, R3, R6).

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::Rng;

use super::snowflake::Snowflake;
use super::worker::WorkerNumber;
use crate::cache::{Cache, keys, scripts};
use crate::clock::{Clock, TimestampMs};
use crate::error::{Retry, Server, ServerError};
use crate::id::MessageId;
use crate::random;

/// How long the number stays out of others' reach after the holder stops using it: more than clocks differ.
const GRACE: Duration = Duration::from_mins(1);

/// How many numbers are tried; with 8192 of them, a few tries find a free one unless nearly all are held.
const TRIES: usize = 16;

/// Makes message ids under a leased worker number. One for a process.
pub struct IdSource {
    cache: Cache,
    clock: Clock,
    /// How long a lease lasts.
    duration: Duration,
    /// Says that a lease is ours: unique to this process.
    holder: String,
    state: Mutex<State>,
    /// Held while the lease is sought or renewed, so that only one request does.
    leasing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    lease: Option<Lease>,
    /// The latest time in any id that this process made, whatever the worker number.
    latest: TimestampMs,
}

struct Lease {
    ids: Snowflake,
    worker: WorkerNumber,
    /// By both clocks: the wall clock sees a pause of the whole machine, the monotonic one a wall clock set back.
    ends: (Instant, TimestampMs),
    renew: (Instant, TimestampMs),
}

impl Lease {
    fn passed(limit: (Instant, TimestampMs), now: (Instant, TimestampMs)) -> bool {
        now.0 >= limit.0 || now.1 >= limit.1
    }
}

impl IdSource {
    /// Takes no number yet: that is done when the first id is needed. `lease` is how long ids go on without Redis.
    pub fn new(cache: Cache, clock: Clock, lease: Duration) -> Self {
        Self {
            cache,
            clock,
            duration: lease,
            holder: random::hex_128(),
            state: Mutex::default(),
            leasing: tokio::sync::Mutex::new(()),
        }
    }

    /// The next id. Needs Redis only for the first and then once in half a lease; without Redis it goes on until the lease
    /// ends.
    pub async fn next(&self) -> Result<MessageId, ServerError> {
        let (id, renewal_due) = self.next_leased()?;
        if let Some(id) = id {
            if renewal_due && let Ok(_only_one) = self.leasing.try_lock() {
                // Another second of the old lease is no harm: a failure is tried again at the next id.
                if let Err(error) = self.lease().await {
                    tracing::warn!(%error, "cache.worker: could not renew the worker number; going on until its lease ends");
                }
            }
            return Ok(id);
        }
        let _only_one = self.leasing.lock().await;
        // Somebody else may have leased one while this request waited.
        if let (Some(id), _) = self.next_leased()? {
            return Ok(id);
        }
        self.lease().await?;
        self.next_leased()?
            .0
            .ok_or_else(|| failed(Retry::Transient, "the worker number's lease ended at once"))
    }

    /// Gives the worker number back, on a clean stop.
    pub async fn give_back(&self) -> Result<(), ServerError> {
        let Some(lease) = self.state.lock().lease.take() else {
            return Ok(());
        };
        let release = scripts::RELEASE
            .on(keys::worker(lease.worker), vec![self.holder.clone(), GRACE.as_millis().to_string()]);
        self.cache.redis().run::<i64>("cache.give_back_worker", release).await.map(drop)
    }

    /// An id under the present lease, if it has not ended, and whether it is time to renew.
    fn next_leased(&self) -> Result<(Option<MessageId>, bool), ServerError> {
        let now = (Instant::now(), self.clock.now_ms());
        let mut state = self.state.lock();
        let Some(lease) = &mut state.lease else {
            return Ok((None, false));
        };
        // Checked before each use: a Lambda may have been frozen for minutes since the last.
        if Lease::passed(lease.ends, now) {
            state.lease = None;
            return Ok((None, false));
        }
        let renewal_due = Lease::passed(lease.renew, now);
        let id = lease.ids.next(now.1).map_err(|error| failed(Retry::Transient, error))?;
        state.latest = lease.ids.latest();
        Ok((Some(id), renewal_due))
    }

    /// Renews the present lease, or takes a number at a random free place.
    async fn lease(&self) -> Result<(), ServerError> {
        // No id is older than the epoch, unless Redis is another one later.
        self.cache.epoch().await?;
        let present = self.state.lock().lease.as_ref().map(|lease| lease.worker);
        let random = || WorkerNumber::new(rand::rng().random_range(0..WorkerNumber::COUNT));
        for worker in present.into_iter().chain(std::iter::from_fn(random).take(TRIES)) {
            // From before the request: the lease must not outlast what Redis counts.
            let asked = (Instant::now(), self.clock.now_ms());
            let duration_ms = (self.duration + GRACE).as_millis().to_string();
            let lease = scripts::LEASE.on(keys::worker(worker), vec![self.holder.clone(), duration_ms]);
            if self.cache.redis().run("cache.lease_worker", lease).await? {
                let mut state = self.state.lock();
                let after = |duration: Duration| {
                    let ms = TimestampMs::try_from(duration.as_millis()).unwrap_or(TimestampMs::MAX);
                    (asked.0 + duration, asked.1.saturating_add(ms))
                };
                let ids = match state.lease.take() {
                    Some(lease) if lease.worker == worker => lease.ids,
                    // Never behind what this process made before, so that its ids go on rising.
                    _ => Snowflake::new(worker, state.latest),
                };
                state.lease =
                    Some(Lease { ids, worker, ends: after(self.duration), renew: after(self.duration / 2) });
                tracing::debug!(worker = worker.get(), "cache.worker: leased a worker number");
                return Ok(());
            }
        }
        Err(failed(Retry::Transient, "no free worker number was found"))
    }
}

fn failed(retry: Retry, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ServerError {
    ServerError { server: Server::Redis, action: "cache.lease_worker", retry, source: source.into() }
}
