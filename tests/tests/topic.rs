//! The topic is deleted and made again under a running application, the same or smaller. Messages sent meanwhile are
//! kept, the fault is reported, and everything gets to MySQL in the end.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

use std::time::Duration;

use hongyan_testkit::TestApp;
use hongyan_testkit::app::eventually;
use hongyan_testkit::kafka::{create_topic, delete_topic, grow_topic};
use serde_json::json;

const LONG: Duration = Duration::from_mins(2);

/// An application whose producer soon gives up a record that Kafka does not take.
async fn started() -> TestApp {
    TestApp::builder().in_process().set("KAFKA_DELIVERY_TIMEOUT_MS", "2000").start().await
}

/// Sends a message each from `count` users to one user. All are accepted.
async fn send(test: &TestApp, what: &str, count: i64) {
    for from in 1..=count {
        assert_eq!(test.user(from).send(1_000, what).await.status, 201, "{what}, {from}");
    }
}

async fn health(test: &TestApp, status: u16) {
    let kafka = if status == 200 { "ok" } else { "unavailable" };
    eventually("health says so", LONG, async || {
        let answer = test.user(1).get("/health").await;
        answer.status == status && answer.body["servers"]["kafka"] == json!(kafka)
    })
    .await;
}

/// Runs the compensator until nothing is pending.
async fn all_persisted(test: &TestApp, rows: i64) {
    eventually("all is persisted", LONG, async || {
        test.pass_ms(301_000);
        let _ = test.runtime().schedule().unwrap().fire_now().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        test.count_rows("status = 1").await == rows && test.app().cache.pending_count().await.unwrap() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_while_the_topic_is_away_and_after_it_is_back_is_persisted() {
    let test = started().await;
    send(&test, "before", 30).await;
    test.drain().await;
    assert_eq!(test.count_rows("status = 1").await, 30);
    health(&test, 200).await;

    delete_topic(&test.config.kafka).await;
    health(&test, 503).await;
    send(&test, "away", 15).await;
    create_topic(&test.config.kafka, &test.config.kafka.topic, 10).await;
    send(&test, "after", 30).await;
    health(&test, 200).await;
    all_persisted(&test, 75).await;
    assert_eq!(test.user(1_000).unread().await.body["total"], 75);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_came_back_with_fewer_partitions_is_told_and_loses_nothing() {
    let test = started().await;
    send(&test, "before", 20).await;
    test.drain().await;
    delete_topic(&test.config.kafka).await;
    create_topic(&test.config.kafka, &test.config.kafka.topic, 4).await;
    health(&test, 503).await;
    send(&test, "in few", 30).await;
    eventually("what belongs in a partition that exists is persisted", LONG, async || {
        test.pass_ms(301_000);
        let _ = test.runtime().schedule().unwrap().fire_now().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        test.count_rows("content = 'in few'").await > 0
    })
    .await;
    assert!(test.app().cache.pending_count().await.unwrap() > 0, "the others wait");
    grow_topic(&test.config.kafka, 10).await;
    health(&test, 200).await;
    all_persisted(&test, 50).await;
    test.stop().await;
}
