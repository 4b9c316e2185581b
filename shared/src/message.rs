//! A message and its parts.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::TimestampMs;
use crate::id::{ConversationId, InvalidId, MessageId, UserId};
use crate::ids::snowflake;

/// The visibility of a message: `1` in JSON and MySQL, `0` once it is recalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Status {
    /// The sender recalled the message; its content is gone.
    Recalled,
    /// Both users may see the message.
    Normal,
}

impl From<Status> for u8 {
    fn from(status: Status) -> Self {
        match status {
            Status::Recalled => 0,
            Status::Normal => 1,
        }
    }
}

impl TryFrom<u8> for Status {
    type Error = InvalidMessage;
    fn try_from(value: u8) -> Result<Self, InvalidMessage> {
        match value {
            0 => Ok(Self::Recalled),
            1 => Ok(Self::Normal),
            _ => Err(InvalidMessage("status must be 0 (recalled) or 1")),
        }
    }
}

/// The progress of a message: accepted, or in MySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PersistStatus {
    /// Accepted, and not known to be a row of MySQL.
    Pending,
    /// Known to be a row of MySQL.
    Persisted,
}

impl PersistStatus {
    /// The spelling in JSON and in the column `persist_status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Persisted => "PERSISTED",
        }
    }
}

/// A value from outside is invalid. The text names the field and the form that it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMessage(pub(crate) &'static str);

impl From<InvalidId> for InvalidMessage {
    fn from(_: InvalidId) -> Self {
        Self("fromUserId and toId must be two different users")
    }
}

/// The client's own name for a message: 1 to 64 characters, unique for its sender. Sending the same name again is safe
/// (`docs/protocol.md`, R5).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientMessageId(String);

impl ClientMessageId {
    /// The most characters of a name.
    pub const MAX_CHARS: usize = 64;

    /// The text as the client gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ClientMessageId {
    type Error = InvalidMessage;
    fn try_from(text: String) -> Result<Self, InvalidMessage> {
        match text.chars().count() {
            1..=Self::MAX_CHARS => Ok(Self(text)),
            _ => Err(InvalidMessage("clientMsgId must have 1 to 64 characters")),
        }
    }
}

impl From<ClientMessageId> for String {
    fn from(id: ClientMessageId) -> Self {
        id.0
    }
}

impl fmt::Display for ClientMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The type of a message's content, 1 (text) to 255. Only clients know what the other numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct MessageType(u8);

impl MessageType {
    /// Plain text.
    pub const TEXT: Self = Self(1);
}

impl TryFrom<u8> for MessageType {
    type Error = InvalidMessage;
    fn try_from(value: u8) -> Result<Self, InvalidMessage> {
        if value == 0 { Err(InvalidMessage("msgType must be 1 to 255")) } else { Ok(Self(value)) }
    }
}

impl From<MessageType> for u8 {
    fn from(kind: MessageType) -> Self {
        kind.0
    }
}

/// A fingerprint of a send: equal for a retry, different for another receiver, type or content. It outlives the
/// content, so a retry of a recalled message can still be told from another message under the same `clientMsgId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint of a send: the first 16 bytes of a SHA-256 of receiver, type and content.
    pub fn of(to: UserId, kind: MessageType, content: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(to.get().to_be_bytes());
        hash.update([u8::from(kind)]);
        hash.update(content.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        Self(bytes)
    }

    /// The fingerprint in a column; `None` if it does not have 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The only `chatType` there is: a private message.
pub const CHAT_TYPE_PRIVATE: u8 = 1;

/// One message of two users.
///
/// Redis (`msg:detail:*`) and Kafka hold its JSON: numeric ids, times in ms. The order of the fields is part of the
/// format: the fields that may change come first, and `content` is the last. The Lua scripts replace the head and cut
/// the tail without decoding the rest, since Lua would round 64-bit ids (`docs/protocol.md`, R1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Message {
    /// Unique. The ids of a conversation order its messages.
    pub id: MessageId,
    /// The sender.
    pub from: UserId,
    /// The receiver; never the sender.
    pub to: UserId,
    /// The content; empty once the message is recalled.
    pub content: String,
    /// The type of the content.
    pub kind: MessageType,
    /// The time of the send, ms since 1970 UTC: the time in the id.
    pub send_time: TimestampMs,
    /// Normal, or recalled.
    pub status: Status,
    /// The time of the recall, ms since 1970 UTC.
    pub recall_time: Option<TimestampMs>,
    /// Accepted, or in MySQL.
    pub persist_status: PersistStatus,
    /// The sender's own name for the message, if it has one.
    pub client_msg_id: Option<ClientMessageId>,
    /// The number of the change that made the message a row of MySQL; `None` while the message is not known to be a
    /// row.
    pub seq: Option<i64>,
}

