//! The compensator behind the consumer, and messages that Kafka refuses for good.

use std::time::Duration;

use hongyan::event::{MessageEvent, Recall};
use hongyan::message::{ClientMessageId, Message};
use hongyan_runtime::trigger::PartitionLag;
use hongyan_testkit::TestApp;
use hongyan_testkit::app::eventually;
use hongyan_testkit::kafka::set_max_message_bytes;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use redis::AsyncCommands as _;

use crate::{accept, letters, message, message_of, noise, persist, tombstones};

/// Sends while the consumer is held, and waits until Kafka has the record. Redis alone may have answered before.
async fn queued(test: &TestApp, content: &str) -> String {
    let waiting = async || {
        let lag = test.runtime().trigger().unwrap().lag().await.unwrap();
        lag.iter().map(PartitionLag::records).sum::<i64>()
    };
    let before = waiting().await;
    let id = test.user(1).sent(2, content).await;
    eventually("Kafka has it", Duration::from_secs(10), async || waiting().await > before).await;
    id
}

/// Releases the consumer: the queued message becomes a row, and nothing is left for the compensator.
async fn becomes_a_row(test: &TestApp, id: &str) {
    test.release();
    test.drain().await;
    assert_eq!(test.row(id).await.unwrap().status, 1);
    assert_eq!(test.compensate().await.due, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compensator_leaves_what_is_merely_queued() {
    let test = TestApp::start().await;
    test.hold().await;
    let id = queued(&test, "queued").await;
    assert_eq!(test.compensate().await.due, 0, "five minutes have not passed");
    test.pass_ms(301_000);
    let run = test.compensate().await;
    assert_eq!((run.due, run.left, run.resent), (1, 1, 0), "{run:?}");
    becomes_a_row(&test, &id).await;
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
    let name = ClientMessageId::try_from("a name".to_owned()).unwrap();
    let recalled = Message { client_msg_id: Some(name), ..message(&test, "recalled").await };
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
    assert_eq!(detail["seq"], 1, "as its row has it");
    assert!(
        redis.pttl::<_, i64>(format!("msg:detail:{}", written.id)).await.unwrap() > 0,
        "it may expire now"
    );
    assert_eq!(tombstones(&test).await, 2);
    // A retry of a recalled send is recognised by its name, or by the fingerprint of its id.
    let remembered: Vec<(Option<i64>, Option<Vec<u8>>, bool)> = sqlx::query_as(
        "SELECT from_user_id, client_msg_id, fingerprint IS NULL FROM message_recall ORDER BY message_id",
    )
    .fetch_all(&test.mysql)
    .await
    .unwrap();
    assert_eq!(remembered, [(Some(1), Some(b"a name".to_vec()), true), (Some(1), None, true)]);
    assert_eq!(test.row(&recalled.id.to_string()).await, None);
    let row = test.row(&recalled_row.id.to_string()).await.unwrap();
    assert_eq!((row.status, row.content.as_str()), (0, ""));
    assert_eq!(test.compensate().await.due, 0);
    test.stop().await;
}

/// Kafka takes all messages but one, which the compensator writes to MySQL. No other message waits.
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

/// The record at the group's position was written by a producer whose clock is most of an hour ahead.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_from_the_future_makes_no_backlog_lost() {
    let test = TestApp::builder().in_process().start().await;
    test.hold().await;
    let ahead = message(&test, "of another clock").await;
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", &test.config.kafka.bootstrap_servers).create().unwrap();
    let value = persist(&ahead);
    // Kafka itself refuses times more than an hour ahead.
    let ahead_ms = 50 * 60_000;
    let record = FutureRecord::to(&test.config.kafka.topic).key("1_2").partition(4).payload(&value);
    producer.send(record.timestamp(ahead.send_time + ahead_ms), Duration::from_secs(10)).await.unwrap();
    let id = queued(&test, "queued").await;
    for _ in 0..3 {
        test.pass_ms(301_000);
        let run = test.compensate().await;
        assert_eq!((run.due, run.left, run.resent), (1, 1, 0), "{run:?}");
    }
    becomes_a_row(&test, &id).await;
    test.stop().await;
}

/// The group is never at the end of the log, as under a load, but it has passed the end that the run before saw.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_message_is_found_though_the_group_never_catches_up() {
    let test = TestApp::builder().in_process().start().await;
    let lost = message(&test, "lost").await;
    accept(&test, &lost).await;
    test.hold().await;
    queued(&test, "ahead of the first look").await;
    test.pass_ms(301_000);
    let run = test.compensate().await;
    assert_eq!((run.due, run.left, run.resent), (2, 2, 0), "{run:?}");
    test.release();
    test.drain().await;
    test.hold().await;
    queued(&test, "ahead of the second look").await;
    test.pass_ms(61_000);
    let run = test.compensate().await;
    assert_eq!((run.due, run.resent), (1, 1), "{run:?}");
    test.release();
    test.drain().await;
    assert_eq!(test.row(&lost.id.to_string()).await.unwrap().content, "lost");
    assert_eq!(test.count_rows("status = 1").await, 3);
    test.stop().await;
}

/// Keys written by hand: their messages wait for an operator, and all others go on.
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
    // Counting in the end may fail because of the key. The work done before stays done.
    let _ = test.runtime().schedule().unwrap().fire_now().await;
    test.drain().await;
    for message in beside {
        assert_eq!(test.row(&message.id.to_string()).await.unwrap().content, "due");
    }
    test.stop().await;
}
