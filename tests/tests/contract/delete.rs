//! Delete for me: the message is gone for one user and stays for the other, for good.

use hongyan_testkit::TestApp;

use crate::assert_refused;

#[tokio::test(flavor = "multi_thread")]
async fn it_hides_for_one_and_lasts() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let [a, b, c, d] = &alice.sent_each(2, ["a", "b", "c", "d"]).await;
    // 204 in every case: queued or persisted, by sender or receiver, once or again.
    for _ in 0..2 {
        assert_eq!(alice.delete(b).await.status, 204);
        assert_eq!(bob.delete(c).await.status, 204);
        test.drain().await;
    }
    for when in ["from Redis", "from MySQL", "again from Redis"] {
        assert_eq!(alice.history(2, "").await.ids(), [d, c, a].map(String::as_str), "{when}");
        assert_eq!(alice.history(2, "after=1").await.ids(), [a, c, d].map(String::as_str), "{when}");
        assert_eq!(bob.history(1, "").await.ids(), [d, b, a].map(String::as_str), "{when}");
        assert_eq!(
            bob.history(1, &format!("before={d}&limit=2")).await.ids(),
            [b, a].map(String::as_str),
            "{when}"
        );
        if when == "from Redis" {
            super::empty_redis(&test).await;
        }
    }
    assert_eq!(bob.delete(c).await.status, 204, "again after Redis forgot");
    // Both users delete one message: it is gone for both, and stays a row.
    assert_eq!((alice.delete(a).await.status, bob.delete(a).await.status), (204, 204));
    assert_eq!(test.count_rows("status = 1").await, 4);
    assert_eq!(alice.history(2, "").await.ids(), [d, c].map(String::as_str));
    assert_eq!(bob.history(1, "").await.ids(), [d, b].map(String::as_str));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recalled_message_can_be_hidden_and_a_strangers_cannot() {
    let test = TestApp::start().await;
    let (alice, bob, stranger) = (test.user(1), test.user(2), test.user(3));
    let (recalled, kept) = (alice.sent(2, "a").await, alice.sent(2, "b").await);
    assert_eq!(alice.recall(&recalled).await.status, 200);
    assert_eq!(bob.delete(&recalled).await.status, 204);
    assert_refused(&stranger.delete(&kept).await, 404, "not_found");
    test.drain().await;
    let deletions: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM message_delete WHERE user_id = 3")
        .fetch_one(&test.mysql)
        .await
        .unwrap();
    assert_eq!(deletions, 0);
    test.stop().await;
}
