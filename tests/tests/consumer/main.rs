//! The consumer and the compensator: redelivery, duplicates, clashes, broken records, stores that are away.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

mod batches;
mod broken_records;
mod compensator;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hongyan::event::{MessageEvent, Recall};
use hongyan::id::UserId;
use hongyan::message::{Message, MessageType};
use hongyan::queue::{KafkaBatchResponse, KafkaEvent};
use hongyan_runtime::dlq;
use hongyan_runtime::dlq::{Filter, Letter};
use hongyan_testkit::TestApp;
use serde_json::json;

/// The event that Lambda would hand over: these values as records of one partition, from offset 0 on.
fn batch(values: &[Vec<u8>]) -> KafkaEvent {
    let records: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(offset, value)| {
            json!({"topic": "im-message-private", "partition": 4, "offset": offset, "timestamp": 0,
                "timestampType": "CREATE_TIME", "key": STANDARD.encode("1_2"), "value": STANDARD.encode(value),
                "headers": []})
        })
        .collect();
    let event = json!({"eventSource": "aws:kafka", "records": {"im-message-private-4": records}});
    serde_json::from_value(event).unwrap()
}

fn persist(message: &Message) -> Vec<u8> {
    serde_json::to_vec(&MessageEvent::Persist { data: message.clone() }).unwrap()
}

fn recall(message: &Message, recall_time: i64) -> Vec<u8> {
    let recall = Recall { message_id: message.id, recall_time, conversation_id: message.conversation() };
    serde_json::to_vec(&MessageEvent::Recall(recall)).unwrap()
}

/// A message of 1 to 2 that no store knows yet.
async fn message(test: &TestApp, content: &str) -> Message {
    let id = test.app().ids.next().await.unwrap();
    Message::new(
        id,
        UserId::new(1).unwrap(),
        UserId::new(2).unwrap(),
        MessageType::TEXT,
        content.to_owned(),
        None,
    )
}

/// A message of `from` to 1,000 that no store knows yet.
async fn message_of(test: &TestApp, from: i64, content: &str) -> Message {
    let (from, to) = (UserId::new(from).unwrap(), UserId::new(1_000).unwrap());
    Message { from, to, ..message(test, content).await }
}

/// Does the part of a send that concerns Redis.
async fn accept(test: &TestApp, message: &Message) {
    test.app().cache.accept(message, message.send_time).await.unwrap();
}

async fn consume(test: &TestApp, values: &[Vec<u8>]) -> KafkaBatchResponse {
    hongyan_kafka_consumer::handle(test.app(), batch(values)).await.unwrap()
}

async fn letters(test: &TestApp) -> Vec<Letter> {
    dlq::list(&test.config.kafka, Filter::default()).await.unwrap()
}

async fn tombstones(test: &TestApp) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM message_recall").fetch_one(&test.mysql).await.unwrap()
}

/// Text that no compression makes small.
fn noise(bytes: usize) -> String {
    STANDARD.encode(rand::random_iter::<u8>().take(bytes / 4 * 3).collect::<Vec<u8>>())
}
