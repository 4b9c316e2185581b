//! History with a lagging replica: a page shows no less than was persisted, and no recalled message.

use hongyan::config::MySqlConfig;
use hongyan::message::Message;
use hongyan::store::Store;
use hongyan_testkit::{TestApp, servers};

use crate::words;

/// An application that reads history from a replica. The test itself does the replication.
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

    /// Copies these messages to the replica with other words, which show whether the replica answered.
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
    let mut ids = alice.sent_each(2, ["a", "b", "c"]).await.to_vec();
    test.drain().await;
    replicated.replicate(&ids).await;
    // The list in Redis is not complete before the conversation is first read.
    assert_eq!(words(&bob, 1).await, ["c on the replica", "b on the replica", "a on the replica"]);
    // The list has only the newest message, which comes from there.
    assert_eq!(words(&bob, 1).await, ["c", "b on the replica", "a on the replica"]);

    // The replica lacks a message that comes after the list.
    ids.extend(alice.sent_each(2, ["d", "e"]).await);
    test.drain().await;
    for reader in [(&alice, 2), (&bob, 1)] {
        assert_eq!(words(reader.0, reader.1).await, ["e", "d", "c", "b", "a"]);
    }
    replicated.replicate(&ids[3..]).await;
    assert_eq!(
        words(&bob, 1).await,
        ["e", "d on the replica", "c on the replica", "b on the replica", "a on the replica"]
    );

    // A message is recalled and Redis forgets the recall: the replica still has the message.
    assert_eq!(alice.recall(&ids[1]).await.status, 200);
    test.drain().await;
    super::empty_redis(test).await;
    assert_eq!(words(&bob, 1).await, ["e", "d", "c", "a"]);
    assert_eq!(words(&alice, 2).await, ["e", "d", "c", "a"]);
    replicated.test.stop().await;
}
