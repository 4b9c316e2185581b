//! The index of messages that are not rows yet, by conversation and by receiver.

use hongyan::cache::Cache;
use hongyan::cache::accept::Accepted;
use hongyan::cache::settle::Pending;
use hongyan::id::MessageId;
use redis::AsyncCommands as _;

use crate::{accept, conversation, id, message, prepared, recall_of};

/// The conversation's pending ids between two exclusive bounds, and the receiver's unread ids.
async fn pending(cache: &Cache) -> (Vec<i64>, Vec<i64>) {
    let numbers = |ids: Vec<MessageId>| ids.into_iter().map(MessageId::get).collect();
    let in_conversation = cache.pending_in(conversation(), None, None, true, 100).await.unwrap();
    let unread = cache.unread_pending(message(1).to).await.unwrap();
    (numbers(in_conversation), numbers(unread))
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_ids_are_paged_by_number() {
    let (test, cache, _) = prepared().await;
    // As a text 100 is less than 9.
    for value in [9, 100, 8, 10] {
        accept(&cache, &message(value)).await;
    }

    let page = async |above: Option<i64>, below: Option<i64>, newest_first, limit| {
        let (above, below) = (above.map(id), below.map(id));
        cache.pending_in(conversation(), above, below, newest_first, limit).await.unwrap()
    };
    assert_eq!(page(None, None, true, 9).await, [100, 10, 9, 8].map(id));
    assert_eq!(page(None, Some(100), true, 2).await, [10, 9].map(id));
    assert_eq!(page(Some(8), None, false, 2).await, [9, 10].map(id));
    assert_eq!(page(Some(8), Some(10), false, 9).await, [9].map(id));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_pending_until_it_is_a_row_recalled_or_forgotten() {
    let (test, cache, mut redis) = prepared().await;
    let (row, recalled, told, forgotten) = (message(1), message(2), message(3), message(4));
    for message in [&row, &recalled, &told, &forgotten] {
        accept(&cache, message).await;
    }
    assert_eq!(pending(&cache).await, (vec![4, 3, 2, 1], vec![4, 3, 2, 1]));
    for key in ["msg:conv-pending:1_2", "msg:unread-pending:2"] {
        assert_eq!(redis.pttl::<_, i64>(key).await.unwrap(), -1, "{key} must not expire");
    }
    assert!(redis.pttl::<_, i64>("msg:unread:2").await.unwrap() > 0, "a courtesy may expire");

    cache.settle([(conversation(), Pending::sent(&row))]).await.unwrap();
    assert_eq!(pending(&cache).await, (vec![4, 3, 2], vec![4, 3, 2]), "MySQL has it");
    cache.mark_recalled(&recall_of(&recalled, 99), recalled.to).await.unwrap();
    assert_eq!(pending(&cache).await, (vec![4, 3], vec![4, 3]), "nobody is to see it");
    cache.confirm_recalled(&[recall_of(&told, 99)]).await.unwrap();
    assert_eq!(pending(&cache).await, (vec![4], vec![4]), "the consumer knew of the recall first");
    cache.remove_unread(forgotten.to, &[forgotten.id]).await.unwrap();
    assert_eq!(pending(&cache).await, (vec![4], vec![]), "it was read");
    cache.forget(&forgotten).await.unwrap();
    assert_eq!(pending(&cache).await, (vec![], vec![]));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_stays_on_its_pages() {
    let (test, cache, _) = prepared().await;
    let refused = message(1);
    accept(&cache, &refused).await;

    cache.settle_dead_letter(conversation(), Pending::sent(&refused)).await.unwrap();

    assert_eq!(cache.pending_count().await.unwrap(), 0, "the compensator leaves it to a person");
    assert_eq!(pending(&cache).await.0, [1], "and Redis is the only place that has it");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_twin_of_a_recalled_message_adds_nothing() {
    let (test, cache, mut redis) = prepared().await;
    let twin = message(1);
    assert_eq!(cache.accept(&twin, twin.send_time).await.unwrap(), Accepted::Kept);
    assert_eq!(cache.accept(&twin, twin.send_time).await.unwrap(), Accepted::Kept, "a retry of the same");
    cache.mark_recalled(&recall_of(&twin, 99), twin.to).await.unwrap();

    assert_eq!(cache.accept(&twin, twin.send_time).await.unwrap(), Accepted::Recalled);

    assert_eq!(pending(&cache).await, (vec![], vec![]));
    assert!(!redis.sismember::<_, _, bool>("msg:unread:2", 1).await.unwrap());
    let listed: Vec<i64> = redis.lrange("msg:conv:1_2", 0, -1).await.unwrap();
    assert_eq!(listed, [1], "once, as the oldest of its list");
    assert_eq!(cache.pending_count().await.unwrap(), 1, "the recall waits for MySQL as before");
    test.stop().await;
}
