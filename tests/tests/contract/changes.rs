//! Changes in order: a client that applies every page misses nothing, no matter when it was away and how late a
//! message became visible.

use std::collections::BTreeMap;

use hongyan::id::ConversationId;
use hongyan::message::{ClientMessageId, Message, MessageType};
use hongyan_testkit::{Caller, TestApp};
use serde_json::{Value, json};

use crate::assert_refused;

/// All changes above `after`, read by pages of `limit`, and the highest number.
pub(crate) async fn changes(caller: &Caller, peer: i64, mut after: i64, limit: u32) -> (Vec<Value>, i64) {
    let mut all = Vec::new();
    loop {
        let path = format!("/conversations/{peer}/changes?after={after}&limit={limit}");
        let page = caller.get(&path).await;
        assert_eq!(page.status, 200, "{page:?}");
        let changes = page.body["changes"].as_array().unwrap();
        assert!(changes.len() <= limit as usize);
        all.extend(changes.iter().cloned());
        match page.body["next"].as_i64() {
            Some(next) => after = next,
            None => return (all, page.body["lastSeq"].as_i64().unwrap()),
        }
    }
}

/// The types of some changes, in order.
pub(crate) fn types(changes: &[Value]) -> Vec<&str> {
    changes.iter().map(|change| change["type"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_learns_of_everything_that_concerns_it_in_order() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    assert_eq!(changes(&bob, 1, 0, 100).await, (vec![], 0), "nobody has written");
    let first = alice.sent(2, "a").await;
    let second = alice.sent(2, "b").await;
    test.drain().await;
    let (seen, cursor) = changes(&bob, 1, 0, 100).await;
    assert_eq!(types(&seen), ["MESSAGE", "MESSAGE"]);
    assert_eq!((&seen[0]["data"]["id"], &seen[0]["data"]["content"]), (&json!(first), &json!("a")));
    assert_eq!(seen[0]["seq"], seen[0]["data"]["seq"], "a message carries the number of its change");

    // While away, Bob misses a recall, a read position from his other device, and a message he deletes there.
    let recalled = alice.recall(&first).await;
    test.drain().await;
    assert_eq!(bob.read(1, &second).await.status, 200);
    assert_eq!(bob.delete(&second).await.status, 204);
    let (missed, last_seq) = changes(&bob, 1, cursor, 100).await;
    assert_eq!(types(&missed), ["MESSAGE_RECALLED", "READ", "MESSAGE_DELETED"]);
    assert_eq!(missed[0]["messageId"], json!(first));
    assert_eq!(missed[0]["recallTime"], recalled.body["recallTime"]);
    assert_eq!((&missed[1]["userId"], &missed[1]["upTo"]), (&json!("2"), &json!(second)));
    assert_eq!(missed[2]["messageId"], json!(second));

    // Alice sees the read position, and nothing about Bob's deletion.
    let (of_alice, _) = changes(&alice, 2, cursor, 100).await;
    assert_eq!(types(&of_alice), ["MESSAGE_RECALLED", "READ"]);

    // From the start, with pages of any size: the recalled message without its words, and the deleted one not at all.
    for limit in [1, 2, 200] {
        let (all, last) = changes(&bob, 1, 0, limit).await;
        assert_eq!(types(&all), ["MESSAGE", "MESSAGE_RECALLED", "READ", "MESSAGE_DELETED"], "{limit}");
        assert_eq!((&all[0]["data"]["status"], &all[0]["data"]["content"]), (&json!(0), &json!("")));
        assert_eq!(last, last_seq);
        let numbers: Vec<i64> = all.iter().map(|change| change["seq"].as_i64().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b) && *numbers.last().unwrap() <= last, "{numbers:?}");
    }
    // A repeated request changes no number.
    assert_eq!(alice.recall(&first).await.status, 200);
    assert_eq!(bob.read(1, &second).await.status, 200);
    assert_eq!(bob.delete(&second).await.status, 204);
    test.drain().await;
    assert_eq!(changes(&bob, 1, last_seq, 100).await, (vec![], last_seq));
    assert_eq!(changes(&bob, 1, i64::MAX, 100).await.0, Vec::<Value>::new(), "from a number that never was");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_becomes_visible_late_is_among_the_changes_and_unread() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let mut socket = bob.connect().await;
    let early = test.app().ids.next().await.unwrap();
    let newer = alice.sent(2, "newer").await;
    assert_eq!(socket.hear().await["data"]["content"], "newer");
    test.drain().await;
    let (seen, cursor) = changes(&bob, 1, 0, 100).await;
    assert_eq!(types(&seen), ["MESSAGE"]);
    assert_eq!(bob.read(1, &newer).await.body["unread"], 0);

    // Only Kafka had the message, as while Redis is away.
    let mut of_alice = alice.connect().await;
    let name = ClientMessageId::try_from("mine".to_owned()).unwrap();
    let late = Message::new(early, alice.id, bob.id, MessageType::TEXT, "late".to_owned(), Some(name));
    let event = hongyan::event::MessageEvent::Persist { data: late };
    test.app().queue.send(&event, std::time::Duration::from_secs(10)).await.unwrap();
    test.drain().await;

    let after = bob.history(1, &format!("after={newer}")).await;
    assert_eq!(after.ids(), [""; 0], "by id it lies behind the cursor");
    let (missed, _) = changes(&bob, 1, cursor, 100).await;
    let found: Vec<_> = missed.iter().filter(|change| change["type"] == "MESSAGE").collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["data"]["content"], "late");
    assert_eq!(bob.unread().await.body, json!({"total": 1, "messageIds": [early.to_string()]}));
    let pushed = socket.hear().await;
    assert_eq!((&pushed["type"], &pushed["userId"]), (&json!("READ"), &json!("2")), "bob's own");
    assert_eq!(socket.hear().await["data"]["content"], "late", "and it is pushed");
    let pushed = of_alice.hear().await;
    assert_eq!(
        (&pushed["data"]["content"], &pushed["data"]["clientMsgId"]),
        (&json!("late"), &json!("mine"))
    );
    // The message was shown before it is marked as read, so it counts as read.
    assert_eq!(bob.read(1, &newer).await.body["unread"], 0);
    test.stop().await;
}

