//! The records of the topic `im-message-private` (`docs/contract.md`, "Kafka").

use serde::{Deserialize, Serialize};

use crate::clock::TimestampMs;
use crate::id::{ConversationId, MessageId};
use crate::json;
use crate::message::Message;

/// The value of a record. The record's key is the conversation id, so a RECALL follows its PERSIST in the same
/// partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "UPPERCASE")]
pub enum MessageEvent {
    /// Write this message to MySQL.
    Persist {
        /// The message as it was accepted.
        #[serde(deserialize_with = "json::object")]
        data: Message,
    },
    /// Recall this message, wherever it is.
    Recall(Recall),
}

/// A recall that was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recall {
    /// The message.
    pub message_id: MessageId,
    /// The time of the recall, ms since 1970 UTC.
    pub recall_time: TimestampMs,
    /// The message's conversation, which is also the record's key.
    pub conversation_id: ConversationId,
}

impl Recall {
    /// The recall of `message` at `recall_time`.
    pub fn of(message: &Message, recall_time: TimestampMs) -> Self {
        Self { message_id: message.id, recall_time, conversation_id: message.conversation() }
    }
}

impl MessageEvent {
    /// Reads the value of a record.
    pub fn parse(value: &[u8]) -> serde_json::Result<Self> {
        json::object_from_slice(value)
    }

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
    use serde_json::Value;

    use super::*;
    use crate::id::UserId;
    use crate::message::{ClientMessageId, MessageType, PersistStatus, Status};

    #[test]
    fn the_actions_are_those_of_the_contract() {
        let json =
            r#"{"action":"RECALL","messageId":9007199254740993,"recallTime":5,"conversationId":"1_2"}"#;
        let event = MessageEvent::parse(json.as_bytes()).unwrap();
        assert_eq!(event.message_id().get(), 9_007_199_254_740_993);
        assert_eq!(serde_json::to_string(&event).unwrap(), json);

        let json = r#"{"action":"PERSIST","data":{"id":9007199254740993,"fromUserId":1,"toId":2,"content":"a","msgType":1,"chatType":1,"sendTime":4,"status":1,"persistStatus":"PENDING"},"more":1}"#;
        let event = MessageEvent::parse(json.as_bytes()).unwrap();
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
            // The fields in their order, but as an array.
            r#"["RECALL",3,5,"1_2"]"#,
            r#"["RECALL",{"messageId":3,"recallTime":5,"conversationId":"1_2"}]"#,
            r#"{"action":"PERSIST","data":[1,"PENDING",null,9,null,1,2,1,1,4,null,"a"]}"#,
        ] {
            assert!(MessageEvent::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    fn messages() -> impl Strategy<Value = Message> {
        let ids = (1..=i64::MAX, 1..=i64::MAX, 1..=i64::MAX);
        let kept = (".{0,20}", 1..=u8::MAX, prop::option::of(".{1,64}"));
        let marks = (any::<bool>(), prop::option::of(0..=i64::MAX), 0..=i64::MAX);
        (ids, kept, marks).prop_filter_map("two users", |(ids, kept, (pending, recall_time, send_time))| {
            let (id, from, to) = ids;
            let (content, kind, client_msg_id) = kept;
            Some(Message {
                id: MessageId::new(id).ok()?,
                from: UserId::new(from).ok()?,
                to: UserId::new(to).ok().filter(|to| to.get() != from)?,
                content,
                kind: MessageType::try_from(kind).ok()?,
                send_time,
                status: if recall_time.is_some() { Status::Recalled } else { Status::Normal },
                recall_time,
                persist_status: if pending { PersistStatus::Pending } else { PersistStatus::Persisted },
                client_msg_id: client_msg_id.map(|text| ClientMessageId::try_from(text).unwrap()),
                seq: None,
            })
        })
    }

    /// Any JSON, small.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            prop_oneof!["PERSIST", "RECALL", "1_2"].prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The fields of the format, with any values.
    fn nearly_an_event() -> impl Strategy<Value = Value> {
        let names = prop::sample::select(vec![
            "action",
            "data",
            "messageId",
            "recallTime",
            "conversationId",
            "id",
            "fromUserId",
            "toId",
            "content",
            "msgType",
            "chatType",
            "sendTime",
            "status",
            "persistStatus",
            "clientMsgId",
        ]);
        let fields = || prop::collection::btree_map(names.clone(), json(), 0..15);
        (fields(), fields()).prop_map(|(mut outer, inner)| {
            outer.insert("data", Value::Object(inner.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()));
            Value::Object(outer.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = MessageEvent::parse(&bytes);
        }

        #[test]
        fn no_json_makes_the_parser_panic(json in prop_oneof![json(), nearly_an_event()]) {
            let _ = MessageEvent::parse(json.to_string().as_bytes());
        }

        #[test]
        fn what_is_written_is_read(message in messages(), cut in any::<prop::sample::Index>()) {
            for event in [
                MessageEvent::Persist { data: message.clone() },
                MessageEvent::Recall(Recall::of(&message, message.send_time)),
            ] {
                let bytes = serde_json::to_vec(&event).unwrap();
                prop_assert_eq!(&MessageEvent::parse(&bytes).unwrap(), &event);
                // A truncated record is never taken for a whole one.
                prop_assert!(MessageEvent::parse(&bytes[..cut.index(bytes.len())]).is_err());
            }
        }
    }
}
