//! The recall race, forced at each of the consumer's checks (`docs/protocol.md`, scenario 4 and R11). The test calls
//! the consumer's stages one by one, so that the recall happens exactly between two of them.

#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]

use hongyan::cache::persist::Check;
use hongyan::event::{MessageEvent, Recall};
use hongyan::id::MessageId;
use hongyan::message::Message;
use hongyan::store::Persisted;
use hongyan_kafka_consumer::persist::{self, Write};
use hongyan_testkit::{Caller, TestApp};

struct Race {
    test: TestApp,
    alice: Caller,
    id: String,
    write: Write,
}

/// A sent message, at the moment when the consumer has read its record.
async fn queued() -> Race {
    let test = TestApp::start().await;
    test.hold().await;
    let alice = test.user(1);
    let id = alice.sent(2, "catch me").await;
    let message: Message = serde_json::from_value(test.detail(&id).await.unwrap()).unwrap();
    let write = Write {
        position: 0,
        holder: "im-message-private/4/0".to_owned(),
        trace: None,
        message,
        was_shown: true,
        is_unread: false,
    };
    Race { test, alice, id, write }
}

impl Race {
    async fn recall(&self) {
        let recalled = self.alice.recall(&self.id).await;
        assert_eq!(recalled.status, 200, "{recalled:?}");
    }

