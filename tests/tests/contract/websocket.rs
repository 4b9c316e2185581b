//! The WebSocket: who gets what, in which form, and what becomes of those who go away or do not keep up.

use std::time::Duration;

use hongyan_local::gateway::GatewayOptions;
use hongyan_tests::app::eventually;
use hongyan_tests::{Socket, TestApp};
use redis::AsyncCommands as _;
use serde_json::json;

async fn pong(socket: &mut Socket) {
    socket.say(r#"{"action":"ping"}"#).await;
    assert_eq!(socket.hear().await, json!({"type": "PONG"}), "and nothing came before it");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_of_the_receiver_gets_every_push() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let mut of_alice = [alice.connect().await, alice.connect().await];
    let mut of_bob = [bob.connect().await, bob.connect().await, bob.connect().await];

    let sent = alice.send(2, "你好 🦢").await;
    for socket in &mut of_bob {
        assert_eq!(socket.hear().await, json!({"type": "MESSAGE", "data": sent.body}));
    }
    let answer = bob.send(1, "hi").await;
    for socket in &mut of_alice {
        assert_eq!(socket.hear().await, json!({"type": "MESSAGE", "data": answer.body}));
    }
    let recalled = alice.recall(&sent.id()).await;
    let told = json!({
        "type": "MESSAGE_RECALLED",
        "messageId": sent.id(),
        "conversationId": "1_2",
        "recallTime": recalled.body["recallTime"],
    });
    for socket in &mut of_bob {
        assert_eq!(socket.hear().await, told);
    }
    for number in 0..20 {
        alice.sent(2, &format!("message {number}")).await;
    }
    for socket in &mut of_bob {
        for number in 0..20 {
            assert_eq!(socket.hear().await["data"]["content"], format!("message {number}"), "in order");
        }
        pong(socket).await;
    }
    for socket in &mut of_alice {
        pong(socket).await;
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_says_nothing_gets_an_error_and_the_connection_stays() {
    let test = TestApp::start().await;
    let mut socket = test.user(1).connect().await;
    for text in [
        "not JSON",
        "",
        "{}",
        "[]",
        "null",
        r#"{"action":"shout"}"#,
        r#"{"action":1}"#,
        "{\"action\":\"ping\"",
    ] {
        socket.say(text).await;
        let answer = socket.hear().await;
        assert_eq!(
            (&answer["type"], &answer["code"]),
            (&json!("ERROR"), &json!("invalid_request")),
            "{text}"
        );
        assert!(answer["detail"].is_string(), "{answer}");
        pong(&mut socket).await;
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_gone_is_forgotten() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let mut redis = test.redis().await;
    let (mut stays, leaves) = (bob.connect().await, bob.connect().await);
    assert_eq!(redis.scard::<_, usize>("msg:connections:2").await.unwrap(), 2);
    leaves.close().await;
    eventually("the closed one is forgotten", Duration::from_secs(5), async || {
        redis.clone().scard::<_, usize>("msg:connections:2").await.unwrap() == 1
    })
    .await;

    // Ends without a word that left their connections behind, as when a gateway is killed.
    for number in 0..50 {
        let connection = format!("gone-{number}");
        redis.sadd::<_, _, ()>("msg:connections:2", &connection).await.unwrap();
        redis.set::<_, _, ()>(format!("msg:connection:{connection}"), 2).await.unwrap();
    }
    alice.sent(2, "who is there?").await;
    assert_eq!(stays.hear().await["data"]["content"], "who is there?");
    eventually("those that are gone are forgotten", Duration::from_secs(5), async || {
        redis.clone().scard::<_, usize>("msg:connections:2").await.unwrap() == 1
    })
    .await;
    let left: Vec<String> = redis.keys("msg:connection:gone-*").await.unwrap();
    assert_eq!(left, Vec::<String>::new());
    pong(&mut stays).await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_is_closed_and_nobody_waits_for_it() {
    let limits = GatewayOptions {
        outgoing_queue: 8,
        send_timeout: Duration::from_secs(1),
        ..GatewayOptions::default()
    };
    let test = TestApp::builder().gateway(limits).start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let mut slow = bob.connect_with_little_room().await;
    let mut redis = test.redis().await;
    let content = "x".repeat(8_000);
    // It reads nothing; whoever sends is answered all the same.
    let mut sent = Vec::new();
    while redis.scard::<_, usize>("msg:connections:2").await.unwrap() > 0 {
        assert!(sent.len() < 2_000, "still not closed after {} messages that were not read", sent.len());
        sent.push(alice.sent(2, &content).await);
    }
    // What it then reads is an unbroken beginning, and the end of the connection.
    let mut heard = Vec::new();
    while let Some(push) = slow.hear_until_closed().await {
        heard.push(push["data"]["id"].as_str().unwrap().to_owned());
    }
    assert!(heard.len() < sent.len());
    assert_eq!(heard, sent[..heard.len()], "never a gap");
    test.drain().await;

    // It connects again and catches up with what it missed.
    let mut again = bob.connect().await;
    let mut after = heard.last().cloned().unwrap_or_else(|| "1".to_owned());
    while heard.len() < sent.len() {
        let page = bob.history(1, &format!("limit=100&after={after}")).await;
        heard.extend(page.ids());
        after = heard.last().unwrap().clone();
    }
    assert_eq!(heard, sent);
    let newest = alice.sent(2, "newest").await;
    assert_eq!(again.hear().await["data"]["id"], newest.as_str());
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_catches_up_with_after() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let mut socket = bob.connect().await;
    let seen = alice.sent(2, "seen").await;
    assert_eq!(socket.hear().await["data"]["id"], seen.as_str());
    socket.close().await;
    let mut missed = Vec::new();
    for number in 0..5 {
        missed.push(alice.sent(2, &format!("missed {number}")).await);
    }
    assert_eq!(alice.recall(&missed.remove(2)).await.status, 200);
    let mut socket = bob.connect().await;
    assert_eq!(bob.history(1, &format!("after={seen}")).await.ids(), missed);
    pong(&mut socket).await;
    let live = alice.sent(2, "live").await;
    assert_eq!(socket.hear().await["data"]["id"], live.as_str());
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_request_to_the_websocket_is_told_so() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    let answer = alice.get(&format!("/ws?token={}", alice.token)).await;
    super::assert_refused(&answer, 400, "invalid_request");
    test.stop().await;
}
