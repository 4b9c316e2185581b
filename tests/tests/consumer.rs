//! The consumer and the compensator behind it: redelivery, doubles, clashes, broken records, stores that are away.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hongyan::config::KafkaConfig;
use hongyan::event::{MessageEvent, Recall};
use hongyan::id::UserId;
use hongyan::message::{ClientMessageId, Message, MessageType};
use hongyan::queue::{KafkaBatchResponse, KafkaEvent};
use hongyan_local::dlq::{self, Filter, Letter};
use hongyan_local::stack::{Kind, Stack, StackOptions};
use hongyan_tests::TestApp;
use hongyan_tests::app::eventually;
use hongyan_tests::kafka::{delete_topic, set_max_message_bytes};
use hongyan_tests::proxy::Proxy;
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
    test.hold().await;
    let first = alice.post("/messages", &body).await;
    assert_eq!(first.status, 201);
    let kept = [first.id()];

    // Neither Redis nor MySQL knows the name: the first is still on its way.
    redis::cmd("FLUSHDB").exec_async(&mut test.redis().await).await.unwrap();
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

/// One odd record among three good ones, each oddity alone: its neighbours are written, and it is too if what is odd is not
/// needed.
#[tokio::test(flavor = "multi_thread")]
async fn one_odd_envelope_fails_nobody_else() {
    type Change = fn(&mut serde_json::Value);
    let test = TestApp::builder().without_trigger().start().await;
    let odd: [(&str, Change, bool); 18] = [
        ("header bytes", |record| record["headers"] = json!([{"h": [200, 255]}]), true),
        ("a header that is a number", |record| record["headers"] = json!([{"h": 1.5}, 7]), true),
        ("headers that are a text", |record| record["headers"] = json!("h"), true),
        ("no headers", |record| drop(record.as_object_mut().unwrap().remove("headers")), true),
        ("a time of no calendar", |record| record["timestamp"] = json!(u64::MAX), true),
        ("a time before 1970", |record| record["timestamp"] = json!(-1), true),
        ("half a time", |record| record["timestamp"] = json!(1.5), true),
        ("a kind of time", |record| record["timestampType"] = json!(null), true),
        ("no topic", |record| record["topic"] = json!(null), true),
        ("a partition in words", |record| record["partition"] = json!("four"), true),
        ("a key that is a list", |record| record["key"] = json!([1]), true),
        ("a key that is no base64", |record| record["key"] = json!("%"), true),
        ("a key of another conversation", |record| record["key"] = json!(STANDARD.encode("8_9")), true),
        ("an offset twice", |record| record["offset"] = json!(0), true),
        ("no value", |record| record["value"] = json!(null), false),
        ("a value that is an object", |record| record["value"] = json!({"action": "PERSIST"}), false),
        ("half an offset", |record| record["offset"] = json!(1.5), false),
        ("no record at all", |record| *record = json!(null), false),
    ];
    let mut dead = 0;
    for (what, change, is_written) in odd {
        let messages = [message(&test, what).await, message(&test, what).await, message(&test, what).await];
        let values: Vec<_> = messages.iter().map(persist).collect();
        let mut event = serde_json::to_value(batch(&values)).unwrap();
        change(&mut event["records"]["im-message-private-4"][1]);
        let event: KafkaEvent = serde_json::from_value(event).unwrap();
        let response = hongyan_kafka_consumer::handle(test.app(), event).await.unwrap();
        assert_eq!(response, KafkaBatchResponse::done(), "{what}");
        dead += usize::from(!is_written);
        let written = test.count_rows(&format!("status = 1 AND content = '{what}'")).await;
        assert_eq!(written, 2 + i64::from(is_written), "{what}");
        assert_eq!(letters(&test).await.len(), dead, "{what}");
    }
    test.stop().await;
}

