//! The compensator's work in Redis: the lease of a run, the pending messages that are due, which of them were sent
//! again, and `msg:passed`, the end of each partition as an earlier run saw it
//! (`docs/decisions/0039-lost-by-offsets.md`).

use std::collections::HashMap;

use super::connection::typed;
use super::settle::Pending;
use super::step::{Step, step};
use super::{Cache, keys, scripts};
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::id::MessageId;

/// The end of a partition as one run of the compensator saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenEnd {
    /// The offset that the next record of the partition will get.
    pub end: i64,
    /// When the run saw it, ms since 1970 UTC.
    pub at: TimestampMs,
}

/// The messages and recalls that MySQL has not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// How many there are.
    pub messages: u64,
    /// The send time or recall time of the oldest, ms since 1970 UTC.
    pub oldest: Option<TimestampMs>,
}

impl Cache {
    /// Begins a run for `holder`. False if another run is under way. The run's lease ends by
    /// [`Self::end_compensation`], or by itself after `ttl_ms`.
    pub async fn begin_compensation(&self, holder: &str, ttl_ms: u64) -> Result<bool, ServerError> {
        const ACTION: &str = "cache.begin_compensation";
        let lease =
            scripts::LEASE.on(keys::COMPENSATOR.to_owned(), vec![holder.to_owned(), ttl_ms.to_string()]);
        typed(ACTION, self.redis.batch_that_frees(ACTION, vec![lease]).await?.swap_remove(0))
    }

    /// Ends the run's lease.
    pub async fn end_compensation(&self, holder: &str) -> Result<(), ServerError> {
        let release =
            scripts::RELEASE.on(keys::COMPENSATOR.to_owned(), vec![holder.to_owned(), "0".to_owned()]);
        self.redis.batch_that_frees("cache.end_compensation", vec![release]).await.map(drop)
    }

    /// How many messages and recalls MySQL has not confirmed, over all partitions.
    pub async fn pending_count(&self) -> Result<u64, ServerError> {
        Ok(self.backlog().await?.messages)
    }

    /// The messages and recalls that MySQL has not confirmed, over all partitions. One round trip.
    pub async fn backlog(&self) -> Result<Backlog, ServerError> {
        const ACTION: &str = "cache.backlog";
        let reads: Vec<Step> = (0..self.partitions.get())
            .flat_map(|partition| {
                let shard = keys::pending(partition);
                [step!("ZCARD", &shard), step!("ZRANGE", &shard, 0, 0, "WITHSCORES")]
            })
            .collect();
        let mut answers = self.redis.batch_that_frees(ACTION, reads).await?.into_iter();
        let mut backlog = Backlog { messages: 0, oldest: None };
        while let (Some(count), Some(first)) = (answers.next(), answers.next()) {
            backlog.messages += typed::<u64>(ACTION, count)?;
            let first: Vec<(i64, f64)> = typed(ACTION, first)?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a time in ms; the half of a recall is dropped"
            )]
            let oldest = first.first().map(|(_, score)| *score as TimestampMs);
            backlog.oldest = [backlog.oldest, oldest].into_iter().flatten().min();
        }
        Ok(backlog)
    }

    /// The oldest `limit` pending entries of a partition that are not newer than `until` (ms since 1970 UTC).
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

    /// When each of these messages was last sent again (ms since 1970 UTC), if ever.
    pub async fn resent_at(&self, ids: &[MessageId]) -> Result<Vec<Option<TimestampMs>>, ServerError> {
        let gets: Vec<Step> = ids.iter().map(|&id| step!("GET", keys::resent(id))).collect();
        let times = self.redis.batch_that_frees("cache.resent_at", gets).await?;
        times.into_iter().map(|time| typed("cache.resent_at", time)).collect()
    }

    /// Notes that a message is sent again now. Called before the send, so that a run that dies in between sends no
    /// message twice.
    pub async fn note_resent(&self, id: MessageId, now: TimestampMs) -> Result<(), ServerError> {
        let note = scripts::NOTE_RESENT.on(keys::resent(id), vec![now.to_string()]);
        self.redis.batch_that_frees("cache.note_resent", vec![note]).await.map(drop)
    }

    /// Withdraws [`Self::note_resent`]: the message was not sent, and the next run may send it.
    pub async fn forget_resent(&self, id: MessageId) -> Result<(), ServerError> {
        let steps = self.forget_resent_steps(&[id]);
        self.redis.batch_that_frees("cache.forget_resent", steps).await.map(drop)
    }

    /// The ends that earlier runs noted, by partition. A value of another form than ours is left out.
    pub async fn seen_ends(&self) -> Result<HashMap<u16, SeenEnd>, ServerError> {
        let noted: HashMap<String, String> =
            self.redis.run("cache.seen_ends", step!("HGETALL", keys::PASSED)).await?;
        let read = |(partition, seen): (String, String)| {
            let (end, at) = seen.split_once(' ')?;
            Some((partition.parse().ok()?, SeenEnd { end: end.parse().ok()?, at: at.parse().ok()? }))
        };
        Ok(noted.into_iter().filter_map(read).collect())
    }

    /// Notes the end of a partition, in place of the one that was noted before.
    pub async fn note_seen_end(&self, partition: u16, seen: SeenEnd) -> Result<(), ServerError> {
        let note = step!("HSET", keys::PASSED, partition, format!("{} {}", seen.end, seen.at));
        self.redis.run::<i64>("cache.note_seen_end", note).await.map(drop)
    }
}
