//! A key of the wrong type, or a detail in an unknown form, affects only its own message or conversation.

use hongyan_testkit::TestApp;
use redis::AsyncCommands as _;
use serde_json::json;

use crate::words;

/// Replaces each key by a value of another type: a hash, which this service never uses.
async fn spoil(test: &TestApp, keys: &[&str]) {
    let mut redis = test.redis().await;
    for key in keys {
        redis.del::<_, ()>(key).await.unwrap();
        redis.hset::<_, _, _, ()>(key, "another", "type").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_wrong_type_are_mended_and_nobody_is_refused() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let first = alice.sent(2, "first").await;
    test.drain().await;
    assert_eq!(words(&bob, 1).await, ["first"]);

    let shard = test.app().cache.partitions();
    let pending: Vec<String> = (0..shard).map(|partition| format!("msg:pending:{partition}")).collect();
    let named = [
        "msg:conv:1_2",
        "msg:conv-epoch:1_2",
        "msg:conv-pending:1_2",
        "msg:unread:2",
        "msg:unread-pending:2",
        "msg:deleted:1",
        "msg:deleted:2",
        "msg:client:1:name",
        "msg:connections:2",
        "msg:epoch",
        "msg:compensator",
    ];
    let all: Vec<&str> = named.into_iter().chain(pending.iter().map(String::as_str)).collect();

    spoil(&test, &all).await;
    let body = json!({"toId": "2", "content": "second", "msgType": 1, "clientMsgId": "name"});
    let second = alice.post("/messages", &body).await;
    assert_eq!(second.status, 201, "{second:?}");
    spoil(&test, &["msg:conv:1_2", "msg:conv-epoch:1_2", "msg:deleted:2", "msg:epoch"]).await;
    assert_eq!(words(&bob, 1).await, ["second", "first"]);
    spoil(&test, &["msg:deleted:2", "msg:unread:2"]).await;
    assert_eq!(bob.delete(&first).await.status, 204);
    assert_eq!(words(&bob, 1).await, ["second"]);
    test.drain().await;
    assert_eq!(test.row(&second.id()).await.unwrap().content, "second");
    test.compensate().await;

    spoil(&test, &[&format!("msg:cancel:{}", second.id()), "msg:conv:1_2", "msg:unread:2"]).await;
    assert_eq!(alice.recall(&second.id()).await.status, 200);
    assert!(words(&bob, 1).await.is_empty());
    test.drain().await;
    assert_eq!(test.row(&second.id()).await.unwrap().status, 0);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_wrong_type_hold_up_no_partition() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    test.hold().await;
    let (odd, next) = (alice.sent(2, "odd").await, alice.sent(2, "next").await);
    let keys = ["detail", "cancel", "lock"].map(|kind| format!("msg:{kind}:{odd}"));
    spoil(&test, &keys.each_ref().map(String::as_str)).await;

    test.release();
    test.drain().await;

    for (id, content) in [(&odd, "odd"), (&next, "next")] {
        assert_eq!(test.row(id).await.unwrap().content, content);
        assert_eq!(test.detail(id).await.unwrap()["persistStatus"], "PERSISTED");
    }
    assert_eq!(words(&test.user(2), 1).await, ["next", "odd"]);
    test.stop().await;
}

/// The fields of a message in the order of their names, as Jackson writes them.
fn in_another_order(detail: &serde_json::Value) -> String {
    let mut fields: Vec<_> = detail.as_object().unwrap().iter().collect();
    fields.sort_by_key(|(name, _)| name.as_str());
    let fields = fields.iter().map(|(name, value)| format!("{}:{value}", json!(name)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detail_in_another_order_is_the_same_message() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    test.hold().await;
    let (kept, recalled) = (alice.sent(2, "kept").await, alice.sent(2, "recalled").await);
    let mut redis = test.redis().await;
    for id in [&kept, &recalled] {
        let detail = test.detail(id).await.unwrap();
        redis.set::<_, _, ()>(format!("msg:detail:{id}"), in_another_order(&detail)).await.unwrap();
    }
    assert_eq!(words(&bob, 1).await, ["recalled", "kept"]);

    assert_eq!(alice.recall(&recalled).await.status, 200);
    assert_eq!(words(&bob, 1).await, ["kept"]);
    test.release();
    test.drain().await;

    assert_eq!(test.detail(&kept).await.unwrap()["persistStatus"], "PERSISTED");
    assert_eq!(test.row(&kept).await.unwrap().content, "kept");
    assert!(test.row(&recalled).await.is_none_or(|row| row.status == 0));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detail_that_is_no_message_is_replaced_by_what_mysql_has() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let (row, recalled) = (alice.sent(2, "row").await, alice.sent(2, "recalled").await);
    test.drain().await;
    assert_eq!(words(&bob, 1).await, ["recalled", "row"]);
    let mut redis = test.redis().await;
    for id in [&row, &recalled] {
        redis.set::<_, _, ()>(format!("msg:detail:{id}"), &b"\xff no message"[..]).await.unwrap();
    }

    assert_eq!(words(&bob, 1).await, ["recalled", "row"]);
    assert_eq!(test.detail(&row).await.unwrap()["content"], "row");
    redis.set::<_, _, ()>(format!("msg:detail:{recalled}"), "[]").await.unwrap();
    assert_eq!(alice.recall(&recalled).await.status, 200);
    assert_eq!(words(&bob, 1).await, ["row"]);
    test.drain().await;
    assert_eq!(words(&bob, 1).await, ["row"]);
    test.stop().await;
}
