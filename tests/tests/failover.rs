//! A MySQL like Aurora's: the writer goes away and comes back under the same name, or becomes a reader under open
//! connections. Senders notice nothing, and nothing is lost.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hongyan_runtime::dlq::{self, Filter};
use hongyan_stack::{ServerKind, Stack, StackOptions};
use hongyan_testkit::app::eventually;
use hongyan_testkit::proxy::Proxy;
use hongyan_testkit::servers::address_of;
use hongyan_testkit::{Caller, TestApp};
use sqlx::{ConnectOptions as _, MySqlConnection};
use tokio::task::JoinHandle;

/// After the writer is back, rows are written again within this time.
const RECOVERY: Duration = Duration::from_secs(5);

/// How long the writer is away.
const AWAY: Duration = Duration::from_secs(2);

/// An accepted message.
struct Sent {
    id: String,
    content: String,
    /// The status of the recall, if the message was recalled.
    recall: Option<u16>,
}

/// Sends, recalls every third message, reads and looks until `stop`. Every send must be accepted.
fn at_work(user: Caller, peer: Caller, stop: Arc<AtomicBool>) -> JoinHandle<Vec<Sent>> {
    tokio::spawn(async move {
        let mut sent = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let content = format!("from {} number {}", user.id, sent.len());
            let id = user.sent(peer.id.get(), &content).await;
            // With MySQL away a recall may be refused. An answered success must hold.
            let recall = if sent.len() % 3 == 2 { Some(user.recall(&id).await.status) } else { None };
            let read = peer.read(user.id.get(), &id).await.status;
            let page = peer.history(user.id.get(), "limit=3").await;
            assert!(matches!(read, 200 | 404 | 503), "{read}");
            assert!(matches!(page.status, 200 | 503), "{page:?}");
            sent.push(Sent { id, content, recall });
        }
        sent
    })
}

/// How long it takes until rows are written again.
async fn until_rows_are_written(test: &TestApp) -> Duration {
    let (back, before) = (Instant::now(), test.count_rows("1 = 1").await);
    eventually("rows are written again", RECOVERY, async || test.count_rows("1 = 1").await > before).await;
    back.elapsed()
}

async fn set_read_only(administrator: &mut MySqlConnection, on: bool) {
    let sql = if on { "SET GLOBAL read_only = 1" } else { "SET GLOBAL read_only = 0" };
    sqlx::raw_sql(sql).execute(administrator).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_fails_over_costs_no_message_and_no_answer() {
    let stack = Stack::start(StackOptions::temporary()).await.unwrap();
    let url = address_of(&stack, ServerKind::MySql);
    let mut proxy = Proxy::to(&url).await;
    let builder = TestApp::builder().in_process().set("MYSQL_TIMEOUT_MS", "1000");
    let test = builder.mysql_by_way_of(proxy.address()).start_on(&stack).await;
    let mut administrator = stack.mysql_administrator().connect().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let pairs = [(1, 2), (3, 4), (5, 6)];
    let work = pairs.map(|(user, peer)| at_work(test.user(user), test.user(peer), stop.clone()));
    eventually("they are at work", RECOVERY, async || test.count_rows("1 = 1").await > 20).await;

    // For a time the name leads nowhere: the old writer is gone, and the new one is not there yet.
    proxy.cut();
    proxy.close().await;
    let vanished = test.count_rows("1 = 1").await;
    tokio::time::sleep(AWAY).await;
    assert_eq!(test.count_rows("1 = 1").await, vanished, "nothing is written past the name");
    proxy.open().await;
    let after_vanishing = until_rows_are_written(&test).await;

    // The writer has become a reader, and connections still lead to it.
    set_read_only(&mut administrator, true).await;
    let demoted = test.count_rows("1 = 1").await;
    tokio::time::sleep(AWAY).await;
    assert_eq!(test.count_rows("1 = 1").await, demoted, "a reader takes no row");
    set_read_only(&mut administrator, false).await;
    let after_demotion = until_rows_are_written(&test).await;

    stop.store(true, Ordering::Relaxed);
    let mut sent = Vec::new();
    for work in work {
        sent.extend(work.await.unwrap());
    }
    println!(
        "{} messages; rows are written again {after_vanishing:?} after the writer was back, {after_demotion:?} after it \
         was writable",
        sent.len()
    );
    test.drain().await;
    assert!(sent.len() > 100 && sent.iter().any(|sent| sent.recall == Some(200)), "{}", sent.len());
    let mut rows = 0;
    for Sent { id, content, recall } in &sent {
        let row = test.row(id).await;
        rows += i64::from(row.is_some());
        let kept = row.is_some_and(|row| (row.status, row.content.as_str()) == (1, content.as_str()));
        // A message recalled before it is written needs no row. A recall answered 503 may have taken effect.
        match recall {
            None => assert!(kept, "{id} is lost"),
            Some(200) => {
                let words = test.count_rows(&format!("id = {id} AND content <> ''")).await;
                assert_eq!(words, 0, "{id} was taken back");
            }
            Some(status) => assert_eq!(*status, 503, "{id}"),
        }
    }
    assert_eq!(test.count_rows("1 = 1").await, rows, "nothing is doubled");
    assert_eq!(dlq::list(&test.config.kafka, Filter::default()).await.unwrap().len(), 0);
    test.stop().await;
    stack.stop().await.unwrap();
}
