//! Redis, MySQL and Kafka for one test binary, started at the first use. They end with the process, even if it is killed.

use std::sync::atomic::{AtomicU32, Ordering};

use hongyan_local::stack::{Stack, StackOptions};
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// The servers that all tests of this binary share. A test that stops or kills one starts a [`Stack`] of its own.
///
/// `HONGYAN_TEST_MYSQL_URL` names a MySQL to use instead of one of its own, to run the tests on another version; its user
/// must be able to make databases.
///
/// # Panics
/// If they do not start: without them there is nothing to test.
pub async fn stack() -> &'static Stack {
    let start = || async {
        let given = std::env::var("HONGYAN_TEST_MYSQL_URL").map(|url| ("MYSQL_URL".to_owned(), url));
        let options =
            StackOptions::temporary().with_environment(given).expect("HONGYAN_TEST_MYSQL_URL is a URL");
        let stack = Stack::start(options).await.expect("the three servers start");
        eprintln!("servers of this test binary: {}", stack.versions().await.join("; "));
        stack
    };
    STACK.get_or_init(start).await
}

/// A name that no other test has, also not one of an earlier run on the same server: for a database, a topic, a group.
pub fn unique_name() -> String {
    format!("hongyan_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
