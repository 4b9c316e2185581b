//! The names of all keys, in one place. `msg:detail`, `conv`, `unread`, `deleted`, `cancel` and `lock` are shared
//! with other services, the others are this service's own (`docs/contract.md`, "Keys"). None holds `{` or `}`: in Redis Cluster
//! each key has a slot of its own.

use crate::id::{ConversationId, MessageId, UserId};
use crate::ids::worker::WorkerNumber;
use crate::message::ClientMessageId;

/// String, JSON: one message, the only copy that changes.
pub fn detail(id: MessageId) -> String {
    format!("msg:detail:{id}")
}

/// List, newest first: the conversation's recent message ids, a gapless newest part of it.
pub fn conversation(id: ConversationId) -> String {
    format!("msg:conv:{id}")
}

/// Set: the ids that this user has not read. A courtesy to other readers of Redis, with the TTL of the cache: the answers
/// of this service come from MySQL and [`unread_pending`].
pub fn unread(user: UserId) -> String {
    format!("msg:unread:{user}")
}

/// Sorted set, all scores 0, ids of 19 digits (so that their order as text is that of the numbers): the messages of this
/// conversation that are not rows of MySQL yet. Without TTL: for these messages Redis is the only place to read from.
pub fn conversation_pending(id: ConversationId) -> String {
    format!("msg:conv-pending:{id}")
}

/// Sorted set as [`conversation_pending`]: the unread messages sent to this user that are not rows of MySQL yet.
pub fn unread_pending(user: UserId) -> String {
    format!("msg:unread-pending:{user}")
}

/// Set: the ids that this user deleted for themselves, the negative of each id whose deletion was begun, and the member
/// `epoch:…` if the set held all of them in that epoch.
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

/// String, `holder until-ms`, no TTL: who makes ids with this worker number.
pub fn worker(number: WorkerNumber) -> String {
    format!("msg:worker:{}", number.get())
}

/// String, ms, no TTL: when the compensator last sent this message again. Goes when the message is settled.
pub fn resent(id: MessageId) -> String {
    format!("msg:resent:{id}")
}

/// String, `holder until-ms`, no TTL: the compensator's run under way.
pub const COMPENSATOR: &str = "msg:compensator";

/// Hash, partition to `offset ms`: where the partition ended when the compensator looked.
pub const PASSED: &str = "msg:passed";

/// String, `generation-word-ms identity tick`: the epoch, see [`super::epoch`].
pub const EPOCH: &str = "msg:epoch";

/// No key has this name: a write to it that changes nothing asks whether Redis takes writes.
pub const WRITE_PROBE: &str = "msg:write-probe";

/// String, `epoch oldest-id`: the epoch in which the conversation's list was last known to be a gapless newest part of it,
/// and the list's oldest id at that time.
pub fn conversation_epoch(id: ConversationId) -> String {
    format!("msg:conv-epoch:{id}")
}

/// Set: the WebSocket connections of this user. With a TTL that each sign of life of one renews.
pub fn connections(user: UserId) -> String {
    format!("msg:connections:{user}")
}

/// String, JSON: whose WebSocket connection this is, which gateway holds it, and when its token ends. With the same TTL.
pub fn connection(connection_id: &str) -> String {
    format!("msg:connection:{connection_id}")
}

/// Of which type the key of this name is, as TYPE says it; `None` if it is not one of this service's.
pub(super) fn type_of(key: &str) -> Option<&'static str> {
    let kind = key.strip_prefix("msg:")?.split(':').next()?;
    match kind {
        "conv" => Some("list"),
        "unread" | "deleted" | "connections" => Some("set"),
        "pending" | "conv-pending" | "unread-pending" => Some("zset"),
        "passed" => Some("hash"),
        "detail" | "cancel" | "lock" | "client" | "worker" | "resent" | "compensator" | "epoch"
        | "conv-epoch" | "connection" => Some("string"),
        _ => None,
    }
}
