//! The consumer's work in Redis around its write to MySQL: the three checks for a recall, the lock, and the healing
//! (`docs/protocol.md`, R11, R12, R18).

use super::connection::{typed, unexpected_answer};
use super::detail::RECALLED_HEAD;
use super::index::take_off_steps;
use super::step::{Step, step};
use super::{Cache, index, keys, scripts};
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::id::{MessageId, UserId};
use crate::message::Message;

/// The TTL of the consumer's lock on a message: 10 s (`docs/contract.md`, "Keys").
const LOCK_MS: u64 = 10_000;

/// The result of a check before the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The message may be written.
    Clear {
        /// True if Redis has the message, so that pages could show it before it is a row.
        was_shown: bool,
        /// True if Redis has the message as unread. If its id lies below the read position, the receiver read past that
        /// id before Redis had the message.
        is_unread: bool,
    },
    /// The detail is recalled: the message must not be written.
    Recalled,
    /// The recall flag is set, but the detail is not recalled: the recall is under way, or its process died. The sender
    /// wants the message back, so the consumer completes the recall with this time.
    RecallUnderway(TimestampMs),
    /// The consumer is working on another record of the same message. This record is not done and comes again.
    Taken,
}

/// The result of the third check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersistMark {
    /// There is no detail. The message may also be missing in the recent list and the unread sets.
    Missing,
    /// The message was recalled at this time, after the second check: its row must be undone.
    Recalled(TimestampMs),
    /// The detail says PERSISTED now.
    Done,
}

impl Cache {
    /// The first check, at the start of a batch: which of these messages are recalled? One round trip.
    #[tracing::instrument(name = "cache.check", skip_all, fields(messages = ids.len()))]
    pub async fn check(&self, ids: &[MessageId]) -> Result<Vec<Check>, ServerError> {
        let steps = ids.iter().flat_map(|&id| check_steps(id)).collect();
        let values = self.redis.batch_that_frees("cache.check", steps).await?;
        values.chunks_exact(2).map(|pair| check(&pair[0], &pair[1])).collect()
    }

    /// The second check, right before the write, together with the lock. `records` has each message, its receiver, and
    /// its record (`topic/partition/offset`), which holds the lock. One round trip.
    #[tracing::instrument(name = "cache.lock_and_check", skip_all, fields(messages = records.len()))]
    pub async fn lock_and_check(
        &self,
        records: &[(MessageId, UserId, String)],
    ) -> Result<Vec<Check>, ServerError> {
        const ACTION: &str = "cache.lock_and_check";
        let steps = records.iter().flat_map(|(id, receiver, holder)| {
            let lock = scripts::LOCK.on(keys::lock(*id), vec![holder.clone(), LOCK_MS.to_string()]);
            let unread = step!("ZSCORE", keys::unread_pending(*receiver), index::member(*id));
            [lock, unread].into_iter().chain(check_steps(*id))
        });
        let values = self.redis.batch_that_frees(ACTION, steps.collect()).await?;
        values
            .chunks_exact(4)
            .map(|answers| match check(&answers[2], &answers[3])? {
                Check::Clear { was_shown, .. } => {
                    let is_locked: bool = typed(ACTION, answers[0].clone())?;
                    let is_unread = answers[1] != redis::Value::Nil;
                    Ok(if is_locked { Check::Clear { was_shown, is_unread } } else { Check::Taken })
                }
                found => Ok(found),
            })
            .collect()
    }

    /// The third check, after the write: marks the details PERSISTED, heals the recent lists, removes the locks. One round trip,
    /// and another one if a list lacks an id.
    ///
    /// A lock is removed even if another record holds it by now: MySQL has the row, so the lock has no work left to save.
    #[tracing::instrument(name = "cache.mark_persisted", skip_all, fields(messages = written.len()))]
    pub async fn mark_persisted(&self, written: &[&Message]) -> Result<Vec<PersistMark>, ServerError> {
        const ACTION: &str = "cache.mark_persisted";
        let mut steps: Vec<Step> = Vec::with_capacity(2 * written.len() + 1);
        for message in written {
            let seq = message.seq.map(|seq| seq.to_string()).unwrap_or_default();
            let arguments = vec![self.expiry_ms.to_string(), seq];
            steps.push(scripts::MARK_PERSISTED.on(keys::detail(message.id), arguments));
            steps.push(index::place_step(message.conversation(), message.id));
        }
        steps.extend(self.unlink_steps(written.iter().map(|message| keys::lock(message.id)).collect()));
        let scripts: Vec<_> =
            written.iter().enumerate().map(|(index, message)| (2 * index, message.id)).collect();

        let mut answers = self.on_details(ACTION, steps, &scripts).await?;
        answers.truncate(2 * written.len());
        let lacking =
            written.iter().zip(answers.chunks_exact(2)).filter(|(_, pair)| pair[1] == redis::Value::Nil);
        let heal = lacking.map(|(message, _)| self.insert_step(message.conversation(), message.id, "heal"));
        self.redis.batch_that_frees(ACTION, heal.collect()).await?;
        answers.into_iter().step_by(2).map(persist_mark).collect()
    }

    /// Gives back the locks of records that were not written.
    pub async fn unlock(&self, records: &[(MessageId, String)]) -> Result<(), ServerError> {
        let steps = records
            .iter()
            .map(|(id, holder)| scripts::UNLOCK.on(keys::lock(*id), vec![holder.clone()]))
            .collect();
        self.redis.batch_that_frees("cache.unlock", steps).await.map(drop)
    }

    /// Takes a double out of Redis: a retry that was accepted under a second id and will never be a row.
    pub async fn forget(&self, message: &Message) -> Result<(), ServerError> {
        let mut steps = take_off_steps(message.conversation(), message.id);
        steps.push(step!("DEL", keys::detail(message.id)));
        self.redis.batch_that_frees("cache.forget", steps).await?;
        self.remove_pending([(message.conversation(), message.id)]).await
    }
}

fn check_steps(id: MessageId) -> [Step; 2] {
    [step!("GET", keys::cancel(id)), step!("GETRANGE", keys::detail(id), 0, RECALLED_HEAD.len() - 1)]
}

fn check(flag: &redis::Value, head: &redis::Value) -> Result<Check, ServerError> {
    let flag: Option<String> = typed("cache.check", flag.clone())?;
    let head: String = typed("cache.check", head.clone())?;
    if head == RECALLED_HEAD {
        return Ok(Check::Recalled);
    }
    // A flag without a time was set by hand or by another service. It counts, as a recall at the earliest time.
    let clear = Check::Clear { was_shown: !head.is_empty(), is_unread: false };
    Ok(flag.map_or(clear, |time| Check::RecallUnderway(time.parse().unwrap_or_default())))
}

fn persist_mark(value: redis::Value) -> Result<PersistMark, ServerError> {
    let answer: Vec<String> = typed("cache.mark_persisted", value)?;
    match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["missing"] => Ok(PersistMark::Missing),
        ["done"] => Ok(PersistMark::Done),
        ["recalled", time] => Ok(PersistMark::Recalled(time.parse().unwrap_or_default())),
        _ => Err(unexpected_answer("cache.mark_persisted", &answer)),
    }
}
