//! Changes that MySQL has and Redis was not told of: a deletion, a read position, a recall. A request answered 503
//! has changed the data or not, and every read agrees on which.

use std::time::Duration;

use hongyan::id::ConversationId;
use hongyan_stack::ServerKind;
use hongyan_testkit::app::eventually;
use hongyan_testkit::proxy::Proxy;
use hongyan_testkit::{Answer, TestApp, TestAppBuilder, servers};
use redis::AsyncCommands as _;
use serde_json::json;

/// An application whose way to Redis can be closed.
pub(crate) async fn behind_a_proxy() -> (TestAppBuilder, Proxy) {
    let proxy = Proxy::to(&servers::address_of(servers::stack().await, ServerKind::Redis)).await;
    let test = TestApp::builder().set("REDIS_TIMEOUT_MS", "500").redis_by_way_of(proxy.address());
    (test, proxy)
}

/// Lets `request` come as far as the statement that `hold` blocks in MySQL, closes the way to Redis, and releases
/// MySQL.
async fn without_redis_from(
    test: &TestApp,
    proxy: &mut Proxy,
    (hold, statement): (String, &str),
    request: impl Future<Output = Answer> + Send + 'static,
) -> Answer {
    let mut transaction = test.mysql.begin().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(hold)).execute(&mut *transaction).await.unwrap();
    let request = tokio::spawn(request);
    waits_in_mysql(test, statement).await;
    proxy.close().await;
    transaction.rollback().await.unwrap();
    let refused = request.await.unwrap();
    proxy.open().await;
    redis_answers(test).await;
    refused
}

/// Waits until this statement is blocked in MySQL.
async fn waits_in_mysql(test: &TestApp, statement: &str) {
    eventually(&format!("{statement} waits"), Duration::from_secs(10), async || {
        let count = "SELECT COUNT(*) FROM information_schema.processlist \
                     WHERE db = DATABASE() AND info LIKE CONCAT('/* ', ?, '%')";
        let count: i64 = sqlx::query_scalar(count).bind(statement).fetch_one(&test.mysql).await.unwrap();
        count > 0
    })
    .await;
}

