//! `msg:pending:{partition}`: what MySQL has not confirmed, by time, for the compensator and for counting
//! (`docs/protocol.md`, R2, R17).

use std::collections::BTreeMap;

use super::step::{Step, step};
use super::{Cache, index, keys, scripts};
use crate::error::ServerError;
use crate::event::Recall;
use crate::id::{ConversationId, MessageId};
use crate::message::Message;

/// One entry of the pending set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pending {
    /// The message.
    pub id: MessageId,
    /// What it is ordered by: its send time in ms, or once it is recalled the time of that and a half. The half tells
    /// the two apart, so that settling the sending never settles a recall.
    pub score: f64,
}

impl Pending {
    /// The entry of a message as it was sent.
    pub fn sent(message: &Message) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "times in ms stay far below 2^53")]
        let score = message.send_time as f64;
        Self { id: message.id, score }
    }

    /// The entry of a message that is recalled.
    pub(super) fn recalled(recall: &Recall) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "times in ms stay far below 2^52")]
        let score = recall.recall_time as f64 + 0.5;
        Self { id: recall.message_id, score }
    }
}

impl Cache {
    /// Takes messages off all that is pending, since MySQL has them now. An entry of the compensator's set goes only if it
    /// is still the one given: a recall that was decided meanwhile has changed it, and waits for its own confirmation.
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

    /// Takes a message off the compensator's set that is a dead letter now, and leaves it to a person: it is no row, so
    /// pages go on showing it from Redis.
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

    /// Takes an entry off the shard of a partition, where nothing is left that would tell its conversation.
    pub async fn settle_in(&self, partition: u16, entry: Pending) -> Result<(), ServerError> {
        let arguments = vec![entry.id.to_string(), entry.score.to_string()];
        let mut steps = vec![scripts::SETTLE.on(keys::pending(partition), arguments)];
        steps.extend(self.forget_resent_steps(&[entry.id]));
        self.redis.batch_that_frees("cache.settle", steps).await.map(drop)
    }

    /// Takes messages off the pending set whatever their entries say: MySQL has their recall, or they are no messages.
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

    /// The commands that forget when these messages were sent again.
    pub(super) fn forget_resent_steps(&self, ids: &[MessageId]) -> Vec<Step> {
        self.unlink_steps(ids.iter().map(|&id| keys::resent(id)).collect())
    }

    /// The commands that remove these keys: one on a single server, one a key on a cluster.
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
