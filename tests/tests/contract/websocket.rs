//! The WebSocket: who gets which push, in which form, and what happens to clients that go away or do not keep up.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hongyan::config::PushConfig;
use hongyan::id::{ConversationId, UserId};
use hongyan::push::{Push, PushEvent};
use hongyan_runtime::gateway::GatewayOptions;
use hongyan_testkit::app::eventually;
use hongyan_testkit::{Socket, TestApp};
use redis::AsyncCommands as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

async fn pong(socket: &mut Socket) {
    socket.say(r#"{"action":"ping"}"#).await;
    assert_eq!(socket.hear().await, json!({"type": "PONG"}), "and nothing came before it");
}

async fn hear_all(sockets: &mut [Socket], wanted: &Value) {
    for socket in sockets {
        assert_eq!(&socket.hear().await, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_of_the_two_users_gets_every_push() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let mut of_alice = [alice.connect().await, alice.connect().await];
    let mut of_bob = [bob.connect().await, bob.connect().await, bob.connect().await];

    // Only the sender's devices learn the sender's own name for the message.
    let body = json!({"toId": "2", "content": "你好 🦢", "clientMsgId": "mine"});
    let sent = alice.post("/messages", &body).await;
    let mut for_bob = sent.body.clone();
    assert_eq!(for_bob.as_object_mut().unwrap().remove("clientMsgId"), Some(json!("mine")));
    hear_all(&mut of_alice, &json!({"type": "MESSAGE", "data": sent.body})).await;
    hear_all(&mut of_bob, &json!({"type": "MESSAGE", "data": for_bob})).await;
    let answer = bob.send(1, "hi").await;
    hear_all(&mut of_alice, &json!({"type": "MESSAGE", "data": answer.body})).await;
    hear_all(&mut of_bob, &json!({"type": "MESSAGE", "data": answer.body})).await;

    // A position is pushed when it moves, and to both users.
    test.drain().await;
    for _ in 0..2 {
        assert_eq!(bob.read(1, &sent.id()).await.status, 200);
    }
    let read = json!({"type": "READ", "conversationId": "1_2", "userId": "2", "upTo": sent.id()});
    hear_all(&mut of_alice, &read).await;
    hear_all(&mut of_bob, &read).await;

    // A deletion is nobody else's matter.
    assert_eq!(bob.delete(&answer.id()).await.status, 204);
    let deleted = json!({"type": "MESSAGE_DELETED", "messageId": answer.id(), "conversationId": "1_2"});
    hear_all(&mut of_bob, &deleted).await;
    for socket in &mut of_alice {
        pong(socket).await;
    }

    let recalled = alice.recall(&sent.id()).await;
    let told = json!({
        "type": "MESSAGE_RECALLED",
        "messageId": sent.id(),
        "conversationId": "1_2",
        "recallTime": recalled.body["recallTime"],
    });
    hear_all(&mut of_alice, &told).await;
    hear_all(&mut of_bob, &told).await;
    for number in 0..20 {
        alice.sent(2, &format!("message {number}")).await;
    }
    for socket in of_alice.iter_mut().chain(&mut of_bob) {
        for number in 0..20 {
            assert_eq!(socket.hear().await["data"]["content"], format!("message {number}"), "in order");
        }
        pong(socket).await;
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_receipts_only_the_reader_learns_the_position() {
    let test = TestApp::builder().set("IM_READ_RECEIPTS", "false").start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let id = alice.sent(2, "hello").await;
    test.drain().await;
    let (mut of_alice, mut of_bob) = (alice.connect().await, bob.connect().await);

    assert_eq!(bob.read(1, &id).await.body["unread"], 0);
    assert_eq!(of_bob.hear().await["type"], "READ");
    pong(&mut of_alice).await;
    for (user, peer, wanted) in [(&alice, 2, vec!["MESSAGE"]), (&bob, 1, vec!["MESSAGE", "READ"])] {
        let answer = user.get(&format!("/conversations/{peer}/changes")).await;
        let types: Vec<&str> = answer.body["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| change["type"].as_str().unwrap())
            .collect();
        assert_eq!((types, &answer.body["next"], &answer.body["lastSeq"]), (wanted, &json!(null), &json!(2)));
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gives_its_token_as_a_subprotocol() {
    let test = TestApp::start().await;
    let (mut socket, selected) = test.user(2).connect_by_subprotocol().await.unwrap();
    assert_eq!(selected.as_deref(), Some("hongyan.v1"));

    let sent = test.user(1).send(2, "hello").await;
    assert_eq!(socket.hear().await, json!({"type": "MESSAGE", "data": sent.body}));
    pong(&mut socket).await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_connection_of_a_user_gives_way_to_one_too_many() {
    let test = TestApp::builder().in_process().set("IM_MAX_CONNECTIONS_PER_USER", "2").start().await;
    let mut redis = test.redis().await;
    // A connection that left nothing but its name counts for nothing.
    redis.sadd::<_, _, ()>("msg:connections:2", "evicted").await.unwrap();
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(test.user(2).connect().await);
        test.pass_ms(1);
    }
    let mut of_carol = test.user(3).connect().await;

    for oldest in &mut sockets[..2] {
        assert_eq!(oldest.closed().await, Some(4409));
    }
    let sent = test.user(1).send(2, "to the two newest").await;
    for newest in &mut sockets[2..] {
        assert_eq!(newest.hear().await["data"]["id"], sent.body["id"]);
        pong(newest).await;
    }
    pong(&mut of_carol).await;
    assert_eq!(redis.scard::<_, usize>("msg:connections:2").await.unwrap(), 2);
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

    // Connections that were left behind without a close, as when a gateway is killed.
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
    // The client reads nothing; senders are answered all the same.
    let mut sent = Vec::new();
    while redis.scard::<_, usize>("msg:connections:2").await.unwrap() > 0 {
        assert!(sent.len() < 2_000, "still not closed after {} messages that were not read", sent.len());
        sent.push(alice.sent(2, &content).await);
    }
    // The client then reads the first messages without a gap, and the end of the connection.
    let mut heard = Vec::new();
    while let Some(push) = slow.hear_until_closed().await {
        heard.push(push["data"]["id"].as_str().unwrap().to_owned());
    }
    assert!(heard.len() < sent.len());
    assert_eq!(heard, sent[..heard.len()], "never a gap");
    test.drain().await;

    // The client connects again and catches up with the missed messages.
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

#[tokio::test(flavor = "multi_thread")]
async fn a_push_reaches_the_runtime_that_holds_the_connection() {
    let test = TestApp::builder().in_process().start().await;
    let second = TestApp::beside(&test).await;
    let (alice, alice_there) = (test.user(1), second.user(1));
    let mut here = test.user(2).connect().await;
    let mut there = second.user(2).connect().await;
    let mut redis = test.redis().await;

    for (number, sender) in [&alice, &alice_there, &alice, &alice_there].into_iter().enumerate() {
        let sent = sender.send(2, &format!("message {number}")).await;
        for socket in [&mut here, &mut there] {
            assert_eq!(socket.hear().await, json!({"type": "MESSAGE", "data": sent.body}));
        }
    }
    assert_eq!(redis.scard::<_, usize>("msg:connections:2").await.unwrap(), 2);

    // A registration stays while its gateway does not answer. Only that gateway can say that the connection is gone.
    let elsewhere = r#"{"userId":2,"endpoint":"http://127.0.0.1:1/","connectedAt":1}"#;
    let foreign = r#"{"userId":2,"endpoint":"http://169.254.169.254/","connectedAt":1}"#;
    for (connection, registration) in [("elsewhere", elsewhere), ("foreign", foreign)] {
        redis.set::<_, _, ()>(format!("msg:connection:{connection}"), registration).await.unwrap();
        redis.sadd::<_, _, ()>("msg:connections:2", connection).await.unwrap();
    }
    alice.sent(2, "the last").await;
    for socket in [&mut here, &mut there] {
        assert_eq!(socket.hear().await["data"]["content"], "the last");
    }
    assert_eq!(redis.scard::<_, usize>("msg:connections:2").await.unwrap(), 4);
    second.stop().await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_told_nothing_that_is_not_its_users() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    let (mut of_bob, mut of_carol) = (test.user(2).connect().await, test.user(3).connect().await);
    let mut redis = test.redis().await;
    let carols: Vec<String> = redis.smembers("msg:connections:3").await.unwrap();
    redis.sadd::<_, _, ()>("msg:connections:2", &carols).await.unwrap();
    // An entry of the wrong kind does not stop the pushes to others either.
    redis.lpush::<_, _, ()>("msg:connection:odd", "a list").await.unwrap();
    redis.set::<_, _, ()>("msg:connection:nonsense", "{").await.unwrap();
    redis.sadd::<_, _, ()>("msg:connections:2", &["odd", "nonsense", "evicted"]).await.unwrap();

    alice.sent(2, "for bob").await;
    assert_eq!(of_bob.hear().await["data"]["content"], "for bob");
    pong(&mut of_carol).await;
    eventually("what is not bob's is taken off", Duration::from_secs(5), async || {
        redis.clone().scard::<_, usize>("msg:connections:2").await.unwrap() == 1
    })
    .await;
    alice.sent(3, "for carol").await;
    assert_eq!(of_carol.hear().await["data"]["content"], "for carol");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_hears_nothing_once_its_token_has_ended() {
    let test = TestApp::builder().in_process().start().await;
    let mut socket = test.user(2).connect().await;
    let mut redis = test.redis().await;
    test.user(1).sent(2, "in time").await;
    assert_eq!(socket.hear().await["data"]["content"], "in time");

    test.pass_ms(3_600_000 + 6_000);
    test.user(1).sent(2, "too late").await;
    assert_eq!(socket.hear_until_closed().await, None);
    eventually("it is forgotten", Duration::from_secs(5), async || {
        redis.clone().scard::<_, usize>("msg:connections:2").await.unwrap() == 0
    })
    .await;
    let left: Vec<String> = redis.keys("msg:connection:*").await.unwrap();
    assert_eq!(left, Vec::<String>::new());
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_a_gateway_without_a_timer_ends_the_connection_too() {
    let test = TestApp::builder().in_process().start().await;
    let mut redis = test.redis().await;
    let mut ping: aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest =
        serde_json::from_str(include_str!("../../../events/ping.json")).unwrap();
    ping.request_context.connection_id = Some("ended".to_owned());
    let now = test.clock().now_ms();
    let ended = json!({"userId": 2, "connectedAt": now, "endsAt": now}).to_string();
    redis.set::<_, _, ()>("msg:connection:ended", ended).await.unwrap();
    redis.sadd::<_, _, ()>("msg:connections:2", "ended").await.unwrap();

    let Ok(answer) = hongyan_websocket::handle(test.app(), ping).await;
    assert_eq!(answer.status_code, 401);
    assert_eq!(redis.scard::<_, usize>("msg:connections:2").await.unwrap(), 0);
    assert!(!redis.exists::<_, bool>("msg:connection:ended").await.unwrap());
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_gone_too_soon_stays_registered_for_now() {
    let test = TestApp::builder().in_process().start().await;
    let alice = test.user(1);
    let mut redis = test.redis().await;
    // API Gateway answers 410 until `$connect` has returned. A registration without an endpoint is API Gateway's.
    let young = json!({"userId": 2, "connectedAt": test.clock().now_ms()}).to_string();
    redis.set::<_, _, ()>("msg:connection:young", young).await.unwrap();
    redis.sadd::<_, _, ()>("msg:connections:2", "young").await.unwrap();
    alice.sent(2, "while it connects").await;
    assert_eq!(redis.scard::<_, usize>("msg:connections:2").await.unwrap(), 1);

    test.pass_ms(6_000);
    alice.sent(2, "later").await;
    eventually("it is forgotten", Duration::from_secs(5), async || {
        redis.clone().scard::<_, usize>("msg:connections:2").await.unwrap() == 0
    })
    .await;
    test.stop().await;
}

/// Answers 410 to every push, as API Gateway may for a connection that is open. Returns the first lines of the requests.
async fn gateway_that_denies_connections() -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (requests, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4_096];
            let length = stream.read(&mut head).await.unwrap();
            let line = String::from_utf8_lossy(&head[..length]).lines().next().unwrap_or_default().to_owned();
            let status = if line.starts_with("DELETE") { "204 No Content" } else { "410 Gone" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if requests.send(line).is_err() {
                return;
            }
        }
    });
    (address, received)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_api_gateway_denies_is_closed_and_not_left_deaf() {
    let test = TestApp::builder().in_process().start().await;
    let (address, mut requests) = gateway_that_denies_connections().await;
    let endpoint = Some(format!("http://{address}").parse().unwrap());
    let settings = PushConfig { endpoint, max_connections_per_user: 20 };
    let push = Push::new(&settings, test.app().cache.redis().clone(), test.app().clock.clone());
    let mut redis = test.redis().await;
    // It was registered too long ago for `$connect` to be still under way.
    let old = json!({"userId": 2, "connectedAt": test.clock().now_ms() - 6_000}).to_string();
    redis.set::<_, _, ()>("msg:connection:old", old).await.unwrap();
    redis.sadd::<_, _, ()>("msg:connections:2", "old").await.unwrap();
    let (alice, bob) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
    let conversation_id = ConversationId::between(alice, bob).unwrap();

    push.to_users(&[bob], &PushEvent::Typing { conversation_id, from_user_id: alice }).await;

    assert_eq!(requests.recv().await.unwrap(), "POST /@connections/old HTTP/1.1");
    assert_eq!(requests.recv().await.unwrap(), "DELETE /@connections/old HTTP/1.1");
    assert_eq!(redis.scard::<_, usize>("msg:connections:2").await.unwrap(), 0);
    assert!(!redis.exists::<_, bool>("msg:connection:old").await.unwrap());
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_end_by_themselves_and_are_renewed_while_their_connection_lives() {
    let limits = GatewayOptions { renew_every: Duration::from_millis(100), ..GatewayOptions::default() };
    let test = TestApp::builder().gateway(limits).start().await;
    let mut socket = test.user(2).connect().await;
    let mut redis = test.redis().await;
    let connection: Vec<String> = redis.smembers("msg:connections:2").await.unwrap();
    let keys = ["msg:connections:2".to_owned(), format!("msg:connection:{}", connection[0])];
    for key in &keys {
        let ttl: i64 = redis.ttl(key).await.unwrap();
        assert!((7_200..=7_800).contains(&ttl), "{key}: {ttl} s");
        redis.expire::<_, ()>(key, 60).await.unwrap();
    }
    eventually("both are renewed", Duration::from_secs(5), async || {
        let mut redis = redis.clone();
        let [first, second] = &keys;
        redis.ttl::<_, i64>(first).await.unwrap() > 60 && redis.ttl::<_, i64>(second).await.unwrap() > 60
    })
    .await;

    // Memory pressure evicts one of the keys.
    redis.del::<_, ()>("msg:connections:2").await.unwrap();
    eventually("the set is made again", Duration::from_secs(5), async || {
        redis.clone().scard::<_, usize>("msg:connections:2").await.unwrap() == 1
    })
    .await;
    redis.del::<_, ()>(&keys[1]).await.unwrap();
    assert_eq!(socket.closed().await, Some(1000), "better closed than deaf");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_to_push_is_announced() {
    let test = TestApp::builder().set("IM_MAX_CONTENT_BYTES", "65535").start().await;
    let mut socket = test.user(2).connect().await;
    // Each of these characters has six bytes in JSON.
    let content = "\u{1}".repeat(65_535);
    let sent = test.user(1).send(2, &content).await;
    assert_eq!(sent.status, 201);
    let heard = socket.hear().await;
    assert_eq!((&heard["type"], &heard["data"]["id"]), (&json!("MESSAGE"), &sent.body["id"]));
    assert_eq!((&heard["data"]["content"], &heard["data"]["truncated"]), (&json!(null), &json!(true)));
    let page = test.user(2).history(1, "").await;
    assert_eq!(page.body["messages"][0]["content"], content.as_str());
    test.stop().await;
}
