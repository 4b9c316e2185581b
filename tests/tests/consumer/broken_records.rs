//! Records that can never be rows, and dead letters.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hongyan::config::KafkaConfig;
use hongyan::event::{MessageEvent, Recall};
use hongyan::id::UserId;
use hongyan::message::Message;
use hongyan::queue::{KafkaBatchResponse, KafkaEvent};
use hongyan_runtime::dlq::Letter;
use hongyan_testkit::TestApp;
use hongyan_testkit::app::eventually;
use hongyan_testkit::kafka::{delete_topic, set_max_message_bytes};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use redis::AsyncCommands as _;
use serde_json::json;

use crate::{accept, batch, consume, letters, message, noise, persist, recall, tombstones};

/// Produces to Kafka directly, without the checks of a send.
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
    // No message waits to be sent again.
    test.pass_ms(301_000);
    assert_eq!(test.compensate().await.resent, 0);
    test.stop().await;
}

/// A database trigger that refuses one row twice, as a table under repair might. It counts with AUTO_INCREMENT,
/// because a rollback does not reset that.
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

/// One odd record among three good ones, each oddity alone. The good records are written, and so is the odd one if
/// its odd part is not needed.
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

/// As if written by hand, or by a producer that also sets the status or the recall time.
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
    // The original record arrives late: the recall stands.
    assert_eq!(consume(&test, &[persist(&recalled), persist(&half)]).await, KafkaBatchResponse::done());
    assert_eq!(test.count_rows("status = 1").await, 1);
    let letters = letters(&test).await;
    let reasons: Vec<&str> = letters.iter().map(Letter::error).collect();
    assert_eq!(reasons.iter().filter(|reason| reason.contains("no content")).count(), 2, "{reasons:?}");
    assert_eq!(reasons.iter().filter(|reason| reason.contains("sendTime")).count(), 2, "{reasons:?}");
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    test.stop().await;
}

/// The message may be known in Redis alone, in MySQL alone, or in the same batch.
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
    // A recall of its own conversation is accepted.
    assert_eq!(consume(&test, &[recall(&in_mysql, in_mysql.send_time)]).await, KafkaBatchResponse::done());
    assert_eq!(test.row(&in_mysql.id.to_string()).await.unwrap().status, 0);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_too_large_goes_without_its_value() {
    let test = TestApp::builder().without_trigger().start().await;
    let kafka = &test.config.kafka;
    set_max_message_bytes(kafka, &kafka.dead_letter_topic, 1_500).await;
    let good = message(&test, "behind it").await;
    // No JSON begins with this letter, no matter which noise follows.
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
