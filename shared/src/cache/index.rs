//! `msg:conv-pending:{convId}` and `msg:unread-pending:{userId}`: messages that were accepted and are not rows of MySQL
//! yet, by conversation and by receiver.
//!
//! The recent list may expire, be dropped or be trimmed while a message waits for MySQL. These two sets have no TTL, so
//! every page shows the message, and every count counts it, from its 201 on. A send adds the message in the round trip
//! that writes its detail; it goes once MySQL has the message, once it is recalled, or once it is forgotten.

use std::collections::BTreeMap;

use super::step::{Step, step};
use super::{Cache, keys, scripts};
use crate::id::{ConversationId, MessageId};

/// An id as a member: of 19 digits, as the greatest id has, so that members sort by number.
pub(super) fn member(id: MessageId) -> String {
    format!("{:019}", id.get())
}

/// Members as ids. A member that is no id was not written by this service, and is left out.
pub(super) fn ids(members: Vec<String>) -> Vec<MessageId> {
    members
        .into_iter()
        .filter_map(|member| member.parse().ok().and_then(|id| MessageId::new(id).ok()))
        .collect()
}

/// The commands that take these messages off both sets: one for each conversation and each of its users (own messages
/// are in no unread set, so which of the two is the receiver need not be known).
pub(super) fn remove_steps(messages: impl Iterator<Item = (ConversationId, MessageId)>) -> Vec<Step> {
    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (conversation, id) in messages {
        sets.entry(keys::conversation_pending(conversation)).or_default().push(member(id));
        for user in conversation.users() {
            sets.entry(keys::unread_pending(user)).or_default().push(member(id));
        }
    }
    sets.into_iter().map(|(set, members)| step!("ZREM", set, members)).collect()
}

/// The command that reads ids of a conversation between two exclusive bounds, at most `limit`.
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

/// How many of a list's newest ids are looked at to find out whether a message is in its place.
const NEWEST_LOOKED_AT: usize = 64;

/// The command that finds a message among the newest of its conversation's recent list: nil where it is not there, or where
/// there is no list.
pub(super) fn place_step(conversation: ConversationId, id: MessageId) -> Step {
    step!("LPOS", keys::conversation(conversation), id.get(), "MAXLEN", NEWEST_LOOKED_AT)
}

/// Takes a message off the list and the pending index that pages are read from.
pub(super) fn off_pages_steps(conversation: ConversationId, id: MessageId) -> [Step; 2] {
    [
        scripts::CONVERSATION_REMOVE.on(keys::conversation(conversation), vec![id.to_string()]),
        step!("ZREM", keys::conversation_pending(conversation), member(id)),
    ]
}

/// Takes a recalled or forgotten message off everything that leads to it: the pages of its conversation, and the unread of
/// both users (own messages never count, so which of the two is the receiver need not be known).
pub(super) fn take_off_steps(conversation: ConversationId, id: MessageId) -> Vec<Step> {
    let mut steps = Vec::from(off_pages_steps(conversation, id));
    for user in conversation.users() {
        steps.push(step!("SREM", keys::unread(user), id.get()));
        steps.push(step!("ZREM", keys::unread_pending(user), member(id)));
    }
    steps
}

impl Cache {
    /// The script that puts `id` in its place in the recent list.
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
