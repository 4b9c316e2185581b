//! How far a user has read, and what is unread from it: received, above the position, neither recalled nor hidden.

use std::collections::HashSet;

use sqlx::{Connection as _, MySql, MySqlConnection, QueryBuilder};

use super::Store;
use super::pool::scoped;
use super::row::{LONGEST_LIST, filled, message_id, message_ids, push_ids};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};

/// How many conversations one statement looks into.
const CONVERSATIONS: usize = 50;

/// A conversation in which something may be unread.
struct Inbox {
    conversation: String,
    /// The user's position; 0 without one.
    above: i64,
    /// The newest message that the user received.
    newest: i64,
}

impl Store {
    /// Moves a user's read position in a conversation forward to `up_to`; it never goes back. Answers the position
    /// before, `None` without one. A call that is repeated because its answer was lost finds the new position.
    #[tracing::instrument(name = "store.advance_read_position", skip_all, fields(user_id = %user, conversation_id = %conversation))]
    pub async fn advance_read_position(
        &self,
        user: UserId,
        conversation: ConversationId,
        up_to: MessageId,
    ) -> Result<Option<MessageId>, ServerError> {
        let conversation = &conversation.to_string();
        self.writer
            .run("store.advance_read_position", self.timeout, |connection| scoped(async move {
                let mut transaction = connection.begin().await?;
                let before = sqlx::query_scalar(
                    "/* store.advance_read_position: before */ SELECT up_to FROM read_position \
                     WHERE user_id = ? AND conv_id = ? FOR UPDATE",
                )
                .bind(user.get())
                .bind(conversation.as_str())
                .fetch_optional(&mut *transaction)
                .await?
                .map(message_id)
                .transpose()?;
                if before.is_none_or(|before| before < up_to) {
                    // Two at the same time may both find none: GREATEST keeps the later one.
                    sqlx::query(
                        "/* store.advance_read_position */ INSERT INTO read_position (user_id, conv_id, up_to) \
                         VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE up_to = GREATEST(up_to, ?)",
                    )
                    .bind(user.get())
                    .bind(conversation.as_str())
                    .bind(up_to.get())
                    .bind(up_to.get())
                    .execute(&mut *transaction)
                    .await?;
                }
                transaction.commit().await?;
                Ok(before)
            }))
            .await
    }

    /// How far the user has read the conversation; `None` when they never said.
    #[tracing::instrument(name = "store.read_position", skip_all, fields(user_id = %user, conversation_id = %conversation))]
    pub async fn read_position(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<Option<MessageId>, ServerError> {
        let conversation = &conversation.to_string();
        self.writer
            .run("store.read_position", self.timeout, |connection| {
                scoped(async move { position_of(connection, user, conversation).await })
            })
            .await
    }

    /// The ids that the user received in the conversation above `above` (from the start without it) and up to `up_to`,
    /// newest first, recalled and hidden ones included.
    #[tracing::instrument(name = "store.received_between", skip_all, fields(user_id = %user, conversation_id = %conversation))]
    pub async fn received_between(
        &self,
        user: UserId,
        conversation: ConversationId,
        above: Option<MessageId>,
        up_to: MessageId,
    ) -> Result<Vec<MessageId>, ServerError> {
        let conversation = &conversation.to_string();
        let above = above.map_or(0, MessageId::get);
        self.writer
            .run("store.received_between", self.timeout, |connection| {
                scoped(async move {
                    let ids = sqlx::query_scalar(
                        "/* store.received_between */ SELECT id FROM message FORCE INDEX (idx_inbox) \
                     WHERE to_id = ? AND conv_id = ? AND id > ? AND id <= ? ORDER BY id DESC",
                    )
                    .bind(user.get())
                    .bind(conversation.as_str())
                    .bind(above)
                    .bind(up_to.get())
                    .fetch_all(connection)
                    .await?;
                    message_ids(ids)
                })
            })
            .await
    }

    /// The newest `limit` unread messages of a user in all conversations, newest first. Its cost grows with the number
    /// of the user's conversations and of what is unread, not with what was ever received.
    #[tracing::instrument(name = "store.unread", skip_all, fields(user_id = %user, limit))]
    pub async fn unread(&self, user: UserId, limit: u32) -> Result<Vec<MessageId>, ServerError> {
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        self.writer
            .run("store.unread", self.timeout, |connection| {
                scoped(async move {
                    let mut unread: Vec<i64> = Vec::new();
                    for inboxes in inboxes_of(connection, user).await?.chunks(CONVERSATIONS) {
                        // They come newest first: behind this one there may be nothing that is new enough.
                        let newest = inboxes.first().map_or(0, |inbox| inbox.newest);
                        if unread.len() >= wanted && unread.last().is_none_or(|&oldest| newest < oldest) {
                            break;
                        }
                        unread.extend(unread_in(connection, user, inboxes, limit).await?);
                        unread.sort_unstable_by(|a, b| b.cmp(a));
                        unread.truncate(wanted);
                    }
                    message_ids(unread)
                })
            })
            .await
    }

    /// Which of these messages their receivers have not read: rows that are neither recalled, nor hidden by the receiver,
    /// nor at or below the receiver's read position.
    #[tracing::instrument(name = "store.unread_among", skip_all, fields(messages = ids.len()))]
    pub async fn unread_among(&self, ids: &[MessageId]) -> Result<HashSet<MessageId>, ServerError> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        self.writer
            .run("store.unread_among", self.timeout, |connection| {
                scoped(async move {
                    let mut unread = HashSet::with_capacity(ids.len());
                    for ids in ids.chunks(LONGEST_LIST) {
                        let mut query = QueryBuilder::<MySql>::new(
                            "/* store.unread_among */ SELECT m.id FROM message AS m FORCE INDEX (uk_message_id) \
                             LEFT JOIN read_position AS p ON p.user_id = m.to_id AND p.conv_id = m.conv_id \
                             LEFT JOIN message_delete AS d ON d.user_id = m.to_id AND d.message_id = m.id \
                             WHERE m.status = 1 AND (p.up_to IS NULL OR p.up_to < m.id) AND d.message_id IS NULL AND m.id IN ",
                        );
                        push_ids(&mut query, ids);
                        let found = query.build_query_scalar().fetch_all(&mut *connection).await?;
                        unread.extend(message_ids(found)?);
                    }
                    Ok(unread)
                })
            })
            .await
    }
}

