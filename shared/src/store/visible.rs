//! Pages of what a user may see.

use super::Store;
use super::pool::scoped;
use super::row::message_ids;
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};
use crate::message::Message;

impl Store {
    /// The newest `limit` messages older than `before` (`None`: the newest of all) that are neither recalled nor hidden
    /// for `viewer`, newest first.
    pub async fn visible_before(
        &self,
        conversation: ConversationId,
        viewer: UserId,
        mut before: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<Message>, ServerError> {
        let mut visible = Vec::new();
        loop {
            let rows = self.page_before(conversation, before, limit).await?;
            let is_last = rows.len() < limit as usize;
            before = rows.last().map(|row| row.id).or(before);
            visible.extend(self.shown_to(viewer, rows).await?);
            if is_last || visible.len() >= limit as usize {
                visible.truncate(limit as usize);
                return Ok(visible);
            }
        }
    }

    /// The oldest `limit` messages newer than `after` that are neither recalled nor hidden for `viewer`, oldest first.
    pub async fn visible_after(
        &self,
        conversation: ConversationId,
        viewer: UserId,
        mut after: MessageId,
        limit: u32,
    ) -> Result<Vec<Message>, ServerError> {
        let mut visible = Vec::new();
        loop {
            let rows = self.page_after(conversation, after, limit).await?;
            let is_last = rows.len() < limit as usize;
            after = rows.last().map_or(after, |row| row.id);
            visible.extend(self.shown_to(viewer, rows).await?);
            if is_last || visible.len() >= limit as usize {
                visible.truncate(limit as usize);
                return Ok(visible);
            }
        }
    }

    async fn shown_to(&self, viewer: UserId, mut rows: Vec<Message>) -> Result<Vec<Message>, ServerError> {
        rows.retain(|row| !row.is_recalled());
        let ids: Vec<MessageId> = rows.iter().map(|row| row.id).collect();
        let hidden = self.deleted_among(viewer, &ids).await?;
        rows.retain(|row| !hidden.contains(&row.id));
        Ok(rows)
    }

    /// The newest `limit` ids of a conversation above `above` and below `below` (both exclusive) that are not recalled,
    /// whoever may have hidden them; newest first, as the writer has them. No row is touched.
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
                    let mut query = sqlx::query_scalar::<_, i64>(
                        "/* store.listed_ids */ \
                         (SELECT id FROM message FORCE INDEX (idx_inbox) WHERE to_id = ? AND conv_id = ? \
                          AND id > ? AND id <= ? AND status = 1 ORDER BY id DESC LIMIT ?) \
                         UNION ALL \
                         (SELECT id FROM message FORCE INDEX (idx_inbox) WHERE to_id = ? AND conv_id = ? \
                          AND id > ? AND id <= ? AND status = 1 ORDER BY id DESC LIMIT ?) \
                         ORDER BY id DESC LIMIT ?",
                    );
                    for user in conversation.users() {
                        query =
                            query.bind(user.get()).bind(name.as_str()).bind(above).bind(up_to).bind(limit);
                    }
                    message_ids(query.bind(limit).fetch_all(connection).await?)
                })
            })
            .await
    }
}
