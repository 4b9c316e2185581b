//! The rows of a conversation that a user may see, as ranges of the index `idx_visible`.

use sqlx::{MySql, QueryBuilder};

use super::conversation::hidden_bit;
use super::row::push_ids;
use crate::id::{ConversationId, MessageId, UserId};

/// A range of idx_visible: live messages of a conversation to one user, hidden from the same users, between two ids. A
/// statement joins several ranges.
pub(super) fn visible_range(order: &str) -> String {
    format!(
        "(SELECT id FROM message FORCE INDEX (idx_visible) WHERE conv_id = ? AND to_id = ? AND status = 1 \
         AND hidden_for = ? AND id > ? AND id <= ? ORDER BY id {order} LIMIT ?)"
    )
}

/// The two values of `hidden_for` with which `user` sees a message: hidden from nobody, or from the other user.
pub(super) fn visible_to(conversation: ConversationId, user: UserId) -> [u8; 2] {
    [0, 0b11 ^ hidden_bit(conversation, user)]
}

/// Adds to a statement the questions which of these pending messages are rows, recalled or hidden by the user. Each such
/// message is a row `'excluded', '', id`, and then `columns`: as many as the statement needs, each behind a comma.
pub(super) fn push_excluded(
    query: &mut QueryBuilder<MySql>,
    user: UserId,
    pending: &[MessageId],
    columns: &str,
) {
    let select = |id: &str| format!(" UNION ALL SELECT 'excluded', '', {id}{columns} FROM ");
    query.push(select("id")).push("message FORCE INDEX (uk_message_id) WHERE id IN ");
    push_ids(query, pending);
    query.push(select("message_id")).push("message_recall WHERE message_id IN ");
    push_ids(query, pending);
    query.push(select("message_id")).push("message_delete WHERE user_id = ").push_bind(user.get());
    query.push(" AND message_id IN ");
    push_ids(query, pending);
}
