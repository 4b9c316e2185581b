//! Unread messages: added by a send, removed by read, recall and delete, and right again after Redis has lost its
//! data.

use hongyan_testkit::{Caller, TestApp};
use redis::AsyncCommands as _;
use serde_json::{Value, json};

use crate::assert_refused;

async fn unread(caller: &Caller) -> (Value, Vec<String>) {
    let answer = caller.unread().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let ids = answer.body["messageIds"].as_array().unwrap();
    (answer.body["total"].clone(), ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_counts_what_others_sent_and_was_not_read_recalled_or_deleted() {
    let test = TestApp::start().await;
    let (alice, bob, carol) = (test.user(1), test.user(2), test.user(3));
    // No message becomes a row while it is read.
    test.hold().await;
    assert_eq!(unread(&bob).await, (json!(0), vec![]));
    let mut from_alice = Vec::new();
    for number in 0..6 {
        from_alice.push(alice.sent(2, &format!("a{number}")).await);
    }
    let from_carol = [carol.sent(2, "c0").await, carol.sent(2, "c1").await];
    bob.sent(1, "own").await;
    bob.sent(3, "own").await;

    // Only the receiver's own reading counts, and own messages never count.
    let mut left: Vec<String> = from_carol.iter().rev().chain(from_alice.iter().rev()).cloned().collect();
    assert_eq!(unread(&bob).await, (json!(8), left.clone()));
    assert_eq!(unread(&alice).await.0, 1);

    let read = bob.read(1, &from_alice[1]).await;
    assert_eq!((read.status, &read.body), (200, &json!({"unread": 6})));
    assert_eq!(bob.read(1, &from_alice[0]).await.body["unread"], 6, "a position never goes back");
    alice.recall(&from_alice[2]).await;
    bob.delete(&from_alice[3]).await;
    left.retain(|id| !from_alice[..4].contains(id));
    assert_eq!(unread(&bob).await, (json!(4), left.clone()));
    test.release();
    test.drain().await;
    for _ in 0..2 {
        super::empty_redis(&test).await;
        assert_eq!(unread(&bob).await, (json!(4), left.clone()), "made anew from MySQL");
        assert_eq!(unread(&bob).await, (json!(4), left.clone()), "and kept");
    }
    // Messages recalled or deleted after that stop counting too.
    alice.recall(&from_alice[4]).await;
    bob.delete(&from_carol[0]).await;
    assert_eq!(unread(&bob).await.0, 2);
    assert_eq!(bob.read(3, &from_carol[1]).await.body["unread"], 1);
    assert_eq!(bob.read(1, &from_alice[5]).await.body["unread"], 0);
    super::empty_redis(&test).await;
    assert_eq!(unread(&bob).await, (json!(0), vec![]));

    // Another message arrives after all that.
    let newest = alice.sent(2, "more").await;
    assert_eq!(unread(&bob).await, (json!(1), vec![newest]));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_is_a_message_of_that_conversation() {
    let test = TestApp::start().await;
    let (alice, bob, carol) = (test.user(1), test.user(2), test.user(3));
    let from_alice = alice.sent(2, "a").await;
    let from_carol = carol.sent(2, "c").await;
    let own = bob.sent(1, "own").await;
    assert_refused(&bob.read(1, &from_carol).await, 404, "not_found");
    assert_refused(&bob.read(3, &from_alice).await, 404, "not_found");
    assert_refused(&bob.read(4, &from_alice).await, 404, "not_found");
    assert_refused(&carol.read(2, &from_alice).await, 404, "not_found");
    assert_refused(&bob.read(1, &i64::MAX.to_string()).await, 404, "not_found");
    assert_eq!(bob.unread().await.body["total"], 2);
    // Up to an own message: messages received before it are read.
    assert_eq!(bob.read(1, &own).await.body["unread"], 1);
    // A recalled or deleted message is still a valid position.
    carol.recall(&from_carol).await;
    assert_eq!(bob.read(3, &from_carol).await.body["unread"], 0);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_read_though_the_recent_list_lost_it() {
    let test = TestApp::start().await;
    let (alice, bob, carol) = (test.user(1), test.user(2), test.user(3));
    test.hold().await;
    alice.sent(2, "in a list that is dropped").await;
    let from_carol = carol.sent(2, "of another conversation").await;
    test.redis().await.del::<_, ()>("msg:conv:1_2").await.unwrap();
    let newest = alice.sent(2, "in a new list").await;
    assert_eq!(unread(&bob).await.0, 3);
    assert_eq!(bob.read(1, &newest).await.body["unread"], 1);
    test.release();
    test.drain().await;
    assert_eq!(unread(&bob).await, (json!(1), vec![from_carol]));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_has_a_thousand_ids_at_most_and_the_total_is_whole() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let rows = super::paging::fill(&test, &[(1, 2)], 1_050).await;
    let newest = alice.sent(2, "newest").await;
    test.drain().await;
    super::empty_redis(&test).await;
    let (total, ids) = unread(&bob).await;
    assert_eq!((total, ids.len()), (json!(1_051), 1_000));
    let newest_first: Vec<String> = [newest].into_iter().chain(rows.into_iter().rev()).collect();
    assert_eq!(ids, newest_first[..1_000]);
    let read = bob.read(1, &newest_first[0]).await;
    assert_eq!(read.body["unread"], 0, "{read:?}");
    assert_eq!(unread(&bob).await, (json!(0), vec![]));
    test.stop().await;
}
