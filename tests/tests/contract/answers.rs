//! The success answer of every route, field by field.

use hongyan_testkit::TestApp;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_the_same_form_when_sent_and_in_history() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    test.hold().await;
    let began = test.clock().now_ms();
    let body = json!({"toId": "2", "content": "你好", "msgType": 1, "clientMsgId": "mine"});
    let sent = alice.post("/messages", &body).await;
    let ended = test.clock().now_ms();
    assert_eq!((sent.status, &sent.headers["content-type"]), (201, &"application/json".parse().unwrap()));
    let timing = sent.headers["server-timing"].to_str().unwrap();
    assert!(timing.starts_with("redis;dur=") && timing.contains(", kafka;dur="), "{timing}");
    let send_time = sent.body["sendTime"].as_i64().unwrap();
    assert!((began..=ended).contains(&send_time), "{began} <= {send_time} <= {ended}");
    assert!(sent.id().parse::<i64>().unwrap() > 1 << 53, "an id of today does not fit into a double");
    let mut expected = json!({
        "id": sent.id(),
        "conversationId": "1_2",
        "fromUserId": "1",
        "toId": "2",
        "content": "你好",
        "msgType": 1,
        "chatType": 1,
        "sendTime": send_time,
        "status": 1,
        "recallTime": null,
        "persistStatus": "PENDING",
        "clientMsgId": "mine",
        "seq": null,
    });
    // Only the sender sees the `clientMsgId`.
    let seen_by = |peer: i64, message: &Value| {
        let mut message = message.clone();
        if peer == 1 {
            message.as_object_mut().unwrap().remove("clientMsgId");
        }
        message
    };
    assert_eq!(sent.body, expected);
    for (reader, peer) in [(&alice, 2), (&bob, 1)] {
        let expected = seen_by(peer, &expected);
        let page = reader.history(peer, "").await;
        assert_eq!((page.status, &page.headers["content-type"]), (200, &sent.headers["content-type"]));
        assert_eq!(page.body, json!({"messages": [expected], "next": null}));
    }
    test.release();
    test.drain().await;
    expected["persistStatus"] = "PERSISTED".into();
    expected["seq"] = 1.into();
    assert_eq!(bob.history(1, "").await.body["messages"][0], seen_by(1, &expected), "from Redis");
    super::empty_redis(&test).await;
    assert_eq!(bob.history(1, "").await.body["messages"][0], seen_by(1, &expected), "from MySQL");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recall_delete_read_and_unread_answer_what_the_contract_says() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let (first, second) = (alice.sent(2, "one").await, alice.sent(2, "two").await);

    let unread = bob.unread().await;
    assert_eq!((unread.status, &unread.body), (200, &json!({"total": 2, "messageIds": [second, first]})));
    let read = bob.read(1, &first).await;
    assert_eq!((read.status, &read.body), (200, &json!({"unread": 1})));

    let deleted = bob.delete(&first).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    assert!(!deleted.headers.contains_key("content-type"));

    let recalled = alice.recall(&second).await;
    assert_eq!(recalled.status, 200);
    assert_eq!(recalled.headers["content-type"], "application/json");
    let time = recalled.body["recallTime"].as_i64().unwrap();
    assert!((test.clock().now_ms() - time).abs() < 5_000, "{time}");
    let expected = json!({"id": second, "conversationId": "1_2", "status": 0, "recallTime": time});
    assert_eq!(recalled.body, expected);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_twenty_messages_and_says_where_the_following_one_begins() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    let mut ids = Vec::new();
    for number in 0..21 {
        ids.push(alice.sent(2, &format!("message {number}")).await);
    }
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    let page = alice.history(2, "").await;
    assert_eq!(page.ids(), newest_first[..20]);
    assert_eq!(page.body["next"], Value::String(newest_first[19].clone()));
    let last = alice.history(2, &format!("before={}", newest_first[19])).await;
    assert_eq!((last.ids(), &last.body["next"]), (newest_first[20..].to_vec(), &Value::Null));
    let exactly_full = alice.history(2, "limit=21").await;
    assert_eq!((exactly_full.ids(), &exactly_full.body["next"]), (newest_first, &Value::Null));

    let later = alice.history(2, &format!("after={}", ids[0])).await;
    assert_eq!((later.ids(), &later.body["next"]), (ids[1..].to_vec(), &Value::Null));
    let later = alice.history(2, &format!("limit=1&after={}", ids[18])).await;
    assert_eq!((later.ids(), &later.body["next"]), (ids[19..20].to_vec(), &Value::String(ids[19].clone())));
    test.stop().await;
}
