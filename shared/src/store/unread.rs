//! Read positions and unread rows. A row is unread if the user received it, and it lies above the read position or was
//! never shown before the position passed it; recalled, hidden and cleared rows do not count. The row of each conversation
//! counts the unread rows of both users.

use std::collections::{HashMap, HashSet};

use sqlx::{AssertSqlSafe, MySql, MySqlConnection, QueryBuilder, Row as _};

use super::Store;
use super::conversation::{self, Conversation, place};
use super::pool::scoped;
use super::row::{LONGEST_LIST, broken, filled, message_id, message_ids, push_list};
use super::visible::{push_excluded, visible_range, visible_to};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};

/// The most conversations that one statement reads.
const CONVERSATIONS: usize = 20;

/// A conversation with unread rows of a user.
struct Inbox {
    conversation: ConversationId,
    /// The user's read position or clearing, the greater one; 0 without either.
    above: i64,
    /// The conversation's newest message.
    newest: i64,
}

/// The unread messages of a user, as MySQL knows them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct UnreadRows {
    /// The number of unread rows.
    pub total: u64,
    /// The pending messages asked for that are unread: not rows, and neither read, hidden, cleared nor recalled.
    pub pending: HashSet<MessageId>,
}

impl Store {
    /// Moves a user's read position forward to `up_to`. False if the position is there or beyond, since it never moves
    /// back. Messages up to `up_to` that were never shown are read as well.
    #[tracing::instrument(name = "store.advance_read_position", skip_all, fields(user_id = %user, conversation_id = %conversation))]
    pub async fn advance_read_position(
        &self,
        user: UserId,
        conversation: ConversationId,
        up_to: MessageId,
    ) -> Result<bool, ServerError> {
        self.writer
            .run("store.advance_read_position", self.timeout, |connection| {
                scoped(async move { advance(connection, user, conversation, up_to.get()).await })
            })
            .await
    }