/// By hand, or of a producer that writes down what became of its message.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_says_it_is_recalled_or_says_nothing_is_never_a_row_that_is_seen() {
    let test = TestApp::builder().without_trigger().start().await;
    let recalled = message(&test, "recalled").await;
    let half = message(&test, "recalled, by its time").await;
    let empty = Message { content: String::new(), ..message(&test, "").await };
    let absurd = Message { send_time: i64::MIN, ..message(&test, "before all time").await };
    let good = message(&test, "good").await;
    let far = message(&test, "taken back in the year 292278994").await;
    let values = [
        persist(&recalled.clone().recalled(recalled.send_time + 1)),
        persist(&Message { recall_time: Some(half.send_time + 1), ..half.clone() }),
        persist(&empty),
        persist(&absurd),
        persist(&good),
        persist(&far),
        recall(&far, i64::MAX),
    ];
    for _ in 0..2 {
        assert_eq!(consume(&test, &values).await, KafkaBatchResponse::done());
        assert_eq!(test.count_rows("status = 1").await, 1);
        assert_eq!(test.row(&good.id.to_string()).await.unwrap().content, "good");
        assert_eq!(test.user(2).history(1, "").await.ids(), [good.id.to_string()]);
        assert_eq!(tombstones(&test).await, 3);
    }
    // The record that comes late, as it was sent: the recall stands.
    assert_eq!(consume(&test, &[persist(&recalled), persist(&half)]).await, KafkaBatchResponse::done());
    assert_eq!(test.count_rows("status = 1").await, 1);
    let letters = letters(&test).await;
    let reasons: Vec<&str> = letters.iter().map(Letter::error).collect();
    assert_eq!(reasons.iter().filter(|reason| reason.contains("no content")).count(), 2, "{reasons:?}");
    assert_eq!(reasons.iter().filter(|reason| reason.contains("sendTime")).count(), 2, "{reasons:?}");
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    test.stop().await;
}

/// Wherever its message is known: in Redis alone, in MySQL alone, in the same batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_recall_that_names_another_conversation_is_a_dead_letter_and_touches_nothing() {
    let test = TestApp::builder().without_trigger().start().await;
    let in_redis = message(&test, "in Redis").await;
    accept(&test, &in_redis).await;
    let in_mysql = message(&test, "in MySQL").await;
    assert_eq!(consume(&test, &[persist(&in_mysql)]).await, KafkaBatchResponse::done());
    test.redis().await.del::<_, ()>(format!("msg:detail:{}", in_mysql.id)).await.unwrap();
    let in_batch = message(&test, "in the batch").await;
    let foreign = |message: &Message| {
        let conversation_id =
            hongyan::id::ConversationId::between(UserId::new(8).unwrap(), UserId::new(9).unwrap()).unwrap();
        let (message_id, recall_time) = (message.id, message.send_time);
        serde_json::to_vec(&MessageEvent::Recall(Recall { message_id, recall_time, conversation_id }))
            .unwrap()
    };
    let values = [foreign(&in_redis), foreign(&in_mysql), persist(&in_batch), foreign(&in_batch)];
    assert_eq!(consume(&test, &values).await, KafkaBatchResponse::done());
    assert_eq!(tombstones(&test).await, 0);
    let ids = [&in_batch, &in_mysql, &in_redis].map(|message| message.id.to_string());
    assert_eq!(test.user(2).history(1, "").await.ids(), ids);
    assert_eq!(test.detail(&in_redis.id.to_string()).await.unwrap()["status"], 1);
    let letters = letters(&test).await;
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter.error().contains("conversation 1_2, and not of 8_9")));
    // Its own recall is one.
    assert_eq!(consume(&test, &[recall(&in_mysql, in_mysql.send_time)]).await, KafkaBatchResponse::done());
    assert_eq!(test.row(&in_mysql.id.to_string()).await.unwrap().status, 0);
    test.stop().await;
}

