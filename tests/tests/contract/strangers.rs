//! Every route with a stranger's token: nothing is read, recalled, deleted, marked or pushed.

use hongyan_runtime::functions;
use hongyan_testkit::TestApp;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_nothing_on_any_route() {
    let test = TestApp::start().await;
    let (alice, bob, stranger) = (test.user(1), test.user(2), test.user(3));
    let mut sockets = [alice.connect().await, bob.connect().await, stranger.connect().await];
    let id = alice.sent(2, "SECRET").await;
    assert_eq!(sockets[1].hear().await["type"], "MESSAGE");

    for persisted in [false, true] {
        if persisted {
            test.drain().await;
        }
        for redis_has_it in [true, false] {
            if persisted && !redis_has_it {
                super::empty_redis(&test).await;
                // Connections are in Redis too. They are opened again, as clients do.
                sockets = [alice.connect().await, bob.connect().await, stranger.connect().await];
            }
            for route in functions::routes() {
                for peer in ["1", "2"] {
                    // The stranger claims to be the sender in every field that allows it.
                    let path =
                        route.path.replace("{id}", &id).replace("{peerId}", peer).replace("{userId}", peer);
                    let path =
                        format!("{path}?userId=1&fromUserId=1&sub=1&before=9223372036854775807&upTo={id}");
                    let body = json!({"upTo": id, "fromUserId": "1", "userId": "1", "sub": "1"}).to_string();
                    let answer = stranger.request(route.method.clone(), &path, Some(body)).await;
                    assert!(!answer.text.contains("SECRET"), "{path}: {answer:?}");
                    match (route.method.as_str(), route.path) {
                        ("POST", "/messages") => assert_eq!(answer.status, 400, "{answer:?}"),
                        ("POST", "/messages/{id}/recall" | "/conversations/{peerId}/read")
                        | ("DELETE", "/messages/{id}" | "/conversations/{peerId}/messages")
                        | ("GET", "/conversations/{peerId}") => {
                            assert_eq!(answer.problem(), (404, "not_found"), "{answer:?}");
                        }
                        ("GET", "/conversations/{peerId}/messages") => {
                            assert_eq!(answer.body, json!({"messages": [], "next": null}));
                        }
                        ("GET", "/conversations/{peerId}/changes") => {
                            assert_eq!(answer.body, json!({"changes": [], "next": null, "lastSeq": 0}));
                        }
                        ("GET", "/conversations") => {
                            let empty = (&json!([]), &serde_json::Value::Null);
                            assert_eq!((&answer.body["conversations"], &answer.body["next"]), empty);
                        }
                        ("GET", "/unread") => assert_eq!(answer.body, json!({"total": 0, "messageIds": []})),
                        // A route added after this test has no id of others in its path.
                        (_, path) if path.contains("{id}") => {
                            assert_eq!(answer.problem(), (404, "not_found"), "{answer:?}");
                        }
                        _ => assert!(!answer.text.contains(&id), "{path}: {answer:?}"),
                    }
                }
            }
        }
    }
    for (reader, peer) in [(&alice, 2), (&bob, 1)] {
        assert_eq!(reader.history(peer, "").await.body["messages"][0]["content"], "SECRET");
    }
    assert_eq!(bob.unread().await.body, json!({"total": 1, "messageIds": [id]}));
    assert_eq!(test.row(&id).await.unwrap().status, 1);
    // A push would arrive before the answer to a ping.
    for socket in &mut sockets {
        socket.say(r#"{"action":"ping"}"#).await;
        assert_eq!(socket.hear().await, json!({"type": "PONG"}));
    }
    test.stop().await;
}

/// The token says who the sender is, and the body cannot.
#[tokio::test(flavor = "multi_thread")]
async fn a_sender_cannot_be_forged() {
    let test = TestApp::start().await;
    let (alice, bob, stranger) = (test.user(1), test.user(2), test.user(3));
    let body = json!({"toId": "2", "content": "hi", "msgType": 1, "fromUserId": "1", "fromId": "1", "id": "5",
        "conversationId": "1_2", "status": 0, "sendTime": 1, "persistStatus": "PERSISTED"});
    let sent = stranger.post("/messages", &body).await;
    assert_eq!(
        (sent.status, &sent.body["fromUserId"], &sent.body["conversationId"]),
        (201, &json!("3"), &json!("2_3"))
    );
    assert_ne!(sent.id(), "5");
    assert_eq!((&sent.body["status"], &sent.body["persistStatus"]), (&json!(1), &json!("PENDING")));
    assert!(bob.history(1, "").await.ids().is_empty());
    assert!(alice.history(2, "").await.ids().is_empty());
    test.stop().await;
}
