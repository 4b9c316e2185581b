//! History with a replica that lags: a page of it shows no less than was persisted and nothing that was taken back.

use hongyan::config::MySqlConfig;
use hongyan::message::Message;
use hongyan::store::Store;
use hongyan_testkit::{TestApp, servers};

use crate::words;

/// An application that reads history from a replica, where the test is the replication.
struct Replicated {
    test: TestApp,
    replica: Store,
}

impl Replicated {
    async fn start() -> Self {
        let url = servers::stack().await.create_database(&servers::unique_name()).await.unwrap();
        let app = TestApp::builder().set("MYSQL_REPLICA_URL", url.as_str()).set("IM_CONV_CACHE_SIZE", "1");
        let test = app.start().await;
        let config = MySqlConfig { url: url.into(), replica_url: None, ..test.config.mysql.clone() };
        let replica = Store::new(&config).unwrap();
        replica.migrate(|_| ()).await.unwrap();
        Self { test, replica }
    }

    /// Lets the replica have these messages, in other words, so that it shows who answered.
    async fn replicate(&self, ids: &[String]) {
        let ids: Vec<_> = ids.iter().map(|id| id.parse().unwrap()).collect();
        let rows = self.test.app().store.messages(&ids).await.unwrap();
        assert_eq!(rows.len(), ids.len());
        let copies: Vec<Message> = rows
            .into_iter()
            .map(|row| Message { content: format!("{} on the replica", row.content), ..row })
            .collect();
        self.replica.persist(&copies).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_is_not_seen() {
    let replicated = Replicated::start().await;
    let test = &replicated.test;
    let (alice, bob) = (test.user(1), test.user(2));
    let mut ids = Vec::new();
    for content in ["a", "b", "c"] {
        ids.push(alice.sent(2, content).await);
    }
    test.drain().await;
    replicated.replicate(&ids).await;
    // Nothing vouches for Redis' list before its conversation is read.
    assert_eq!(words(&bob, 1).await, ["c on the replica", "b on the replica", "a on the replica"]);
    // The newest one alone is in the list, and comes from there.
    assert_eq!(words(&bob, 1).await, ["c", "b on the replica", "a on the replica"]);

    // Behind the list there is a message that the replica does not have yet.
    for content in ["d", "e"] {
        ids.push(alice.sent(2, content).await);
    }
    test.drain().await;
    for reader in [(&alice, 2), (&bob, 1)] {
        assert_eq!(words(reader.0, reader.1).await, ["e", "d", "c", "b", "a"]);
    }
    replicated.replicate(&ids[3..]).await;
    assert_eq!(
        words(&bob, 1).await,
        ["e", "d on the replica", "c on the replica", "b on the replica", "a on the replica"]
    );

    // A message is taken back, and Redis loses its memory of that: the replica still shows it.
    assert_eq!(alice.recall(&ids[1]).await.status, 200);
    test.drain().await;
    super::empty_redis(test).await;
    assert_eq!(words(&bob, 1).await, ["e", "d", "c", "a"]);
    assert_eq!(words(&alice, 2).await, ["e", "d", "c", "a"]);
    replicated.test.stop().await;
}
