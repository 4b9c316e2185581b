//! Messages that wait for MySQL: from their 201 on they are on every page that they belong to.

use hongyan_testkit::TestApp;
use redis::AsyncCommands as _;

use crate::{words, words_on};

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_message_is_seen_though_the_list_has_gone() {
    let test = TestApp::start().await;
    let other = TestApp::beside(&test).await;
    let (alice, bob) = (test.user(1), test.user(2));
    let first = alice.sent(2, "row").await;
    test.drain().await;
    assert_eq!(words(&bob, 1).await, ["row"]);
    test.hold().await;
    for content in ["waiting 1", "waiting 2"] {
        alice.sent(2, content).await;
    }

    // As after IM_CACHE_EXPIRE_MINUTES, an eviction, or with a list that had another end.
    for lists in [&["msg:conv:1_2"][..], &["msg:conv:1_2", "msg:conv-epoch:1_2"], &["msg:conv-epoch:1_2"]] {
        for app in [&test, &other] {
            test.redis().await.del::<_, ()>(lists).await.unwrap();
            let bob = app.user(2);
            assert_eq!(words(&bob, 1).await, ["waiting 2", "waiting 1", "row"], "{lists:?}");
            test.redis().await.del::<_, ()>(lists).await.unwrap();
            let after = bob.history(1, &format!("after={first}")).await;
            assert_eq!(words_on(&after), ["waiting 1", "waiting 2"], "{lists:?}");
            test.redis().await.del::<_, ()>(lists).await.unwrap();
            assert_eq!(words(&app.user(1), 2).await, ["waiting 2", "waiting 1", "row"], "{lists:?}");
        }
    }

    // A new message begins a list that has neither of the two.
    test.redis().await.del::<_, ()>("msg:conv:1_2").await.unwrap();
    alice.sent(2, "waiting 3").await;
    assert_eq!(words(&bob, 1).await, ["waiting 3", "waiting 2", "waiting 1", "row"]);
    test.release();
    test.drain().await;
    assert_eq!(words(&bob, 1).await, ["waiting 3", "waiting 2", "waiting 1", "row"]);
    other.stop().await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_goes_on_over_what_its_reader_has_deleted() {
    let test = TestApp::start().await;
    test.hold().await;
    let alice = test.user(1);
    let mut ids = Vec::new();
    for number in 0..6 {
        ids.push(alice.sent(2, &format!("message {number}")).await);
    }
    for id in &ids[3..] {
        assert_eq!(alice.delete(id).await.status, 204);
    }

    let page = alice.history(2, "limit=1").await;

    assert_eq!((page.ids(), &page.body["next"]), (vec![ids[2].clone()], &serde_json::json!(ids[2])));
    let page = alice.history(2, &format!("limit=2&before={}", ids[2])).await;
    assert_eq!((page.ids(), page.body["next"].is_null()), (vec![ids[1].clone(), ids[0].clone()], true));
    test.release();
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_long_wait_neither_skip_nor_repeat() {
    let test = TestApp::builder().set("IM_CONV_CACHE_SIZE", "50").start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let mut ids = Vec::new();
    for number in 0..30 {
        ids.push(alice.sent(2, &format!("row {number}")).await);
    }
    test.drain().await;
    test.hold().await;
    // More messages than one read fetches, and than the list keeps.
    for number in 0..1_100 {
        ids.push(alice.sent(2, &format!("waiting {number}")).await);
    }

    let (mut back, mut cursor) = (Vec::new(), String::from("limit=100"));
    loop {
        let page = bob.history(1, &cursor).await;
        back.extend(page.ids());
        let Some(next) = page.body["next"].as_str() else { break };
        cursor = format!("limit=100&before={next}");
    }
    back.reverse();
    assert!(back == ids, "{} of {}", back.len(), ids.len());

    let (mut on, mut cursor) = (Vec::new(), String::from("limit=100&after=1"));
    loop {
        let page = bob.history(1, &cursor).await;
        on.extend(page.ids());
        let Some(next) = page.body["next"].as_str() else { break };
        cursor = format!("limit=100&after={next}");
    }
    assert!(on == ids, "{} of {}", on.len(), ids.len());
    test.release();
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_never_too_large_for_lambda() {
    const CONTENT: usize = 60_000;
    let test = TestApp::builder().set("IM_MAX_CONTENT_BYTES", "65535").start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    // Each of these characters has six bytes in JSON.
    let content = "\u{1}".repeat(CONTENT);
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.insert(0, alice.sent(2, &content).await);
    }

    let (mut seen, mut query) = (Vec::new(), String::from("limit=100"));
    loop {
        let page = bob.history(1, &query).await;
        assert!(page.text.len() < 6_000_000, "{} bytes", page.text.len());
        seen.extend(page.ids());
        let Some(next) = page.body["next"].as_str() else { break };
        query = format!("limit=100&before={next}");
    }

    assert_eq!(seen, ids);
    test.stop().await;
}
