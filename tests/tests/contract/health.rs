//! `GET /health`, `GET /metrics`, and 503 when no store can accept a message.

use std::time::Duration;

use hongyan::telemetry::metric;
use hongyan_stack::{ServerKind, Stack, StackOptions};
use hongyan_testkit::TestApp;
use hongyan_testkit::app::eventually;
use serde_json::json;

use crate::assert_refused;

/// How long a change of a server may take to be seen. A check of a server takes 2 s at most, but a busy machine may be
/// late for it.
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_prometheus_text_with_the_names_of_the_project() {
    let test = TestApp::builder().in_process().with_metrics().start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let mut socket = bob.connect().await;
    let id = alice.sent(2, "counted").await;
    socket.hear().await;
    test.drain().await;
    bob.history(1, "").await;
    alice.recall(&id).await;
    test.drain().await;
    test.compensate().await;
    // The trigger measures the lag in the background.
    let lag = format!("# TYPE {} ", metric::CONSUMER_LAG);
    eventually("the lag is measured", Duration::from_secs(20), async || {
        alice.get("/metrics").await.text.contains(&lag)
    })
    .await;
    let answer = alice.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    for metric in metric::ALL {
        let line = format!("# TYPE {} ", metric.name);
        assert!(answer.text.contains(&line), "{} is missing in\n{}", metric.name, answer.text);
    }
    assert!(answer.text.contains(r#"hongyan_sends_total{outcome="accepted"} "#), "{}", answer.text);
    for line in [
        r#"hongyan_responses_total{function="send",route="POST /messages",class="2xx"} "#,
        "hongyan_history_seconds_count{source=",
        r#"hongyan_mysql_connections{server="writer"} "#,
        r#"hongyan_build_info{version=""#,
        "hongyan_circuit_breaker_open ",
    ] {
        assert!(answer.text.contains(line), "{line} is missing in\n{}", answer.text);
    }
    assert!(!answer.text.contains(&id), "no id is a label");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_names_the_server_that_is_away_and_with_no_place_to_keep_it_a_send_is_503() {
    let stack = Stack::start(StackOptions::temporary()).await.unwrap();
    let test = TestApp::builder().in_process().set("REDIS_TIMEOUT_MS", "500").start_on(&stack).await;
    let (alice, bob) = (test.user(1), test.user(2));
    let well = json!({"status": "ok", "servers": {"redis": "ok", "mysql": "ok", "kafka": "ok"}});
    // A server that has just started on a busy machine may not answer the check within its 2 s.
    eventually("all are well", LIMIT, async || {
        let health = alice.get("/health").await;
        (health.status, &health.body) == (200, &well)
    })
    .await;
    let first = alice.sent(2, "before").await;
    test.drain().await;

    for (kind, name) in
        [(ServerKind::MySql, "mysql"), (ServerKind::Redis, "redis"), (ServerKind::Kafka, "kafka")]
    {
        stack.server(kind).stop().await.unwrap();
        let mut expected = well.clone();
        (expected["status"], expected["servers"][name]) = (json!("unavailable"), json!("unavailable"));
        eventually("this server alone is away", LIMIT, async || {
            let health = alice.with_token("").get("/health").await;
            (health.status, health.body) == (503, expected.clone())
        })
        .await;
        // One of the two stores that can accept a message works.
        assert_eq!(alice.send(2, name).await.status, 201, "without {name}");
        stack.server(kind).start().await.unwrap();
        eventually("all is well again", LIMIT, async || alice.get("/health").await.body == well).await;
        test.drain().await;
    }
    // The compensator sends the records that the producer gave up while Kafka was away.
    test.pass_ms(301_000);
    test.compensate().await;
    test.drain().await;
    assert_eq!(test.count_rows("status = 1").await, 4);
    assert_eq!(bob.history(1, "").await.ids().len(), 4);

    for kind in [ServerKind::Redis, ServerKind::Kafka] {
        stack.server(kind).stop().await.unwrap();
    }
    let began = std::time::Instant::now();
    assert_refused(&alice.send(2, "nowhere").await, 503, "unavailable");
    assert!(began.elapsed() < LIMIT, "not a hang: {:?}", began.elapsed());
    assert_eq!(bob.history(1, "").await.ids().len(), 4, "MySQL alone answers");
    stack.server(ServerKind::MySql).stop().await.unwrap();
    assert_refused(&bob.history(1, "").await, 503, "unavailable");
    assert_refused(&alice.recall(&first).await, 503, "unavailable");
    assert_refused(&bob.delete(&first).await, 503, "unavailable");
    assert_refused(&bob.unread().await, 503, "unavailable");
    test.stop().await;
    stack.stop().await.unwrap();
}