    /// Runs the real consumer over all records, and checks that the recall won.
    async fn ends_recalled(self) {
        self.test.release();
        self.test.drain().await;
        assert_eq!(self.test.count_rows("status = 1").await, 0);
        assert_eq!(self.test.count_rows("content <> ''").await, 0);
        let detail = self.test.detail(&self.id).await.unwrap();
        assert_eq!((&detail["status"], &detail["content"]), (&0.into(), &"".into()), "{detail}");
        assert!(self.alice.history(2, "").await.ids().is_empty());
        assert_eq!(self.test.app().cache.pending_count().await.unwrap(), 0);
        self.test.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_before_the_first_check_is_seen_by_it() {
    let race = queued().await;
    race.recall().await;
    let checked = persist::check(race.test.app(), vec![race.write.clone()]).await.unwrap();
    assert_eq!((checked.clear.len(), checked.skipped.len()), (0, 1));
    race.ends_recalled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_between_the_first_check_and_the_second_is_seen_by_the_second() {
    let race = queued().await;
    let checked = persist::check(race.test.app(), vec![race.write.clone()]).await.unwrap();
    assert_eq!(checked.clear.len(), 1);
    race.recall().await;
    let locked = persist::lock(race.test.app(), checked.clear).await.unwrap();
    assert_eq!((locked.clear.len(), locked.skipped.len()), (0, 1));
    assert_eq!(race.test.row(&race.id).await, None);
    let holder = [(race.write.message.id, race.write.holder.clone())];
    race.test.app().cache.unlock(&holder).await.unwrap();
    race.ends_recalled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_between_the_second_check_and_the_write_is_undone_by_the_write() {
    let race = queued().await;
    let locked = persist::lock(race.test.app(), vec![race.write.clone()]).await.unwrap();
    race.recall().await;
    let written = persist::write(race.test.app(), locked.clear).await.unwrap();
    assert!(
        matches!(written[0].1.persisted, Persisted::Recalled { .. }),
        "the write met the tombstone: {written:?}"
    );
    let row = race.test.row(&race.id).await.unwrap();
    assert_eq!((row.status, row.content.as_str()), (0, ""), "and undid itself");
    race.ends_recalled().await;
}

/// MySQL did not take the tombstone, so only Redis knows of the recall. The third check is for this case.
#[tokio::test(flavor = "multi_thread")]
async fn a_recall_between_the_write_and_the_third_check_is_undone_by_the_third() {
    let race = queued().await;
    let locked = persist::lock(race.test.app(), vec![race.write.clone()]).await.unwrap();
    persist::write(race.test.app(), locked.clear).await.unwrap();
    let message = &race.write.message;
    let recall_time = race.test.clock().now_ms();
    let recall = Recall { message_id: message.id, recall_time, conversation_id: message.conversation() };
    race.test.app().cache.mark_recalled(&recall, message.to).await.unwrap();
    assert_eq!(race.test.row(&race.id).await.unwrap().status, 1, "MySQL does not know yet");
    persist::mark(race.test.app(), std::slice::from_ref(&race.write)).await.unwrap();
    let row = race.test.row(&race.id).await.unwrap();
    assert_eq!((row.status, row.content.as_str()), (0, ""), "the third check undid it");
    race.recall().await;
    race.ends_recalled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_after_the_third_check_is_in_mysql_at_once() {
    let race = queued().await;
    let locked = persist::lock(race.test.app(), vec![race.write.clone()]).await.unwrap();
    persist::write(race.test.app(), locked.clear).await.unwrap();
    persist::mark(race.test.app(), std::slice::from_ref(&race.write)).await.unwrap();
    race.recall().await;
    assert_eq!(
        race.test.row(&race.id).await.unwrap().status,
        0,
        "MySQL has it before the RECALL event is read"
    );
    race.ends_recalled().await;
}

/// The recalling process set the flag and died before it changed the detail. The next process that meets the flag
/// completes the recall.
#[tokio::test(flavor = "multi_thread")]
async fn a_recall_that_died_after_setting_the_flag_is_completed_by_the_consumer() {
    let race = queued().await;
    let mut redis = race.test.redis().await;
    redis::cmd("SET")
        .arg(format!("msg:cancel:{}", race.id))
        .arg(1_795_536_000_000_i64)
        .exec_async(&mut redis)
        .await
        .unwrap();
    race.ends_recalled().await;
}

/// A held lock means that the record is not done yet: another record of the same message waits, and the same record
/// passes when redelivered.
#[tokio::test(flavor = "multi_thread")]
async fn the_lock_lets_the_same_record_pass_and_no_other() {
    let race = queued().await;
    let app = race.test.app();
    let (id, receiver) = (race.write.message.id, race.write.message.to);
    let record = |holder: &str| [(id, receiver, holder.to_owned())];
    let lock = |holder: &str| [(id, holder.to_owned())];
    assert_eq!(
        app.cache.lock_and_check(&record("t/0/7")).await.unwrap(),
        [Check::Clear { was_shown: true, is_unread: true }]
    );
    assert_eq!(
        app.cache.lock_and_check(&record("t/0/7")).await.unwrap(),
        [Check::Clear { was_shown: true, is_unread: true }],
        "redelivered"
    );
    assert_eq!(app.cache.lock_and_check(&record("t/0/9")).await.unwrap(), [Check::Taken], "another record");
    app.cache.unlock(&lock("t/0/9")).await.unwrap();
    assert_eq!(
        app.cache.lock_and_check(&record("t/0/9")).await.unwrap(),
        [Check::Taken],
        "not its lock to give back"
    );
    app.cache.unlock(&lock("t/0/7")).await.unwrap();
    assert_eq!(
        app.cache.lock_and_check(&record("t/0/9")).await.unwrap(),
        [Check::Clear { was_shown: true, is_unread: true }]
    );
    race.test.stop().await;
}

/// 200 messages, each recalled at a random moment between 0 and 300 ms after the send.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_recalls_at_random_moments_leave_nothing_behind() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let pairs = (0..200).map(|number| {
        let alice = alice.clone();
        async move {
            let id = alice.sent(2, &format!("never seen {number}")).await;
            let moment = rand::random_range(0..300);
            tokio::time::sleep(std::time::Duration::from_millis(moment)).await;
            let recalled = alice.recall(&id).await;
            assert_eq!(recalled.status, 200, "{recalled:?}");
            id
        }
    });
    // Ten at a time, so that the consumer always has work.
    let pairs: Vec<_> = pairs.collect();
    let ids: Vec<String> = futures_util::StreamExt::collect(futures_util::StreamExt::buffer_unordered(
        futures_util::stream::iter(pairs),
        10,
    ))
    .await;
    assert_eq!(ids.len(), 200);
    for (reader, peer) in [(&alice, 2), (&bob, 1)] {
        assert!(reader.history(peer, "limit=100").await.ids().is_empty());
    }
    test.drain().await;
    assert_eq!(test.count_rows("status = 1").await, 0);
    assert_eq!(test.count_rows("content <> ''").await, 0);
    for (reader, peer) in [(&alice, 2), (&bob, 1)] {
        assert!(reader.history(peer, "limit=100").await.ids().is_empty());
    }
    assert_eq!(bob.unread().await.body["total"], 0);
    test.stop().await;
}

/// A recall whose event comes before the message's own record, as after a re-send. Either order has the same result.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_sent_again_after_its_recall_stays_recalled() {
    let race = queued().await;
    race.recall().await;
    race.test.release();
    race.test.drain().await;
    // Redis forgets everything, so that only the tombstone in MySQL knows.
    redis::cmd("FLUSHDB").exec_async(&mut race.test.redis().await).await.unwrap();
    let again = MessageEvent::Persist { data: race.write.message.clone() };
    race.test.app().queue.send(&again, std::time::Duration::from_secs(5)).await.unwrap();
    race.test.drain().await;
    let id: MessageId = race.id.parse().unwrap();
    assert!(race.test.app().cache.detail(id).await.unwrap().is_recalled());
    race.ends_recalled().await;
}
