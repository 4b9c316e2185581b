//! The names of all keys. `msg:detail`, `conv`, `unread`, `deleted`, `cancel` and `lock` are shared with other
//! services, the others belong to this service (`docs/contract.md`, "Keys"). No name holds `{` or `}`: in Redis Cluster
//! each key has a slot of its own.

use crate::id::{ConversationId, MessageId, UserId};
use crate::ids::worker::WorkerNumber;
use crate::message::ClientMessageId;

/// String, JSON: one message, the only copy that may change.
pub fn detail(id: MessageId) -> String {
    format!("msg:detail:{id}")
}

/// List, newest first: the recent message ids of the conversation, without a gap.
pub fn conversation(id: ConversationId) -> String {
    format!("msg:conv:{id}")
}

/// Set, with the cache's TTL: the ids that this user has not read, for other readers of Redis. This service answers
/// from MySQL and [`unread_pending`].
pub fn unread(user: UserId) -> String {
    format!("msg:unread:{user}")
}

/// Sorted set: the messages of this conversation that are not rows of MySQL yet. Scores are 0 and members have 19
/// digits, so members sort by number. No TTL: for these messages Redis is the only place to read from.
pub fn conversation_pending(id: ConversationId) -> String {
    format!("msg:conv-pending:{id}")
}

/// Sorted set like [`conversation_pending`]: the unread messages to this user that are not rows of MySQL yet.
pub fn unread_pending(user: UserId) -> String {
    format!("msg:unread-pending:{user}")
}

/// Sorted set like [`conversation_pending`]: the messages of this user that are not rows of MySQL yet.
pub fn sent_pending(user: UserId) -> String {
    format!("msg:sent-pending:{user}")
}

/// Set: the ids that this user deleted, the negative of each id whose deletion was begun, and `epoch:…`, the epoch in
/// which the set was complete.
pub fn deleted(user: UserId) -> String {
    format!("msg:deleted:{user}")
}

/// Set: the ids up to which this user has cleared this conversation, the negative of each id whose clearing was begun, and
/// `epoch:…`, the epoch in which the set was complete.
pub fn cleared(user: UserId, conversation: ConversationId) -> String {
    format!("msg:cleared:{user}:{conversation}")
}

/// String, the recall time in ms: the sender asked to recall this message.
pub fn cancel(id: MessageId) -> String {
    format!("msg:cancel:{id}")
}

/// String, `topic/partition/offset`: the record whose consumer is writing this message.
pub fn lock(id: MessageId) -> String {
    format!("msg:lock:{id}")
}

/// Sorted set, id by time in ms: the sends and recalls that MySQL has not confirmed. One set for each partition of the
/// topic.
pub fn pending(partition: u16) -> String {
    format!("msg:pending:{partition}")
}

/// String, `id:fingerprint`: the message that this sender's `clientMsgId` stands for.
pub fn client_message(from: UserId, client_msg_id: &ClientMessageId) -> String {
    format!("msg:client:{from}:{client_msg_id}")
}

/// Set of user ids, TTL 1 min: whom this user has blocked; the member 0 says that the set has all of them.
pub fn blocks(user: UserId) -> String {
    format!("msg:blocks:{user}")
}

/// String `1`, TTL 3 s: the user has just told `peer` that they are typing.
pub fn typing(user: UserId, peer: UserId) -> String {
    format!("msg:typing:{user}:{peer}")
}

/// String, µs since 1970 UTC: when this user's allowance of sends is full again. The key expires then.
pub fn rate(user: UserId) -> String {
    format!("msg:rate:{user}")
}

/// String, `holder until-ms`, no TTL: the lease of this worker number.
pub fn worker(number: WorkerNumber) -> String {
    format!("msg:worker:{}", number.get())
}

/// String, ms, no TTL: when the compensator last sent this message again. Removed when the message is settled.
pub fn resent(id: MessageId) -> String {
    format!("msg:resent:{id}")
}

/// String, `holder until-ms`, no TTL: the lease of the compensator's present run.
pub const COMPENSATOR: &str = "msg:compensator";

/// Hash, partition to `offset ms`: the end of the partition as the compensator saw it, and when.
pub const PASSED: &str = "msg:passed";

/// String, `generation-word-ms identity tick`: the epoch, see [`super::epoch`].
pub const EPOCH: &str = "msg:epoch";

/// A write without effect goes to this name, to learn whether Redis takes writes. The key never exists.
pub const WRITE_PROBE: &str = "msg:write-probe";

/// String, `epoch oldest-id`: the epoch in which the conversation's list was last known to be gapless, and the list's
/// oldest id at that time.
pub fn conversation_epoch(id: ConversationId) -> String {
    format!("msg:conv-epoch:{id}")
}

/// Set: the WebSocket connections of this user. Each sign of life of one of them renews the TTL.
pub fn connections(user: UserId) -> String {
    format!("msg:connections:{user}")
}

/// String, JSON: the user of this WebSocket connection, the gateway that holds it, and the end of its token. Same TTL.
pub fn connection(connection_id: &str) -> String {
    format!("msg:connection:{connection_id}")
}

/// The type that the key with this name must have, as TYPE prints it; `None` if the name is not one of this service's.
pub(super) fn type_of(key: &str) -> Option<&'static str> {
    let kind = key.strip_prefix("msg:")?.split(':').next()?;
    match kind {
        "conv" => Some("list"),
        "unread" | "deleted" | "cleared" | "connections" => Some("set"),
        "pending" | "conv-pending" | "unread-pending" | "sent-pending" => Some("zset"),
        "passed" => Some("hash"),
        "detail" | "cancel" | "lock" | "client" | "worker" | "resent" | "compensator" | "epoch"
        | "conv-epoch" | "connection" | "rate" | "blocks" | "typing" => Some("string"),
        _ => None,
    }
}
