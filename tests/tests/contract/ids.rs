//! Ids have 64 bits. Answers have them as strings; requests may have strings or numbers.

use hongyan_testkit::TestApp;
use http::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_strings_are_both_taken() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let by_text = alice.post("/messages", &json!({"toId": "2", "content": "a", "msgType": 1})).await;
    let by_number = alice.post("/messages", &json!({"toId": 2, "content": "b", "msgType": 1})).await;
    assert_eq!((by_text.status, by_number.status), (201, 201));
    assert_eq!(by_number.body["toId"], "2");
    let body = format!(r#"{{"upTo":{}}}"#, by_text.id());
    let read = bob.request(Method::POST, "/conversations/1/read", Some(body)).await;
    assert_eq!((read.status, &read.body["unread"]), (200, &json!(1)));
    assert_eq!(bob.read(1, &by_number.id()).await.body["unread"], 0);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_beyond_what_a_double_holds_come_back_exactly() {
    // A rounding client would make 2^53 of 2^53 + 1, and 2^63 of 2^63 - 1.
    let (a, b) = (9_007_199_254_740_993_i64, i64::MAX);
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(a), test.user(b));
    let body = format!(r#"{{"toId":{b},"content":"far","msgType":1}}"#);
    let sent = alice.request(Method::POST, "/messages", Some(body)).await;
    assert_eq!(sent.status, 201, "{sent:?}");
    assert_eq!(sent.body["fromUserId"], "9007199254740993");
    assert_eq!(sent.body["toId"], "9223372036854775807");
    assert_eq!(sent.body["conversationId"], "9007199254740993_9223372036854775807");
    let neighbour = test.user(a - 1);
    assert!(neighbour.history(b, "").await.ids().is_empty(), "the user that a double would make of it");

    let answer = bob.post("/messages", &json!({"toId": a, "content": "near", "msgType": 1})).await;
    assert_eq!((answer.status, &answer.body["conversationId"]), (201, &sent.body["conversationId"]));
    test.drain().await;
    for when in ["from Redis", "from MySQL"] {
        let page = bob.history(a, "").await;
        assert_eq!(page.ids(), [answer.id(), sent.id()], "{when}");
        assert_eq!(page.body["messages"][1]["fromUserId"], "9007199254740993", "{when}");
        assert_eq!(page.body["messages"][1]["toId"], "9223372036854775807", "{when}");
        assert_eq!(bob.unread().await.body["messageIds"], json!([sent.id()]), "{when}");
        super::empty_redis(&test).await;
    }
    assert_eq!(bob.read(a, &sent.id()).await.body["unread"], 0);
    assert_eq!(alice.recall(&sent.id()).await.status, 200);
    assert_eq!(bob.delete(&answer.id()).await.status, 204);
    test.drain().await;
    assert!(bob.history(a, "").await.ids().is_empty());
    assert_eq!(alice.history(b, "").await.ids(), [answer.id()]);
    test.stop().await;
}
