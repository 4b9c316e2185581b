//! `GET /messages/{id}`: one message as its caller may see it, wherever it lies.

use hongyan_testkit::{Answer, Caller, TestApp};
use serde_json::json;

use crate::{assert_refused, empty_redis};

async fn get(caller: &Caller, id: &str) -> Answer {
    caller.get(&format!("/messages/{id}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_the_message_as_it_was_sent_then_as_it_is_kept() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    test.hold().await;
    let body = json!({"toId": "2", "content": "你好", "clientMsgId": "mine"});
    let sent = alice.post("/messages", &body).await;
    let id = sent.id();

    // Redis alone has it.
    let answer = get(&alice, &id).await;
    assert_eq!((answer.status, &answer.body), (200, &sent.body));
    let mut for_bob = sent.body.clone();
    for_bob.as_object_mut().unwrap().remove("clientMsgId");
    assert_eq!(get(&bob, &id).await.body, for_bob, "only its sender sees the name");

    // Both stores have it, then MySQL alone.
    test.release();
    test.drain().await;
    for_bob["persistStatus"] = json!("PERSISTED");
    for_bob["seq"] = json!(1);
    assert_eq!(get(&bob, &id).await.body, for_bob);
    empty_redis(&test).await;
    assert_eq!(get(&bob, &id).await.body, for_bob);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recalled_one_has_no_words_and_a_deleted_one_is_gone_for_its_user() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let (recalled, deleted) = (alice.sent(2, "RECALLED").await, alice.sent(2, "deleted").await);
    assert_eq!(alice.recall(&recalled).await.status, 200);
    assert_eq!(bob.delete(&deleted).await.status, 204);

    for when in ["queued", "persisted", "from MySQL"] {
        for caller in [&alice, &bob] {
            let answer = get(caller, &recalled).await;
            assert_eq!((answer.status, &answer.body["status"]), (200, &json!(0)), "{when}: {answer:?}");
            assert_eq!(answer.body["content"], "", "{when}");
            assert!(answer.body["recallTime"].is_i64(), "{when}: {answer:?}");
        }
        assert_refused(&get(&bob, &deleted).await, 404, "not_found");
        assert_eq!(get(&alice, &deleted).await.body["content"], "deleted", "{when}");
        test.drain().await;
        if when == "persisted" {
            empty_redis(&test).await;
        }
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_and_a_wrong_id_get_the_same_answer() {
    let test = TestApp::start().await;
    let (alice, stranger) = (test.user(1), test.user(3));
    let id = alice.sent(2, "hi").await;
    let theirs = get(&stranger, &id).await;
    assert_refused(&theirs, 404, "not_found");
    let nobodys = get(&stranger, "1").await;
    assert_eq!(
        theirs.problem_without_trace(),
        nobodys.problem_without_trace(),
        "nobody learns whether there is a message"
    );
    for wrong in ["0", "-1", "x", "9223372036854775808", "01"] {
        assert_refused(&get(&alice, wrong).await, 400, "invalid_request");
    }
    test.stop().await;
}
