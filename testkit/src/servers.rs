//! Redis, MySQL and Kafka for one test binary, started at the first use. They end with the process, even if it is
//! killed.

use std::sync::atomic::{AtomicU32, Ordering};

use hongyan_stack::{ServerKind, Stack, StackOptions};
use parking_lot::Mutex;
use sqlx::mysql::MySqlConnectOptions;
use tokio::sync::OnceCell;

/// The variable that, set to `cluster`, gives every [`crate::TestApp`] on the shared servers a Redis Cluster in place
/// of a database of one server.
const REDIS: &str = "HONGYAN_TEST_REDIS";

/// See [`stack`].
const MYSQL: &str = "HONGYAN_TEST_MYSQL_URL";

static STACK: OnceCell<Stack> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);
static FREE_CLUSTERS: Mutex<Vec<Stack>> = Mutex::new(Vec::new());

/// The servers that all tests of this binary share. A test that stops or kills a server must start its own [`Stack`].
///
/// `HONGYAN_TEST_MYSQL_URL` names another MySQL to use, so that the tests can run on another version. Its user must
/// be allowed to create databases.
///
/// # Panics
/// If the servers do not start.
pub async fn stack() -> &'static Stack {
    let start = || async {
        let given = std::env::var(MYSQL).map(|url| ("MYSQL_URL".to_owned(), url));
        let options =
            StackOptions::temporary().with_environment(given).expect("HONGYAN_TEST_MYSQL_URL is a URL");
        let stack = Stack::start(options).await.expect("the three servers start");
        eprintln!("servers of this test binary: {}", stack.versions().await.join("; "));
        stack
    };
    STACK.get_or_init(start).await
}

/// The address of one server of a stack: its URL, or Kafka's bootstrap servers.
///
/// # Panics
/// If the stack has no such setting.
pub fn address_of(stack: &Stack, kind: ServerKind) -> String {
    let found = stack.env().into_iter().find(|(name, _)| *name == kind.variable());
    found.expect("a stack names all three servers").1
}

/// The administrator of the shared MySQL, who may create accounts.
///
/// # Panics
/// If the servers do not start.
pub async fn mysql_administrator() -> MySqlConnectOptions {
    match std::env::var(MYSQL) {
        Ok(given) => given.parse().expect("HONGYAN_TEST_MYSQL_URL is a URL"),
        Err(_) => stack().await.mysql_administrator(),
    }
}

/// Options of a stack for one test, which starts the server `own` and shares the other two.
///
/// # Panics
/// If the shared servers do not start.
pub async fn beside_shared(own: ServerKind) -> StackOptions {
    let shared = stack().await.env().into_iter().filter(|(name, _)| *name != own.variable());
    let given = shared.map(|(name, value)| (name.to_owned(), value));
    StackOptions::temporary().with_environment(given).expect("settings of a stack")
}

/// True if tests run on Redis Clusters.
///
/// # Panics
/// If the variable has an unknown value.
pub fn redis_is_cluster() -> bool {
    match std::env::var(REDIS).as_deref() {
        Ok("cluster") => true,
        Ok("single") | Err(_) => false,
        Ok(other) => panic!("{REDIS} must be cluster or single, not {other}"),
    }
}

/// A Redis Cluster of three nodes, with the shared MySQL and Kafka. A cluster has only one database, so each running
/// test needs its own cluster. Dropping it hands the cluster to the next test.
pub struct RedisCluster(Option<Stack>);

impl RedisCluster {
    /// Takes a cluster that no other running test uses.
    ///
    /// # Panics
    /// If the cluster does not start.
    pub async fn take() -> Self {
        let free = FREE_CLUSTERS.lock().pop();
        if free.is_some() {
            return Self(free);
        }
        let options = beside_shared(ServerKind::Redis).await.with_redis_cluster();
        let stack = Stack::start(options).await.expect("a Redis Cluster starts");
        eprintln!("one more cluster: {}", stack.versions().await[0]);
        Self(Some(stack))
    }

    /// The stack of the three servers.
    pub fn stack(&self) -> &Stack {
        self.0.as_ref().expect("only drop takes it")
    }
}

impl Drop for RedisCluster {
    fn drop(&mut self) {
        FREE_CLUSTERS.lock().extend(self.0.take());
    }
}

/// A name for a database, a topic or a group that no other test uses, also not in an earlier run on the same server.
pub fn unique_name() -> String {
    format!("hongyan_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
