//! docs/asyncapi.yaml and docs/schemas/ say what the code sends and takes. Real records of Kafka are held against the schemas
//! by `tests/tests/queue.rs` and `tests/tests/scenarios.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hongyan::event::MessageEvent;
use hongyan::http::MessageView;
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::message::{ClientMessageId, Message, MessageType};
use hongyan::push::PushEvent;
use hongyan_testkit::description::{assert_valid, read, validator};
use serde_json::{Value, json};

static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| read("asyncapi.yaml"));

const RECORD: &str = "schemas/record.schema.json";

/// The variants of the enum `name` in a file of the repository, as the code spells them.
fn variants(file: &str, name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let file = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap();
    let found = file.items.into_iter().find_map(|item| match item {
        syn::Item::Enum(item) if item.ident == name => Some(item),
        _ => None,
    });
    found.unwrap().variants.iter().map(|variant| variant.ident.to_string()).collect()
}

/// `MessageRecalled` as `MESSAGE_RECALLED`.
fn screaming(name: &str) -> String {
    let mut spelled = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !spelled.is_empty() {
            spelled.push('_');
        }
        spelled.push(letter.to_ascii_uppercase());
    }
    spelled
}

/// The messages of an operation, or of its reply.
fn messages_of(operation: &str) -> BTreeSet<String> {
    let list = DESCRIPTION.pointer(&format!("/operations/{operation}/messages")).unwrap().as_array().unwrap();
    let name = |message: &Value| message["$ref"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    list.iter().map(name).collect()
}

fn texts<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_messages_are_those_of_the_code() {
    let pushes = variants("shared/src/push.rs", "Wire").iter().map(|name| screaming(name)).collect();
    assert_eq!(messages_of("push"), pushes);
    let actions =
        variants("functions/websocket/src/lib.rs", "Said").iter().map(|name| name.to_lowercase()).collect();
    assert_eq!(messages_of("say"), actions);
    assert_eq!(messages_of("say/reply"), texts(["PONG", "ERROR"]));
    let records =
        variants("shared/src/event.rs", "MessageEvent").iter().map(|name| screaming(name)).collect();
    assert_eq!(messages_of("produce"), records);
    assert_eq!(messages_of("consume"), records);

    let kafka = super::default_config().kafka;
    let channels = &DESCRIPTION["channels"];
    assert_eq!(channels["records"]["address"], kafka.topic);
    assert_eq!(channels["records"]["bindings"]["kafka"]["partitions"], kafka.partitions.get());
    assert_eq!(channels["deadLetters"]["address"], kafka.dead_letter_topic);
    let group = &DESCRIPTION["operations"]["consume"]["bindings"]["kafka"]["groupId"]["const"];
    assert_eq!(*group, kafka.group_id);
}

/// A push of each type, made by the code.
fn pushes() -> Vec<PushEvent> {
    let message_id = MessageId::new(i64::MAX).unwrap();
    let (user_id, to) = (UserId::new(i64::MAX - 1).unwrap(), UserId::new(2).unwrap());
    let conversation_id = ConversationId::between(user_id, to).unwrap();
    let name = ClientMessageId::try_from("first".to_owned()).unwrap();
    let message = Message::new(message_id, user_id, to, MessageType::TEXT, "你好".to_owned(), Some(name));
    vec![
        PushEvent::Message(Box::new(MessageView::of(message, user_id))),
        PushEvent::MessageRecalled { message_id, conversation_id, recall_time: 1_732_723_200_000 },
        PushEvent::Read { conversation_id, user_id, up_to: message_id },
        PushEvent::MessageDeleted { message_id, conversation_id },
        PushEvent::ConversationCleared { conversation_id, up_to: message_id },
        PushEvent::Typing { conversation_id, from_user_id: user_id },
    ]
}

#[test]
fn every_push_is_as_described() {
    let mut seen = BTreeSet::new();
    for push in pushes() {
        let push = serde_json::to_value(&push).unwrap();
        let kind = push["type"].as_str().unwrap().to_owned();
        let payload = format!("asyncapi.yaml#/components/messages/{kind}/payload");
        assert_valid(&payload, &push);
        let schema = validator(&payload);
        for field in push.as_object().unwrap().keys() {
            let mut without = push.clone();
            without.as_object_mut().unwrap().remove(field);
            assert!(!schema.is_valid(&without), "{kind} without {field}");
        }
        // An id as a number would be rounded by JavaScript.
        for field in
            ["messageId", "userId", "fromUserId", "upTo"].iter().filter(|field| push.get(**field).is_some())
        {
            let mut wrong = push.clone();
            wrong[*field] = 7.into();
            assert!(!schema.is_valid(&wrong), "{kind} with {field} as a number");
        }
        seen.insert(kind);
    }
    assert_eq!(seen, messages_of("push"), "one push of each type");
}

#[test]
fn a_push_that_is_too_large_is_as_described() {
    let mut push = serde_json::to_value(&pushes()[0]).unwrap();
    push["data"]["content"] = Value::Null;
    let schema = validator("asyncapi.yaml#/components/messages/MESSAGE/payload");
    assert!(!schema.is_valid(&push), "no content, and nothing says why");
    push["data"]["truncated"] = true.into();
    assert!(schema.is_valid(&push));
}

/// The values of the records of a sample that are text.
fn records(sample: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events").join(sample);
    let event: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let partitions = event["records"].as_object().unwrap().values();
    let records = partitions.filter_map(Value::as_array).flatten();
    records.filter_map(|record| STANDARD.decode(record["value"].as_str()?).ok()).collect()
}

#[test]
fn the_records_of_the_samples_are_as_described() {
    let schema = validator(RECORD);
    let samples = [("kafka-msk.json", 4), ("kafka-self-managed.json", 1), ("kafka-odd-envelopes.json", 14)];
    for (sample, count) in samples {
        let values = records(sample);
        assert_eq!(values.len(), count, "{sample}");
        for value in values {
            assert_valid(RECORD, &serde_json::from_slice(&value).unwrap());
        }
    }
    let good = records("kafka-broken-records.json")
        .into_iter()
        .filter(|value| serde_json::from_slice(value).is_ok_and(|value: Value| schema.is_valid(&value)));
    assert_eq!(good.count(), 1, "all but one are dead letters");
}

#[test]
fn a_broken_record_is_neither_described_nor_taken() {
    let schema = validator(RECORD);
    let data =
        json!({"id": i64::MAX, "fromUserId": 1, "toId": 2, "content": "a", "msgType": 1, "sendTime": 4});
    let persist = json!({"action": "PERSIST", "data": data});
    let recall = json!({"action": "RECALL", "messageId": 7, "recallTime": 5, "conversationId": "1_2"});
    let taken = |value: &Value| MessageEvent::parse(value.to_string().as_bytes()).is_ok();
    for good in [&persist, &recall] {
        assert!(schema.is_valid(good) && taken(good), "{good}");
    }
    for (record, place, wrong) in [
        (&persist, "/action", json!("ARCHIVE")),
        (&persist, "/data", json!([])),
        (&persist, "/data/id", json!(0)),
        (&persist, "/data/id", json!(9_223_372_036_854_775_808_u64)),
        (&persist, "/data/fromUserId", json!(1.5)),
        (&persist, "/data/toId", Value::Null),
        (&persist, "/data/msgType", json!(0)),
        (&persist, "/data/msgType", json!(256)),
        (&persist, "/data/sendTime", json!("yesterday")),
        (&persist, "/data/content", json!({})),
        (&recall, "/messageId", json!(-1)),
        (&recall, "/recallTime", Value::Null),
        (&recall, "/conversationId", json!("2")),
    ] {
        let mut broken = record.clone();
        *broken.pointer_mut(place).unwrap() = wrong;
        assert!(!schema.is_valid(&broken), "the schema takes {broken}");
        assert!(!taken(&broken), "the consumer takes {broken}");
    }
    // The schema says these as well; the consumer finds them later.
    for (place, wrong) in [("/data/content", json!("")), ("/data/sendTime", json!(253_402_300_800_000_i64))] {
        let mut broken = persist.clone();
        *broken.pointer_mut(place).unwrap() = wrong;
        assert!(!schema.is_valid(&broken), "the schema takes {broken}");
    }
    let recalled = json!({"action": "PERSIST", "data":
        {"id": 7, "fromUserId": 1, "toId": 2, "content": "", "msgType": 1, "sendTime": 4, "status": 0, "recallTime": 5}});
    assert!(schema.is_valid(&recalled) && taken(&recalled), "it is the recall of its message");
}

#[test]
fn headers_of_dead_letters_are_all_there() {
    let schema = validator("schemas/dead-letter-headers.schema.json");
    let good = json!({"error": "an unknown action", "attempts": "1", "original-topic": "im-message-private",
        "original-partition": "-1", "original-offset": "41", "failed-at": "1732723200000"});
    assert!(schema.is_valid(&good));
    for (name, wrong) in [
        ("error", json!("x".repeat(1_025))),
        ("attempts", json!("0")),
        ("original-topic", Value::Null),
        ("original-partition", json!("-2")),
        ("original-offset", json!(41)),
        ("failed-at", json!("now")),
    ] {
        let mut broken = good.clone();
        broken[name] = wrong;
        assert!(!schema.is_valid(&broken), "{broken}");
        broken.as_object_mut().unwrap().remove(name);
        assert!(!schema.is_valid(&broken), "{broken}");
    }
}
