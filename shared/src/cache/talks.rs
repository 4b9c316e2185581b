//! The pending messages of a user and of conversations, for lists of conversations.

use super::connection::typed;
use super::step::step;
use super::{Cache, index, keys};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};

/// The most pending ids of a user in either direction that are read for the order of a list.
const MOST_OF_USER: i64 = 1_000;
/// The most pending ids of a conversation that are read for its state. A list says at most 1,000 unread.
const MOST_OF_CONVERSATION: usize = 1_000;

impl Cache {
    /// The newest 1,000 pending ids to the user and the newest 1,000 from the user, in no particular order. One round trip.
    #[tracing::instrument(name = "cache.pending_of_user", skip_all)]
    pub async fn pending_of_user(&self, user: UserId) -> Result<Vec<MessageId>, ServerError> {
        const ACTION: &str = "cache.pending_of_user";
        let newest = |key: String| step!("ZREVRANGE", key, 0, MOST_OF_USER - 1);
        let reads = vec![newest(keys::unread_pending(user)), newest(keys::sent_pending(user))];
        let mut ids = Vec::new();
        for answer in self.redis.batch(ACTION, reads).await? {
            ids.extend(index::ids(typed(ACTION, answer)?));
        }
        Ok(ids)
    }

    /// The newest 1,000 pending ids of each of these conversations, in the order of the conversations. One round trip.
    #[tracing::instrument(name = "cache.pending_of_conversations", skip_all)]
    pub async fn pending_of_conversations(
        &self,
        conversations: &[ConversationId],
    ) -> Result<Vec<Vec<MessageId>>, ServerError> {
        const ACTION: &str = "cache.pending_of_conversations";
        let newest = |&id: &ConversationId| index::range_step(id, None, None, true, MOST_OF_CONVERSATION);
        let answers = self.redis.batch(ACTION, conversations.iter().map(newest).collect()).await?;
        answers.into_iter().map(|answer| Ok(index::ids(typed(ACTION, answer)?))).collect()
    }
}
