//! A sender's `clientMsgId` names one message for good, even after Redis has forgotten it, and after a recall.

use hongyan_testkit::{Answer, Caller, TestApp};
use serde_json::json;

use crate::{assert_refused, empty_redis};

async fn send(caller: &Caller, to: i64, content: &str) -> Answer {
    let body = json!({"toId": to.to_string(), "content": content, "clientMsgId": "k"});
    caller.post("/messages", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_recalled_before_it_was_a_row_does_not_come_back() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    test.hold().await;
    let first = send(&alice, 2, "words").await;
    let recalled = alice.recall(&first.id()).await;
    assert_eq!((first.status, recalled.status), (201, 200));
    test.release();
    test.drain().await;
    assert_eq!(test.row(&first.id()).await, None);

    empty_redis(&test).await;
    let mut socket = bob.connect().await;
    let again = send(&alice, 2, "words").await;
    assert_eq!((again.status, again.id()), (200, first.id()));
    assert_eq!((&again.body["status"], &again.body["content"]), (&json!(0), &json!("")));
    assert_eq!(alice.recall(&first.id()).await.body, recalled.body, "it can be recalled again");
    assert_eq!(bob.history(1, "").await.ids(), [""; 0]);
    assert_eq!(bob.unread().await.body["total"], 0);
    // A push of the message would arrive before the answer to a ping.
    socket.say(r#"{"action":"ping"}"#).await;
    loop {
        let heard = socket.hear().await;
        assert_ne!(heard["type"], "MESSAGE", "{heard}");
        if heard == json!({"type": "PONG"}) {
            break;
        }
    }
    test.drain().await;
    assert_eq!(test.count_rows("TRUE").await, 0);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_retry_is_answered_with_the_first_message_and_other_words_are_a_conflict() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    let first = send(&alice, 2, "words").await;
    test.drain().await;
    for recalled in [false, true] {
        if recalled {
            assert_eq!(alice.recall(&first.id()).await.status, 200);
            test.drain().await;
        }
        empty_redis(&test).await;
        let again = send(&alice, 2, "words").await;
        assert_eq!((again.status, again.id()), (200, first.id()), "recalled: {recalled}");
        assert_eq!(again.body["content"], if recalled { json!("") } else { json!("words") });
        empty_redis(&test).await;
        // After a recall the words are gone, but the fingerprint still recognises the retry.
        assert_refused(&send(&alice, 2, "other words").await, 409, "client_msg_id_conflict");
        assert_refused(&send(&alice, 3, "words").await, 409, "client_msg_id_conflict");
        let after_a_conflict = send(&alice, 2, "words").await;
        assert_eq!((after_a_conflict.status, after_a_conflict.id()), (200, first.id()));
    }
    assert_eq!(test.count_rows("TRUE").await, 1);
    test.stop().await;
}

/// Messages accepted while no store could look the name up, as the consumer meets them.
#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_message_under_a_used_name_is_kept() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let first = send(&alice, 2, "words").await;
    assert_eq!(alice.recall(&first.id()).await.status, 200);
    test.hold().await;
    // MySQL has the recall, and no look-up in the store answers in time.
    empty_redis(&test).await;
    let sender = alice.id;
    let name = hongyan::message::ClientMessageId::try_from("k".to_owned()).unwrap();
    let id = test.app().ids.next().await.unwrap();
    let kind = hongyan::message::MessageType::TEXT;
    let other =
        hongyan::message::Message::new(id, sender, bob.id, kind, "other words".to_owned(), Some(name));
    let event = hongyan::event::MessageEvent::Persist { data: other };
    test.app().queue.send(&event, std::time::Duration::from_secs(10)).await.unwrap();
    test.release();
    test.drain().await;
    assert_eq!(crate::words(&bob, 1).await, ["other words"]);
    test.stop().await;
}
