//! The five scenarios that must hold (`docs/protocol.md`), end to end on real servers.

#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]

use std::time::Duration;

use hongyan_testkit::TestApp;
use hongyan_testkit::app::eventually;
use hongyan_testkit::description::assert_valid;
use hongyan_testkit::kafka::reader;
use rdkafka::Message as _;
use serde_json::json;

/// 1. Send → Redis and Kafka written → answered → in MySQL within 3 s → Redis says PERSISTED.
#[tokio::test(flavor = "multi_thread")]
async fn a_sent_message_becomes_a_row_and_redis_says_persisted() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));

    let sent = alice.send(2, "你好 🦢").await;
    assert_eq!(sent.status, 201, "{sent:?}");
    assert_eq!(sent.body["persistStatus"], "PENDING");
    let id = sent.id();
    assert_eq!(bob.history(1, "").await.ids(), [id.as_str()], "Redis answers at once");

    eventually("the row is in MySQL", Duration::from_secs(3), async || test.row(&id).await.is_some()).await;
    let row = test.row(&id).await.unwrap();
    assert_eq!((row.status, row.content.as_str(), row.persist_status.as_str()), (1, "你好 🦢", "PERSISTED"));
    eventually("Redis says PERSISTED", Duration::from_secs(3), async || {
        test.detail(&id).await.unwrap()["persistStatus"] == "PERSISTED"
    })
    .await;
    assert_eq!(bob.history(1, "").await.body["messages"][0]["persistStatus"], "PERSISTED");
    test.stop().await;
}

/// 2. Send, recall while still queued → flag set → the consumer skips the message → MySQL never shows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_recalled_while_queued_never_becomes_a_visible_row() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    test.hold().await;

    let id = alice.sent(2, "too early").await;
    let recalled = alice.recall(&id).await;
    assert_eq!(recalled.status, 200, "{recalled:?}");
    let flag: Option<String> =
        redis::cmd("GET").arg(format!("msg:cancel:{id}")).query_async(&mut test.redis().await).await.unwrap();
    assert_eq!(flag, Some(recalled.body["recallTime"].to_string()));

    test.release();
    test.drain().await;
    assert_eq!(test.count_rows("status = 1").await, 0);
    assert_eq!(test.row(&id).await, None, "the check before the write spared MySQL the row");
    let topic = reader(&test.config.kafka, &test.config.kafka.topic);
    for schema in ["schemas/persist.schema.json", "schemas/recall.schema.json"] {
        let record = topic.poll(Duration::from_secs(10)).unwrap().unwrap();
        assert_eq!(record.key(), Some(b"1_2".as_slice()));
        assert_valid(schema, &serde_json::from_slice(record.payload().unwrap()).unwrap());
    }
    let detail = test.detail(&id).await.unwrap();
    assert_eq!((&detail["status"], &detail["content"]), (&json!(0), &json!("")));
    for reader in [&alice, &bob] {
        let peer = if reader.id == alice.id { 2 } else { 1 };
        assert_eq!(reader.history(peer, "").await.body, json!({"messages": [], "next": null}));
    }
    test.stop().await;
}

/// 3. Send, persisted, recalled after 3 min → RECALL event → MySQL `status` 0 → Redis updated.
#[tokio::test(flavor = "multi_thread")]
async fn a_persisted_message_recalled_three_minutes_later_is_emptied_everywhere() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    let id = alice.sent(2, "regretted").await;
    test.drain().await;
    assert_eq!(test.row(&id).await.unwrap().status, 1);

    test.pass_ms(3 * 60 * 1_000);
    let recalled = alice.recall(&id).await;
    assert_eq!(recalled.status, 200, "{recalled:?}");
    test.drain().await;
    let row = test.row(&id).await.unwrap();
    assert_eq!((row.status, row.content.as_str()), (0, ""));
    let detail = test.detail(&id).await.unwrap();
    assert_eq!((&detail["status"], &detail["content"]), (&json!(0), &json!("")));

    let again = alice.recall(&id).await;
    assert_eq!((again.status, &again.body), (200, &recalled.body), "a repeated recall has the same answer");
    test.stop().await;
}

/// 5. Kafka has lost the message → Redis keeps it PENDING → after 5 min the compensator re-sends → persisted.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kafka_never_got_is_sent_again_after_five_minutes() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    let id = lose_in_kafka(&test, &alice).await;
    assert_eq!(test.detail(&id).await.unwrap()["persistStatus"], "PENDING");

    assert_eq!(test.compensate().await.due, 0, "five minutes have not passed");
    test.pass_ms(301_000);
    let run = test.compensate().await;
    assert_eq!((run.due, run.resent), (1, 1), "{run:?}");
    test.drain().await;
    assert_eq!(test.row(&id).await.unwrap().content, "lost on the way");
    assert_eq!(test.detail(&id).await.unwrap()["persistStatus"], "PERSISTED");
    assert_eq!(test.app().cache.pending_count().await.unwrap(), 0);
    test.stop().await;
}

/// Writes a message to Redis as a send does, and not to Kafka: a send while Kafka is away.
async fn lose_in_kafka(test: &TestApp, sender: &hongyan_testkit::Caller) -> String {
    use hongyan::id::UserId;
    use hongyan::message::{Message, MessageType};
    let id = test.app().ids.next().await.unwrap();
    let to = UserId::new(2).unwrap();
    let message = Message::new(id, sender.id, to, MessageType::TEXT, "lost on the way".to_owned(), None);
    test.app().cache.accept(&message, test.clock().now_ms()).await.unwrap();
    id.to_string()
}
