//! What is said on the topic `im-message-private` (`contract.md`, "Kafka").

use serde::{Deserialize, Serialize};

use crate::clock::TimestampMs;
use crate::id::{ConversationId, MessageId};
use crate::message::Message;

/// One record of the topic. Its key is the conversation id, so that a RECALL follows its PERSIST in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "UPPERCASE")]
pub enum MessageEvent {
    /// Write this message to MySQL.
    Persist {
        /// The message as it was accepted.
        data: Message,
    },
    /// Take this message back, wherever it is.
    Recall(Recall),
}

/// A recall that was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recall {
    /// Which message.
    pub message_id: MessageId,
    /// When its sender took it back, ms since 1970 UTC.
    pub recall_time: TimestampMs,
    /// Its conversation: the key of the record.
    pub conversation_id: ConversationId,
}

impl Recall {
    /// The recall of `message` at `recall_time`.
    pub fn of(message: &Message, recall_time: TimestampMs) -> Self {
        Self { message_id: message.id, recall_time, conversation_id: message.conversation() }
    }
}

impl MessageEvent {
    /// The conversation that the event belongs to.
    pub fn conversation(&self) -> ConversationId {
        match self {
            Self::Persist { data } => data.conversation(),
            Self::Recall(recall) => recall.conversation_id,
        }
    }

    /// The message that the event is about.
    pub fn message_id(&self) -> MessageId {
        match self {
            Self::Persist { data } => data.id,
            Self::Recall(recall) => recall.message_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_actions_are_those_of_the_contract() {
        let json =
            r#"{"action":"RECALL","messageId":9007199254740993,"recallTime":5,"conversationId":"1_2"}"#;
        let event: MessageEvent = serde_json::from_str(json).unwrap();
        assert_eq!(event.message_id().get(), 9_007_199_254_740_993);
        assert_eq!(serde_json::to_string(&event).unwrap(), json);

        let json = r#"{"action":"PERSIST","data":{"id":9007199254740993,"fromUserId":1,"toId":2,"content":"a","msgType":1,"chatType":1,"sendTime":4,"status":1,"persistStatus":"PENDING"},"more":1}"#;
        let event: MessageEvent = serde_json::from_str(json).unwrap();
        assert_eq!(event.conversation().to_string(), "1_2");
        assert!(serde_json::to_string(&event).unwrap().starts_with(r#"{"action":"PERSIST","data":{"#));
    }

    #[test]
    fn anything_else_is_refused() {
        for wrong in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"action":"DELETE"}"#,
            r#"{"action":"PERSIST"}"#,
            r#"{"action":"RECALL","messageId":0}"#,
        ] {
            assert!(serde_json::from_str::<MessageEvent>(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = serde_json::from_slice::<MessageEvent>(&bytes);
        }
    }
}