    /// The user's read position in the conversation; `None` if there is none yet.
    #[tracing::instrument(name = "store.read_position", skip_all, fields(user_id = %user, conversation_id = %conversation))]
    pub async fn read_position(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<Option<MessageId>, ServerError> {
        let sql = &format!(
            "/* store.read_position */ SELECT {} FROM conversation WHERE conv_id = ?",
            ["read_low", "read_high"][place(conversation, user)]
        );
        let conversation = &conversation.to_string();
        self.writer
            .run("store.read_position", self.timeout, |connection| {
                scoped(async move {
                    let position: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql.clone()))
                        .bind(conversation.as_str())
                        .fetch_optional(connection)
                        .await?;
                    position.filter(|position| *position > 0).map(message_id).transpose()
                })
            })
            .await
    }

    /// The newest `limit` ids that the user received and may see, above `above` (or from the start) and up to `up_to`;
    /// newest first.
    #[tracing::instrument(name = "store.received_between", skip_all, fields(user_id = %user, conversation_id = %conversation))]
    pub async fn received_between(
        &self,
        user: UserId,
        conversation: ConversationId,
        above: Option<MessageId>,
        up_to: MessageId,
        limit: u32,
    ) -> Result<Vec<MessageId>, ServerError> {
        let [visible, hidden_for_peer] = visible_to(conversation, user);
        let conversation = &conversation.to_string();
        let above = above.map_or(0, MessageId::get);
        self.writer
            .run("store.received_between", self.timeout, |connection| {
                scoped(async move {
                    let range = visible_range("DESC");
                    let sql = format!(
                        "/* store.received_between */ {range} UNION ALL {range} ORDER BY id DESC LIMIT ?"
                    );
                    let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
                    for hidden_for in [visible, hidden_for_peer] {
                        query = query
                            .bind(conversation.as_str())
                            .bind(user.get())
                            .bind(hidden_for)
                            .bind(above)
                            .bind(up_to.get())
                            .bind(limit);
                    }
                    message_ids(query.bind(limit).fetch_all(connection).await?)
                })
            })
            .await
    }

    /// The number of the user's unread rows, and which of the messages `pending` (Redis' pending unread messages with
    /// their conversations) are unread as well. Up to 100 of `pending` take one statement, so a message that becomes a
    /// row in between is counted once; with more, such a message may be counted twice. The cost grows with `pending`
    /// and with the conversations that have unread rows.
    #[tracing::instrument(name = "store.unread_rows", skip_all, fields(user_id = %user, pending = pending.len()))]
    pub async fn unread_rows(
        &self,
        user: UserId,
        pending: &[(MessageId, ConversationId)],
    ) -> Result<UnreadRows, ServerError> {
        self.writer
            .run("store.unread_rows", self.timeout, |connection| {
                scoped(async move { unread_rows(connection, user, pending).await })
            })
            .await
    }

    /// The newest `limit` unread rows of a user in all conversations, newest first. The cost grows with `limit` and
    /// with the conversations that have unread rows, not with the messages ever received.
    #[tracing::instrument(name = "store.unread", skip_all, fields(user_id = %user, limit))]
    pub async fn unread(&self, user: UserId, limit: u32) -> Result<Vec<MessageId>, ServerError> {
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        self.writer
            .run("store.unread", self.timeout, |connection| {
                scoped(async move {
                    let mut unread: Vec<i64> = Vec::new();
                    for inboxes in inboxes_of(connection, user).await?.chunks(CONVERSATIONS) {
                        // Conversations come newest first: from here on, no message may be new enough.
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
}

async fn advance(
    connection: &mut MySqlConnection,
    user: UserId,
    id: ConversationId,
    up_to: i64,
) -> Result<bool, sqlx::Error> {
    let (mut transaction, mut conversations) = conversation::begin(connection, [id]).await?;
    let conversation = conversations.get_mut(id)?;
    let before = conversation.reader(user).up_to;
    uncount_up_to(&mut transaction, conversation, id, user, up_to).await?;
    if up_to > before {
        let seq = conversation.next_seq();
        let reader = conversation.reader_mut(user);
        (reader.up_to, reader.seq) = (up_to, Some(seq));
    }
    conversations.save(&mut transaction).await?;
    transaction.commit().await?;
    Ok(up_to > before)
}

/// Takes the messages up to `up_to` off the user's unread count, because they are read or hidden. The position that says
/// so is the caller's to set.
pub(super) async fn uncount_up_to(
    connection: &mut MySqlConnection,
    conversation: &mut Conversation,
    id: ConversationId,
    user: UserId,
    up_to: i64,
) -> Result<(), sqlx::Error> {
    // Remove the entries of unshown messages: each counts as unread by itself.
    let shown = sqlx::query(
        "/* store.unread: shown */ DELETE FROM message_unshown WHERE user_id = ? AND conv_id = ? AND message_id <= ?",
    )
    .bind(user.get())
    .bind(id.to_string())
    .bind(up_to)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    conversation.reader_mut(user).unread -= i64::try_from(shown).unwrap_or(i64::MAX);

    let above = conversation.reader(user).counted_above();
    if up_to > above {
        // Up to the newest message everything is read or hidden, so nothing needs to be counted.
        let left = if up_to >= conversation.newest {
            unshown_above(connection, user, id, up_to).await?
        } else {
            conversation.reader(user).unread - visible_between(connection, user, id, above, up_to).await?
        };
        conversation.reader_mut(user).unread = left.max(0);
    }
    Ok(())
}

async fn unshown_above(
    connection: &mut MySqlConnection,
    user: UserId,
    conversation: ConversationId,
    above: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "/* store.unread: unshown */ SELECT COUNT(*) FROM message_unshown WHERE user_id = ? AND conv_id = ? \
         AND message_id > ?",
    )
    .bind(user.get())
    .bind(conversation.to_string())
    .bind(above)
    .fetch_one(connection)
    .await
}

/// The number of messages above `above` and up to `up_to` that the user received and may see.
async fn visible_between(
    connection: &mut MySqlConnection,
    user: UserId,
    conversation: ConversationId,
    above: i64,
    up_to: i64,
) -> Result<i64, sqlx::Error> {
    let [visible, hidden_for_peer] = visible_to(conversation, user);
    sqlx::query_scalar(
        "/* store.unread: count */ SELECT COUNT(*) FROM message FORCE INDEX (idx_visible) WHERE conv_id = ? \
         AND to_id = ? AND status = 1 AND hidden_for IN (?, ?) AND id > ? AND id <= ?",
    )
    .bind(conversation.to_string())
    .bind(user.get())
    .bind(visible)
    .bind(hidden_for_peer)
    .bind(above)
    .bind(up_to)
    .fetch_one(connection)
    .await
}

async fn unread_rows(
    connection: &mut MySqlConnection,
    user: UserId,
    pending: &[(MessageId, ConversationId)],
) -> Result<UnreadRows, sqlx::Error> {
    let mut unread = UnreadRows::default();
    // An empty list still needs the total.
    let chunks = pending.chunks(LONGEST_LIST).chain(pending.is_empty().then_some(pending));
    for chunk in chunks {
        let mut query = QueryBuilder::<MySql>::new(
            "/* store.unread_rows */ SELECT 'total' AS what, '' AS conv_id, CAST(COALESCE(SUM(unread_low), 0) AS SIGNED) AS value \
             FROM conversation FORCE INDEX (idx_unread_low) WHERE unread_low > 0 AND user_low = ",
        );
        query.push_bind(user.get()).push(
            " UNION ALL SELECT 'total', '', CAST(COALESCE(SUM(unread_high), 0) AS SIGNED) FROM conversation \
             FORCE INDEX (idx_unread_high) WHERE unread_high > 0 AND user_high = ",
        );
        query.push_bind(user.get());
        if !chunk.is_empty() {
            push_pending(&mut query, user, chunk);
        }
        let (mut total, mut excluded, mut positions) = (0_i64, HashSet::new(), HashMap::new());
        for row in query.build().fetch_all(&mut *connection).await? {
            let (what, value): (String, i64) = (row.try_get("what")?, row.try_get("value")?);
            if what == "total" {
                total += value;
            } else if what == "read" {
                let conversation: String = row.try_get("conv_id")?;
                positions.insert(conversation.parse::<ConversationId>().map_err(broken)?, value);
            } else {
                excluded.insert(message_id(value)?);
            }
        }
        // Each statement reads the total at its own moment; the last one counts.
        unread.total = u64::try_from(total).unwrap_or_default();
        unread.pending.extend(chunk.iter().filter_map(|(id, conversation)| {
            let is_read = positions.get(conversation).is_some_and(|position| id.get() <= *position);
            (!is_read && !excluded.contains(id)).then_some(*id)
        }));
    }
    Ok(unread)
}

/// Adds the questions which of these messages are rows, recalled or hidden, and how far the user has read or
/// cleared their conversations.
fn push_pending(query: &mut QueryBuilder<MySql>, user: UserId, pending: &[(MessageId, ConversationId)]) {
    let ids: Vec<MessageId> = pending.iter().map(|(id, _)| *id).collect();
    push_excluded(query, user, &ids, "");
    query.push(" UNION ALL SELECT 'read', conv_id, IF(user_low = ");
    query.push_bind(user.get()).push(", GREATEST(read_low, clear_low), GREATEST(read_high, clear_high)) FROM conversation WHERE conv_id IN ");
    push_list(query, pending, |(_, conversation)| conversation.to_string());
}

/// The conversations with unread rows of the user, newest first.
async fn inboxes_of(connection: &mut MySqlConnection, user: UserId) -> Result<Vec<Inbox>, sqlx::Error> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "/* store.unread: conversations */ SELECT conv_id, GREATEST(read_low, clear_low) AS up_to, newest_id AS newest FROM conversation \
         FORCE INDEX (idx_unread_low) WHERE user_low = ? AND unread_low > 0 \
         UNION ALL SELECT conv_id, GREATEST(read_high, clear_high), newest_id FROM conversation FORCE INDEX (idx_unread_high) \
         WHERE user_high = ? AND unread_high > 0 ORDER BY newest DESC",
    )
    .bind(user.get())
    .bind(user.get())
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|(conversation, above, newest)| {
            Ok(Inbox { conversation: conversation.parse().map_err(broken)?, above, newest })
        })
        .collect()
}

/// The newest `limit` unread ids of these conversations: two ranges of idx_visible for each, and the entries of unshown
/// messages.
async fn unread_in(
    connection: &mut MySqlConnection,
    user: UserId,
    inboxes: &[Inbox],
    limit: u32,
) -> Result<Vec<i64>, sqlx::Error> {
    let mut query = QueryBuilder::<MySql>::new("/* store.unread */ ");
    let mut is_first = true;
    for inbox in filled(inboxes) {
        for hidden_for in visible_to(inbox.conversation, user) {
            query.push(if is_first { "(" } else { " UNION (" });
            is_first = false;
            query
                .push("SELECT id FROM message FORCE INDEX (idx_visible) WHERE conv_id = ")
                .push_bind(inbox.conversation.to_string())
                .push(" AND to_id = ")
                .push_bind(user.get())
                .push(" AND status = 1 AND hidden_for = ")
                .push_bind(hidden_for)
                .push(" AND id > ")
                .push_bind(inbox.above)
                .push(" ORDER BY id DESC LIMIT ")
                .push_bind(limit)
                .push(")");
        }
        query
            .push(" UNION (SELECT message_id FROM message_unshown WHERE user_id = ")
            .push_bind(user.get())
            .push(" AND conv_id = ")
            .push_bind(inbox.conversation.to_string())
            .push(" ORDER BY message_id DESC LIMIT ")
            .push_bind(limit)
            .push(")");
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
    query.build_query_scalar().fetch_all(connection).await
}
