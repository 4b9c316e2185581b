//! Which data set of Redis this is, and what of it may be believed (`docs/decisions/0033-epochs.md`).
//!
//! Redis may be emptied, restarted from an older file or replaced by a replica that lacks the last writes, and it may have
//! refused a recall. What it holds from before may then lack a message or show recalled words. So everything in Redis
//! that vouches for something (a conversation's list, a user's complete set of deletions) carries the name of the epoch
//! it was made in, and is believed only in that epoch. Nothing is searched for and dropped: what is of another epoch is
//! ignored, replaced when it is next needed, and goes by its TTL.
//!
//! An epoch ends when
//! - the identity of the server changes (`epoch.lua`: its replication id and what it loaded; in a cluster those of all
//!   nodes), or `msg:epoch` is missing, because Redis was emptied; or
//! - `msg:epoch` has an earlier tick than this process has seen: an older data set has been put into the same server; or
//! - MySQL's generation is higher than that of the epoch: somebody has answered a recall that Redis could not take.

use std::time::Instant;

use redis::{FromRedisValue, RedisError, Value};

use super::connection::typed;
use super::generation::GENERATION_MAX_AGE;
use super::step::{Step, write_probe};
use super::{Cache, keys, scripts};
use crate::clock::TimestampMs;
use crate::error::{Retry, Server, ServerError};
use crate::id::MessageId;
use crate::ids::snowflake;
use crate::random;
use crate::store::Store;

/// Messages sent up to this long after an epoch was first seen may be older than the epoch: clocks differ.
const CLOCKS_DIFFER_MS: TimestampMs = 10_000;

/// An epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    name: String,
    /// When it was first seen, ms since 1970 UTC.
    since: TimestampMs,
}

impl Epoch {
    /// Reads what `epoch.lua` answers: the epoch and its tick.
    fn parse(value: Value) -> Result<(Self, u64), ServerError> {
        let (name, tick): (String, String) = typed("cache.epoch", value)?;
        let since = name.rsplit_once('-').and_then(|(_, since)| since.parse().ok());
        let parsed = since.zip(tick.parse().ok()).map(|(since, tick)| (Self { name, since }, tick));
        parsed.ok_or_else(|| failed("msg:epoch is not of the form that was written"))
    }

    /// What carries this name was made in this epoch.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the message was certainly sent in this epoch, so that Redis has all that became of it since.
    pub fn has_all_of(&self, id: MessageId) -> bool {
        snowflake::time_of(id) > self.since.saturating_add(CLOCKS_DIFFER_MS)
    }
}

impl Cache {
    /// This cache, whose generation is MySQL's.
    #[must_use]
    pub fn with_generation_of(mut self, store: Store) -> Self {
        self.generation.store = Some(store);
        self
    }

    /// Reads the epoch. The round trip carries a write that changes nothing, so it fails if Redis refuses writes.
    pub async fn epoch(&self) -> Result<Epoch, ServerError> {
        Ok(Box::pin(self.in_epoch("cache.epoch", Vec::new())).await?.1)
    }

    /// Runs reads and then reads the epoch, in one round trip (two in a cluster): the answers are of this epoch, or of a
    /// newer one than any mark that names it. Fails if Redis refuses writes, so that a page from a Redis that may have
    /// refused a recall is not answered by it.
    pub(super) async fn in_epoch(
        &self,
        action: &'static str,
        mut reads: Vec<Step>,
    ) -> Result<(Vec<Result<Value, ServerError>>, Epoch), ServerError> {
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
        let (epoch, tick) = Epoch::parse(answers.pop().unwrap_or_else(|| Err(failed("no answer")))?)?;
        answers.remove(0)?;
        let mut seen = self.generation.seen();
        seen.tick = seen.tick.max(tick);
        epoch.name().clone_into(&mut seen.name);
        drop(seen);
        Ok((answers, epoch))
    }

    fn epoch_step(&self, generation: u64, identity: String) -> Step {
        let word = random::hex_64();
        let now = self.clock.now_ms().to_string();
        let tick = self.generation.seen().tick.to_string();
        scripts::EPOCH.on(keys::EPOCH.to_owned(), vec![generation.to_string(), now, word, identity, tick])
    }

    /// Since when Redis remembers every message, ms since 1970 UTC: one sent before may be unknown to it and exist all
    /// the same. Fails if Redis refuses writes, since it may then lack what was just sent.
    pub async fn complete_since(&self) -> Result<TimestampMs, ServerError> {
        let epoch = self.epoch().await?;
        // Asked anew: an answer that is a second old may lack the very message in question.
        Box::pin(self.generation.refresh()).await;
        let elsewhere = self.generation.known().value.unremembered_until;
        Ok(epoch.since.max(elsewhere).max(self.kafka_only_until()))
    }

    /// Notes that a message sent at `sent` was accepted by Kafka alone: Redis does not know it, though it exists. All
    /// processes learn of it by MySQL; while that is away, this one remembers.
    pub async fn note_kafka_only(&self, sent: TimestampMs) {
        let until = sent.saturating_add(CLOCKS_DIFFER_MS);
        {
            let mut own = self.kafka_only_until.lock();
            *own = (*own).max(until);
        }
        let Some(store) = &self.generation.store else { return };
        // Held while MySQL is told: the next send must not be answered before MySQL knows.
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
                "cache.epoch: MySQL could not be told that Redis lacks a message; only this process knows"
            );
        }
    }

    fn kafka_only_until(&self) -> TimestampMs {
        *self.kafka_only_until.lock()
    }

    /// Ends the epoch for all processes, because MySQL has a recall that Redis could not take. Once this has returned,
    /// no process believes what Redis holds from before.
    pub async fn end_epoch(&self) -> Result<(), ServerError> {
        let Some(store) = &self.generation.store else { return Ok(()) };
        Box::pin(store.raise_cache_generation()).await?;
        Box::pin(self.generation.refresh()).await;
        // The knowledge of other processes is at most this old.
        tokio::time::sleep(GENERATION_MAX_AGE).await;
        Ok(())
    }
}

/// The identity of a cluster's data: that of all its nodes.
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

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ServerError {
    ServerError {
        server: Server::Redis,
        action: "cache.epoch",
        retry: Retry::Transient,
        source: source.into(),
    }
}
