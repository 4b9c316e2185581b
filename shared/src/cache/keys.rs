//! The names of all keys, in one place. The first six are those of `mission.md`; the others are this project's own and
//! are listed in the README. None holds `{` or `}`: in Redis Cluster each key has a slot of its own.

use crate::id::{ConversationId, MessageId, UserId};
use crate::message::ClientMessageId;
use crate::snowflake::WorkerNumber;

/// String, JSON: one message, the only copy that changes.
pub fn detail(id: MessageId) -> String {
    format!("msg:detail:{id}")
}

/// List, newest first: the conversation's recent message ids, a gapless newest part of it.
pub fn conversation(id: ConversationId) -> String {
    format!("msg:conv:{id}")
}

/// What the keys begin with that vouch for something and can be made anew: [`conversation`], [`deleted`] and
/// [`unread_complete`].
pub const VOUCHING_PREFIXES: [&str; 3] = ["msg:conv:", "msg:deleted:", "msg:unread-complete:"];

/// Set: the ids that this user has not read.
pub fn unread(user: UserId) -> String {
    format!("msg:unread:{user}")
}

/// Set: the ids that this user deleted for themselves, with the member `0` if it holds all of
/// them, and the negative of an id whose deletion was begun.
pub fn deleted(user: UserId) -> String {
    format!("msg:deleted:{user}")
}

/// String, the recall time in ms: the sender asked to take this message back.
pub fn cancel(id: MessageId) -> String {
    format!("msg:cancel:{id}")
}

/// String, `topic/partition/offset`: the record whose consumer is writing this message.
pub fn lock(id: MessageId) -> String {
    format!("msg:lock:{id}")
}

/// Sorted set, id by time in ms: what was sent or recalled, and MySQL has not confirmed. One for each partition of the
/// topic.
pub fn pending(partition: u16) -> String {
    format!("msg:pending:{partition}")
}

/// String, `id:fingerprint`: the message that this sender's `clientMsgId` stands for.
pub fn client_message(from: UserId, client_msg_id: &ClientMessageId) -> String {
    format!("msg:client:{from}:{client_msg_id}")
}

/// String, the holder: who makes ids with this worker number.
pub fn worker(number: WorkerNumber) -> String {
    format!("msg:worker:{}", number.get())
}

/// String, ms: when the compensator last sent this message again.
pub fn resent(id: MessageId) -> String {
    format!("msg:resent:{id}")
}

/// String, the holder: the compensator's run under way.
pub const COMPENSATOR: &str = "msg:compensator";

/// Set: the identities of the servers' memories that the lists and sets may be from.
pub const MEMORIES: &str = "msg:memories";

/// String, ms: since when Redis remembers every message. One sent before that, when Redis was away or had another
/// memory, may be unknown to it and exist all the same.
pub const MEMORY_SINCE: &str = "msg:memory-since";

/// String: `1` if `msg:unread:{userId}` was made complete from MySQL, so that an empty set means "nothing unread"; else who
/// put that in doubt.
pub fn unread_complete(user: UserId) -> String {
    format!("msg:unread-complete:{user}")
}

/// Set: the WebSocket connections of this user. With a TTL that each sign of life of one renews.
pub fn connections(user: UserId) -> String {
    format!("msg:connections:{user}")
}

/// String, JSON: whose WebSocket connection this is, which gateway holds it, and when its token ends. With the same TTL.
pub fn connection(connection_id: &str) -> String {
    format!("msg:connection:{connection_id}")
}