impl Message {
    /// A new message, PENDING. Its send time is that of its id, so a retry under the same id makes an equal message.
    pub fn new(
        id: MessageId,
        from: UserId,
        to: UserId,
        kind: MessageType,
        content: String,
        client_msg_id: Option<ClientMessageId>,
    ) -> Self {
        Self {
            id,
            from,
            to,
            content,
            kind,
            send_time: snowflake::time_of(id),
            status: Status::Normal,
            recall_time: None,
            persist_status: PersistStatus::Pending,
            client_msg_id,
            seq: None,
        }
    }

    /// The fingerprint of the send; `None` once the message is recalled, since the content is gone.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        (!self.is_recalled()).then(|| Fingerprint::of(self.to, self.kind, &self.content))
    }

    /// The conversation of its two users.
    pub fn conversation(&self) -> ConversationId {
        ConversationId::of(self.from, self.to)
    }

    /// This message, recalled at `recall_time`: `status` 0 and no content.
    #[must_use]
    pub fn recalled(mut self, recall_time: TimestampMs) -> Self {
        self.status = Status::Recalled;
        self.recall_time = Some(recall_time);
        self.content.clear();
        self
    }

    /// True if the message is recalled.
    pub fn is_recalled(&self) -> bool {
        self.status == Status::Recalled
    }

    /// True if `other` is the same message, apart from the fields that may change (status, recall time, persist
    /// status). The content is not compared if one of them is recalled.
    pub fn is_same_message(&self, other: &Self) -> bool {
        self.id == other.id
            && self.from == other.from
            && self.to == other.to
            && self.kind == other.kind
            && self.send_time == other.send_time
            && (self.is_recalled() || other.is_recalled() || self.content == other.content)
    }
}

/// [`Message`] as JSON. The order of the fields is part of the format, see [`Message`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default = "normal")]
    status: Status,
    #[serde(default = "pending")]
    persist_status: PersistStatus,
    #[serde(default)]
    recall_time: Option<TimestampMs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    id: MessageId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conversation_id: Option<ConversationId>,
    from_user_id: UserId,
    to_id: UserId,
    msg_type: MessageType,
    #[serde(default = "private_chat")]
    chat_type: u8,
    send_time: TimestampMs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_msg_id: Option<ClientMessageId>,
    content: String,
}

fn normal() -> Status {
    Status::Normal
}

fn pending() -> PersistStatus {
    PersistStatus::Pending
}

fn private_chat() -> u8 {
    CHAT_TYPE_PRIVATE
}

impl From<Message> for Wire {
    fn from(message: Message) -> Self {
        Self {
            status: message.status,
            persist_status: message.persist_status,
            recall_time: message.recall_time,
            seq: message.seq,
            id: message.id,
            conversation_id: Some(message.conversation()),
            from_user_id: message.from,
            to_id: message.to,
            msg_type: message.kind,
            chat_type: CHAT_TYPE_PRIVATE,
            send_time: message.send_time,
            client_msg_id: message.client_msg_id,
            content: message.content,
        }
    }
}

