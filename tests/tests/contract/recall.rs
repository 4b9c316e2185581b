//! Recall: only by the sender, only in time, and for good.

use hongyan_testkit::TestApp;
use serde_json::json;

use crate::assert_refused;

#[tokio::test(flavor = "multi_thread")]
async fn only_the_sender_can_and_a_stranger_learns_nothing() {
    let test = TestApp::start().await;
    let (alice, bob, stranger) = (test.user(1), test.user(2), test.user(3));
    for persisted in [false, true] {
        test.hold().await;
        let id = alice.sent(2, "mine").await;
        if persisted {
            test.release();
            test.drain().await;
        }
        assert_refused(&bob.recall(&id).await, 403, "not_sender");
        let refusal = stranger.recall(&id).await;
        assert_refused(&refusal, 404, "not_found");
        let none = (id.parse::<i64>().unwrap() + (1 << 40)).to_string();
        let unknown = stranger.recall(&none).await;
        assert_eq!(
            refusal.problem_without_trace(),
            unknown.problem_without_trace(),
            "as if there were no such message"
        );
        assert_eq!(bob.history(1, "limit=1").await.body["messages"][0]["content"], "mine");
        test.release();
    }
    test.drain().await;
    assert_eq!(test.count_rows("status = 1").await, 2);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_window_it_is_409_but_what_was_recalled_answers_as_before() {
    let test = TestApp::builder().in_process().start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let (recalled, kept) = (alice.sent(2, "regretted").await, alice.sent(2, "kept").await);
    test.drain().await;
    let first = alice.recall(&recalled).await;
    assert_eq!(first.status, 200);
    test.drain().await;

    test.pass_ms(290_000);
    assert_eq!(alice.recall(&recalled).await.body, first.body);
    test.pass_ms(11_000);
    assert_refused(&alice.recall(&kept).await, 409, "recall_window_closed");
    assert_refused(&bob.recall(&kept).await, 403, "not_sender");
    let again = alice.recall(&recalled).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    super::empty_redis(&test).await;
    let again = alice.recall(&recalled).await;
    assert_eq!((again.status, &again.body), (200, &first.body), "from MySQL");
    test.drain().await;
    assert_eq!(bob.history(1, "").await.ids(), [kept]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn just_within_the_window_it_works() {
    let test = TestApp::builder().in_process().start().await;
    let alice = test.user(1);
    let id = alice.sent(2, "late").await;
    test.drain().await;
    test.pass_ms(240_000);
    assert_eq!(alice.recall(&id).await.status, 200);
    test.drain().await;
    assert_eq!(test.row(&id).await.unwrap().status, 0);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_is_a_setting() {
    let test = TestApp::builder().in_process().set("IM_RECALL_LIMIT_SECONDS", "10").start().await;
    let alice = test.user(1);
    let id = alice.sent(2, "short").await;
    test.pass_ms(11_000);
    assert_refused(&alice.recall(&id).await, 409, "recall_window_closed");
    test.stop().await;
}

/// Twenty recalls at once: all answer the same time, and there is one tombstone.
#[tokio::test(flavor = "multi_thread")]
async fn recalls_at_the_same_time_have_one_answer() {
    let test = TestApp::start().await;
    let alice = test.user(1);
    let id = alice.sent(2, "regretted").await;
    let answers = futures_util::future::join_all((0..20).map(|_| alice.recall(&id))).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (200, &answers[0].body));
    }
    test.drain().await;
    let time: i64 =
        sqlx::query_scalar("SELECT recall_time FROM message_recall").fetch_one(&test.mysql).await.unwrap();
    assert_eq!(json!(time), answers[0].body["recallTime"]);
    test.stop().await;
}

/// The message is gone for both users, and its content is neither in Redis nor in MySQL.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_recalled_is_nowhere() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let kept = alice.sent(2, "kept").await;
    let queued = alice.sent(2, "SECRET one").await;
    assert_eq!(alice.recall(&queued).await.status, 200);
    test.drain().await;
    let persisted = alice.sent(2, "SECRET two").await;
    test.drain().await;
    assert_eq!(alice.recall(&persisted).await.status, 200);
    let hidden = alice.sent(2, "SECRET three").await;
    assert_eq!(alice.delete(&hidden).await.status, 204);
    assert_eq!(alice.recall(&hidden).await.status, 200, "hidden, but still one's own");
    test.drain().await;

    for (reader, peer) in [(&alice, 2), (&bob, 1)] {
        for query in ["", "after=1", &format!("before={}", i64::MAX)] {
            assert_eq!(reader.history(peer, query).await.ids(), [kept.as_str()]);
        }
    }
    assert_eq!(bob.unread().await.body, json!({"total": 1, "messageIds": [kept]}));
    assert_eq!(test.count_rows("content LIKE '%SECRET%'").await, 0);
    let mut redis = test.redis().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("msg:detail:*").query_async(&mut redis).await.unwrap();
    for key in keys {
        let detail: String = redis::cmd("GET").arg(&key).query_async(&mut redis).await.unwrap();
        assert!(!detail.contains("SECRET"), "{key}: {detail}");
    }
    test.stop().await;
}