async fn position_of(
    connection: &mut MySqlConnection,
    user: UserId,
    conversation: &str,
) -> Result<Option<MessageId>, sqlx::Error> {
    sqlx::query_scalar(
        "/* store.read_position */ SELECT up_to FROM read_position WHERE user_id = ? AND conv_id = ?",
    )
    .bind(user.get())
    .bind(conversation)
    .fetch_optional(connection)
    .await?
    .map(message_id)
    .transpose()
}

/// The conversations in which the user received something above their position, the newest first.
async fn inboxes_of(connection: &mut MySqlConnection, user: UserId) -> Result<Vec<Inbox>, sqlx::Error> {
    // The inner query reads one entry of idx_inbox a conversation (a "loose" scan), however long the conversation is. Both
    // servers do so only if GROUP BY begins as the index does, though to_id is a constant: without it they read all.
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "/* store.unread: conversations */ SELECT c.conv_id, COALESCE(p.up_to, 0), c.newest FROM \
         (SELECT conv_id, MAX(id) AS newest FROM message FORCE INDEX (idx_inbox) WHERE to_id = ? GROUP BY to_id, conv_id) AS c \
         LEFT JOIN read_position AS p ON p.user_id = ? AND p.conv_id = c.conv_id \
         WHERE p.up_to IS NULL OR p.up_to < c.newest ORDER BY c.newest DESC",
    )
    .bind(user.get())
    .bind(user.get())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(conversation, above, newest)| Inbox { conversation, above, newest }).collect())
}

/// The newest `limit` unread ids of these conversations: one range of idx_inbox each.
async fn unread_in(
    connection: &mut MySqlConnection,
    user: UserId,
    inboxes: &[Inbox],
    limit: u32,
) -> Result<Vec<i64>, sqlx::Error> {
    let mut query = QueryBuilder::<MySql>::new(
        "/* store.unread */ SELECT m.id FROM message AS m FORCE INDEX (idx_inbox) \
         LEFT JOIN message_delete AS d ON d.user_id = m.to_id AND d.message_id = m.id WHERE m.to_id = ",
    );
    query.push_bind(user.get()).push(" AND (");
    let mut ranges = query.separated(" OR ");
    for inbox in filled(inboxes) {
        ranges
            .push("(m.conv_id = ")
            .push_bind_unseparated(inbox.conversation.as_str())
            .push_unseparated(" AND m.id > ")
            .push_bind_unseparated(inbox.above)
            .push_unseparated(")");
    }
    query.push(") AND m.status = 1 AND d.message_id IS NULL ORDER BY m.id DESC LIMIT ").push_bind(limit);
    query.build_query_scalar().fetch_all(connection).await
}