impl TryFrom<Wire> for Message {
    type Error = InvalidMessage;

    fn try_from(wire: Wire) -> Result<Self, InvalidMessage> {
        let conversation = ConversationId::between(wire.from_user_id, wire.to_id)?;
        if wire.conversation_id.is_some_and(|stated| stated != conversation) {
            return Err(InvalidMessage("conversationId must be that of fromUserId and toId"));
        }
        if wire.chat_type != CHAT_TYPE_PRIVATE {
            return Err(InvalidMessage("chatType must be 1 (private)"));
        }
        Ok(Self {
            id: wire.id,
            from: wire.from_user_id,
            to: wire.to_id,
            content: wire.content,
            kind: wire.msg_type,
            send_time: wire.send_time,
            status: wire.status,
            recall_time: wire.recall_time,
            persist_status: wire.persist_status,
            client_msg_id: wire.client_msg_id,
            seq: wire.seq,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(content: &str) -> Message {
        Message::new(
            MessageId::new(9_007_199_254_740_993).unwrap(),
            UserId::new(5).unwrap(),
            UserId::new(3).unwrap(),
            MessageType::TEXT,
            content.to_owned(),
            Some(ClientMessageId::try_from("a,\"content\":\"b".to_owned()).unwrap()),
        )
    }

    /// The Lua scripts rely on this: the changing fields first, the content last, and its start nowhere else.
    #[test]
    fn json_begins_with_what_changes_and_ends_with_the_content() {
        let json = serde_json::to_string(&message("你好 🦢")).unwrap();
        assert!(
            json.starts_with(
                r#"{"status":1,"persistStatus":"PENDING","recallTime":null,"id":9007199254740993,"#
            ),
            "{json}"
        );
        assert!(json.ends_with(r#","content":"你好 🦢"}"#), "{json}");
        assert_eq!(json.matches(r#","content":""#).count(), 1, "{json}");
    }

    #[test]
    fn json_round_trips() {
        let message = message("line\nbreak \u{0} \"quoted\"");
        let back: Message = serde_json::from_str(&serde_json::to_string(&message).unwrap()).unwrap();
        assert_eq!(back, message);
    }

    #[test]
    fn the_data_of_a_java_service_is_read() {
        let json = r#"{"id":7,"fromUserId":5,"toId":3,"content":"hi","msgType":1,"chatType":1,"sendTime":9,"status":1,"persistStatus":"PENDING","unknown":[]}"#;
        let message: Message = serde_json::from_str(json).unwrap();
        assert_eq!(message.conversation().to_string(), "3_5");
        assert_eq!(message.send_time, 9);
    }

    #[test]
    fn a_message_that_contradicts_itself_is_refused() {
        for wrong in [
            r#"{"id":7,"fromUserId":5,"toId":5,"content":"hi","msgType":1,"sendTime":9}"#,
            r#"{"id":7,"conversationId":"1_2","fromUserId":5,"toId":3,"content":"hi","msgType":1,"sendTime":9}"#,
            r#"{"id":7,"fromUserId":5,"toId":3,"content":"hi","msgType":0,"sendTime":9}"#,
            r#"{"id":7,"fromUserId":5,"toId":3,"content":"hi","msgType":1,"chatType":2,"sendTime":9}"#,
            r#"{"id":7,"fromUserId":5,"toId":3,"content":"hi","msgType":1,"sendTime":9,"status":2}"#,
            r#"{"id":7,"fromUserId":5,"toId":3,"content":null,"msgType":1,"sendTime":9}"#,
        ] {
            assert!(serde_json::from_str::<Message>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_recalled_message_keeps_no_words() {
        let recalled = message("secret").recalled(12);
        assert_eq!(recalled.content, "");
        assert_eq!(recalled.recall_time, Some(12));
        assert!(recalled.is_same_message(&message("secret")));
    }
}
