//! Delete for me: what a user has hidden from their own history.

use std::collections::HashSet;

use sqlx::{MySql, QueryBuilder};

use super::Store;
use super::pool::scoped;
use super::row::{LONGEST_LIST, message_ids, push_ids};
use crate::error::ServerError;
use crate::id::{MessageId, UserId};

impl Store {
    /// Hides a message from a user, for good. Safe to repeat; the message need not be a row yet.
    #[tracing::instrument(name = "store.delete_for", skip_all, fields(user_id = %user, message_id = %message))]
    pub async fn delete_for(&self, user: UserId, message: MessageId) -> Result<(), ServerError> {
        self.writer
            .run("store.delete_for", self.timeout, |connection| {
                scoped(async move {
                    sqlx::query(
                    "/* store.delete_for */ INSERT INTO message_delete (user_id, message_id) VALUES (?, ?) \
                     ON DUPLICATE KEY UPDATE message_id = message_id",
                )
                .bind(user.get())
                .bind(message.get())
                .execute(connection)
                .await
                .map(drop)
                })
            })
            .await
    }

    /// Which of these messages the user has hidden.
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
