//! The rows of a conversation that a user may see, as ranges of the index `idx_visible`.

use super::conversation::hidden_bit;
use crate::id::{ConversationId, UserId};

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
