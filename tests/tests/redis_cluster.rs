//! A Redis Cluster with a node that has lost data. `HONGYAN_TEST_REDIS=cluster` runs the whole contract on a cluster,
//! and the drill moves slots and kills a node.

use hongyan_stack::ServerKind;
use hongyan_testkit::TestApp;
use hongyan_testkit::servers::RedisCluster;
use redis::AsyncCommands as _;

/// So many conversations that each node has some of every kind of key.
const PEERS: std::ops::Range<i64> = 2..26;

/// The data that all users see.
async fn seen(test: &TestApp) -> Vec<(Vec<String>, Vec<String>, serde_json::Value)> {
    let mut seen = Vec::new();
    for peer in PEERS {
        let (user, bob) = (test.user(1), test.user(peer));
        seen.push((
            user.history(peer, "").await.ids(),
            bob.history(1, "").await.ids(),
            bob.unread().await.body["total"].clone(),
        ));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_memory_is_noticed_and_everything_is_whole_again() {
    let cluster = RedisCluster::take().await;
    let redis = cluster.stack().server(ServerKind::Redis);
    let test = TestApp::builder().set("REDIS_TIMEOUT_MS", "1000").start_on(cluster.stack()).await;
    let user = test.user(1);
    let mut sent = Vec::new();
    for peer in PEERS {
        let mut ids = Vec::new();
        for number in 0..5 {
            ids.push(user.sent(peer, &format!("message {number}")).await);
        }
        sent.push(ids);
    }
    test.drain().await;
    for (peer, ids) in PEERS.zip(&sent) {
        let bob = test.user(peer);
        assert_eq!(bob.read(1, &ids[1]).await.status, 200);
        assert_eq!(bob.delete(&ids[3]).await.status, 204);
    }
    let whole = seen(&test).await;
    for (peer, (ids, (page, bobs, unread))) in PEERS.zip(sent.iter().zip(&whole)) {
        let newest_first = |kept: &[usize]| kept.iter().map(|&at| ids[at].clone()).collect::<Vec<_>>();
        assert_eq!(*page, newest_first(&[4, 3, 2, 1, 0]), "{peer}");
        assert_eq!(*bobs, newest_first(&[4, 2, 1, 0]), "{peer}");
        assert_eq!(*unread, 2, "{peer}");
    }

    // As on a node that has lost the last second of writes: lists and sets lack a member or have one too many.
    let mut inside = test.redis().await;
    for (peer, ids) in PEERS.zip(&sent) {
        inside.lrem::<_, _, ()>(format!("msg:conv:1_{peer}"), 0, &ids[2]).await.unwrap();
        inside.srem::<_, _, ()>(format!("msg:deleted:{peer}"), &ids[3]).await.unwrap();
        inside.sadd::<_, _, ()>(format!("msg:unread:{peer}"), &ids[0]).await.unwrap();
    }
    assert_ne!(seen(&test).await, whole, "the same memories are believed");
    redis.kill_node(1).await.unwrap();
    redis.start().await.unwrap();
    assert_eq!(seen(&test).await, whole, "after the restart of one node");

    // As on a node without a file, for example of ElastiCache: all its data is gone.
    redis.kill_node(2).await.unwrap();
    std::fs::remove_dir_all(cluster.stack().folder().join("redis-cluster-3/appendonlydir")).unwrap();
    redis.start().await.unwrap();
    assert_eq!(seen(&test).await, whole, "after the loss of one node");

    // A cluster of which a part has forgotten must not deny a message that only Kafka may have.
    let unknown = test.app().ids.next().await.unwrap();
    assert_eq!(user.recall(&unknown.to_string()).await.status, 404, "made after the loss");
    redis.kill_node(0).await.unwrap();
    std::fs::remove_dir_all(cluster.stack().folder().join("redis-cluster-1/appendonlydir")).unwrap();
    redis.start().await.unwrap();
    assert_eq!(user.recall(&unknown.to_string()).await.status, 503, "it may have been lost with the node");
    test.stop().await;
}
