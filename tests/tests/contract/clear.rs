//! Clearing: every message up to one is gone for one user and stays for the other, for good, at the cost of one position.

use hongyan::id::ConversationId;
use hongyan::message::{Message, MessageType};
use hongyan_stack::ServerKind;
use hongyan_testkit::proxy::Proxy;
use hongyan_testkit::{Caller, TestApp, servers};
use serde_json::{Value, json};

use crate::changes::{changes, types};
use crate::{assert_refused, empty_redis, words};

#[tokio::test(flavor = "multi_thread")]
async fn it_hides_all_up_to_a_message_and_what_comes_later_stays() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let [a, b, c, d] = &alice.sent_each(2, ["a", "b", "c", "d"]).await;
    assert_eq!(bob.unread().await.body["total"], 4);

    for when in ["queued", "persisted", "from MySQL", "again from Redis"] {
        assert_eq!(bob.clear(1, b).await.status, 204, "{when}");
        assert_eq!(bob.clear(1, a).await.status, 204, "{when}: it never moves back");
        assert_eq!(bob.history(1, "").await.ids(), [d, c].map(String::as_str), "{when}");
        assert_eq!(bob.history(1, "after=1").await.ids(), [c, d].map(String::as_str), "{when}");
        assert_eq!(bob.history(1, &format!("after={a}")).await.ids(), [c, d].map(String::as_str), "{when}");
        let page = bob.history(1, &format!("before={d}&limit=1")).await;
        assert_eq!((page.ids(), &page.body["next"]), (vec![c.clone()], &Value::Null), "{when}");
        for before in [a, b, c] {
            assert_eq!(bob.history(1, &format!("before={before}")).await.ids(), [""; 0], "{when}");
        }
        for gone in [a, b] {
            assert_refused(&bob.get(&format!("/messages/{gone}")).await, 404, "not_found");
        }
        assert_eq!(bob.get(&format!("/messages/{c}")).await.body["content"], "c", "{when}");
        assert_eq!(bob.unread().await.body, json!({"total": 2, "messageIds": [d, c]}), "{when}");
        assert_eq!(alice.history(2, "").await.ids().len(), 4, "{when}: the other user keeps all");
        match when {
            "queued" => test.drain().await,
            "persisted" => empty_redis(&test).await,
            _ => {}
        }
    }

    // Bob's device hears of it, whatever else it heard before.
    let mut socket = bob.connect().await;
    assert_eq!(bob.clear(1, b).await.status, 204);
    let pushed = json!({"type": "CONVERSATION_CLEARED", "conversationId": "1_2", "upTo": b});
    assert_eq!(socket.hear().await, pushed);

    // One number, which only Bob is told.
    let (of_bob, last_seq) = changes(&bob, 1, 0, 200).await;
    assert!(types(&of_bob).contains(&"CONVERSATION_CLEARED"), "{of_bob:?}");
    let shown: Vec<&Value> = of_bob.iter().filter(|change| change["type"] == "MESSAGE").collect();
    assert_eq!(shown.iter().map(|change| &change["data"]["id"]).collect::<Vec<_>>(), [&json!(c), &json!(d)]);
    let cleared = of_bob.iter().find(|change| change["type"] == "CONVERSATION_CLEARED").unwrap();
    assert_eq!(cleared["upTo"], json!(b));
    assert_eq!(last_seq, 5, "four messages and one clearing");
    assert_eq!(types(&changes(&alice, 2, 0, 200).await.0), ["MESSAGE"; 4]);

    // The sender can still take back what she has cleared, and Bob reads the rest.
    assert_eq!(alice.clear(2, d).await.status, 204);
    assert_eq!(words(&alice, 2).await, [""; 0]);
    assert_eq!(alice.recall(c).await.status, 200);
    assert_eq!(bob.unread().await.body["total"], 1);
    assert_eq!(bob.read(1, d).await.body["unread"], 0);
    assert_eq!(test.count_rows("status = 1").await, 3);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_cleared_stretch_is_on_no_page() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let ids = super::paging::fill(&test, &[(1, 2)], 300).await;
    assert_eq!(bob.clear(1, &ids[297]).await.status, 204);
    assert_eq!(bob.unread().await.body, json!({"total": 2, "messageIds": [ids[299], ids[298]]}));
    for when in ["from MySQL", "from Redis"] {
        assert_eq!(bob.history(1, "limit=1").await.ids(), [ids[299].as_str()], "{when}");
        assert_eq!(bob.history(1, "limit=1&after=1").await.ids(), [ids[298].as_str()], "{when}");
        assert_eq!(bob.history(1, "limit=100").await.ids(), [ids[299].as_str(), ids[298].as_str()], "{when}");
        let page = bob.history(1, &format!("before={}", ids[200])).await;
        assert_eq!(page.body, json!({"messages": [], "next": null}), "{when}");
    }
    assert_eq!(alice.history(2, "limit=100").await.ids().len(), 100);
    test.stop().await;
}

