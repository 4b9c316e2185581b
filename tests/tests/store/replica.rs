//! Pages from a replica, which may lag behind the writer.

use hongyan::config::MySqlConfig;
use hongyan::store::Store;
use hongyan_testkit::proxy::Proxy;

use crate::{between, config, conversation, database, message, recall, user};

/// A store whose replica is a database of its own, where the test is the replication; and a proxy in front of it.
async fn with_replica() -> (Store, Store, Proxy) {
    let (url, _) = database().await;
    let (replica_url, replica) = database().await;
    let proxy = Proxy::to(&replica_url).await;
    let config = MySqlConfig { replica_url: Some(proxy.url().into()), ..config(&url) };
    (Store::new(&config).unwrap(), replica, proxy)
}

/// The words of a conversation's page, newest first.
async fn words(store: &Store) -> Vec<String> {
    let page = store.visible_before(conversation(), user(1), None, 3).await.unwrap();
    page.into_iter().map(|message| message.content).collect()
}

#[tokio::test]
async fn a_page_comes_from_the_replica_if_it_is_what_the_writer_has() {
    let (store, replica, mut proxy) = with_replica().await;
    // The same messages in other words, so that it shows who answered.
    for number in 1..=5 {
        let (from, to) = if number % 2 == 0 { (1, 2) } else { (2, 1) };
        store.persist(&[between(from, to, number, "writer")]).await.unwrap();
        replica.persist(&[between(from, to, number, "replica")]).await.unwrap();
    }
    assert_eq!(words(&store).await, ["replica"; 3]);
    let first = between(2, 1, 1, "").id;
    let on = store.visible_after(conversation(), user(1), first, 2).await.unwrap();
    assert_eq!(on.iter().map(|message| message.content.as_str()).collect::<Vec<_>>(), ["replica"; 2]);

    // It lags by one message, and then has it.
    store.persist(&[message(6, "writer")]).await.unwrap();
    assert_eq!(words(&store).await, ["writer"; 3]);
    replica.persist(&[message(6, "replica")]).await.unwrap();
    assert_eq!(words(&store).await, ["replica"; 3]);

    // By a message that was held up on its way, in the middle of what was read before.
    store.persist(&[between(3, 4, 9, "of others"), between(1, 2, 100, "writer")]).await.unwrap();
    replica.persist(&[between(1, 2, 100, "replica")]).await.unwrap();
    assert_eq!(words(&store).await, ["replica"; 3]);
    store.persist(&[between(1, 2, 50, "writer")]).await.unwrap();
    assert_eq!(words(&store).await, ["writer"; 3]);
    replica.persist(&[between(1, 2, 50, "replica")]).await.unwrap();

    // By a recall: what was taken back is not shown, whatever the replica still has.
    store.recall(&[recall(&message(50, ""), 99)]).await.unwrap();
    assert_eq!(words(&store).await, ["writer"; 3]);
    replica.recall(&[recall(&message(50, ""), 99)]).await.unwrap();
    assert_eq!(words(&store).await, ["replica"; 3]);

    // By everything.
    proxy.close().await;
    assert_eq!(words(&store).await, ["writer"; 3]);
}
