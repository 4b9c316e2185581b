//! Messages read by id, and history by cursor.

use sqlx::{AssertSqlSafe, MySql, QueryBuilder};

use super::Store;
use super::pool::scoped;
use super::row::{COLUMNS, LONGEST_LIST, message_ids, message_of, push_ids};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId};
use crate::message::Message;

/// Which way a page goes.
#[derive(Clone, Copy)]
enum Order {
    NewestFirst,
    OldestFirst,
}

impl Store {
    /// The message of this id, as the writer has it; `None` when there is no row.
    #[tracing::instrument(name = "store.message", skip_all, fields(message_id = %id))]
    pub async fn message(&self, id: MessageId) -> Result<Option<Message>, ServerError> {
        Ok(self.select("store.message", &[id]).await?.pop())
    }

    /// The messages of these ids that are rows, as the writer has them, in no particular order; each once.
    #[tracing::instrument(name = "store.messages", skip_all, fields(ids = ids.len()))]
    pub async fn messages(&self, ids: &[MessageId]) -> Result<Vec<Message>, ServerError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        self.select("store.messages", &ids).await
    }

    async fn select(&self, action: &'static str, ids: &[MessageId]) -> Result<Vec<Message>, ServerError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.writer
            .run(action, self.timeout, |connection| scoped(async move {
                let mut messages = Vec::with_capacity(ids.len());
                for ids in ids.chunks(LONGEST_LIST) {
                    let mut query = QueryBuilder::<MySql>::new(format!(
                        "/* store.messages */ SELECT {COLUMNS} FROM message FORCE INDEX (uk_message_id) WHERE id IN "
                    ));
                    push_ids(&mut query, ids);
                    for row in query.build().fetch_all(&mut *connection).await? {
                        messages.push(message_of(&row)?);
                    }
                }
                Ok(messages)
            }))
            .await
    }

    /// The newest `limit` messages of a conversation older than `before`, or the newest of all; newest first, recalled
    /// ones included. One range of the primary key.
    ///
    /// Read from the replica where there is one. It may lag: what a user has just sent is then in Redis, which holds
    /// the newest part of a conversation, and a row is shown only if its detail in Redis is not recalled.
    #[tracing::instrument(name = "store.page_before", skip_all, fields(conversation_id = %conversation, limit))]
    pub async fn page_before(
        &self,
        conversation: ConversationId,
        before: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<Message>, ServerError> {
        let up_to = before.map_or(i64::MAX, |id| id.get() - 1);
        self.page("store.page_before", conversation, (0, up_to), Order::NewestFirst, limit).await
    }

    /// The oldest `limit` messages of a conversation newer than `after`; oldest first, recalled ones included. One range
    /// of the primary key, of the replica where there is one, see [`Self::page_before`].
    #[tracing::instrument(name = "store.page_after", skip_all, fields(conversation_id = %conversation, limit))]
    pub async fn page_after(
        &self,
        conversation: ConversationId,
        after: MessageId,
        limit: u32,
    ) -> Result<Vec<Message>, ServerError> {
        let bounds = (after.get(), i64::MAX);
        self.page("store.page_after", conversation, bounds, Order::OldestFirst, limit).await
    }

    /// The messages above the first and up to the second bound.
    async fn page(
        &self,
        action: &'static str,
        conversation: ConversationId,
        (above, up_to): (i64, i64),
        order: Order,
        limit: u32,
    ) -> Result<Vec<Message>, ServerError> {
        let direction = match order {
            Order::NewestFirst => "DESC",
            Order::OldestFirst => "ASC",
        };
        // The index is forced: for a small LIMIT the server may prefer to walk all messages of everybody by their id.
        let sql = &format!(
            "/* {action} */ SELECT {COLUMNS} FROM message FORCE INDEX (PRIMARY) \
             WHERE conv_id = ? AND id > ? AND id <= ? ORDER BY id {direction} LIMIT ?"
        );
        let conversation = &conversation.to_string();
        self.read_replica(action, |connection| {
            scoped(async move {
                sqlx::query(AssertSqlSafe(sql.clone()))
                    .bind(conversation.as_str())
                    .bind(above)
                    .bind(up_to)
                    .bind(limit)
                    .try_map(|row| message_of(&row))
                    .fetch_all(connection)
                    .await
            })
        })
        .await
    }

    /// All ids of a conversation above `above` and, if given, below `below`, newest first, recalled ones included; as
    /// the writer has them.
    #[tracing::instrument(name = "store.ids_between", skip_all, fields(conversation_id = %conversation))]
    pub async fn ids_between(
        &self,
        conversation: ConversationId,
        above: MessageId,
        below: Option<MessageId>,
    ) -> Result<Vec<MessageId>, ServerError> {
        let conversation = &conversation.to_string();
        let up_to = below.map_or(i64::MAX, |id| id.get() - 1);
        self.writer
            .run("store.ids_between", self.timeout, |connection| {
                scoped(async move {
                    let ids = sqlx::query_scalar::<_, i64>(
                        "/* store.ids_between */ SELECT id FROM message FORCE INDEX (PRIMARY) \
                     WHERE conv_id = ? AND id > ? AND id <= ? ORDER BY id DESC",
                    )
                    .bind(conversation.as_str())
                    .bind(above.get())
                    .bind(up_to)
                    .fetch_all(connection)
                    .await?;
                    message_ids(ids)
                })
            })
            .await
    }
}