/// Bytes that no compression makes small.
fn noise(bytes: usize) -> String {
    STANDARD.encode(rand::random_iter::<u8>().take(bytes / 4 * 3).collect::<Vec<u8>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_too_large_goes_without_its_value() {
    let test = TestApp::builder().without_trigger().start().await;
    let kafka = &test.config.kafka;
    set_max_message_bytes(kafka, &kafka.dead_letter_topic, 1_500).await;
    let good = message(&test, "behind it").await;
    // No JSON begins with this letter, whatever the noise behind it.
    let broken = format!("x{}", &noise(8_000)[1..]);
    let values = [broken.into_bytes(), persist(&good)];
    eventually("the topic has its new limit", Duration::from_secs(10), async || {
        consume(&test, &values).await;
        letters(&test).await.iter().any(|letter| letter.error().contains("too large"))
    })
    .await;
    assert_eq!(consume(&test, &values).await, KafkaBatchResponse::done());
    assert_eq!(test.row(&good.id.to_string()).await.unwrap().content, "behind it");
    let letter = letters(&test).await.pop().unwrap();
    assert_eq!((letter.value.as_deref(), letter.origin()), (None, Some(("im-message-private", 4, 0))));
    assert!(letter.error().contains("8000 bytes") && letter.error().contains("expected"), "{letter}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_dead_letter_topic_a_broken_record_waits_and_the_good_one_is_written() {
    let test = TestApp::builder().without_trigger().set("KAFKA_DELIVERY_TIMEOUT_MS", "1000").start().await;
    let gone =
        KafkaConfig { topic: test.config.kafka.dead_letter_topic.clone(), ..test.config.kafka.clone() };
    delete_topic(&gone).await;
    let good = message(&test, "behind them").await;
    let response = consume(&test, &[b"a".to_vec(), b"b".to_vec(), persist(&good)]).await;
    let failed: Vec<i64> =
        response.batch_item_failures.iter().map(|failure| failure.item_identifier.offset).collect();
    assert_eq!(failed, [0, 1], "nothing is lost");
    assert_eq!(test.row(&good.id.to_string()).await.unwrap().content, "behind them");
    test.stop().await;
}

/// A message of `from` to 1,000 that nothing knows yet.
async fn message_of(test: &TestApp, from: i64, content: &str) -> Message {
    let (from, to) = (UserId::new(from).unwrap(), UserId::new(1_000).unwrap());
    Message { from, to, ..message(test, content).await }
}

/// Kafka takes all but one, which gets to MySQL without it; nobody behind it waits.
#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_refuses_for_good_is_written_without_it_and_holds_nobody_up() {
    let test = TestApp::builder().in_process().start().await;
    set_max_message_bytes(&test.config.kafka, &test.config.kafka.topic, 1_000).await;
    let large = message_of(&test, 1, &noise(6_000)).await;
    let recalled = message_of(&test, 2, &noise(6_000)).await;
    let small: Vec<Message> =
        futures_util::future::join_all((1..=20).map(|from| message_of(&test, from, "small"))).await;
    for message in small.iter().chain([&large, &recalled]) {
        accept(&test, message).await;
    }
    let event = MessageEvent::Persist { data: large.clone() };
    eventually("the topic has its new limit", Duration::from_secs(10), async || {
        let sent = test.app().queue.send(&event, Duration::from_secs(10)).await;
        sent.is_err_and(|error| error.retry == hongyan::error::Retry::Permanent)
    })
    .await;
    test.drain().await;
    let taken_back = Recall::of(&recalled, recalled.send_time + 1);
    test.app().cache.mark_recalled(&taken_back, recalled.to).await.unwrap();
    test.pass_ms(301_000);
    let run = test.compensate().await;
    assert_eq!((run.resent, run.failed, run.recalled), (20, 0, 1), "{run:?}");
    test.drain().await;
    let row = test.row(&large.id.to_string()).await.unwrap();
    assert_eq!((row.status, row.content), (1, large.content.clone()));
    assert_eq!(test.count_rows("status = 1 AND content = 'small'").await, 20);
    assert_eq!(test.count_rows("status = 1").await, 21);
    assert_eq!(test.detail(&large.id.to_string()).await.unwrap()["persistStatus"], "PERSISTED");
    assert_eq!(test.app().cache.pending_count().await.unwrap(), 0);
    assert_eq!(letters(&test).await, []);
    test.stop().await;
}

/// Redis would keep it and MySQL get it without Kafka; with Redis away nothing can take it.
#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_only_kafka_could_keep_and_refuses_is_503() {
    let env = hongyan_tests::servers::stack().await.env();
    let (_, url) = env.iter().find(|(name, _)| *name == "REDIS_URL").unwrap();
    let mut proxy = Proxy::to(url).await;
    let test = TestApp::builder()
        .in_process()
        .set("REDIS_TIMEOUT_MS", "500")
        .redis_by_way_of(proxy.address())
        .start()
        .await;
    set_max_message_bytes(&test.config.kafka, &test.config.kafka.topic, 1_000).await;
    let (alice, large) = (test.user(1), noise(6_000));
    let first = alice.send(2, &large).await;
    assert_eq!(first.status, 201, "Redis has it");
    proxy.close().await;
    eventually("the topic has its new limit", Duration::from_secs(10), async || {
        alice.send(2, &large).await.problem() == (503, "unavailable")
    })
    .await;
    assert_eq!(alice.send(2, "small").await.status, 201, "Kafka alone has it");
    proxy.open().await;
    eventually("Redis is back", Duration::from_secs(20), async || alice.send(2, &large).await.status == 201)
        .await;
    test.stop().await;
}

/// A producer whose clock is most of an hour ahead has written the record that the group stands at.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_from_the_future_makes_no_backlog_lost() {
    let test = TestApp::builder().in_process().start().await;
    test.hold().await;
    let ahead = message(&test, "of another clock").await;
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", &test.config.kafka.bootstrap_servers).create().unwrap();
    let value = persist(&ahead);
    // Kafka itself refuses what is more than an hour ahead.
    let ahead_ms = 50 * 60_000;
    let record = FutureRecord::to(&test.config.kafka.topic).key("1_2").partition(4).payload(&value);
    producer.send(record.timestamp(ahead.send_time + ahead_ms), Duration::from_secs(10)).await.unwrap();
    let id = test.user(1).sent(2, "queued").await;
    for _ in 0..3 {
        test.pass_ms(301_000);
        let run = test.compensate().await;
        assert_eq!((run.due, run.left, run.resent), (1, 1, 0), "{run:?}");
    }
    test.release();
    test.drain().await;
    assert_eq!(test.row(&id).await.unwrap().status, 1);
    assert_eq!(test.compensate().await.due, 0);
    test.stop().await;
}

