//! `msg:conv:{convId}`: the recent message ids of a conversation, newest first: a gapless newest part of it, or nothing
//! (`protocol.md`, "Reads").

use super::memory::Read;
use super::{Cache, keys, scripts, step};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId};

/// How long a list lives that was refilled and not yet checked: should the one who checks die, it goes by itself.
const UNCHECKED_MS: u64 = 10_000;

impl Cache {
    /// The newest `limit` ids that Redis has of this conversation, newest first; empty when it has none. Lists that
    /// another memory of Redis left behind are dropped first.
    #[tracing::instrument(name = "cache.recent", skip_all)]
    pub async fn recent(
        &self,
        conversation: ConversationId,
        limit: usize,
    ) -> Result<Vec<MessageId>, ServerError> {
        let last = i64::try_from(limit).unwrap_or(i64::MAX) - 1;
        let range = Read::new("LRANGE", keys::conversation(conversation)).arg(0).arg(last);
        let ids: Vec<i64> = self.untorn_one("cache.recent", range).await?;
        Ok(ids.into_iter().filter_map(|id| MessageId::new(id).ok()).collect())
    }

    /// Appends ids read from MySQL, newest first and all older than `last`, the last id that the list had then (`None`:
    /// there was no list). The list then
    /// lives for 10 s, until [`Self::keep_conversation`]. False if the list has changed at its end meanwhile: nothing is done.
    pub async fn append(
        &self,
        conversation: ConversationId,
        last: Option<MessageId>,
        ids: &[MessageId],
    ) -> Result<bool, ServerError> {
        let mut arguments = vec![
            last.map(|id| id.to_string()).unwrap_or_default(),
            self.conversation_size.to_string(),
            UNCHECKED_MS.to_string(),
        ];
        arguments.extend(ids.iter().map(ToString::to_string));
        let append = scripts::CONVERSATION_APPEND.on(keys::conversation(conversation), arguments);
        self.redis.run("cache.append", append).await
    }

    /// What was appended is gapless: the list may live its full time.
    pub async fn keep_conversation(&self, conversation: ConversationId) -> Result<(), ServerError> {
        let keep = step!("PEXPIRE", keys::conversation(conversation), self.expiry_ms);
        self.redis.run::<i64>("cache.keep_conversation", keep).await.map(drop)
    }

    /// Drops the list: what is not known to be gapless must not be.
    pub async fn drop_conversation(&self, conversation: ConversationId) -> Result<(), ServerError> {
        self.redis.run("cache.drop_conversation", step!("UNLINK", keys::conversation(conversation))).await
    }

    /// The most ids that a list keeps.
    pub fn conversation_size(&self) -> usize {
        self.conversation_size
    }
}
