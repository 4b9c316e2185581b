//! Every row of the table of errors that a request can cause (401: `tokens`; 503: `health`).

use hongyan_testkit::{Caller, TestApp};
use http::Method;
use serde_json::{Value, json};

use crate::assert_refused;

async fn raw(caller: &Caller, method: Method, path: &str, body: &str) -> hongyan_testkit::Answer {
    caller.request(method, path, Some(body.to_owned())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_does_not_say_what_it_must_is_400() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    for body in [
        "",
        "nope",
        "[]",
        // The fields of the struct in order, but as an array.
        r#"["2","hi",1]"#,
        "null",
        "1",
        "{}",
        "{\"toId\":\"2\",\"content\":",
        "{\"toId\":\"2\"}\u{1}",
    ] {
        let answer = raw(&alice, Method::POST, "/messages", body).await;
        assert_refused(&answer, 400, "invalid_request");
    }
    let changes: &[(&str, Value)] = &[
        ("toId", json!("1")),
        ("toId", json!(1)),
        ("toId", json!("")),
        ("toId", json!("0")),
        ("toId", json!(0)),
        ("toId", json!("-2")),
        ("toId", json!(-2)),
        ("toId", json!("02")),
        ("toId", json!(" 2")),
        ("toId", json!("2.0")),
        ("toId", json!(2.5)),
        ("toId", json!("bob")),
        ("toId", json!("9223372036854775808")),
        ("toId", json!(9_223_372_036_854_775_808_u64)),
        ("toId", json!(["2"])),
        ("toId", json!({"id": 2})),
        ("toId", json!(true)),
        ("toId", Value::Null),
        ("content", json!("")),
        ("content", json!(1)),
        ("content", json!(["a"])),
        ("content", Value::Null),
        ("msgType", json!(0)),
        ("msgType", json!(-1)),
        ("msgType", json!(256)),
        ("msgType", json!(1.5)),
        ("msgType", json!("text")),
        ("msgType", Value::Null),
        ("clientMsgId", json!("")),
        ("clientMsgId", json!("x".repeat(65))),
        ("clientMsgId", json!("鸿".repeat(65))),
        ("clientMsgId", json!(1)),
    ];
    let good = json!({"toId": "2", "content": "hi", "msgType": 1});
    for (name, value) in changes {
        let mut body = good.clone();
        body[name] = value.clone();
        let answer = alice.post("/messages", &body).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert_refused(&answer, 400, "invalid_request");
    }
    for name in ["toId", "content"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(name);
        let answer = alice.post("/messages", &body).await;
        assert_refused(&answer, 400, "invalid_request");
        assert!(answer.body["detail"].as_str().unwrap().contains(name), "{answer:?}");
    }
    // None of these requests left data behind.
    test.drain().await;
    assert_eq!(test.count_rows("TRUE").await, 0);
    assert_eq!(alice.history(2, "").await.ids(), Vec::<String>::new());

    let plain = alice.post("/messages", &json!({"toId": "2", "content": "hi"})).await;
    assert_eq!((plain.status, &plain.body["msgType"]), (201, &json!(1)), "without a type it is text");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_cursors_and_limits_that_are_none_are_400() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let id = alice.sent(2, "hi").await;
    for bad in ["abc", "0", "-1", "01", "1.0", "+1", "%20", "9223372036854775808", "%F0%9F%A6%A2", "1%2F2"] {
        for answer in [
            alice.recall(bad).await,
            alice.delete(bad).await,
            alice.get(&format!("/conversations/{bad}/messages")).await,
            raw(
                &alice,
                Method::POST,
                &format!("/conversations/{bad}/read"),
                &json!({"upTo": id}).to_string(),
            )
            .await,
            alice.history(2, &format!("before={bad}")).await,
            alice.history(2, &format!("after={bad}")).await,
            bob.read(1, bad).await,
        ] {
            assert_refused(&answer, 400, "invalid_request");
        }
    }
    for limit in ["0", "101", "-1", "1.5", "abc", "", "%20", "99999999999999999999"] {
        assert_refused(&alice.history(2, &format!("limit={limit}")).await, 400, "invalid_request");
    }
    for query in ["before=", "after=", &format!("before={id}&after={id}")] {
        assert_refused(&alice.history(2, query).await, 400, "invalid_request");
    }
    for body in ["", "nope", "[]", "{}", r#"{"upTo":null}"#, r#"{"upTo":1.5}"#, r#"{"upTo":["1"]}"#] {
        assert_refused(&raw(&bob, Method::POST, "/conversations/1/read", body).await, 400, "invalid_request");
    }
    // A user is no peer of themselves.
    assert_refused(&alice.history(1, "").await, 400, "invalid_request");
    assert_refused(&alice.read(1, &id).await, 400, "invalid_request");
    for limit in [1, 100] {
        assert_eq!(alice.history(2, &format!("limit={limit}")).await.ids(), [id.as_str()]);
    }
    assert_eq!(bob.unread().await.body["total"], 1);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_404_and_another_method_405() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    let id = alice.sent(2, "hi").await;
    let none = (id.parse::<i64>().unwrap() + (1 << 40)).to_string();
    for answer in [alice.recall(&none).await, alice.delete(&none).await, alice.read(2, &none).await] {
        assert_refused(&answer, 404, "not_found");
    }
    // An id from long ago, and an id that no clock will reach.
    for none in ["1", "9223372036854775807"] {
        assert_refused(&alice.recall(none).await, 404, "not_found");
    }
    for path in ["/", "/nope", "/messages/", "/messages/1/recall/", "/conversations/2/", "/Unread"] {
        assert_refused(&alice.get(path).await, 404, "not_found");
    }
    let answer = alice.get("/messages").await;
    assert_refused(&answer, 405, "method_not_allowed");
    assert_eq!(answer.headers["allow"], "POST");
    // An empty conversation is no error.
    let empty = alice.history(77, "").await;
    assert_eq!((empty.status, &empty.body), (200, &json!({"messages": [], "next": null})));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_more_than_a_mebibyte_is_413() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    let body = json!({"toId": "2", "content": "x".repeat(1024 * 1024), "msgType": 1}).to_string();
    let answer = raw(&alice, Method::POST, "/messages", &body).await;
    assert_refused(&answer, 413, "content_too_large");
    test.stop().await;
}