/// The group is never quite at the end, as under a load; but it has passed what was there at the run before.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_message_is_found_though_the_group_never_catches_up() {
    let test = TestApp::builder().in_process().start().await;
    let alice = test.user(1);
    let lost = message(&test, "lost").await;
    accept(&test, &lost).await;
    test.hold().await;
    alice.sent(2, "ahead of the first look").await;
    test.pass_ms(301_000);
    let run = test.compensate().await;
    assert_eq!((run.due, run.left, run.resent), (2, 2, 0), "{run:?}");
    test.release();
    test.drain().await;
    test.hold().await;
    alice.sent(2, "ahead of the second look").await;
    test.pass_ms(61_000);
    let run = test.compensate().await;
    assert_eq!((run.due, run.resent), (1, 1), "{run:?}");
    test.release();
    test.drain().await;
    assert_eq!(test.row(&lost.id.to_string()).await.unwrap().content, "lost");
    assert_eq!(test.count_rows("status = 1").await, 3);
    test.stop().await;
}

/// Keys that somebody wrote by hand: their messages wait for a person, all others go on.
#[tokio::test(flavor = "multi_thread")]
async fn one_bad_key_ends_no_run_of_the_compensator() {
    let test = TestApp::builder().in_process().start().await;
    let messages: Vec<Message> =
        futures_util::future::join_all((1..=20).map(|from| message_of(&test, from, "due"))).await;
    for message in &messages {
        accept(&test, message).await;
    }
    let mut redis = test.redis().await;
    let of = |message: &Message| format!("msg:detail:{}", message.id);
    redis.set::<_, _, ()>(of(&messages[0]), "not a message").await.unwrap();
    redis.set::<_, _, ()>(format!("msg:resent:{}", messages[1].id), "never").await.unwrap();
    let last = messages[19].conversation().partition(test.config.kafka.partitions);
    redis.set::<_, _, ()>(format!("msg:pending:{last}"), "no set").await.unwrap();
    let beside: Vec<&Message> = messages[2..]
        .iter()
        .filter(|message| message.conversation().partition(test.config.kafka.partitions) != last)
        .collect();
    test.pass_ms(301_000);
    // The count at its end may fail for the key; what was done by then is done.
    let _ = test.runtime().schedule().unwrap().fire_now().await;
    test.drain().await;
    for message in beside {
        assert_eq!(test.row(&message.id.to_string()).await.unwrap().content, "due");
    }
    test.stop().await;
}
