//! Messages by id, and history by cursor.

use std::time::Duration;

use sqlx::mysql::MySqlArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, MySql, QueryBuilder};

use super::Store;
use super::clearing::Cleared;
use super::pool::{Pool, scoped};
use super::row::{COLUMNS, LONGEST_LIST, message_ids, message_of, push_ids};
use super::visible::{visible_range, visible_to};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};
use crate::message::Message;

/// The direction of a page.
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

/// A page: the first `limit` messages of a range of one conversation that `viewer` may see.
pub(super) struct Page {
    action: &'static str,
    conversation: ConversationId,
    viewer: UserId,
    /// Exclusive lower bound of the ids.
    above: i64,
    /// Inclusive upper bound of the ids.
    up_to: i64,
    order: Order,
    limit: u32,
}

impl Page {
    /// The statement that selects `columns`. The messages that a user may see are four ranges of idx_visible: to either
    /// user, hidden from nobody or from the other user. So the statement touches no recalled or hidden message.
    fn sql(&self, columns: &str) -> String {
        let order = self.order.sql();
        let range = visible_range(order);
        let ranges = [range.as_str(); 4].join(" UNION ALL ");
        let ids = format!("{ranges} ORDER BY id {order} LIMIT ?");
        if columns == "id" {
            return format!("/* {} */ {ids}", self.action);
        }
        format!(
            "/* {} */ SELECT {columns} FROM ({ids}) AS visible JOIN message USING (id) WHERE conv_id = ? ORDER BY id {order}",
            self.action
        )
    }

    fn bind<'q>(&'q self, sql: String, conversation: &'q str) -> Query<'q, MySql, MySqlArguments> {
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for receiver in self.conversation.users() {
            for hidden_for in visible_to(self.conversation, self.viewer) {
                query = query
                    .bind(conversation)
                    .bind(receiver.get())
                    .bind(hidden_for)
                    .bind(self.above)
                    .bind(self.up_to)
                    .bind(self.limit);
            }
        }
        query.bind(self.limit)
    }

    /// Reads the page's messages.
    pub(super) async fn read(&self, server: &Pool, limit: Duration) -> Result<Vec<Message>, ServerError> {
        let sql = &self.sql(COLUMNS);
        let conversation = &self.conversation.to_string();
        server
            .run(self.action, limit, |connection| {
                scoped(async move {
                    self.bind(sql.clone(), conversation)
                        .bind(conversation.as_str())
                        .try_map(|row| message_of(&row))
                        .fetch_all(connection)
                        .await
                })
            })
            .await
    }

    /// Reads the page's ids, from the index alone.
    pub(super) async fn outline(
        &self,
        server: &Pool,
        limit: Duration,
    ) -> Result<Vec<MessageId>, ServerError> {
        let sql = &self.sql("id");
        let conversation = &self.conversation.to_string();
        server
            .run("store.outline", limit, |connection| {
                scoped(async move {
                    let ids = self
                        .bind(sql.clone(), conversation)
                        .try_map(|row: sqlx::mysql::MySqlRow| sqlx::Row::try_get::<i64, _>(&row, "id"));
                    message_ids(ids.fetch_all(connection).await?)
                })
            })
            .await
    }
}

