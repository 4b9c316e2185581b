//! Deletions: the messages that a user has hidden from their own history.

use std::collections::HashSet;

use sqlx::{MySql, MySqlConnection, QueryBuilder, Row as _};

use super::Store;
use super::conversation::{self, hidden_bit, uncount};
use super::pool::scoped;
use super::row::{LONGEST_LIST, message_ids, push_ids};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};

impl Store {
    /// Hides a message of `conversation` from `user`, one of its two users, for good. Safe to repeat. The message need
    /// not be a row yet.
    #[tracing::instrument(name = "store.delete_for", skip_all, fields(user_id = %user, message_id = %message))]
    pub async fn delete_for(
        &self,
        user: UserId,
        conversation: ConversationId,
        message: MessageId,
    ) -> Result<(), ServerError> {
        self.writer
            .run("store.delete_for", self.timeout, |connection| {
                scoped(async move { delete(connection, user, conversation, message).await })
            })
            .await
    }

    /// The messages among `ids` that the user has hidden.
    #[tracing::instrument(name = "store.deleted_among", skip_all, fields(user_id = %user, ids = ids.len()))]
    pub async fn deleted_among(
        &self,
        user: UserId,
        ids: &[MessageId],
    ) -> Result<HashSet<MessageId>, ServerError> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        self.writer
            .run("store.deleted_among", self.timeout, |connection| scoped(async move {
                let mut deleted = HashSet::new();
                for ids in ids.chunks(LONGEST_LIST) {
                    let mut query = QueryBuilder::<MySql>::new(
                        "/* store.deleted_among */ SELECT message_id FROM message_delete WHERE user_id = ",
                    );
                    query.push_bind(user.get()).push(" AND message_id IN ");
                    push_ids(&mut query, ids);
                    let found = query.build_query_scalar().fetch_all(&mut *connection).await?;
                    deleted.extend(message_ids(found)?);
                }
                Ok(deleted)
            }))
            .await
    }

    /// The newest `limit` messages that the user has hidden, newest first.
    #[tracing::instrument(name = "store.deleted_by", skip_all, fields(user_id = %user, limit))]
    pub async fn deleted_by(&self, user: UserId, limit: u32) -> Result<Vec<MessageId>, ServerError> {
        self.writer
            .run("store.deleted_by", self.timeout, |connection| {
                scoped(async move {
                    let ids = sqlx::query_scalar(
                        "/* store.deleted_by */ SELECT message_id FROM message_delete WHERE user_id = ? \
                     ORDER BY message_id DESC LIMIT ?",
                    )
                    .bind(user.get())
                    .bind(limit)
                    .fetch_all(connection)
                    .await?;
                    message_ids(ids)
                })
            })
            .await
    }
}

async fn delete(
    connection: &mut MySqlConnection,
    user: UserId,
    id: ConversationId,
    message: MessageId,
) -> Result<(), sqlx::Error> {
    let (mut transaction, mut conversations) = conversation::begin(connection, [id]).await?;

    // Look for an earlier deletion: it keeps its number.
    let known: Option<i64> = sqlx::query_scalar(
        "/* store.delete_for: known */ SELECT message_id FROM message_delete WHERE user_id = ? AND message_id = ?",
    )
    .bind(user.get())
    .bind(message.get())
    .fetch_optional(&mut *transaction)
    .await?;
    if known.is_some() {
        return transaction.rollback().await;
    }

    // Write the deletion with its number.
    let conversation = conversations.get_mut(id)?;
    sqlx::query(
        "/* store.delete_for */ INSERT INTO message_delete (user_id, message_id, conv_id, seq) VALUES (?, ?, ?, ?)",
    )
    .bind(user.get())
    .bind(message.get())
    .bind(id.to_string())
    .bind(conversation.next_seq())
    .execute(&mut *transaction)
    .await?;

    // Hide the row, or count an early deletion for when it becomes one.
    let row = sqlx::query(
        "/* store.delete_for: row */ SELECT to_id, status FROM message WHERE conv_id = ? AND id = ?",
    )
    .bind(id.to_string())
    .bind(message.get())
    .fetch_optional(&mut *transaction)
    .await?;
    if let Some(row) = row {
        sqlx::query(
            "/* store.delete_for: hide */ UPDATE message SET hidden_for = hidden_for | ? WHERE conv_id = ? AND id = ?",
        )
        .bind(hidden_bit(id, user))
        .bind(id.to_string())
        .bind(message.get())
        .execute(&mut *transaction)
        .await?;
        let (to, status): (i64, u8) = (row.try_get("to_id")?, row.try_get("status")?);
        if to == user.get() && status == 1 {
            uncount(&mut transaction, conversation, user, message).await?;
        }
    } else {
        conversation.early_deletions += 1;
    }
    conversations.save(&mut transaction).await?;
    transaction.commit().await
}
