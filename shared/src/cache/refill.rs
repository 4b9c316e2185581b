//! Refilling Redis from MySQL: ids of a conversation's list, and details (`docs/protocol.md`, R9, R18).

use super::connection::unless_full;
use super::detail::to_json;
use super::epoch::Epoch;
use super::page::Recent;
use super::step::{Step, step};
use super::{Cache, keys, scripts};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId};
use crate::message::Message;

/// The TTL of a list that was refilled and is not checked yet. If the process that must check it dies, the list
/// vanishes by itself.
const UNCHECKED_MS: u64 = 10_000;

impl Cache {
    /// Puts missing details of rows back. An existing detail stays, above all a recalled one.
    pub async fn restore<'a>(
        &self,
        messages: impl IntoIterator<Item = &'a Message>,
    ) -> Result<(), ServerError> {
        let sets = messages
            .into_iter()
            .map(|message| {
                Ok(step!("SET", keys::detail(message.id), to_json(message)?, "NX", "PX", self.expiry_ms))
            })
            .collect::<Result<Vec<_>, ServerError>>()?;
        unless_full(self.redis.batch("cache.restore", sets).await)
    }

    /// Appends `ids` from MySQL, newest first, to the list. All are older than `last`, the list's last id when MySQL
    /// was asked (`None`: there was no list). The list then lives for 10 s, until [`Self::mark_gapless`]. False if the
    /// list's end has changed since; then nothing is done.
    pub async fn append_to_list(
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
        self.redis.run("cache.append_to_list", append).await
    }

    /// Replaces a list that is not believed, as it was `seen`, by `ids` from MySQL, newest first. The list then lives
    /// for 10 s, until [`Self::mark_gapless`]. False if the list has changed since it was seen; then nothing is done.
    pub async fn replace_list(
        &self,
        conversation: ConversationId,
        seen: &Recent,
        ids: &[MessageId],
    ) -> Result<bool, ServerError> {
        let head = seen.listed.first().map(ToString::to_string).unwrap_or_default();
        let mut arguments = vec![head, seen.length.to_string(), UNCHECKED_MS.to_string()];
        arguments.extend(ids.iter().take(self.conversation_size).map(ToString::to_string));
        let replace = scripts::CONVERSATION_REPLACE.on(keys::conversation(conversation), arguments);
        self.redis.run("cache.replace_list", replace).await
    }

    /// Marks the list as gapless down to `oldest` (`None`: the conversation has no rows), as the caller has checked
    /// after it read `epoch`. The list gets its full TTL, and is believed in that epoch as long as `oldest` is its last
    /// id.
    pub async fn mark_gapless(
        &self,
        conversation: ConversationId,
        oldest: Option<MessageId>,
        epoch: &Epoch,
    ) -> Result<(), ServerError> {
        let mark = format!("{} {}", epoch.name(), oldest.map(|id| id.to_string()).unwrap_or_default());
        let steps = vec![
            step!("PEXPIRE", keys::conversation(conversation), self.expiry_ms),
            step!("SET", keys::conversation_epoch(conversation), mark, "PX", self.expiry_ms),
        ];
        self.redis.batch("cache.mark_gapless", steps).await.map(drop)
    }

    /// Drops a list that may have a gap.
    pub async fn drop_list(&self, conversation: ConversationId) -> Result<(), ServerError> {
        let gone = [keys::conversation(conversation), keys::conversation_epoch(conversation)];
        let steps = gone.into_iter().map(|key| step!("UNLINK", key)).collect();
        self.redis.batch::<Step>("cache.drop_list", steps).await.map(drop)
    }
}
