//! A Redis with an older or another data set: its data does not count more than MySQL's.

use hongyan_stack::{ServerKind, Stack};
use hongyan_testkit::{Caller, TestApp, servers};
use serde_json::json;

use crate::words;

async fn send_named(sender: &Caller, content: &str) -> hongyan_testkit::Answer {
    let body = json!({"toId": "2", "content": content, "msgType": 1, "clientMsgId": "name"});
    sender.post("/messages", &body).await
}

/// All keys of the application's Redis database, with their values.
async fn snapshot(test: &TestApp) -> Vec<(String, i64, Vec<u8>)> {
    let mut redis = test.redis().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    let mut snapshot = Vec::new();
    for key in keys {
        let ttl: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut redis).await.unwrap();
        let value: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query_async(&mut redis).await.unwrap();
        snapshot.extend(value.map(|value| (key, ttl.max(0), value)));
    }
    snapshot
}

/// Replaces all keys with the saved ones while connections stay open. In one step, except in a cluster, whose nodes
/// have no common step.
async fn put_back(test: &TestApp, snapshot: &[(String, i64, Vec<u8>)]) {
    let mut redis = test.redis().await;
    let restore = snapshot.iter().map(|(key, ttl, value)| {
        let mut restore = redis::cmd("RESTORE");
        restore.arg(key).arg(ttl).arg(value).arg("REPLACE");
        restore
    });
    if test.config.redis.cluster {
        redis::cmd("FLUSHDB").exec_async(&mut redis).await.unwrap();
        for restore in restore {
            restore.exec_async(&mut redis).await.unwrap();
        }
        return;
    }
    let mut all = redis::pipe();
    all.atomic().cmd("FLUSHDB").ignore();
    for restore in restore {
        all.add_command(restore).ignore();
    }
    all.exec_async(&mut redis).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_data_set_brings_nothing_back() {
    let test = TestApp::builder().in_process().start().await;
    let other = TestApp::beside(&test).await;
    let (alice, bob) = (test.user(1), test.user(2));
    let named = send_named(&alice, "recalled, named").await.id();
    let (kept, deleted) = (alice.sent(2, "kept").await, alice.sent(2, "deleted").await);
    let recalled = alice.sent(2, "recalled").await;
    test.drain().await;
    assert_eq!(words(&bob, 1).await.len(), 4);
    test.hold().await;
    let pending = alice.sent(2, "recalled while it waits").await;
    for app in [&test, &other] {
        assert_eq!(words(&app.user(2), 1).await.len(), 5);
    }
    let older = snapshot(&test).await;

    // These changes come after the snapshot, by more than a tick of the epoch.
    test.pass_ms(2_000);
    for id in [&named, &recalled, &pending] {
        assert_eq!(alice.recall(id).await.status, 200);
    }
    assert_eq!(bob.delete(&deleted).await.status, 204);
    let newer = alice.sent(2, "newer").await;
    test.release();
    test.drain().await;
    for app in [&test, &other] {
        assert_eq!(app.user(2).history(1, "").await.ids(), [newer.clone(), kept.clone()]);
    }

    put_back(&test, &older).await;
    for app in [&test, &other] {
        let (alice, bob) = (app.user(1), app.user(2));
        assert_eq!(bob.history(1, "").await.ids(), [newer.clone(), kept.clone()]);
        assert_eq!(bob.history(1, "after=1").await.ids(), [kept.clone(), newer.clone()]);
        assert_eq!(alice.history(2, "").await.ids(), [newer.clone(), deleted.clone(), kept.clone()]);
        let again = send_named(&alice, "recalled, named").await;
        assert_eq!((again.status, again.id()), (200, named.clone()));
        assert_eq!((&again.body["status"], &again.body["content"]), (&json!(0), &json!("")));
    }
    other.stop().await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_emptied_under_open_connections_lacks_nothing_that_mysql_has() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let (kept, deleted) = (alice.sent(2, "kept").await, alice.sent(2, "deleted").await);
    test.drain().await;
    assert_eq!(bob.delete(&deleted).await.status, 204);
    assert_eq!(words(&bob, 1).await, ["kept"]);

    crate::empty_redis(&test).await;

    assert_eq!(bob.history(1, "").await.ids(), std::slice::from_ref(&kept));
    let newer = alice.sent(2, "newer").await;
    assert_eq!(bob.history(1, "").await.ids(), [newer, kept]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_starts_from_an_older_file_brings_nothing_back() {
    let stack = Stack::start(servers::beside_shared(ServerKind::Redis).await).await.unwrap();
    let test = TestApp::builder().set("REDIS_TIMEOUT_MS", "1000").start_on(&stack).await;
    let (alice, bob) = (test.user(1), test.user(2));
    let (kept, recalled) = (alice.sent(2, "kept").await, alice.sent(2, "recalled").await);
    test.drain().await;
    assert_eq!(words(&bob, 1).await, ["recalled", "kept"]);
    let older = snapshot(&test).await;
    assert_eq!(alice.recall(&recalled).await.status, 200);
    let newer = alice.sent(2, "newer").await;
    test.drain().await;
    assert_eq!(bob.history(1, "").await.ids(), [newer.clone(), kept.clone()]);

    put_back(&test, &older).await;
    stack.server(ServerKind::Redis).restart().await.unwrap();

    assert_eq!(bob.history(1, "").await.ids(), [newer, kept]);
    test.stop().await;
    stack.stop().await.unwrap();
}

/// A new epoch costs no search of the key space: a Redis account without SCAN and KEYS is enough.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_searches_the_key_space() {
    let stack = Stack::start(servers::beside_shared(ServerKind::Redis).await).await.unwrap();
    let test = TestApp::builder().start_on(&stack).await;
    let mut redis = test.redis().await;
    redis::cmd("ACL")
        .arg(&["SETUSER", "default", "-scan", "-keys", "-sort"])
        .exec_async(&mut redis)
        .await
        .unwrap();
    let (alice, bob) = (test.user(1), test.user(2));
    let id = alice.sent(2, "kept").await;
    test.drain().await;
    assert_eq!(bob.history(1, "").await.ids(), std::slice::from_ref(&id));

    stack.server(ServerKind::Redis).restart().await.unwrap();

    assert_eq!(bob.history(1, "").await.ids(), [id]);
    test.stop().await;
    stack.stop().await.unwrap();
}
