//! The list of conversations: who talked last, with what is unread, right through recall, deletion, clearing and the loss of Redis.

use hongyan_testkit::{Answer, Caller, TestApp};
use serde_json::{Value, json};

use crate::half_done::behind_a_proxy;
use crate::{assert_refused, empty_redis};

async fn list(caller: &Caller, query: &str) -> Answer {
    let answer = caller.get(&format!("/conversations?{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// The conversations of an answer.
fn listed(answer: &Answer) -> &Vec<Value> {
    answer.body["conversations"].as_array().unwrap()
}

/// Peer, last words and unread count of each conversation of an answer.
fn lines(answer: &Answer) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |talk: &Value| {
        let words = text(&talk["lastMessage"]["content"]);
        (text(&talk["peerId"]), words, talk["unread"].as_u64().unwrap())
    };
    listed(answer).iter().map(line).collect()
}

/// As [`lines`] gives them.
fn expected(lines: &[(&str, &str, u64)]) -> Vec<(String, String, u64)> {
    lines.iter().map(|(peer, words, unread)| ((*peer).to_owned(), (*words).to_owned(), *unread)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_comes_first_from_the_moment_it_is_accepted() {
    let test = TestApp::start().await;
    let (alice, bob, eve) = (test.user(1), test.user(2), test.user(3));
    assert_refused(&alice.get("/conversations/2").await, 404, "not_found");
    assert_eq!(listed(&list(&alice, "").await), &Vec::<Value>::new());
    alice.sent(2, "old").await;
    test.drain().await;

    test.hold().await;
    eve.sent(1, "hello").await;
    let last = alice.sent(4, "anybody?").await;
    bob.sent(1, "one").await;
    bob.sent(1, "two").await;
    let of_alice = expected(&[("2", "two", 2), ("4", "anybody?", 0), ("3", "hello", 1)]);
    assert_eq!(lines(&list(&alice, "").await), of_alice, "accepted, and no row yet");
    assert_eq!(lines(&list(&bob, "").await), expected(&[("1", "two", 1)]));
    assert_eq!(lines(&list(&test.user(4), "").await), expected(&[("1", "anybody?", 1)]));
    let one = alice.get("/conversations/4").await;
    assert_eq!((&one.body["lastMessage"]["id"], &one.body["lastSeq"]), (&json!(last), &json!(0)));
    assert_eq!(one.body["lastMessage"]["persistStatus"], "PENDING");
    assert_eq!((&one.body["readUpTo"], &one.body["peerReadUpTo"]), (&Value::Null, &Value::Null));

    test.release();
    test.drain().await;
    assert_eq!(lines(&list(&alice, "").await), of_alice, "persisted");
    empty_redis(&test).await;
    let page = list(&alice, "").await;
    assert_eq!(lines(&page), of_alice, "from MySQL");
    assert_eq!(page.body["next"], Value::Null);
    for talk in listed(&page) {
        let peer = talk["peerId"].as_str().unwrap();
        assert_eq!(&alice.get(&format!("/conversations/{peer}")).await.body, talk, "alone as in the list");
        let changes = alice.get(&format!("/conversations/{peer}/changes?after=0")).await;
        assert_eq!(talk["lastSeq"], changes.body["lastSeq"]);
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recall_deletion_clearing_and_reading_are_seen_at_once() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let [a, b, c, d] = &alice.sent_each(2, ["a", "b", "c", "d"]).await;
    for when in ["queued", "persisted"] {
        assert_eq!(bob.delete(d).await.status, 204);
        assert_eq!(lines(&list(&bob, "").await), expected(&[("1", "c", 3)]), "{when}");
        assert_eq!(lines(&list(&alice, "").await), expected(&[("2", "d", 0)]), "{when}");
        test.drain().await;
    }
    let activity = bob.get("/conversations/1").await.body["lastActivity"].clone();
    assert_eq!(
        activity,
        alice.get("/conversations/2").await.body["lastActivity"],
        "a deletion moves nothing"
    );

    // Recalled: shown as such, and not unread, in Redis and without it.
    assert_eq!(alice.recall(c).await.status, 200);
    for when in ["at once", "in MySQL", "without Redis"] {
        let talk = bob.get("/conversations/1").await.body;
        assert_eq!(
            (&talk["lastMessage"]["id"], &talk["lastMessage"]["status"]),
            (&json!(c), &json!(0)),
            "{when}"
        );
        assert_eq!(talk["lastMessage"]["content"], "", "{when}");
        assert_eq!(bob.unread().await.body["total"], talk["unread"], "{when}");
        test.drain().await;
        assert_eq!(bob.get("/conversations/1").await.body["unread"], 2, "{when}");
        if when == "in MySQL" {
            empty_redis(&test).await;
        }
    }

    // Read: each sees the other's position.
    assert_eq!(bob.read(1, a).await.body["unread"], 1);
    let of_bob = bob.get("/conversations/1").await.body;
    assert_eq!((&of_bob["readUpTo"], &of_bob["peerReadUpTo"]), (&json!(a), &Value::Null));
    assert_eq!(of_bob["unread"], 1);
    assert_eq!(alice.get("/conversations/2").await.body["peerReadUpTo"], json!(a));

    // Cleared: nothing is left, and the conversation stays.
    assert_eq!(bob.clear(1, b).await.status, 204);
    assert_eq!(bob.get("/conversations/1").await.body["lastMessage"]["id"], json!(c));
    assert_eq!(bob.clear(1, d).await.status, 204);
    assert_eq!(lines(&list(&bob, "").await), expected(&[("1", "-", 0)]));
    assert_eq!(lines(&list(&alice, "").await), expected(&[("2", "d", 0)]));
    alice.sent(2, "e").await;
    assert_eq!(lines(&list(&bob, "").await), expected(&[("1", "e", 1)]));
    test.stop().await;
}

/// A message that is recalled before it is a row was never in the list for good.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_recalled_while_queued_is_no_last_message() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    test.hold().await;
    let only = alice.sent(2, "SECRET").await;
    assert_eq!(alice.recall(&only).await.status, 200);
    for caller in [&alice, &bob] {
        assert_eq!(listed(&list(caller, "").await), &Vec::<Value>::new());
    }
    test.release();
    test.drain().await;
    assert_eq!(listed(&list(&bob, "").await), &Vec::<Value>::new());
    assert_refused(&bob.get("/conversations/1").await, 404, "not_found");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_skip_nor_repeat_and_news_are_found() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    let pairs: Vec<(i64, i64)> =
        (2..14).map(|peer| if peer % 2 == 0 { (1, peer) } else { (peer, 1) }).collect();
    super::paging::fill(&test, &pairs, pairs.len()).await;
    test.hold().await;
    // Two conversations stand higher by messages that are no rows, and one is new.
    for peer in [3, 8, 20] {
        alice.sent(peer, "pending").await;
    }
    let mut order: Vec<String> = ["20", "8", "3"].map(str::to_owned).to_vec();
    order.extend((2..14).rev().filter(|peer| ![3, 8].contains(peer)).map(|peer| peer.to_string()));
    for limit in [1, 2, 5, 100] {
        let (mut seen, mut before) = (Vec::new(), String::new());
        loop {
            let page = list(&alice, &format!("limit={limit}{before}")).await;
            assert!(listed(&page).len() <= limit);
            seen.extend(lines(&page).into_iter().map(|(peer, ..)| peer));
            match page.body["next"].as_str() {
                Some(next) => before = format!("&before={next}"),
                None => break,
            }
        }
        assert_eq!(seen, order, "limit {limit}");
    }

    // All changed since the beginning, by pages of any size, each at least once.
    test.release();
    test.drain().await;
    let cursor = list(&alice, "limit=1").await.body["cursor"].as_str().unwrap().to_owned();
    for limit in [1, 5, 100] {
        let (mut seen, mut after) = (Vec::new(), "0".to_owned());
        loop {
            let page = list(&alice, &format!("limit={limit}&changedAfter={after}")).await;
            seen.extend(lines(&page).into_iter().map(|(peer, ..)| peer));
            match page.body["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        let last_changed: Vec<&str> = seen.iter().rev().take(3).map(String::as_str).collect();
        assert!([3, 8, 20].iter().all(|peer| last_changed.contains(&peer.to_string().as_str())), "{seen:?}");
        seen.sort();
        let mut all = order.clone();
        all.sort();
        assert_eq!(seen, all, "limit {limit}");
    }
    alice.sent(5, "news").await;
    test.drain().await;
    let news = list(&alice, &format!("changedAfter={cursor}")).await;
    assert_eq!(lines(&news).last().unwrap(), &expected(&[("5", "news", 1)])[0]);
    let later = list(&alice, "changedAfter=999999999999999").await;
    assert_eq!((listed(&later).len(), &later.body["next"]), (0, &Value::Null));
    test.stop().await;
}

/// The newest rows are hidden from one user: the last message is the next one below.
#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_stretch_is_passed_over() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let ids = super::paging::fill(&test, &[(1, 2), (2, 1)], 30).await;
    for id in &ids[3..] {
        assert_eq!(bob.delete(id).await.status, 204);
    }
    assert_eq!(lines(&list(&bob, "").await), expected(&[("1", "row 2", 2)]));
    assert_eq!(lines(&list(&alice, "").await), expected(&[("2", "row 29", 15)]));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    for query in [
        "limit=0",
        "limit=101",
        "limit=",
        "before=0",
        "before=x",
        "changedAfter=x",
        "changedAfter=-1",
        "changedAfter=1.",
        "changedAfter=1.0",
        "changedAfter=",
        "changedAfter=99999999999999999999",
        "before=1&changedAfter=1",
        "before=1&before=2",
    ] {
        assert_refused(&alice.get(&format!("/conversations?{query}")).await, 400, "invalid_request");
    }
    for peer in ["1", "0", "x"] {
        assert_refused(&alice.get(&format!("/conversations/{peer}")).await, 400, "invalid_request");
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_mysql_answers_and_a_recall_stays_one() {
    let (test, mut proxy) = behind_a_proxy().await;
    let test = test.start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let first = alice.sent(2, "first").await;
    let second = alice.sent(2, "SECRET").await;
    test.drain().await;
    assert_eq!(bob.read(1, &first).await.body["unread"], 1);
    assert_eq!(alice.recall(&second).await.status, 200);
    test.drain().await;
    proxy.close().await;
    for caller in [&alice, &bob] {
        let talk = &listed(&list(caller, "").await)[0].clone();
        assert_eq!((&talk["lastMessage"]["id"], &talk["lastMessage"]["status"]), (&json!(second), &json!(0)));
        assert_eq!((&talk["lastMessage"]["content"], &talk["unread"]), (&json!(""), &json!(0)));
    }
    proxy.open().await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_receipts_nobody_is_told_the_others_position() {
    let test = TestApp::builder().set("IM_READ_RECEIPTS", "false").start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let id = alice.sent(2, "a").await;
    assert_eq!(bob.read(1, &id).await.body["unread"], 0);
    let (of_alice, of_bob) =
        (alice.get("/conversations/2").await.body, bob.get("/conversations/1").await.body);
    assert_eq!((&of_alice["peerReadUpTo"], &of_bob["readUpTo"]), (&Value::Null, &json!(id)));
    test.stop().await;
}
