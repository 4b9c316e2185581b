//! The source of message ids: leases a worker number in Redis and makes ids with it (`docs/protocol.md`, R3, R6).

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

/// How long nobody else may have a worker number after its lease has ended: clocks differ by less.
const GRACE: Duration = Duration::from_mins(1);

/// How many random numbers are tried. Of 8,192 numbers, a few tries find a free one unless nearly all are held.
const TRIES: usize = 16;

/// Makes message ids under a leased worker number. There is one for each process.
pub struct IdSource {
    cache: Cache,
    clock: Clock,
    /// The length of a lease.
    duration: Duration,
    /// A random word, unique to this process, that says that a lease is ours.
    holder: String,
    state: Mutex<State>,
    /// Held while the lease is taken or renewed, so that only one request does it.
    leasing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    lease: Option<Lease>,
    /// The latest time in any id of this process, ms since 1970 UTC, whatever the worker number.
    latest: TimestampMs,
}

struct Lease {
    ids: Snowflake,
    worker: WorkerNumber,
    /// By both clocks: the wall clock advances while the whole machine is paused, the monotonic one when the wall clock
    /// is set back.
    ends: (Instant, TimestampMs),
    renew: (Instant, TimestampMs),
}

impl Lease {
    fn passed(limit: (Instant, TimestampMs), now: (Instant, TimestampMs)) -> bool {
        now.0 >= limit.0 || now.1 >= limit.1
    }
}

impl IdSource {
    /// Makes a source without a worker number; the first id takes one. `lease` is how long ids can be made without
    /// Redis.
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

    /// The next id. Redis is needed for the first id and then once in half a lease; without Redis ids go on until the
    /// lease ends.
    pub async fn next(&self) -> Result<MessageId, ServerError> {
        let (id, renewal_due) = self.next_leased()?;
        if let Some(id) = id {
            if renewal_due && let Ok(_only_one) = self.leasing.try_lock() {
                // A failure does no harm: the old lease still holds, and the next id tries again.
                if let Err(error) = self.lease().await {
                    tracing::warn!(%error, "cache.worker: could not renew the worker number; ids are made until its lease ends");
                }
            }
            return Ok(id);
        }
        let _only_one = self.leasing.lock().await;
        // Another request may have taken a lease while this one waited.
        if let (Some(id), _) = self.next_leased()? {
            return Ok(id);
        }
        self.lease().await?;
        self.next_leased()?
            .0
            .ok_or_else(|| failed(Retry::Transient, "the worker number's lease ended at once"))
    }

    /// How long ids can still be made without Redis; zero without a worker number.
    pub fn lease_left(&self) -> Duration {
        let (now, now_ms) = (Instant::now(), self.clock.now_ms());
        let state = self.state.lock();
        let Some(lease) = &state.lease else { return Duration::ZERO };
        let wall = u64::try_from(lease.ends.1.saturating_sub(now_ms)).unwrap_or_default();
        lease.ends.0.saturating_duration_since(now).min(Duration::from_millis(wall))
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

    /// An id under the present lease, if it has not ended, and whether the lease is due for renewal.
    fn next_leased(&self) -> Result<(Option<MessageId>, bool), ServerError> {
        let now = (Instant::now(), self.clock.now_ms());
        let mut state = self.state.lock();
        let Some(lease) = &mut state.lease else {
            return Ok((None, false));
        };
        // Checked before each id: a Lambda environment may have been frozen for minutes since the last one.
        if Lease::passed(lease.ends, now) {
            state.lease = None;
            return Ok((None, false));
        }
        let renewal_due = Lease::passed(lease.renew, now);
        let id = lease.ids.next(now.1).map_err(|error| failed(Retry::Transient, error))?;
        state.latest = lease.ids.latest();
        Ok((Some(id), renewal_due))
    }

    /// Renews the present lease, or takes a random free number.
    async fn lease(&self) -> Result<(), ServerError> {
        // Reads the epoch, which begins a new one if none was read before: no id of this process is older than that
        // epoch.
        self.cache.epoch().await?;
        let present = self.state.lock().lease.as_ref().map(|lease| lease.worker);
        let random = || WorkerNumber::new(rand::rng().random_range(0..WorkerNumber::COUNT));
        for worker in present.into_iter().chain(std::iter::from_fn(random).take(TRIES)) {
            // The time before the request: here the lease must end no later than in Redis.
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
                    // The new worker's ids begin after everything that this process made before, so that its ids keep
                    // rising.
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
