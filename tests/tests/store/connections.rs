//! A MySQL server that is away, hangs, refuses, or is no longer the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future;
use hongyan::config::MySqlConfig;
use hongyan::error::ServerError;
use hongyan::message::{Message, Status};
use hongyan::store::{Persisted, Store};
use hongyan::trace::{self, Trace};
use hongyan_stack::{ServerKind, Stack};
use hongyan_testkit::app::eventually;
use hongyan_testkit::proxy::Proxy;
use hongyan_testkit::servers::{beside_shared, mysql_administrator};
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use crate::{as_row, config, connect, conversation, database, execute, message, recall, user};

/// A store whose connections lead through a proxy that a test can cut and freeze.
async fn behind_proxy(timeout: Duration) -> (Proxy, Store) {
    let (url, _) = database().await;
    let proxy = Proxy::to(&url).await;
    let store = Store::new(&MySqlConfig { timeout, ..config(&proxy.url()) }).unwrap();
    (proxy, store)
}

/// The answers to `count` calls at the same time, each in a task of its own.
async fn pings(store: &Store, callers: usize) -> Vec<Result<(), ServerError>> {
    let ping = |_| {
        let store = store.clone();
        tokio::spawn(async move { store.ping().await })
    };
    future::join_all((0..callers).map(ping)).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_server_that_is_not_there_is_noticed_at_once() {
    let (mut proxy, store) = behind_proxy(Duration::from_secs(30)).await;
    store.ping().await.unwrap();
    proxy.close().await;
    let started = Instant::now();
    let error = store.persist(&[message(1, "x")]).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().starts_with("mysql: store.persist: "), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    // Many callers do not queue up behind each other.
    for answer in pings(&store, 100).await {
        assert!(answer.unwrap_err().is_transient());
    }
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    proxy.open().await;
    store.persist(&[message(1, "x")]).await.unwrap();
}

#[tokio::test]
async fn connections_that_were_cut_are_replaced_within_the_call() {
    let (mut proxy, store) = behind_proxy(Duration::from_secs(5)).await;
    for _ in 0..5 {
        for answer in pings(&store, 20).await {
            answer.unwrap();
        }
        proxy.close().await;
        proxy.open().await;
        store.persist(&[message(1, "x")]).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_hangs_ends_in_a_transient_error_in_bounded_time() {
    let (proxy, store) = behind_proxy(Duration::from_secs(1)).await;
    store.persist(&[message(1, "x")]).await.unwrap();
    proxy.freeze(true);
    for _ in 0..3 {
        let started = Instant::now();
        let error = store.visible_before(conversation(), user(1), None, 10).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
    proxy.freeze(false);
    // A call must not take the answer to an earlier call that was given up.
    for number in 2..50 {
        store.persist(&[message(number, "x")]).await.unwrap();
        assert_eq!(
            store.message(message(number, "x").id).await.unwrap().unwrap().id,
            message(number, "x").id
        );
    }
}

/// A vanished host closes no connection: open connections stay silent until TCP gives up.
#[tokio::test]
async fn a_server_that_has_vanished_keeps_no_connection_occupied() {
    let (url, _) = database().await;
    // Connections lead through both proxies. Later the name leads past the proxy of the host.
    let mut host = Proxy::to(&url).await;
    let mut name = Proxy::to(&host.url()).await;
    let timeout = Duration::from_secs(2);
    let store = Store::new(&MySqlConfig { timeout, max_connections: 3, ..config(&name.url()) }).unwrap();
    for idle in [Duration::ZERO, Duration::from_millis(1_100)] {
        assert!(pings(&store, 3).await.iter().all(Result::is_ok), "three connections are open");
        // A connection that was idle for a second is tested before use, so its end at the server costs no call.
        tokio::time::sleep(idle).await;
        host.freeze(true);
        name.lead_to(&url);
        let failed = pings(&store, 3).await.into_iter().filter_map(Result::err).collect::<Vec<_>>();
        assert!(idle.is_zero() || failed.is_empty(), "{failed:?}");
        let started = Instant::now();
        assert!(pings(&store, 3).await.iter().all(Result::is_ok));
        assert!(started.elapsed() < timeout / 2, "{:?}", started.elapsed());
        host = Proxy::to(&url).await;
        name.lead_to(&host.url());
        name.cut();
    }
}

#[tokio::test]
async fn calls_one_after_the_other_share_one_connection() {
    let (url, store) = database().await;
    let sql = "SELECT CAST(COUNT(*) AS SIGNED) FROM information_schema.processlist \
               WHERE db = DATABASE() AND id <> CONNECTION_ID()";
    let open = async || sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut connect(&url).await).await.unwrap();
    for number in 0..200 {
        store.persist(&[message(number, "x")]).await.unwrap();
        store.ping().await.unwrap();
    }
    assert_eq!(open().await, 1);
    store.close().await;
    assert!(store.ping().await.unwrap_err().is_transient());
    eventually("it is closed", Duration::from_secs(5), async || open().await == 0).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_in_the_middle_spoils_no_connection() {
    let (_, store) = database().await;
    let batch: Vec<Message> = (0..50).map(|number| message(number, "x")).collect();
    store.persist(&batch).await.unwrap();
    let ids = [batch[1].id, batch[2].id];
    for step in 0..150_u64 {
        let call = async { tokio::join!(store.persist(&batch), store.messages(&ids)).0 };
        // Cut off or done: the calls after it count.
        let _ = tokio::time::timeout(Duration::from_micros(step * 40), Box::pin(call)).await;
        let row = store.message(batch[7].id).await.unwrap().unwrap();
        assert_eq!(Message { seq: None, ..row }, as_row(&batch[7]));
    }
}

/// Starts a MySQL for this test with an empty database of the same name as the one at `url`, and returns the URLs of
/// both for an account that exists on both. The account has rights for that database alone: an administrator could
/// also write to a reader.
async fn with_the_same_database(url: &str) -> (Stack, String, String) {
    const ACCOUNT: (&str, &str) = ("hongyan_moves", "with-the-name");
    let stack = Stack::start(beside_shared(ServerKind::MySql).await).await.unwrap();
    let (user, password) = ACCOUNT;
    let url = url::Url::parse(url).unwrap();
    let database = url.path().trim_start_matches('/');
    let own = url::Url::parse(&stack.create_database(database).await.unwrap()).unwrap();
    let accounts = format!(
        "CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{password}'; \
         GRANT ALL PRIVILEGES ON `{database}`.* TO '{user}'@'%'"
    );
    let [there, here] = [(mysql_administrator().await, url.clone()), (stack.mysql_administrator(), own)].map(
        async |(administrator, mut url)| {
            let mut administrator = administrator.connect().await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(accounts.clone())).execute(&mut administrator).await.unwrap();
            url.set_username(user).unwrap();
            url.set_password(Some(password)).unwrap();
            String::from(url)
        },
    );
    let (there, here) = (there.await, here.await);
    Store::new(&config(&here)).unwrap().migrate(|_| ()).await.unwrap();
    (stack, there, here)
}

#[tokio::test]
async fn connections_to_a_writer_that_was_demoted_are_replaced_within_the_call() {
    let (new_url, new) = database().await;
    let (old_server, new_url, old_url) = with_the_same_database(&new_url).await;
    let old = Store::new(&config(&old_url)).unwrap();
    let mut proxy = Proxy::to(&old_url).await;
    let store = Store::new(&config(&proxy.url())).unwrap();
    assert!(pings(&store, 20).await.iter().all(Result::is_ok), "many connections to the old writer are open");
    store.persist(&[message(1, "to the old one")]).await.unwrap();

    // Aurora's name leads to the new writer. The old one is a reader, and its connections stay open.
    let mut administrator = old_server.mysql_administrator().connect().await.unwrap();
    execute(&mut administrator, "SET GLOBAL read_only = 1").await;
    proxy.lead_to(&new_url);
    let messages: Vec<Message> = (2..=20).map(|number| message(number, "to the new one")).collect();
    let calls = future::join_all(messages.iter().map(|message| store.persist(std::slice::from_ref(message))));
    for written in calls.await {
        assert_eq!(written.unwrap(), [Persisted::Written]);
    }
    store.recall(&[recall(&messages[0], 99)]).await.unwrap();
    assert_eq!(new.message(messages[0].id).await.unwrap().unwrap().status, Status::Recalled);
    assert_eq!(
        new.visible_before(conversation(), user(1), None, 100).await.unwrap().len(),
        messages.len() - 1
    );
    assert_eq!(old.visible_before(conversation(), user(1), None, 100).await.unwrap().len(), 1);
    old_server.stop().await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_or_a_missing_table_is_said_and_is_nobodys_message() {
    let (url, store) = database().await;
    let mut wrong = url::Url::parse(&url).unwrap();
    wrong.set_username("nobody_of_that_name").unwrap();
    wrong.set_password(Some("wrong")).unwrap();
    let error = Store::new(&config(wrong.as_str())).unwrap().ping().await.unwrap_err();
    assert!(error.to_string().contains("Access denied") && error.is_transient(), "{error}");
    execute(&mut connect(&url).await, "DROP TABLE message_recall").await;
    let error = store.persist(&[message(1, "x")]).await.unwrap_err();
    assert!(error.to_string().contains("message_recall") && error.is_transient(), "{error}");
    assert_eq!(store.messages(&[message(1, "x").id]).await.unwrap(), [], "the transaction was rolled back");
    assert!(Store::new(&config("mysql://h/d?ssl-mode=nonsense")).is_err());
}

/// The statements in the database that wait for a metadata lock, except the `ALTER TABLE` itself.
async fn waiting(connection: &mut sqlx::MySqlConnection) -> i64 {
    let sql = "SELECT CAST(COUNT(*) AS SIGNED) FROM information_schema.processlist \
               WHERE db = DATABASE() AND state LIKE '%metadata lock%' AND info NOT LIKE 'ALTER%'";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alter_that_waits_behind_a_transaction_leaves_no_pile_of_statements() {
    const CONNECTIONS: u32 = 4;
    const CALLERS: i64 = 16;
    let (url, _) = database().await;
    let store = Store::new(&MySqlConfig { max_connections: CONNECTIONS, ..config(&url) }).unwrap();
    store.persist(&[message(0, "x")]).await.unwrap();
    let mut looking = connect(&url).await;

    // A transaction that has read the table blocks a change of it, and the change blocks all other statements.
    let mut holder = connect(&url).await;
    execute(&mut holder, "START TRANSACTION").await;
    execute(&mut holder, "SELECT id FROM message").await;
    let mut altering = connect(&url).await;
    let altering =
        tokio::spawn(async move { execute(&mut altering, "ALTER TABLE message COMMENT = 'changed'").await });
    eventually("the change waits", Duration::from_secs(10), async || {
        store.message(message(0, "x").id).await.is_err()
    })
    .await;

    // Callers that retry again and again, as the consumer and clients do.
    let held = Arc::new(AtomicBool::new(true));
    let callers: Vec<_> = (1..=CALLERS)
        .map(|number| {
            let (store, held) = (store.clone(), held.clone());
            tokio::spawn(async move {
                while held.load(Ordering::SeqCst) {
                    let began = Instant::now();
                    let written = store.persist(&[message(number, "x")]).await;
                    let read = store.message(message(0, "x").id).await;
                    let took = began.elapsed();
                    assert!(took < 2 * Duration::from_secs(4), "two calls in bounded time: {took:?}");
                    for error in written.err().into_iter().chain(read.err()) {
                        assert!(error.is_transient(), "{error}");
                    }
                }
                store.persist(&[message(number, "x")]).await
            })
        })
        .collect();
    let began = Instant::now();
    let (mut most, mut look) = (0, tokio::time::interval(Duration::from_millis(50)));
    while began.elapsed() < Duration::from_secs(10) {
        look.tick().await;
        most = most.max(waiting(&mut looking).await);
    }
    assert!((1..=i64::from(CONNECTIONS)).contains(&most), "{most} statements wait at a time");

    execute(&mut holder, "COMMIT").await;
    altering.await.unwrap();
    held.store(false, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(waiting(&mut looking).await, 0);
    for number in 0..=CALLERS {
        assert!(store.message(message(number, "x").id).await.unwrap().is_some(), "{number} is not lost");
    }
}

/// The log of all statements is the server's, so the test looks for its own trace in it.
#[tokio::test]
async fn the_transaction_of_a_recorded_trace_names_it() {
    let (_, store) = database().await;
    let mut administrator = mysql_administrator().await.connect().await.unwrap();
    let given = "00-7f1c2a9e5b3d4c60a1b2c3d4e5f60718-00f067aa0ba902b7-0";
    let [recorded, quiet] = ["1", "0"].map(|flag| Trace::parse(&format!("{given}{flag}")).unwrap());
    execute(&mut administrator, "SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = 1").await;

    let traces = [quiet, recorded].into_iter();
    let written = trace::batch(traces, store.persist(&[message(1, "x")])).await;
    trace::scope(quiet, store.persist(&[message(2, "x")])).await.unwrap();

    execute(&mut administrator, "SET GLOBAL general_log = 0").await;
    assert_eq!(written.unwrap(), [Persisted::Written]);
    let begun: Vec<String> = sqlx::query_scalar(
        "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE argument LIKE 'BEGIN%7f1c2a9e5b3d4c60%'",
    )
    .fetch_all(&mut administrator)
    .await
    .unwrap();
    assert_eq!(begun, [format!("BEGIN /* traceparent='{given}1' */")]);
}
