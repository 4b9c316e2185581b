//! Pages from a replica, which may lag behind the writer.

use hongyan::config::MySqlConfig;
use hongyan::store::Store;
use hongyan_testkit::proxy::Proxy;

use crate::{between, config, conversation, database, message, recall, user};

/// A store with a proxy in front and a replica that is a database of its own. The test itself does the replication.
async fn with_replica() -> (Store, Store, Proxy) {
    let (url, _) = database().await;
    let (replica_url, replica) = database().await;
    let proxy = Proxy::to(&replica_url).await;
    let config = MySqlConfig { replica_url: Some(proxy.url().into()), ..config(&url) };
    (Store::new(&config).unwrap(), replica, proxy)
}

/// The contents of a page of the conversation, newest first.
async fn words(store: &Store) -> Vec<String> {
    let page = store.visible_before(conversation(), user(1), None, 3).await.unwrap();
    page.into_iter().map(|message| message.content).collect()
}

#[tokio::test]
async fn a_page_comes_from_the_replica_if_it_is_what_the_writer_has() {
    let (store, replica, mut proxy) = with_replica().await;
    // The same messages with other words, which show whether the replica answered.
    for number in 1..=5 {
        let (from, to) = if number % 2 == 0 { (1, 2) } else { (2, 1) };
        store.persist(&[between(from, to, number, "writer")]).await.unwrap();
        replica.persist(&[between(from, to, number, "replica")]).await.unwrap();
    }
    assert_eq!(words(&store).await, ["replica"; 3]);
    let first = between(2, 1, 1, "").id;
    let on = store.visible_after(conversation(), user(1), first, 2).await.unwrap();
    assert_eq!(on.iter().map(|message| message.content.as_str()).collect::<Vec<_>>(), ["replica"; 2]);

    // The replica lags by one message, and then has it.
    store.persist(&[message(6, "writer")]).await.unwrap();
    assert_eq!(words(&store).await, ["writer"; 3]);
    replica.persist(&[message(6, "replica")]).await.unwrap();
    assert_eq!(words(&store).await, ["replica"; 3]);

    // The replica lags by a message that was held up, in the middle of rows read before.
    store.persist(&[between(3, 4, 9, "of others"), between(1, 2, 100, "writer")]).await.unwrap();
    replica.persist(&[between(1, 2, 100, "replica")]).await.unwrap();
    assert_eq!(words(&store).await, ["replica"; 3]);
    store.persist(&[between(1, 2, 50, "writer")]).await.unwrap();
    assert_eq!(words(&store).await, ["writer"; 3]);
    replica.persist(&[between(1, 2, 50, "replica")]).await.unwrap();

    // The replica lags by a recall: the recalled message is not shown, even though the replica has it.
    store.recall(&[recall(&message(50, ""), 99)]).await.unwrap();
    assert_eq!(words(&store).await, ["writer"; 3]);
    replica.recall(&[recall(&message(50, ""), 99)]).await.unwrap();
    assert_eq!(words(&store).await, ["replica"; 3]);

    // The replica lags by everything.
    proxy.close().await;
    assert_eq!(words(&store).await, ["writer"; 3]);
}