async fn redis_answers(test: &TestApp) {
    eventually("Redis answers again", Duration::from_secs(10), async || {
        test.app().cache.ping().await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_redis_did_not_hear_of_hides_all_the_same() {
    let (test, mut proxy) = behind_a_proxy().await;
    let test = test.start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let ids = [alice.sent(2, "a").await, alice.sent(2, "b").await];
    test.drain().await;
    assert_eq!(bob.history(1, "").await.ids().len(), 2, "from now on Redis knows what bob deleted");
    assert_eq!(bob.unread().await.body["total"], 2, "and what he has not read");

    let hold = format!("INSERT INTO message_delete (user_id, message_id) VALUES (2, {})", ids[0]);
    let deletion = {
        let (bob, id) = (bob.clone(), ids[0].clone());
        async move { bob.delete(&id).await }
    };
    let answer = without_redis_from(&test, &mut proxy, (hold, "store.delete_for"), deletion).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(test.count_rows("1 = 1").await, 2);
    for _ in 0..2 {
        assert_eq!(bob.history(1, "").await.ids(), [ids[1].as_str()]);
        assert_eq!(bob.unread().await.body, json!({"total": 1, "messageIds": [ids[1]]}));
    }
    assert_eq!(alice.history(2, "").await.ids().len(), 2);
    assert_eq!(bob.delete(&ids[0]).await.status, 204, "and can be tried again");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_and_redis_did_not_hear_of_is_not_counted() {
    let (test, mut proxy) = behind_a_proxy().await;
    let test = test.start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let ids = [alice.sent(2, "a").await, alice.sent(2, "b").await];
    test.drain().await;
    assert_eq!(bob.unread().await.body["total"], 2);

    let hold = "SELECT * FROM conversation WHERE conv_id = '1_2' FOR UPDATE".to_owned();
    let reading = {
        let (bob, id) = (bob.clone(), ids[0].clone());
        async move { bob.read(1, &id).await }
    };
    let answer = without_redis_from(&test, &mut proxy, (hold, "store.conversation: lock"), reading).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"unread": 1})), "MySQL has the position");
    // A message that is still queued counts too.
    test.hold().await;
    let newest = alice.sent(2, "c").await;
    for _ in 0..2 {
        assert_eq!(bob.unread().await.body, json!({"total": 2, "messageIds": [newest, ids[1]]}));
    }
    // The message is read or deleted before it is a row, and only MySQL knows.
    let deleted = alice.sent(2, "d").await;
    let conversation = ConversationId::between(alice.id, bob.id).unwrap();
    test.app().store.delete_for(bob.id, conversation, deleted.parse().unwrap()).await.unwrap();
    test.app().store.advance_read_position(bob.id, conversation, newest.parse().unwrap()).await.unwrap();
    let after = alice.sent(2, "e").await;
    assert_eq!(bob.unread().await.body, json!({"total": 1, "messageIds": [after]}));
    // Redis has the message below the position still as unread. Nothing shows that it was displayed, so it counts
    // again.
    test.release();
    test.drain().await;
    assert_eq!(bob.unread().await.body, json!({"total": 2, "messageIds": [after, newest]}));
    assert_eq!(bob.read(1, &after).await.body["unread"], 0);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_is_right_whatever_redis_has_lost_of_it() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let id = alice.sent(2, "a").await;
    test.drain().await;
    let unread = json!({"total": 1, "messageIds": [id]});
    assert_eq!(bob.unread().await.body, unread);
    for key in ["msg:unread:2", "msg:unread-pending:2"] {
        test.redis().await.del::<_, ()>(key).await.unwrap();
        assert_eq!(bob.unread().await.body, unread, "without {key}");
    }
    super::empty_redis(&test).await;
    assert_eq!(bob.unread().await.body, unread);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_that_redis_slept_through_is_shown_to_nobody() {
    let (test, mut proxy) = behind_a_proxy().await;
    // If another process answers the recall, this process learns of it by the event (`docs/limits.md`).
    let test = test.in_process().start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let ids = [alice.sent(2, "a").await, alice.sent(2, "b").await];
    test.drain().await;
    assert_eq!(bob.history(1, "").await.ids().len(), 2);

    // The consumer does not push it either.
    test.hold().await;
    proxy.close().await;
    assert_eq!(alice.recall(&ids[0]).await.status, 200);
    assert_eq!(bob.history(1, "").await.ids(), [ids[1].as_str()], "by MySQL");
    proxy.open().await;
    redis_answers(&test).await;
    let detail = async || {
        let json: String = test.redis().await.get(format!("msg:detail:{}", ids[0])).await.unwrap();
        serde_json::from_str::<serde_json::Value>(&json).unwrap()
    };
    assert_eq!(detail().await["status"], 1, "Redis has it as it was");
    let (page, again) = (bob.history(1, "").await, alice.recall(&ids[0]).await);
    assert_eq!((page.ids(), again.status), (vec![ids[1].clone()], 200));
    assert_eq!((detail().await["status"].clone(), detail().await["content"].clone()), (json!(0), json!("")));
    assert_eq!(bob.unread().await.body["messageIds"], json!([ids[1]]));
    test.release();
    test.drain().await;
    assert_eq!(bob.history(1, "").await.ids(), [ids[1].as_str()]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_before_it_is_a_row_is_neither_shown_nor_unread() {
    let (test, mut proxy) = behind_a_proxy().await;
    let test = test.start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let first = alice.sent(2, "Redis and Kafka take it").await;
    test.drain().await;
    test.hold().await;
    proxy.close().await;
    let id = alice.sent(2, "Kafka alone takes it").await;
    proxy.open().await;
    redis_answers(&test).await;

    // The deletion comes first in MySQL.
    let conversation = ConversationId::between(alice.id, bob.id).unwrap();
    test.app().store.delete_for(bob.id, conversation, id.parse().unwrap()).await.unwrap();
    test.release();
    test.drain().await;

    assert_eq!(bob.unread().await.body, json!({"total": 1, "messageIds": [first]}));
    assert_eq!(bob.history(1, "").await.ids(), [first.as_str()]);
    assert_eq!(alice.history(2, "").await.ids(), [id, first]);
    test.stop().await;
}
