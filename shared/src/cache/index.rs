//! The indexes that lead to a message in Redis, and above all the pending indexes: `msg:conv-pending:{convId}`,
//! `msg:unread-pending:{userId}` and `msg:sent-pending:{userId}` have the messages that were accepted and are not rows of MySQL
//! yet, by conversation, by receiver and by sender.
//!
//! While a message waits for MySQL, the recent list may expire, be dropped or be trimmed. The pending indexes have no
//! TTL, so from the answer to its send on, every page shows the message and every count includes it. A send adds the
//! message in the round trip that writes its detail. The message leaves the indexes when it is a row, when it is
//! recalled, or when it turns out to be a double.

use std::collections::BTreeMap;

use super::step::{Step, step};
use super::{Cache, keys, scripts};
use crate::id::{ConversationId, MessageId};

/// An id as a member of a pending index: 19 digits, like the greatest id, so that members sort by number.
pub(super) fn member(id: MessageId) -> String {
    format!("{:019}", id.get())
}

/// Members as ids. A member that is not an id was not written by this service and is left out.
pub(super) fn ids(members: Vec<String>) -> Vec<MessageId> {
    members
        .into_iter()
        .filter_map(|member| member.parse().ok().and_then(|id| MessageId::new(id).ok()))
        .collect()
}

/// The commands that take these messages off the pending indexes. Both users' indexes are addressed: a message is in one
/// of each pair, so sender and receiver need not be known.
pub(super) fn remove_steps(messages: impl Iterator<Item = (ConversationId, MessageId)>) -> Vec<Step> {
    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (conversation, id) in messages {
        sets.entry(keys::conversation_pending(conversation)).or_default().push(member(id));
        for user in conversation.users() {
            sets.entry(keys::unread_pending(user)).or_default().push(member(id));
            sets.entry(keys::sent_pending(user)).or_default().push(member(id));
        }
    }
    sets.into_iter().map(|(set, members)| step!("ZREM", set, members)).collect()
}

/// The command that reads at most `limit` pending ids of a conversation between two exclusive bounds.
pub(super) fn range_step(
    conversation: ConversationId,
    above: Option<MessageId>,
    below: Option<MessageId>,
    newest_first: bool,
    limit: usize,
) -> Step {
    let key = keys::conversation_pending(conversation);
    let least = above.map_or_else(|| "-".to_owned(), |id| format!("({}", member(id)));
    let greatest = below.map_or_else(|| "+".to_owned(), |id| format!("({}", member(id)));
    if newest_first {
        step!("ZREVRANGEBYLEX", key, greatest, least, "LIMIT", 0, limit)
    } else {
        step!("ZRANGEBYLEX", key, least, greatest, "LIMIT", 0, limit)
    }
}

/// The most of a list's newest ids that [`place_step`] looks at.
const NEWEST_LOOKED_AT: usize = 64;

/// The command that looks for a message among the newest ids of the recent list. Nil if the id is not there, or if there is no
/// list.
pub(super) fn place_step(conversation: ConversationId, id: MessageId) -> Step {
    step!("LPOS", keys::conversation(conversation), id.get(), "MAXLEN", NEWEST_LOOKED_AT)
}

/// Takes a message off the recent list and the pending index, from which pages are read.
pub(super) fn off_pages_steps(conversation: ConversationId, id: MessageId) -> [Step; 2] {
    [
        scripts::CONVERSATION_REMOVE.on(keys::conversation(conversation), vec![id.to_string()]),
        step!("ZREM", keys::conversation_pending(conversation), member(id)),
    ]
}

/// Takes a recalled or forgotten message off every index: the pages of its conversation and the sets of both users.
/// A message is in one of each pair, so sender and receiver need not be known.
pub(super) fn take_off_steps(conversation: ConversationId, id: MessageId) -> Vec<Step> {
    let mut steps = Vec::from(off_pages_steps(conversation, id));
    for user in conversation.users() {
        steps.push(step!("SREM", keys::unread(user), id.get()));
        steps.push(step!("ZREM", keys::unread_pending(user), member(id)));
        steps.push(step!("ZREM", keys::sent_pending(user), member(id)));
    }
    steps
}

impl Cache {
    /// The script that puts `id` into its place in the recent list. `mode` is `create` or `heal`.
    pub(super) fn insert_step(&self, conversation: ConversationId, id: MessageId, mode: &str) -> Step {
        scripts::CONVERSATION_INSERT.on(
            keys::conversation(conversation),
            vec![
                id.to_string(),
                self.conversation_size.to_string(),
                self.expiry_ms.to_string(),
                mode.to_owned(),
            ],
        )
    }
}
