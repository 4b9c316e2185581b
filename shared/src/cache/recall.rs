//! Recalls: decided on the detail, and confirmed once MySQL has them (`docs/protocol.md`, R1, R7 to R10).

use super::connection::{typed, unexpected_answer};
use super::index::{self, off_pages_steps, take_off_steps};
use super::settle::Pending;
use super::step::{Step, step};
use super::{Cache, keys, scripts};
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::event::Recall;
use crate::id::{MessageId, UserId};

/// The TTL of the recall flag `msg:cancel:{id}`: 10 minutes, twice the recall window (`docs/contract.md`, "Keys").
const CANCEL_FLAG_MS: u64 = 10 * 60 * 1_000;

/// The outcome of [`Cache::mark_recalled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecallMark {
    /// There was no detail. A stub now keeps the content from coming back.
    Missing,
    /// The message was recalled before, at this time.
    Already(TimestampMs),
    /// The message is recalled now.
    Recalled,
}

impl Cache {
    /// Decides a recall. The first round trip sets the flag, writes the pending entry and changes the detail; the
    /// second takes the id off the pages and the receiver's unread sets. Safe to repeat.
    ///
    /// The pending entry is written right before the change of the detail. The compensator works from these entries, so
    /// if this process dies, no changed detail is left that nobody completes. An entry without a change is settled like
    /// that of any other message.
    #[tracing::instrument(name = "cache.mark_recalled", skip_all, fields(message_id = %recall.message_id))]
    pub async fn mark_recalled(&self, recall: &Recall, receiver: UserId) -> Result<RecallMark, ServerError> {
        const ACTION: &str = "cache.mark_recalled";
        let id = recall.message_id;
        let entry = Pending::recalled(recall);
        let first = vec![
            step!("SET", keys::cancel(id), recall.recall_time, "PX", CANCEL_FLAG_MS),
            step!("ZADD", self.shard(recall.conversation_id), entry.score, id.get()),
            mark_recalled_step(recall),
        ];
        let mut rest = vec![
            step!("SREM", keys::unread(receiver), id.get()),
            step!("ZREM", keys::unread_pending(receiver), index::member(id)),
        ];
        rest.extend(off_pages_steps(recall.conversation_id, id));
        let mut values = self.on_details(ACTION, first, &[(2, id)]).await?;
        self.redis.batch(ACTION, rest).await?;
        recall_mark(values.swap_remove(2))
    }

    /// Finishes recalls that MySQL has. Marks the details as well, since Redis may have been away when the recalls were
    /// decided; lets the details expire; takes the messages off every index and the pending set.
    #[tracing::instrument(name = "cache.confirm_recalled", skip_all, fields(messages = recalls.len()))]
    pub async fn confirm_recalled(&self, recalls: &[Recall]) -> Result<(), ServerError> {
        const ACTION: &str = "cache.confirm_recalled";
        let marks = recalls.iter().map(mark_recalled_step).collect();
        let scripts: Vec<_> = recalls.iter().map(|recall| recall.message_id).enumerate().collect();
        let confirms = recalls.iter().flat_map(|recall| {
            let id = recall.message_id;
            let confirm = scripts::CONFIRM_RECALLED.on(keys::detail(id), vec![self.expiry_ms.to_string()]);
            [confirm].into_iter().chain(take_off_steps(recall.conversation_id, id))
        });
        self.on_details(ACTION, marks, &scripts).await?;
        self.redis.batch_that_frees(ACTION, confirms.collect()).await?;
        self.remove_pending(recalls.iter().map(|recall| (recall.conversation_id, recall.message_id))).await
    }

    /// Removes the stub that a recall with the wrong conversation left under this id.
    pub async fn drop_stub(&self, id: MessageId) -> Result<(), ServerError> {
        self.redis.run::<i64>("cache.drop_stub", step!("DEL", keys::detail(id))).await.map(drop)
    }
}

fn mark_recalled_step(recall: &Recall) -> Step {
    let stub = format!(
        r#"{{"status":0,"persistStatus":"PENDING","recallTime":{},"id":{},"conversationId":"{}","content":""}}"#,
        recall.recall_time, recall.message_id, recall.conversation_id
    );
    scripts::MARK_RECALLED.on(keys::detail(recall.message_id), vec![recall.recall_time.to_string(), stub])
}

fn recall_mark(value: redis::Value) -> Result<RecallMark, ServerError> {
    let answer: Vec<String> = typed("cache.mark_recalled", value)?;
    match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["missing"] => Ok(RecallMark::Missing),
        ["recalled", _] => Ok(RecallMark::Recalled),
        ["already", time] => Ok(RecallMark::Already(time.parse().unwrap_or_default())),
        _ => Err(unexpected_answer("cache.mark_recalled", &answer)),
    }
}
