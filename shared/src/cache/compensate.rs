//! `msg:passed`: where the end of each partition was when the compensator looked, so that a later run knows that the
//! consumer group has passed it (`docs/decisions/0039-lost-by-offsets.md`).

use std::collections::HashMap;

use super::connection::typed;
use super::settle::Pending;
use super::step::{Step, step};
use super::{Cache, keys, scripts};
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::id::MessageId;

/// What one run of the compensator saw of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenEnd {
    /// The end of the partition: the offset of the record that came next.
    pub end: i64,
    /// When, ms since 1970 UTC.
    pub at: TimestampMs,
}

impl Cache {
    /// Begins a run of the compensator for `holder`, if none is under way. It ends by [`Self::end_compensation`], or by
    /// itself after `ttl_ms`.
    pub async fn begin_compensation(&self, holder: &str, ttl_ms: u64) -> Result<bool, ServerError> {
        const ACTION: &str = "cache.begin_compensation";
        let lease =
            scripts::LEASE.on(keys::COMPENSATOR.to_owned(), vec![holder.to_owned(), ttl_ms.to_string()]);
        typed(ACTION, self.redis.batch_that_frees(ACTION, vec![lease]).await?.swap_remove(0))
    }

    /// Ends the run.
    pub async fn end_compensation(&self, holder: &str) -> Result<(), ServerError> {
        let release =
            scripts::RELEASE.on(keys::COMPENSATOR.to_owned(), vec![holder.to_owned(), "0".to_owned()]);
        self.redis.batch_that_frees("cache.end_compensation", vec![release]).await.map(drop)
    }

    /// How many messages are unconfirmed, in all.
    pub async fn pending_count(&self) -> Result<u64, ServerError> {
        let counts =
            (0..self.partitions.get()).map(|partition| step!("ZCARD", keys::pending(partition))).collect();
        let counts = self.redis.batch_that_frees("cache.pending_count", counts).await?;
        counts.into_iter().try_fold(0, |sum, count| Ok(sum + typed::<u64>("cache.pending_count", count)?))
    }

    /// The oldest `limit` entries of a partition whose time is `until` or before.
    pub async fn pending_until(
        &self,
        partition: u16,
        until: TimestampMs,
        limit: usize,
    ) -> Result<Vec<Pending>, ServerError> {
        let range =
            step!("ZRANGEBYSCORE", keys::pending(partition), "-inf", until, "WITHSCORES", "LIMIT", 0, limit);
        let due = self.redis.batch_that_frees("cache.pending_until", vec![range]).await?.swap_remove(0);
        let due: Vec<(i64, f64)> = typed("cache.pending_until", due)?;
        let due =
            due.into_iter().filter_map(|(id, score)| Some(Pending { id: MessageId::new(id).ok()?, score }));
        Ok(due.collect())
    }

    /// When each of these messages was last sent again, if it was: ms since 1970 UTC.
    pub async fn resent_at(&self, ids: &[MessageId]) -> Result<Vec<Option<TimestampMs>>, ServerError> {
        let gets: Vec<Step> = ids.iter().map(|&id| step!("GET", keys::resent(id))).collect();
        let times = self.redis.batch_that_frees("cache.resent_at", gets).await?;
        times.into_iter().map(|time| typed("cache.resent_at", time)).collect()
    }

    /// Notes that a message is sent again now: before it is, so that a run that dies sends none twice.
    pub async fn note_resent(&self, id: MessageId, now: TimestampMs) -> Result<(), ServerError> {
        let note = scripts::NOTE_RESENT.on(keys::resent(id), vec![now.to_string()]);
        self.redis.batch_that_frees("cache.note_resent", vec![note]).await.map(drop)
    }

    /// The message was not sent again after all: it may be at the next run.
    pub async fn forget_resent(&self, id: MessageId) -> Result<(), ServerError> {
        let steps = self.forget_resent_steps(&[id]);
        self.redis.batch_that_frees("cache.forget_resent", steps).await.map(drop)
    }

    /// What was noted, by partition. What is not of this form was not noted by us and is left out.
    pub async fn seen_ends(&self) -> Result<HashMap<u16, SeenEnd>, ServerError> {
        let noted: HashMap<String, String> =
            self.redis.run("cache.seen_ends", step!("HGETALL", keys::PASSED)).await?;
        let read = |(partition, seen): (String, String)| {
            let (end, at) = seen.split_once(' ')?;
            Some((partition.parse().ok()?, SeenEnd { end: end.parse().ok()?, at: at.parse().ok()? }))
        };
        Ok(noted.into_iter().filter_map(read).collect())
    }

    /// Notes what is seen of a partition now, in place of what was noted before.
    pub async fn note_seen_end(&self, partition: u16, seen: SeenEnd) -> Result<(), ServerError> {
        let note = step!("HSET", keys::PASSED, partition, format!("{} {}", seen.end, seen.at));
        self.redis.run::<i64>("cache.note_seen_end", note).await.map(drop)
    }
}