/// Clears up to `up_to` in MySQL, as a process that died before it told Redis.
async fn clear_and_die(test: &TestApp, user: &Caller, conversation: ConversationId, up_to: &str) {
    let up_to = up_to.parse().unwrap();
    test.app().cache.begin_clearing(user.id, conversation, up_to).await.unwrap();
    test.app().store.clear_for(user.id, conversation, up_to).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clearing_that_died_half_way_is_neither_forgotten_nor_invented() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let conversation = ConversationId::between(alice.id, bob.id).unwrap();
    let ids = alice.sent_each(2, ["a", "b", "c"]).await;
    test.drain().await;
    assert_eq!(words(&bob, 1).await, ["c", "b", "a"]);

    clear_and_die(&test, &bob, conversation, &ids[0]).await;
    for _ in 0..2 {
        assert_eq!(words(&bob, 1).await, ["c", "b"], "MySQL has it, and Redis has not heard how it ended");
    }
    // Another one dies before MySQL has it.
    test.app().cache.begin_clearing(bob.id, conversation, ids[1].parse().unwrap()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(words(&bob, 1).await, ["c", "b"], "nothing was cleared");
    }
    assert_eq!(bob.clear(1, &ids[1]).await.status, 204);
    assert_eq!(words(&bob, 1).await, ["c"]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_message_below_a_clearing_is_hidden_and_not_unread() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let early = test.app().ids.next().await.unwrap();
    let newer = alice.sent(2, "newer").await;
    test.drain().await;
    assert_eq!(bob.clear(1, &newer).await.status, 204);

    // Only Kafka had the message, as while Redis is away.
    let late = Message::new(early, alice.id, bob.id, MessageType::TEXT, "late".to_owned(), None);
    let event = hongyan::event::MessageEvent::Persist { data: late };
    test.app().queue.send(&event, std::time::Duration::from_secs(10)).await.unwrap();
    test.drain().await;

    assert_eq!(words(&bob, 1).await, [""; 0]);
    assert_eq!(bob.unread().await.body, json!({"total": 0, "messageIds": []}));
    assert_eq!(types(&changes(&bob, 1, 0, 200).await.0), ["CONVERSATION_CLEARED"]);
    assert_eq!(words(&alice, 2).await, ["newer", "late"]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_and_hide_nothing() {
    let test = TestApp::start().await;
    let (alice, bob, stranger) = (test.user(1), test.user(2), test.user(3));
    let id = alice.sent(2, "a").await;
    let other = alice.sent(3, "b").await;
    for (query, status, code) in [
        (String::new(), 400, "invalid_request"),
        ("upTo=".to_owned(), 400, "invalid_request"),
        ("upTo=0".to_owned(), 400, "invalid_request"),
        ("upTo=x".to_owned(), 400, "invalid_request"),
        (format!("upTo={id}&upTo={id}"), 400, "invalid_request"),
        ("upTo=9223372036854775807".to_owned(), 404, "not_found"),
        (format!("upTo={other}"), 404, "not_found"),
    ] {
        let path = format!("/conversations/1/messages?{query}");
        let answer = bob.request(http::Method::DELETE, &path, None).await;
        assert_refused(&answer, status, code);
    }
    assert_refused(&alice.clear(2, &other).await, 404, "not_found");
    assert_refused(&alice.clear(1, &id).await, 400, "invalid_request");
    assert_refused(&stranger.clear(1, &id).await, 404, "not_found");
    assert_eq!(words(&bob, 1).await, ["a"]);
    assert_eq!(words(&alice, 2).await, ["a"]);
    test.stop().await;
}

/// Redis knows the clearing after a page, so it alone answers while MySQL is away.
#[tokio::test(flavor = "multi_thread")]
async fn a_cleared_page_needs_no_mysql() {
    let mut proxy = Proxy::to(&servers::address_of(servers::stack().await, ServerKind::MySql)).await;
    let test = TestApp::builder().mysql_by_way_of(proxy.address()).start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let ids = alice.sent_each(2, ["a", "b", "c", "d"]).await;
    test.drain().await;
    assert_eq!(bob.clear(1, &ids[1]).await.status, 204);
    assert_eq!(words(&bob, 1).await, ["d", "c"]);

    proxy.cut();
    proxy.close().await;
    for query in ["limit=1", "limit=2"] {
        let page = bob.history(1, query).await;
        assert_eq!(page.status, 200, "{query}: {page:?}");
        assert_eq!(page.ids()[0], ids[3], "{query}");
    }
    proxy.open().await;
    test.stop().await;
}
