//! `msg:pending:{partition}`: what MySQL has not confirmed, by time, for the compensator and for counting
//! (`protocol.md`, "Pending never expires", "The compensator never feeds a backlog").

use std::collections::BTreeMap;

use super::redis::typed;
use super::{Cache, keys, scripts, step};
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId};

/// A message is sent again at most once in 5 minutes.
const RESENT_MS: u64 = 5 * 60 * 1_000;

impl Cache {
    /// Takes messages off the pending set: MySQL has what is to be had of them.
    pub async fn settle(
        &self,
        messages: impl IntoIterator<Item = (ConversationId, MessageId)>,
    ) -> Result<(), ServerError> {
        let mut shards: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for (conversation, id) in messages {
            shards.entry(self.shard(conversation)).or_default().push(id.get());
        }
        let removals = shards.into_iter().map(|(shard, ids)| step!("ZREM", shard, ids)).collect();
        self.redis.batch("cache.settle", removals).await.map(drop)
    }

    /// Takes one id off the shard of a partition, where nothing is left that would tell its conversation.
    pub async fn settle_in(&self, partition: u16, id: MessageId) -> Result<(), ServerError> {
        self.redis
            .run::<i64>("cache.settle", step!("ZREM", keys::pending(partition), id.get()))
            .await
            .map(drop)
    }

    /// How many messages are unconfirmed, in all.
    pub async fn pending_count(&self) -> Result<u64, ServerError> {
        let counts =
            (0..self.partitions.get()).map(|partition| step!("ZCARD", keys::pending(partition))).collect();
        let counts = self.redis.batch("cache.pending_count", counts).await?;
        counts.into_iter().try_fold(0, |sum, count| Ok(sum + typed::<u64>("cache.pending_count", count)?))
    }

    /// The oldest `limit` messages of a partition that were sent at `until` or before, with their send times.
    pub async fn pending_until(
        &self,
        partition: u16,
        until: TimestampMs,
        limit: usize,
    ) -> Result<Vec<(MessageId, TimestampMs)>, ServerError> {
        let range =
            step!("ZRANGEBYSCORE", keys::pending(partition), "-inf", until, "WITHSCORES", "LIMIT", 0, limit);
        // A score is a double, exact for ms far beyond the year 9999.
        let due: Vec<(i64, f64)> = self.redis.run("cache.pending_until", range).await?;
        #[expect(clippy::cast_possible_truncation, reason = "scores are whole ms")]
        let due =
            due.into_iter().filter_map(|(id, score)| Some((MessageId::new(id).ok()?, score as TimestampMs)));
        Ok(due.collect())
    }

    /// Whether this message may be sent again now: true at most once in 5 minutes.
    pub async fn may_resend(&self, id: MessageId) -> Result<bool, ServerError> {
        let set: Option<String> = self
            .redis
            .run("cache.may_resend", step!("SET", keys::resent(id), 1, "NX", "PX", RESENT_MS))
            .await?;
        Ok(set.is_some())
    }

    /// The message was not sent again after all: it may be at the next run.
    pub async fn forget_resend(&self, id: MessageId) -> Result<(), ServerError> {
        self.redis.run::<i64>("cache.forget_resend", step!("DEL", keys::resent(id))).await.map(drop)
    }

    /// Begins a run of the compensator for `holder`, if none is under way. It ends by [`Self::end_compensation`], or by
    /// itself after `ttl_ms`.
    pub async fn begin_compensation(&self, holder: &str, ttl_ms: u64) -> Result<bool, ServerError> {
        let lock =
            scripts::LOCK.on(keys::COMPENSATOR.to_owned(), vec![holder.to_owned(), ttl_ms.to_string()]);
        self.redis.run("cache.begin_compensation", lock).await
    }

    /// Ends the run.
    pub async fn end_compensation(&self, holder: &str) -> Result<(), ServerError> {
        let unlock =
            scripts::UNLOCK.on(keys::COMPENSATOR.to_owned(), vec![holder.to_owned(), "0".to_owned()]);
        self.redis.run::<i64>("cache.end_compensation", unlock).await.map(drop)
    }
}
