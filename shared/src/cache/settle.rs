//! Settling: taking messages off `msg:pending:{partition}` and the other pending indexes (`docs/protocol.md`, R2, R10,
//! R17).
//!
//! `msg:pending:{partition}` holds the sends and recalls that MySQL has not confirmed, by time. The compensator works
//! from it.

use std::collections::BTreeMap;

use super::step::{Step, step};
use super::{Cache, index, keys, scripts};
use crate::error::ServerError;
use crate::event::Recall;
use crate::id::{ConversationId, MessageId};
use crate::message::Message;

/// An entry of the pending set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pending {
    /// The message.
    pub id: MessageId,
    /// The send time in ms, or for a recall the recall time plus a half. The half tells the two apart, so that settling
    /// a send never settles a recall.
    pub score: f64,
}

impl Pending {
    /// The entry of a send.
    pub fn sent(message: &Message) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "times in ms stay far below 2^53")]
        let score = message.send_time as f64;
        Self { id: message.id, score }
    }

    /// The entry of a recall.
    pub(super) fn recalled(recall: &Recall) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "times in ms stay far below 2^52")]
        let score = recall.recall_time as f64 + 0.5;
        Self { id: recall.message_id, score }
    }
}

impl Cache {
    /// Settles messages that MySQL has: takes them off the pending set and the pending indexes. An entry leaves the
    /// pending set only if it is still the one given: a recall that was decided meanwhile has replaced it, and waits
    /// for its own confirmation.
    pub async fn settle(
        &self,
        entries: impl IntoIterator<Item = (ConversationId, Pending)>,
    ) -> Result<(), ServerError> {
        let entries = Vec::from_iter(entries);
        let mut steps = self.settle_steps(&entries);
        steps.extend(index::remove_steps(
            entries.iter().map(|(conversation, entry)| (*conversation, entry.id)),
        ));
        steps
            .extend(self.forget_resent_steps(&entries.iter().map(|(_, entry)| entry.id).collect::<Vec<_>>()));
        self.redis.batch_that_frees("cache.settle", steps).await.map(drop)
    }

    /// Takes a message off the pending set because it is a dead letter now, for a person to handle. The message stays
    /// in the other indexes: it is not a row, so pages show it from Redis.
    pub async fn settle_dead_letter(
        &self,
        conversation: ConversationId,
        entry: Pending,
    ) -> Result<(), ServerError> {
        self.redis
            .batch_that_frees("cache.settle_dead_letter", self.settle_steps(&[(conversation, entry)]))
            .await
            .map(drop)
    }

    fn settle_steps(&self, entries: &[(ConversationId, Pending)]) -> Vec<Step> {
        let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (conversation, entry) in entries {
            let shard = shards.entry(self.shard(*conversation)).or_default();
            shard.extend([entry.id.to_string(), entry.score.to_string()]);
        }
        shards.into_iter().map(|(shard, entries)| scripts::SETTLE.on(shard, entries)).collect()
    }

    /// Settles an entry of a partition whose message is in no store, so that its conversation is unknown.
    pub async fn settle_in(&self, partition: u16, entry: Pending) -> Result<(), ServerError> {
        let arguments = vec![entry.id.to_string(), entry.score.to_string()];
        let mut steps = vec![scripts::SETTLE.on(keys::pending(partition), arguments)];
        steps.extend(self.forget_resent_steps(&[entry.id]));
        self.redis.batch_that_frees("cache.settle", steps).await.map(drop)
    }

    /// Takes messages off the pending set whatever their entries say: MySQL has their recall, or they are doubles.
    pub(super) async fn remove_pending(
        &self,
        messages: impl IntoIterator<Item = (ConversationId, MessageId)>,
    ) -> Result<(), ServerError> {
        let messages = Vec::from_iter(messages);
        let ids: Vec<MessageId> = messages.iter().map(|(_, id)| *id).collect();
        let mut steps: Vec<Step> = messages
            .into_iter()
            .map(|(conversation, id)| step!("ZREM", self.shard(conversation), id.get()))
            .collect();
        steps.extend(self.forget_resent_steps(&ids));
        self.redis.batch_that_frees("cache.remove_pending", steps).await.map(drop)
    }

    /// The commands that forget when these messages were sent again. On a single server it is one command.
    pub(super) fn forget_resent_steps(&self, ids: &[MessageId]) -> Vec<Step> {
        self.unlink_steps(ids.iter().map(|&id| keys::resent(id)).collect())
    }

    /// The commands that remove these keys: one on a single server, one for each key in a cluster.
    pub(super) fn unlink_steps(&self, keys: Vec<String>) -> Vec<Step> {
        if self.redis.is_cluster() {
            keys.into_iter().map(|key| step!("UNLINK", key)).collect()
        } else if keys.is_empty() {
            Vec::new()
        } else {
            vec![step!("UNLINK", keys)]
        }
    }
}
