//! Clearings: a user hides every message of a conversation up to an id, by one position in the conversation's row.

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::Store;
use super::conversation::{self, place};
use super::pool::scoped;
use super::unread::uncount_up_to;
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};

/// How far a user has cleared a conversation. The greater one hides more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cleared(i64);

impl Cleared {
    /// Hides every message up to and including this one.
    pub fn up_to(message: MessageId) -> Self {
        Self(message.get())
    }

    /// True if the message is hidden.
    pub fn hides(self, message: MessageId) -> bool {
        message.get() <= self.0
    }

    /// The last message that is hidden; `None` if the conversation was never cleared.
    pub fn last(self) -> Option<MessageId> {
        MessageId::new(self.0).ok()
    }
}

impl Store {
    /// Hides every message of `conversation` up to and including `up_to` from `user`, one of its two users, for good.
    /// The position never moves back. The messages hidden are not unread any more.
    #[tracing::instrument(name = "store.clear_for", skip_all, fields(user_id = %user, conversation_id = %conversation))]
    pub async fn clear_for(
        &self,
        user: UserId,
        conversation: ConversationId,
        up_to: MessageId,
    ) -> Result<(), ServerError> {
        self.writer
            .run("store.clear_for", self.timeout, |connection| {
                scoped(async move { clear(connection, user, conversation, up_to.get()).await })
            })
            .await
    }

    /// How far the user has cleared the conversation, as the writer has it.
    #[tracing::instrument(name = "store.cleared", skip_all, fields(user_id = %user, conversation_id = %conversation))]
    pub async fn cleared(&self, user: UserId, conversation: ConversationId) -> Result<Cleared, ServerError> {
        let sql = &format!(
            "/* store.cleared */ SELECT {} FROM conversation WHERE conv_id = ?",
            ["clear_low", "clear_high"][place(conversation, user)]
        );
        let conversation = &conversation.to_string();
        self.writer
            .run("store.cleared", self.timeout, |connection| {
                scoped(async move {
                    let position: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql.clone()))
                        .bind(conversation.as_str())
                        .fetch_optional(connection)
                        .await?;
                    Ok(Cleared(position.unwrap_or_default()))
                })
            })
            .await
    }
}

async fn clear(
    connection: &mut MySqlConnection,
    user: UserId,
    id: ConversationId,
    up_to: i64,
) -> Result<(), sqlx::Error> {
    let (mut transaction, mut conversations) = conversation::begin(connection, [id]).await?;
    let conversation = conversations.get_mut(id)?;
    if up_to <= conversation.reader(user).cleared {
        return transaction.rollback().await;
    }
    uncount_up_to(&mut transaction, conversation, id, user, up_to).await?;
    let seq = conversation.next_seq();
    let reader = conversation.reader_mut(user);
    (reader.cleared, reader.cleared_seq) = (up_to, Some(seq));
    conversations.save(&mut transaction).await?;
    transaction.commit().await
}
