//! `clientMsgId`: a sender can always retry, and gets the first message.

use hongyan_testkit::{Answer, Caller, TestApp};
use serde_json::{Value, json};

use crate::assert_refused;

async fn send_as(caller: &Caller, to: i64, content: &str, client_msg_id: &str) -> Answer {
    let body =
        json!({"toId": to.to_string(), "content": content, "msgType": 1, "clientMsgId": client_msg_id});
    caller.post("/messages", &body).await
}

/// The message without the fields that change when it becomes a row.
fn without_persist_status(answer: &Answer) -> Value {
    let mut body = answer.body.clone();
    for name in ["persistStatus", "seq"] {
        body.as_object_mut().unwrap().remove(name);
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_again_is_200_and_the_first_message() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    for client_msg_id in ["a", &"x".repeat(64), &"🦢".repeat(64), "with spaces, : and \"quotes\""] {
        let first = send_as(&alice, 2, "once", client_msg_id).await;
        assert_eq!(first.status, 201, "{first:?}");
        let again = send_as(&alice, 2, "once", client_msg_id).await;
        assert_eq!(
            (again.status, again.headers["content-type"].to_str().unwrap()),
            (200, "application/json")
        );
        assert_eq!(without_persist_status(&again), without_persist_status(&first));
        test.drain().await;
        let later = send_as(&alice, 2, "once", client_msg_id).await;
        assert_eq!((later.status, later.id()), (200, first.id()));
        assert_eq!(later.body["persistStatus"], "PERSISTED");
    }
    assert_eq!(test.count_rows("TRUE").await, 4);
    assert_eq!(test.user(2).unread().await.body["total"], 4);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_for_something_else_is_409() {
    let test = TestApp::start().await;
    let (alice, carol) = (test.user(1), test.user(3));
    let first = send_as(&alice, 2, "once", "mine").await;
    assert_refused(&send_as(&alice, 2, "twice", "mine").await, 409, "client_msg_id_conflict");
    assert_refused(&send_as(&alice, 3, "once", "mine").await, 409, "client_msg_id_conflict");
    test.drain().await;
    assert_refused(&send_as(&alice, 2, "twice", "mine").await, 409, "client_msg_id_conflict");
    // The names of other senders are separate, and names differ by every character.
    assert_eq!(send_as(&carol, 2, "once", "mine").await.status, 201);
    assert_eq!(send_as(&alice, 2, "twice", "Mine").await.status, 201);
    assert_eq!(send_as(&alice, 2, "twice", "mine ").await.status, 201);
    assert_eq!(send_as(&alice, 2, "once", "mine").await.id(), first.id());
    test.drain().await;
    assert_eq!(test.count_rows("TRUE").await, 4);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_make_one_message() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    for round in 0..5 {
        let client_msg_id = format!("round {round}");
        let sends = (0..20).map(|_| send_as(&alice, 2, "once", &client_msg_id));
        let answers = futures_util::future::join_all(sends).await;
        for answer in &answers {
            assert!(matches!(answer.status, 200 | 201), "{answer:?}");
            assert_eq!(without_persist_status(answer), without_persist_status(&answers[0]));
        }
        assert!(answers.iter().any(|answer| answer.status == 201));
    }
    test.drain().await;
    assert_eq!(test.count_rows("TRUE").await, 5);
    assert_eq!(bob.history(1, "").await.ids().len(), 5);
    assert_eq!(bob.unread().await.body["total"], 5);
    assert_eq!(test.app().cache.pending_count().await.unwrap(), 0);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_brings_no_recalled_content_back() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let first = send_as(&alice, 2, "regretted", "mine").await;
    let recalled = alice.recall(&first.id()).await;
    assert_eq!(recalled.status, 200);
    for _ in 0..2 {
        let again = send_as(&alice, 2, "regretted", "mine").await;
        assert_eq!((again.status, again.id()), (200, first.id()), "{again:?}");
        assert_eq!((&again.body["status"], &again.body["content"]), (&json!(0), &json!("")));
        assert_eq!(again.body["recallTime"], recalled.body["recallTime"]);
        assert!(bob.history(1, "").await.ids().is_empty());
        test.drain().await;
    }
    assert_eq!(test.count_rows("status = 1").await, 0);
    test.stop().await;
}
