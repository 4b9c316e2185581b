//! Epochs: which data set Redis has, and what of it may be believed (`docs/decisions/0033-epochs.md`).
//!
//! Redis may be emptied, restart from an older file, or be replaced by a replica that lacks the last writes; or it may
//! have refused a recall. The data it still holds may then lack a message, or show recalled words. So everything that
//! claims to be complete (a conversation's list, a user's set of deletions) carries the name of the epoch in which it
//! was made, and is believed in that epoch only. Stale data is not searched for: readers ignore it, replace it when
//! they next need it, and its TTL removes it.
//!
//! An epoch ends when
//! - the identity of the server changes (`epoch.lua`: its replication id and the data that it loaded; in a cluster the
//!   identities of all nodes), or `msg:epoch` is missing, because Redis was emptied; or
//! - `msg:epoch` has an earlier tick than this process has seen: an older data set was loaded into the same server; or
//! - MySQL's generation is higher than the epoch's: some process has answered a recall that Redis could not take.

use std::time::Instant;

use redis::{FromRedisValue, RedisError, Value};

use super::connection::typed;
use super::generation::GENERATION_MAX_AGE;
use super::shared_reads::Answers;
use super::step::{Step, write_probe};
use super::{Cache, keys, scripts};
use crate::clock::TimestampMs;
use crate::error::{Retry, Server, ServerError};
use crate::id::MessageId;
use crate::ids::snowflake;
use crate::random;
use crate::store::Store;

/// Clocks differ: a message sent up to this long after an epoch was first seen may be older than the epoch, ms.
const CLOCKS_DIFFER_MS: TimestampMs = 10_000;

/// The name of a data set of Redis, with the time at which it was first seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    name: String,
    /// When it was first seen, ms since 1970 UTC.
    since: TimestampMs,
}

impl Epoch {
    /// Reads the answer of `epoch.lua`: the epoch and its tick.
    fn parse(value: Value) -> Result<(Self, u64), ServerError> {
        let (name, tick): (String, String) = typed("cache.epoch", value)?;
        let since = name.rsplit_once('-').and_then(|(_, since)| since.parse().ok());
        let parsed = since.zip(tick.parse().ok()).map(|(since, tick)| (Self { name, since }, tick));
        parsed.ok_or_else(|| failed("msg:epoch is not of the form that was written"))
    }

    /// The name. Data that carries this name was made in this epoch.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// True if the message was certainly sent in this epoch. Redis then has every later change of the message.
    pub fn has_all_of(&self, id: MessageId) -> bool {
        snowflake::time_of(id) > self.since.saturating_add(CLOCKS_DIFFER_MS)
    }
}

/// The beginning of a member that names an epoch.
pub(super) const COMPLETE: &str = "epoch:";

/// The member that says that a set is complete in the epoch of this name.
pub(super) fn complete_in(epoch: &str) -> String {
    format!("{COMPLETE}{epoch}")
}

impl Cache {
    /// This cache, with MySQL's generation: without it, epochs end only by what Redis says.
    #[must_use]
    pub fn with_generation_of(mut self, store: Store) -> Self {
        self.generation.store = Some(store);
        self
    }

    /// Reads the epoch. The round trip carries a write without effect, so the call fails if Redis refuses writes.
    pub async fn epoch(&self) -> Result<Epoch, ServerError> {
        Ok(Box::pin(self.in_epoch("cache.epoch", Vec::new())).await?.1)
    }

    /// The round trip of [`Self::in_epoch`], for one request or for several together.
    pub(super) async fn read_in_epoch(&self, action: &'static str, mut reads: Vec<Step>) -> Answers {
        let generation = self.generation.current().await;
        reads.insert(0, write_probe().into());
        let mut answers = if self.redis.is_cluster() {
            let mut info = redis::cmd("INFO");
            info.arg("replication");
            let (answers, infos) =
                tokio::join!(self.redis.each(action, reads, false), self.redis.ask_masters(info));
            let identity = identity_of_all(infos)?;
            let mut answers = answers?;
            answers.push(self.redis.run("cache.epoch", self.epoch_step(generation, identity)).await);
            answers
        } else {
            reads.push(self.epoch_step(generation, String::new()));
            self.redis.each(action, reads, false).await?
        };
        let epoch = answers.pop().unwrap_or_else(|| Err(failed("no answer")))?;
        answers.remove(0)?;
        Ok((answers, epoch))
    }

