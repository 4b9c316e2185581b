//! Batches: redelivery, duplicates, `clientMsgId`, and stores that are away.

use std::time::Duration;

use hongyan::event::MessageEvent;
use hongyan::id::UserId;
use hongyan::message::{ClientMessageId, Message, MessageType};
use hongyan::queue::KafkaBatchResponse;
use hongyan_stack::{ServerKind, Stack, StackOptions};
use hongyan_testkit::app::eventually;
use hongyan_testkit::kafka::set_max_message_bytes;
use hongyan_testkit::proxy::Proxy;
use hongyan_testkit::{TestApp, servers};
use serde_json::json;

use crate::{accept, consume, letters, message, noise, persist, recall, tombstones};

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
    // The same with a Redis that has forgotten everything.
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

#[tokio::test(flavor = "multi_thread")]
async fn a_late_retry_that_redis_did_not_recognise_is_taken_out_again() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let body = json!({"toId": "2", "content": "once", "msgType": 1, "clientMsgId": "mine"});
    test.hold().await;
    let first = alice.post("/messages", &body).await;
    assert_eq!(first.status, 201);
    let kept = [first.id()];

    // Neither Redis nor MySQL knows the `clientMsgId`: the record of the first message is still on its way.
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

/// Only MySQL can notice the following once Redis has forgotten a `clientMsgId`. The same message again is not
/// written. Another message with the same name was accepted, so it is written without the name.
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
    for kind in [ServerKind::MySql, ServerKind::Redis] {
        let one = message(&test, "by hand").await;
        let waiting = test.app().ids.next().await.unwrap();
        stack.server(kind).stop().await.unwrap();
        // The function itself reports every record as failed, from the first on.
        let response = consume(&test, &[persist(&one), recall(&one, one.send_time + 1)]).await;
        let failed: Vec<i64> =
            response.batch_item_failures.iter().map(|failure| failure.item_identifier.offset).collect();
        assert_eq!(failed, [0, 1], "without {kind}");
        // Behind the trigger, the record waits in Kafka.
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

/// The committed offsets of the group, added up over all partitions.
async fn committed(test: &TestApp) -> i64 {
    let lag = test.runtime().trigger().unwrap().lag().await.unwrap();
    lag.iter().map(|partition| partition.position).sum()
}

/// Redis would keep the message and MySQL get it without Kafka. With Redis away nothing can accept it.
#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_only_kafka_could_keep_and_refuses_is_503() {
    let mut proxy = Proxy::to(&servers::address_of(servers::stack().await, ServerKind::Redis)).await;
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