/// Devices of both users write at once, through two processes. A reader that only asks for changes ends with the
/// history.
#[tokio::test(flavor = "multi_thread")]
async fn polling_for_changes_collects_every_message_once_it_is_a_row() {
    const EACH: usize = 60;
    let test = TestApp::start().await;
    let other = TestApp::beside(&test).await;
    let writers = (0..6).map(|writer| {
        let app = if writer % 2 == 0 { &test } else { &other };
        let (from, to) = if writer % 3 == 0 { (2, 1) } else { (1, 2) };
        let from = app.user(from);
        tokio::spawn(async move {
            for number in 0..EACH {
                from.sent(to, &format!("{writer}.{number}")).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let bob = test.user(2);
    let mut collected: BTreeMap<String, usize> = BTreeMap::new();
    let mut cursor = 0;
    let mut collect = async |cursor: &mut i64| {
        let (changes, last_seq) = changes(&bob, 1, *cursor, 50).await;
        for change in changes.iter().filter(|change| change["type"] == "MESSAGE") {
            *collected.entry(change["data"]["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        *cursor = last_seq;
    };
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        collect(&mut cursor).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    test.drain().await;
    collect(&mut cursor).await;
    assert_eq!(collected.len(), 6 * EACH);
    assert!(collected.values().all(|times| *times == 1), "each once");
    other.stop().await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_are_hidden_or_many_cost_one_page_each() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let ids = super::paging::fill(&test, &[(1, 2)], 300).await;
    let conversation = ConversationId::between(alice.id, bob.id).unwrap();
    for id in &ids[..250] {
        test.app().store.delete_for(bob.id, conversation, id.parse().unwrap()).await.unwrap();
    }
    let page = bob.get("/conversations/1/changes?limit=100").await;
    assert_eq!((&page.body["changes"], &page.body["next"]), (&json!([]), &json!(100)), "passed over");
    let (all, last_seq) = changes(&bob, 1, 0, 100).await;
    assert_eq!((all.len(), last_seq), (50 + 250, 550));
    for (query, code) in [
        ("after=-1", 400),
        ("after=1.5", 400),
        ("after=x", 400),
        ("after=9223372036854775808", 400),
        ("after=1&after=2", 400),
        ("limit=0", 400),
        ("limit=201", 400),
        ("limit=", 400),
    ] {
        let answer = bob.get(&format!("/conversations/1/changes?{query}")).await;
        assert_refused(&answer, code, "invalid_request");
    }
    assert_refused(&bob.get("/conversations/2/changes").await, 400, "invalid_request");
    test.stop().await;
}
