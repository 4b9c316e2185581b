//! Blocks and typing.

use std::time::Duration;

use hongyan_testkit::app::eventually;
use hongyan_testkit::{Caller, TestApp};
use http::Method;
use redis::AsyncCommands as _;
use serde_json::json;

use crate::{assert_refused, empty_redis};

async fn block(user: &Caller, other: &str) -> u16 {
    user.request(Method::PUT, &format!("/blocks/{other}"), None).await.status
}

async fn unblock(user: &Caller, other: &str) -> u16 {
    user.request(Method::DELETE, &format!("/blocks/{other}"), None).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_blocked_cannot_send_and_can_do_everything_else() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let named = json!({"toId": "2", "content": "before", "clientMsgId": "before"});
    let before = alice.post("/messages", &named).await;
    assert_eq!(bob.get("/blocks").await.body, json!({"userIds": []}));
    for _ in 0..2 {
        assert_eq!(block(&bob, "1").await, 204);
    }
    assert_eq!(block(&bob, "9223372036854775807").await, 204);
    assert_eq!(bob.get("/blocks").await.body, json!({"userIds": ["1", "9223372036854775807"]}));
    assert_eq!(alice.get("/blocks").await.body, json!({"userIds": []}), "a user sees their own blocks alone");

    for body in
        [json!({"toId": "2", "content": "no"}), json!({"toId": "2", "content": "no", "clientMsgId": "later"})]
    {
        assert_refused(&alice.post("/messages", &body).await, 403, "blocked");
    }
    // A message that was accepted before stays accepted.
    let again = alice.post("/messages", &named).await;
    assert_eq!((again.status, again.id()), (200, before.id()));
    assert_eq!(alice.send(3, "to others").await.status, 201);
    let to_alice = bob.send(1, "the other direction").await;
    assert_eq!(to_alice.status, 201, "who blocks may still send");
    test.drain().await;
    assert_eq!(alice.read(2, &to_alice.id()).await.status, 200);
    assert_eq!(alice.history(2, "").await.body["messages"].as_array().unwrap().len(), 2);
    assert_eq!(alice.delete(&to_alice.id()).await.status, 204);
    assert_eq!(alice.recall(&before.id()).await.status, 200);

    for _ in 0..2 {
        assert_eq!(unblock(&bob, "1").await, 204);
    }
    let later = alice.post("/messages", &json!({"toId": "2", "content": "no", "clientMsgId": "later"})).await;
    assert_eq!(later.status, 201, "the refused send left no claim");
    assert_eq!(block(&bob, "1").await, 204);
    assert_refused(&alice.send(2, "again").await, 403, "blocked");
    test.drain().await;
    assert_eq!(test.count_rows("from_user_id = 1 AND to_id = 2").await, 2);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_outlives_the_data_of_redis() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    assert_eq!(block(&bob, "1").await, 204);
    empty_redis(&test).await;
    assert_refused(&alice.send(2, "after Redis was emptied").await, 403, "blocked");

    // Redis believes a block that has ended, and MySQL is asked before it counts.
    assert_eq!(unblock(&bob, "1").await, 204);
    let mut redis = test.redis().await;
    let held: bool = redis.sismember("msg:blocks:2", 1).await.unwrap();
    assert!(held, "the end of a block is not taken out of Redis");
    assert_eq!(alice.send(2, "no longer blocked").await.status, 201);
    let ttl_ms: i64 = redis.pttl("msg:blocks:2").await.unwrap();
    assert!((1..=60_000).contains(&ttl_ms), "{ttl_ms}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_bounded_and_of_other_users() {
    let test = TestApp::start().await;
    let bob = test.user(2);
    for wrong in ["0", "-1", "x", "2", "9223372036854775808"] {
        for method in [Method::PUT, Method::DELETE] {
            let answer = bob.request(method, &format!("/blocks/{wrong}"), None).await;
            assert_refused(&answer, 400, "invalid_request");
        }
    }
    let rows: Vec<String> = (1_001..=1_999).map(|id| format!("(2, {id}, 0)")).collect();
    let insert =
        format!("INSERT INTO user_block (user_id, blocked_id, created_at) VALUES {}", rows.join(", "));
    sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&test.mysql).await.unwrap();
    assert_eq!(block(&bob, "2000").await, 204, "the thousandth");
    let refused = bob.request(Method::PUT, "/blocks/2001", None).await;
    assert_refused(&refused, 409, "too_many_blocks");
    assert_eq!(block(&bob, "1001").await, 204, "blocked already");
    assert_eq!(unblock(&bob, "1001").await, 204);
    assert_eq!(block(&bob, "2001").await, 204);
    assert_eq!(bob.get("/blocks").await.body["userIds"].as_array().unwrap().len(), 1_000);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_reaches_the_peer_alone_and_is_kept_nowhere() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let (mut of_alice, mut of_bob) = (alice.connect().await, [bob.connect().await, bob.connect().await]);
    let typing = json!({"type": "TYPING", "conversationId": "1_2", "fromUserId": "1"});
    of_alice.say(r#"{"action":"typing","toId":"2"}"#).await;
    of_alice.say(r#"{"action":"typing","toId":2}"#).await;
    of_alice.say(r#"{"action":"ping"}"#).await;
    assert_eq!(of_alice.hear().await, json!({"type": "PONG"}), "typing is not answered");
    for socket in &mut of_bob {
        assert_eq!(socket.hear().await, typing);
        socket.say(r#"{"action":"ping"}"#).await;
        assert_eq!(socket.hear().await, json!({"type": "PONG"}), "once in 3 s");
    }
    for wrong in
        [r#"{"action":"typing"}"#, r#"{"action":"typing","toId":"1"}"#, r#"{"action":"typing","toId":"x"}"#]
    {
        of_alice.say(wrong).await;
        let told = of_alice.hear().await;
        assert_eq!((&told["type"], &told["code"]), (&json!("ERROR"), &json!("invalid_request")), "{wrong}");
    }

    // Later again, unless the peer has blocked the user.
    let mut redis = test.redis().await;
    eventually("the limit of 3 s ends", Duration::from_secs(10), async || {
        !redis.clone().exists::<_, bool>("msg:typing:1:2").await.unwrap()
    })
    .await;
    of_alice.say(r#"{"action":"typing","toId":"2"}"#).await;
    assert_eq!(of_bob[0].hear().await, typing);
    redis.del::<_, ()>("msg:typing:1:2").await.unwrap();
    assert_eq!(block(&bob, "1").await, 204);
    of_alice.say(r#"{"action":"typing","toId":"2"}"#).await;
    of_alice.say(r#"{"action":"ping"}"#).await;
    assert_eq!(of_alice.hear().await, json!({"type": "PONG"}));
    of_bob[0].say(r#"{"action":"ping"}"#).await;
    assert_eq!(of_bob[0].hear().await, json!({"type": "PONG"}), "nothing of a blocked user");
    assert_eq!(test.count_rows("1 = 1").await, 0);
    test.stop().await;
}
