//! The consumer and the compensator behind it: redelivery, doubles, clashes, broken records, stores that are away.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hongyan::event::{MessageEvent, Recall};
use hongyan::id::UserId;
use hongyan::message::{ClientMessageId, Message, MessageType};
use hongyan::queue::{KafkaBatchResponse, KafkaEvent};
use hongyan_local::dlq::{self, Filter, Letter};
use hongyan_local::stack::{Kind, Stack, StackOptions};
use hongyan_tests::TestApp;
use hongyan_tests::app::eventually;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use redis::AsyncCommands as _;
use serde_json::json;

/// What Lambda would hand over: these values as one partition's records from offset 0.
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

/// A message of 1 to 2 that nothing knows yet.
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

/// What a send does in Redis.
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

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_comes_again_changes_nothing() {
    let test = TestApp::builder().without_trigger().start().await;
    let mut values = Vec::new();
    let mut first = None;
    for number in 0..20 {
        let message = message(&test, &format!("message {number}")).await;
        accept(&test, &message).await;
        values.push(persist(&message));
        first.get_or_insert(message);
    }
    let first = first.unwrap();
    values.push(recall(&first, first.send_time + 1));
    for _ in 0..3 {
        assert_eq!(consume(&test, &values).await, KafkaBatchResponse::done());
        assert_eq!(test.count_rows("status = 1 AND persist_status = 'PERSISTED'").await, 19);
        assert_eq!(test.count_rows("status = 0 AND content = ''").await, 1);
        assert_eq!(tombstones(&test).await, 1);
        assert_eq!(test.app().cache.pending_count().await.unwrap(), 0);
    }
    // Also to a Redis that remembers nothing.
    redis::cmd("FLUSHDB").exec_async(&mut test.redis().await).await.unwrap();
    assert_eq!(consume(&test, &values).await, KafkaBatchResponse::done());
    assert_eq!(test.count_rows("TRUE").await, 20);
    assert_eq!(test.count_rows("status = 1").await, 19);
    assert_eq!(test.user(2).history(1, "limit=100").await.ids().len(), 19);
    assert_eq!(test.user(2).unread().await.body["total"], 19);
    assert_eq!(letters(&test).await, []);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_message_twice_in_a_batch_is_one_row() {
    let test = TestApp::builder().without_trigger().start().await;
    let (a, b) = (message(&test, "twice").await, message(&test, "once").await);
    let values =
        [persist(&a), persist(&b), persist(&a), recall(&b, b.send_time + 1), persist(&b), persist(&a)];
    assert_eq!(consume(&test, &values).await, KafkaBatchResponse::done());
    assert_eq!(test.count_rows("TRUE").await, 2);
    assert_eq!(test.row(&a.id.to_string()).await.unwrap().content, "twice");
    assert_eq!(test.row(&b.id.to_string()).await.unwrap().status, 0, "recalled, whatever came after");
    assert_eq!(letters(&test).await, []);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_messages_under_one_id_are_one_row_and_one_dead_letter() {
    for together in [true, false] {
        let test = TestApp::builder().without_trigger().start().await;
        let first = message(&test, "the first").await;
        let second = Message { content: "the second".to_owned(), ..first.clone() };
        let behind = message(&test, "behind them").await;
        let values = [persist(&first), persist(&second), persist(&behind)];
        if together {
            assert_eq!(consume(&test, &values).await, KafkaBatchResponse::done());
        } else {
            for value in values {
                assert_eq!(consume(&test, &[value]).await, KafkaBatchResponse::done());
            }
        }
        assert_eq!(test.row(&first.id.to_string()).await.unwrap().content, "the first");
        assert_eq!(test.row(&behind.id.to_string()).await.unwrap().content, "behind them");
        assert_eq!(test.count_rows("TRUE").await, 2);
        let letters = letters(&test).await;
        assert_eq!(letters.len(), 1, "together: {together}");
        assert!(letters[0].error().contains(&first.id.to_string()), "{}", letters[0].error());
        test.stop().await;
    }
}

/// Straight to Kafka, past all checks of the send.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_can_never_be_rows_are_parked_and_those_behind_them_go_on() {
    let test = TestApp::start().await;
    let queue = &test.app().queue;
    let wait = Duration::from_secs(10);
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", &test.config.kafka.bootstrap_servers).create().unwrap();
    let raw = async |value: &[u8]| {
        let record = FutureRecord::to(&test.config.kafka.topic).key("1_2").partition(4).payload(value);
        producer.send(record, wait).await.unwrap();
    };
    let before = message(&test, "before").await;
    let too_large = message(&test, &"x".repeat(65_536)).await;
    let largest = message(&test, &"x".repeat(65_535)).await;
    let after = message(&test, "after").await;
    queue.send(&MessageEvent::Persist { data: before.clone() }, wait).await.unwrap();
    queue.send(&MessageEvent::Persist { data: too_large.clone() }, wait).await.unwrap();
    raw(b"not JSON").await;
    raw(br#"{"action":"ARCHIVE","data":{}}"#).await;
    raw(br#"{"action":"RECALL","messageId":"x"}"#).await;
    raw(b"\xff\xfe\x00").await;
    raw(b"").await;
    queue.send(&MessageEvent::Persist { data: largest.clone() }, wait).await.unwrap();
    queue.send(&MessageEvent::Persist { data: after.clone() }, wait).await.unwrap();
    test.drain().await;
    for message in [&before, &largest, &after] {
        assert_eq!(test.row(&message.id.to_string()).await.unwrap().content, message.content);
    }
    assert_eq!(test.count_rows("TRUE").await, 3);
    let letters = letters(&test).await;
    let mut places: Vec<i64> = letters.iter().map(|letter| letter.origin().unwrap().2).collect();
    places.sort_unstable();
    assert_eq!(places, [1, 2, 3, 4, 5, 6]);
    let of = |offset| letters.iter().find(|letter| letter.origin().unwrap().2 == offset).unwrap();
    assert!(of(1).error().contains("MySQL refuses"), "{}", of(1));
    assert!(of(3).error().contains("ARCHIVE"), "{}", of(3));
    let attempts = |offset| of(offset).text("attempts").map(str::to_owned);
    assert_eq!(attempts(1).as_deref(), Some("3"));
    assert_eq!([2, 3, 4, 5, 6].map(|offset| attempts(offset).unwrap()), ["1"; 5], "no try would help");
    // Nothing is waiting to be sent again and again.
    test.pass_ms(301_000);
    assert_eq!(test.compensate().await.resent, 0);
    test.stop().await;
}

/// A trigger refuses one row twice, as a table might that somebody is mending. It counts by AUTO_INCREMENT, which no rollback
/// sets back.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_mysql_refuses_is_tried_again_before_it_is_a_dead_letter() {
    let test = TestApp::builder().without_trigger().start().await;
    for statement in [
        "CREATE TABLE tries (number BIGINT AUTO_INCREMENT PRIMARY KEY) ENGINE = InnoDB",
        "CREATE TRIGGER refuse_twice BEFORE INSERT ON message FOR EACH ROW BEGIN \
         IF NEW.content = 'unlucky' THEN INSERT INTO tries VALUES (NULL); \
         IF LAST_INSERT_ID() <= 2 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not now'; END IF; END IF; END",
    ] {
        sqlx::raw_sql(statement).execute(&test.mysql).await.unwrap();
    }
    let (unlucky, other) = (message(&test, "unlucky").await, message(&test, "lucky").await);
    assert_eq!(consume(&test, &[persist(&unlucky), persist(&other)]).await, KafkaBatchResponse::done());
    for message in [&unlucky, &other] {
        assert_eq!(test.row(&message.id.to_string()).await.unwrap().content, message.content);
    }
    let tries: Vec<i64> =
        sqlx::query_scalar("SELECT number FROM tries").fetch_all(&test.mysql).await.unwrap();
    assert_eq!(tries, [3], "two were refused, and the third was not");
    assert_eq!(letters(&test).await, []);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_retry_that_redis_did_not_recognise_is_taken_out_again() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let body = json!({"toId": "2", "content": "once", "msgType": 1, "clientMsgId": "mine"});
    let first = alice.post("/messages", &body).await;
    assert_eq!(first.status, 201);
    test.drain().await;
    let kept = [first.id()];

    redis::cmd("FLUSHDB").exec_async(&mut test.redis().await).await.unwrap();
    test.hold().await;
    let retry = alice.post("/messages", &body).await;
    assert_eq!(retry.status, 201, "Redis has forgotten");
    assert_ne!(retry.id(), first.id());
    test.release();
    test.drain().await;
    assert_eq!(test.row(&retry.id()).await, None);
    assert_eq!(test.count_rows("TRUE").await, 1);
    assert_eq!(test.detail(&retry.id()).await, None);
    for (reader, peer) in [(&alice, 2), (&bob, 1)] {
        assert_eq!(reader.history(peer, "").await.ids(), kept);
    }
    assert_eq!(bob.unread().await.body, json!({"total": 1, "messageIds": kept}));
    assert_eq!(test.app().cache.pending_count().await.unwrap(), 0);
    let again = alice.post("/messages", &body).await;
    assert_eq!((again.status, again.id()), (200, first.id()), "known again");
    assert_eq!(letters(&test).await, []);
    test.stop().await;
}

/// What only MySQL can notice once Redis has forgotten a `clientMsgId`: the same message again stays out; another one,
/// which was accepted all the same, is kept without the name.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_message_id_names_one_message_for_good_and_loses_none() {
    let test = TestApp::builder().without_trigger().start().await;
    let named = async |content| {
        let client_msg_id = Some(ClientMessageId::try_from("mine".to_owned()).unwrap());
        Message { client_msg_id, ..message(&test, content).await }
    };
    let (first, again, other) = (named("first").await, named("first").await, named("other").await);
    let values = [persist(&first), persist(&again), persist(&other)];
    for _ in 0..2 {
        assert_eq!(consume(&test, &values).await, KafkaBatchResponse::done());
        assert_eq!(test.count_rows("TRUE").await, 2);
        assert_eq!(test.count_rows("client_msg_id = 'mine'").await, 1);
        assert_eq!(test.row(&first.id.to_string()).await.unwrap().content, "first");
        assert_eq!(test.row(&again.id.to_string()).await, None);
        assert_eq!(test.row(&other.id.to_string()).await.unwrap().content, "other");
    }
    assert_eq!(letters(&test).await, []);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_holds_the_batch_and_makes_no_dead_letter() {
    let stack = Stack::start(StackOptions::temporary()).await.unwrap();
    let test = TestApp::builder()
        .set("REDIS_TIMEOUT_MS", "500")
        .set("MYSQL_TIMEOUT_MS", "500")
        .start_on(&stack)
        .await;
    let alice = test.user(1);
    alice.sent(2, "before").await;
    test.drain().await;
    let mut rows = 1;
    for kind in [Kind::Mysql, Kind::Redis] {
        let one = message(&test, "by hand").await;
        let waiting = test.app().ids.next().await.unwrap();
        stack.server(kind).stop().await.unwrap();
        // The function itself: every record failed, the first one too.
        let response = consume(&test, &[persist(&one), recall(&one, one.send_time + 1)]).await;
        let failed: Vec<i64> =
            response.batch_item_failures.iter().map(|failure| failure.item_identifier.offset).collect();
        assert_eq!(failed, [0, 1], "without {kind}");
        // Behind the trigger: it waits in Kafka.
        let committed = committed(&test).await;
        let data = Message::new(
            waiting,
            UserId::new(1).unwrap(),
            UserId::new(2).unwrap(),
            MessageType::TEXT,
            "waits".to_owned(),
            None,
        );
        test.app().queue.send(&MessageEvent::Persist { data }, Duration::from_secs(10)).await.unwrap();
        assert_eq!(alice.send(2, "sent meanwhile").await.status, 201, "without {kind}");
        // Long enough for several tries.
        assert!(
            tokio::time::timeout(Duration::from_secs(3), test.runtime().trigger().unwrap().drain())
                .await
                .is_err()
        );
        assert_eq!(self::committed(&test).await, committed, "without {kind}");
        assert_eq!(letters(&test).await, [], "without {kind}");

        stack.server(kind).start().await.unwrap();
        test.drain().await;
        rows += 2;
        assert_eq!(test.count_rows("status = 1").await, rows, "after {kind} came back");
        assert_eq!(letters(&test).await, []);
    }
    eventually("nothing is pending", Duration::from_secs(5), async || {
        test.app().cache.pending_count().await.unwrap() == 0
    })
    .await;
    test.stop().await;
    stack.stop().await.unwrap();
}

/// How far the group has come, all partitions together.
async fn committed(test: &TestApp) -> i64 {
    let lag = test.runtime().trigger().unwrap().lag().await.unwrap();
    lag.iter().map(|partition| partition.position).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compensator_leaves_what_is_merely_queued() {
    let test = TestApp::start().await;
    test.hold().await;
    let id = test.user(1).sent(2, "queued").await;
    assert_eq!(test.compensate().await.due, 0, "five minutes have not passed");
    test.pass_ms(301_000);
    let run = test.compensate().await;
    assert_eq!((run.due, run.left, run.resent), (1, 1, 0), "{run:?}");
    test.release();
    test.drain().await;
    assert_eq!(test.row(&id).await.unwrap().status, 1);
    assert_eq!(test.compensate().await.due, 0);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compensator_sends_a_lost_message_once() {
    let test = TestApp::start().await;
    let lost = message(&test, "lost").await;
    accept(&test, &lost).await;
    test.pass_ms(301_000);
    test.hold().await;
    let run = test.compensate().await;
    assert_eq!((run.due, run.resent), (1, 1), "{run:?}");
    for _ in 0..3 {
        let run = test.compensate().await;
        assert_eq!((run.due, run.left, run.resent), (1, 1, 0), "{run:?}");
        test.pass_ms(90_000);
    }
    test.release();
    test.drain().await;
    assert_eq!(test.row(&lost.id.to_string()).await.unwrap().content, "lost");
    assert_eq!(test.app().cache.pending_count().await.unwrap(), 0);
    assert_eq!(test.detail(&lost.id.to_string()).await.unwrap()["persistStatus"], "PERSISTED");
    let end: i64 =
        test.runtime().trigger().unwrap().lag().await.unwrap().iter().map(|partition| partition.end).sum();
    assert_eq!(end, 1, "one record in all");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compensator_settles_each_other_kind_without_kafka() {
    let test = TestApp::builder().without_trigger().start().await;
    let cache = &test.app().cache;
    let written = message(&test, "in MySQL").await;
    accept(&test, &written).await;
    test.app().store.persist(std::slice::from_ref(&written)).await.unwrap();
    let forgotten = message(&test, "in MySQL, and Redis has lost the detail").await;
    accept(&test, &forgotten).await;
    test.app().store.persist(std::slice::from_ref(&forgotten)).await.unwrap();
    let recalled = message(&test, "recalled").await;
    accept(&test, &recalled).await;
    let recall = Recall {
        message_id: recalled.id,
        recall_time: recalled.send_time + 7,
        conversation_id: recalled.conversation(),
    };
    cache.mark_recalled(&recall, recalled.to).await.unwrap();
    let recalled_row = message(&test, "recalled, and the row is still there").await;
    accept(&test, &recalled_row).await;
    test.app().store.persist(std::slice::from_ref(&recalled_row)).await.unwrap();
    let recall = Recall { message_id: recalled_row.id, recall_time: recalled_row.send_time + 8, ..recall };
    cache.mark_recalled(&recall, recalled_row.to).await.unwrap();
    let never = message(&test, "died before it was accepted").await;
    accept(&test, &never).await;
    let mut redis = test.redis().await;
    for id in [never.id, forgotten.id] {
        redis.del::<_, ()>(format!("msg:detail:{id}")).await.unwrap();
    }
    assert_eq!(cache.pending_count().await.unwrap(), 5);

    test.pass_ms(301_000);
    let run = test.compensate().await;
    assert_eq!((run.due, run.marked, run.recalled, run.dropped), (5, 2, 2, 1), "{run:?}");
    assert_eq!((run.left, run.resent), (0, 0), "{run:?}");
    assert_eq!(cache.pending_count().await.unwrap(), 0);
    let detail = test.detail(&written.id.to_string()).await.unwrap();
    assert_eq!(detail["persistStatus"], "PERSISTED");
    assert!(
        redis.pttl::<_, i64>(format!("msg:detail:{}", written.id)).await.unwrap() > 0,
        "it may expire now"
    );
    assert_eq!(tombstones(&test).await, 2);
    assert_eq!(test.row(&recalled.id.to_string()).await, None);
    let row = test.row(&recalled_row.id.to_string()).await.unwrap();
    assert_eq!((row.status, row.content.as_str()), (0, ""));
    assert_eq!(test.compensate().await.due, 0);
    test.stop().await;
}
