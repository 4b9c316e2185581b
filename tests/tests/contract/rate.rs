//! How fast a user may send.

use std::time::Duration;

use hongyan_stack::ServerKind;
use hongyan_testkit::app::eventually;
use hongyan_testkit::proxy::Proxy;
use hongyan_testkit::{Answer, Caller, TestApp, servers};
use serde_json::json;

use crate::assert_refused;

async fn send(user: &Caller, name: &str) -> Answer {
    user.post("/messages", &json!({"toId": "2", "content": name, "clientMsgId": name})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_sends_too_fast_waits_and_nobody_else_does() {
    let test = TestApp::builder().set("IM_SENDS_PER_SECOND", "1").start().await;
    let (alice, carol) = (test.user(1), test.user(3));

    // Two may come at once. On a slow machine another one may be allowed before the fourth.
    let mut accepted = 0;
    let refused = loop {
        let answer = send(&alice, &format!("name {accepted}")).await;
        if answer.status != 201 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 50, "never refused");
    };
    assert!(accepted >= 2);
    assert_refused(&refused, 429, "rate_limited");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(carol.send(2, "of another user").await.status, 201);
    assert_eq!(alice.unread().await.status, 200, "only sends are limited");

    // A refused send leaves nothing, and is accepted later under its name.
    eventually("the next send is allowed", Duration::from_secs(10), async || {
        send(&alice, &format!("name {accepted}")).await.status == 201
    })
    .await;
    test.drain().await;
    assert_eq!(test.count_rows("from_user_id = 1").await, accepted + 1);

    // The same holds for sends without a name.
    let mut answer = alice.send(2, "no name").await;
    while answer.status == 201 {
        answer = alice.send(2, "no name").await;
    }
    assert_refused(&answer, 429, "rate_limited");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_there_is_no_limit() {
    let mut proxy = Proxy::to(&servers::address_of(servers::stack().await, ServerKind::Redis)).await;
    let test = TestApp::builder().set("REDIS_TIMEOUT_MS", "500").set("IM_SENDS_PER_SECOND", "1");
    let test = test.redis_by_way_of(proxy.address()).start().await;
    let alice = test.user(1);
    assert_eq!(alice.send(2, "so that ids can be made").await.status, 201);

    proxy.close().await;
    for number in 0..4 {
        let sent = send(&alice, &format!("name {number}")).await;
        assert_eq!(sent.status, 201);
        assert!(
            sent.headers["server-timing"].to_str().unwrap().starts_with("kafka;dur="),
            "Redis has nothing"
        );
        assert_eq!(alice.send(2, "no name").await.status, 201);
    }
    proxy.open().await;
    test.stop().await;
}
