//! Messages read by id, and history by cursor.

use std::time::Duration;

use sqlx::{AssertSqlSafe, MySql, QueryBuilder};

use super::Store;
use super::pool::{Pool, scoped};
use super::row::{COLUMNS, LONGEST_LIST, message_id, message_ids, message_of, push_ids, status_of};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId};
use crate::message::{Message, Status};

/// Which way a page goes.
#[derive(Clone, Copy)]
enum Order {
    NewestFirst,
    OldestFirst,
}

impl Order {
    fn sql(self) -> &'static str {
        match self {
            Self::NewestFirst => "DESC",
            Self::OldestFirst => "ASC",
        }
    }
}

/// The first `limit` messages of a range of one conversation.
pub(super) struct Page {
    action: &'static str,
    conversation: ConversationId,
    /// Ids greater than this.
    above: i64,
    /// Ids no greater than this.
    up_to: i64,
    order: Order,
    limit: u32,
}

impl Page {
    /// Reads the messages. One range of the primary key.
    pub(super) async fn read(&self, server: &Pool, limit: Duration) -> Result<Vec<Message>, ServerError> {
        // The index is forced: for a small LIMIT the server may prefer to walk all messages of everybody by their id.
        let sql = &format!(
            "/* {} */ SELECT {COLUMNS} FROM message FORCE INDEX (PRIMARY) \
             WHERE conv_id = ? AND id > ? AND id <= ? ORDER BY id {} LIMIT ?",
            self.action,
            self.order.sql()
        );
        let conversation = &self.conversation.to_string();
        server
            .run(self.action, limit, |connection| {
                scoped(async move {
                    sqlx::query(AssertSqlSafe(sql.clone()))
                        .bind(conversation.as_str())
                        .bind(self.above)
                        .bind(self.up_to)
                        .bind(self.limit)
                        .try_map(|row| message_of(&row))
                        .fetch_all(connection)
                        .await
                })
            })
            .await
    }

    /// Reads which messages these are, and whether they are recalled. One range for each direction of an index that holds
    /// both; no row is touched.
    pub(super) async fn outline(
        &self,
        server: &Pool,
        limit: Duration,
    ) -> Result<Vec<(MessageId, Status)>, ServerError> {
        let order = self.order.sql();
        let direction = format!(
            "(SELECT id, status FROM message FORCE INDEX (idx_inbox) \
             WHERE to_id = ? AND conv_id = ? AND id > ? AND id <= ? ORDER BY id {order} LIMIT ?)"
        );
        let sql =
            &format!("/* store.outline */ {direction} UNION ALL {direction} ORDER BY id {order} LIMIT ?");
        let conversation = &self.conversation.to_string();
        server
            .run("store.outline", limit, |connection| {
                scoped(async move {
                    let mut query = sqlx::query_as::<_, (i64, u8)>(AssertSqlSafe(sql.clone()));
                    for user in self.conversation.users() {
                        query = query
                            .bind(user.get())
                            .bind(conversation.as_str())
                            .bind(self.above)
                            .bind(self.up_to)
                            .bind(self.limit);
                    }
                    let rows = query.bind(self.limit).fetch_all(connection).await?;
                    rows.into_iter().map(|(id, status)| Ok((message_id(id)?, status_of(status)?))).collect()
                })
            })
            .await
    }
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
    /// As the writer has it, also where a replica reads it.
    #[tracing::instrument(name = "store.page_before", skip_all, fields(conversation_id = %conversation, limit))]
    pub async fn page_before(
        &self,
        conversation: ConversationId,
        before: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<Message>, ServerError> {
        let up_to = before.map_or(i64::MAX, |id| id.get() - 1);
        let (action, order) = ("store.page_before", Order::NewestFirst);
        self.page(Page { action, conversation, above: 0, up_to, order, limit }).await
    }

    /// The oldest `limit` messages of a conversation newer than `after`; oldest first, recalled ones included. One range
    /// of the primary key; see [`Self::page_before`].
    #[tracing::instrument(name = "store.page_after", skip_all, fields(conversation_id = %conversation, limit))]
    pub async fn page_after(
        &self,
        conversation: ConversationId,
        after: MessageId,
        limit: u32,
    ) -> Result<Vec<Message>, ServerError> {
        let (action, order) = ("store.page_after", Order::OldestFirst);
        self.page(Page { action, conversation, above: after.get(), up_to: i64::MAX, order, limit }).await
    }

    async fn page(&self, page: Page) -> Result<Vec<Message>, ServerError> {
        match Box::pin(self.page_of_replica(&page)).await? {
            Some(messages) => Ok(messages),
            None => page.read(&self.writer, self.timeout).await,
        }
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