impl Store {
    /// The rows with these ids, as the writer has them, each once and in no particular order.
    #[tracing::instrument(name = "store.messages", skip_all, fields(ids = ids.len()))]
    pub async fn messages(&self, ids: &[MessageId]) -> Result<Vec<Message>, ServerError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let ids = ids.as_slice();
        self.writer
            .run("store.messages", self.timeout, |connection| scoped(async move {
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

    /// The newest `limit` messages older than `before` (or of all) that `viewer`, one of the two users, may see; newest
    /// first. Recalled, hidden and cleared messages are left out. The cost grows with `limit` alone.
    ///
    /// A replica may read the page; the result is still what the writer has.
    #[tracing::instrument(name = "store.visible_before", skip_all, fields(conversation_id = %conversation, limit))]
    pub async fn visible_before(
        &self,
        conversation: ConversationId,
        viewer: UserId,
        before: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<Message>, ServerError> {
        // The writer says how far the viewer has cleared, so that no lagging replica shows more.
        let cleared = self.cleared(viewer, conversation).await?;
        self.uncleared_before(conversation, viewer, cleared, before, limit).await
    }

    /// As [`Self::visible_before`], for a caller that knows how far the viewer has cleared.
    pub async fn uncleared_before(
        &self,
        conversation: ConversationId,
        viewer: UserId,
        cleared: Cleared,
        before: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<Message>, ServerError> {
        let above = cleared.last().map_or(0, MessageId::get);
        let up_to = before.map_or(i64::MAX, |id| id.get() - 1);
        let (action, order) = ("store.visible_before", Order::NewestFirst);
        self.page(Page { action, conversation, viewer, above, up_to, order, limit }).await
    }

    /// The oldest `limit` messages newer than `after` that `viewer` may see, oldest first; otherwise like
    /// [`Self::visible_before`].
    #[tracing::instrument(name = "store.visible_after", skip_all, fields(conversation_id = %conversation, limit))]
    pub async fn visible_after(
        &self,
        conversation: ConversationId,
        viewer: UserId,
        after: MessageId,
        limit: u32,
    ) -> Result<Vec<Message>, ServerError> {
        let cleared = self.cleared(viewer, conversation).await?;
        self.uncleared_after(conversation, viewer, cleared, after, limit).await
    }

    /// As [`Self::visible_after`], for a caller that knows how far the viewer has cleared.
    pub async fn uncleared_after(
        &self,
        conversation: ConversationId,
        viewer: UserId,
        cleared: Cleared,
        after: MessageId,
        limit: u32,
    ) -> Result<Vec<Message>, ServerError> {
        let above = cleared.last().map_or(after, |last| last.max(after)).get();
        let (action, order) = ("store.visible_after", Order::OldestFirst);
        self.page(Page { action, conversation, viewer, above, up_to: i64::MAX, order, limit }).await
    }

    /// The page from the replica; `None` without one that answers. While the replica reads the page, the writer reads
    /// its ids from an index; the replica's page counts only if it has the same ids. A replica that does not answer
    /// gets half of the call's time, and is then not asked for [`super::replica::BACK_OFF`].
    async fn page_of_replica(&self, page: &Page) -> Result<Option<Vec<Message>>, ServerError> {
        let Some(replica) = self.replica.as_ref().filter(|replica| !replica.is_backing_off()) else {
            return Ok(None);
        };
        let (messages, outline) = tokio::join!(
            page.read(&replica.pool, self.timeout / 2),
            page.outline(&self.writer, self.timeout)
        );
        let outline = outline?;
        match messages {
            Ok(messages) => {
                let same = messages.iter().map(|message| message.id).eq(outline);
                // Other ids mean that the replica lags; the writer then reads the page.
                Ok(same.then_some(messages))
            }
            Err(error) if error.is_transient() => {
                // Many calls may fail at the same time; one of them logs it.
                if replica.back_off() {
                    tracing::warn!(%error, "the replica does not answer; history comes from the writer");
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn page(&self, page: Page) -> Result<Vec<Message>, ServerError> {
        if page.above >= page.up_to {
            return Ok(Vec::new());
        }
        match Box::pin(self.page_of_replica(&page)).await? {
            Some(messages) => Ok(messages),
            None => page.read(&self.writer, self.timeout).await,
        }
    }

    /// The newest `limit` ids above `above` and below `below` (both exclusive) that are not recalled, including those
    /// that a user has hidden; newest first, as the writer has them. Read from the index alone.
    #[tracing::instrument(name = "store.listed_ids", skip_all, fields(conversation_id = %conversation))]
    pub async fn listed_ids(
        &self,
        conversation: ConversationId,
        above: Option<MessageId>,
        below: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<MessageId>, ServerError> {
        let name = &conversation.to_string();
        let above = above.map_or(0, MessageId::get);
        let up_to = below.map_or(i64::MAX, |id| id.get() - 1);
        self.writer
            .run("store.listed_ids", self.timeout, |connection| {
                scoped(async move {
                    let range = visible_range("DESC");
                    // To either user, and hidden from nobody or from one user. A message that both have hidden is on no
                    // page.
                    let ranges = [range.as_str(); 6].join(" UNION ALL ");
                    let sql = format!("/* store.listed_ids */ {ranges} ORDER BY id DESC LIMIT ?");
                    let mut query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql));
                    for receiver in conversation.users() {
                        for hidden_for in [0_u8, 0b01, 0b10] {
                            query = query
                                .bind(name.as_str())
                                .bind(receiver.get())
                                .bind(hidden_for)
                                .bind(above)
                                .bind(up_to)
                                .bind(limit);
                        }
                    }
                    message_ids(query.bind(limit).fetch_all(connection).await?)
                })
            })
            .await
    }
}