    /// The epoch that the script has answered.
    pub(super) fn epoch_of(&self, answer: Value) -> Result<Epoch, ServerError> {
        let (epoch, tick) = Epoch::parse(answer)?;
        let mut seen = self.generation.seen();
        seen.tick = seen.tick.max(tick);
        epoch.name().clone_into(&mut seen.name);
        drop(seen);
        Ok(epoch)
    }

    fn epoch_step(&self, generation: u64, identity: String) -> Step {
        let word = random::hex_64();
        let now = self.clock.now_ms().to_string();
        let tick = self.generation.seen().tick.to_string();
        scripts::EPOCH.on(keys::EPOCH.to_owned(), vec![generation.to_string(), now, word, identity, tick])
    }

    /// The time since which Redis has every message, ms since 1970 UTC: an older message may exist without being in
    /// Redis. Fails if Redis refuses writes, since it may then lack the newest messages.
    pub async fn complete_since(&self) -> Result<TimestampMs, ServerError> {
        let epoch = self.epoch().await?;
        // A generation that is a second old may not tell of the very message that is looked for, so MySQL is asked now.
        Box::pin(self.generation.refresh()).await;
        let elsewhere = self.generation.known().value.unremembered_until;
        Ok(epoch.since.max(elsewhere).max(self.kafka_only_until()))
    }

    /// Notes that a message sent at `sent` was accepted by Kafka alone: it exists, and Redis does not know it. MySQL
    /// tells all processes; while MySQL is away, only this process knows.
    pub async fn note_kafka_only(&self, sent: TimestampMs) {
        let until = sent.saturating_add(CLOCKS_DIFFER_MS);
        {
            let mut own = self.kafka_only_until.lock();
            *own = (*own).max(until);
        }
        let Some(store) = &self.generation.store else { return };
        // Held until MySQL has answered: no later send may be answered before MySQL knows.
        let mut reported = self.reported.lock().await;
        if reported.until > sent || reported.silent_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let noted = Box::pin(tokio::time::timeout(GENERATION_MAX_AGE, store.note_unremembered(until))).await;
        if matches!(noted, Ok(Ok(()))) {
            reported.until = until;
        } else {
            reported.silent_until = Some(Instant::now() + GENERATION_MAX_AGE);
            tracing::warn!(
                "cache.epoch: MySQL does not take the note that Redis lacks a message; only this process knows"
            );
        }
    }

    fn kafka_only_until(&self) -> TimestampMs {
        *self.kafka_only_until.lock()
    }

    /// Ends the epoch for all processes, because MySQL has a recall that Redis could not take. Returns when no process
    /// believes the older data any more.
    pub async fn end_epoch(&self) -> Result<(), ServerError> {
        let Some(store) = &self.generation.store else { return Ok(()) };
        Box::pin(store.raise_cache_generation()).await?;
        Box::pin(self.generation.refresh()).await;
        // No process goes by a generation that is older than this.
        tokio::time::sleep(GENERATION_MAX_AGE).await;
        Ok(())
    }
}

/// The identity of a cluster's data: the replication ids of all its masters, sorted.
fn identity_of_all(infos: Result<Value, RedisError>) -> Result<String, ServerError> {
    let infos = infos.map_err(failed)?;
    let infos: std::collections::HashMap<String, String> =
        FromRedisValue::from_redis_value(infos).map_err(|error| failed(RedisError::from(error)))?;
    let mut identities: Vec<&str> = infos
        .values()
        .filter_map(|info| info.lines().find_map(|line| line.strip_prefix("master_replid:")))
        .map(str::trim)
        .collect();
    identities.sort_unstable();
    Ok(identities.join("."))
}

/// A transient error of the epoch.
pub(super) fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ServerError {
    ServerError {
        server: Server::Redis,
        action: "cache.epoch",
        retry: Retry::Transient,
        source: source.into(),
    }
}
