//! A Redis that answers reads and refuses writes counts as away, for every process.

use std::time::{Duration, Instant};

use futures_util::future;
use hongyan_stack::{ServerKind, Stack};
use hongyan_testkit::app::eventually;
use hongyan_testkit::{Caller, TestApp, servers};

use crate::words;

/// Two processes on a Redis for this test alone.
struct Two {
    stack: Stack,
    first: TestApp,
    second: TestApp,
}

impl Two {
    async fn start() -> Self {
        Self::start_with_timeout(Duration::from_secs(1)).await
    }

    /// Starts processes with this `REDIS_TIMEOUT_MS`.
    async fn start_with_timeout(timeout: Duration) -> Self {
        let stack = Stack::start(servers::beside_shared(ServerKind::Redis).await).await.unwrap();
        let first = TestApp::builder()
            .set("REDIS_TIMEOUT_MS", timeout.as_millis().to_string())
            .start_on(&stack)
            .await;
        let second = TestApp::beside(&first).await;
        Self { stack, first, second }
    }

    /// All callers at all processes.
    fn everybody(&self) -> [(Caller, i64); 4] {
        let look = |app: &TestApp, user, peer| (app.user(user), peer);
        [look(&self.first, 1, 2), look(&self.first, 2, 1), look(&self.second, 1, 2), look(&self.second, 2, 1)]
    }

    async fn command(&self, arguments: &[&str]) {
        let mut command = redis::cmd(arguments[0]);
        command.arg(&arguments[1..]).exec_async(&mut self.first.redis().await).await.unwrap();
    }

    async fn stop(self) {
        self.second.stop().await;
        self.first.stop().await;
        self.stack.stop().await.unwrap();
    }
}

/// Commands of Redis, each with its arguments.
type Commands = &'static [&'static [&'static str]];

/// Ways to make Redis refuse writes, each with the commands that end it.
const REFUSALS: [(&str, Commands, Commands); 3] = [
    (
        "NOREPLICAS",
        &[&["CONFIG", "SET", "min-replicas-to-write", "1"]],
        &[&["CONFIG", "SET", "min-replicas-to-write", "0"]],
    ),
    (
        "READONLY",
        &[&["CONFIG", "SET", "replica-serve-stale-data", "yes"], &["REPLICAOF", "127.0.0.1", "1"]],
        &[&["REPLICAOF", "NO", "ONE"]],
    ),
    (
        "OOM",
        &[&["CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "noeviction"]],
        &[&["CONFIG", "SET", "maxmemory", "0"]],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_a_recalled_message_of_a_redis_that_could_not_take_the_recall() {
    let two = Two::start().await;
    for (name, refuse, end) in REFUSALS {
        let id = two.first.user(1).sent(2, "secret").await;
        two.first.drain().await;
        for (reader, peer) in two.everybody() {
            assert_eq!(words(&reader, peer).await, ["secret"], "{name}");
        }
        // Only the recall itself may tell the other process of the recall.
        two.first.hold().await;

        for command in refuse {
            two.command(command).await;
        }
        let recalled = two.first.user(1).recall(&id).await;
        assert_eq!(recalled.status, 200, "{name}: {recalled:?}");
        for (reader, peer) in two.everybody() {
            assert!(words(&reader, peer).await.is_empty(), "{name}: while Redis refuses");
        }
        for command in end {
            two.command(command).await;
        }
        for _ in 0..5 {
            for (reader, peer) in two.everybody() {
                assert!(words(&reader, peer).await.is_empty(), "{name}: after Redis takes writes again");
            }
        }
        two.first.release();
        two.first.drain().await;
        for (reader, peer) in two.everybody() {
            assert!(words(&reader, peer).await.is_empty(), "{name}: after the RECALL event");
        }
    }
    Box::pin(two.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_kafka_has_is_not_denied_by_a_redis_that_refuses() {
    let two = Two::start().await;
    two.first.user(1).sent(2, "first").await;
    two.first.drain().await;
    two.first.hold().await;
    let (_, refuse, end) = REFUSALS[0];
    for command in refuse {
        two.command(command).await;
    }

    let id = two.first.user(1).sent(2, "kept by Kafka").await;

    for app in [&two.second, &two.first] {
        assert_eq!(app.user(1).recall(&id).await.problem(), (503, "unavailable"));
    }
    for command in end {
        two.command(command).await;
    }
    eventually("Redis is asked again, and does not know the message", Duration::from_secs(5), async || {
        let answer = two.second.user(1).recall(&id).await;
        assert_eq!(answer.problem(), (503, "unavailable"), "also by a Redis that takes writes again");
        two.second.app().cache.epoch().await.is_ok()
    })
    .await;
    two.first.release();
    two.first.drain().await;
    assert_eq!(two.second.user(1).recall(&id).await.status, 200);
    Box::pin(two.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_all_writes_is_waited_for_once() {
    // A request that waits for Redis takes this long, which no busy machine reaches by itself.
    const TIMEOUT: Duration = Duration::from_secs(5);
    let two = Two::start_with_timeout(TIMEOUT).await;
    let alice = two.first.user(1);
    alice.sent(2, "before").await;
    two.first.drain().await;
    assert_eq!(words(&alice, 2).await, ["before"]);
    two.command(&["CLIENT", "PAUSE", "60000", "WRITE"]).await;

    let at_once = future::join_all((0..20).map(async |number| {
        let began = Instant::now();
        let status = match number % 2 {
            0 => alice.send(2, "while it waits").await.status,
            _ => alice.history(2, "").await.status,
        };
        (status, began.elapsed())
    }));
    for (status, took) in at_once.await {
        assert!(matches!(status, 200 | 201) && took < 3 * TIMEOUT, "{status} in {took:?}");
    }
    // Redis answers PING all the time. Such an answer must not close the circuit breaker, or each call would wait
    // again.
    let began = Instant::now();
    let (mut late, mut asked) = (0, 0);
    while asked < 40 || began.elapsed() < Duration::from_secs(1) {
        let began = Instant::now();
        let status =
            if asked % 2 == 0 { alice.send(2, "x").await.status } else { alice.history(2, "").await.status };
        assert!(matches!(status, 200 | 201), "{status}");
        late += usize::from(began.elapsed() > TIMEOUT / 2);
        asked += 1;
    }
    assert!(late <= 1, "{late} of {asked} were late");

    two.command(&["CLIENT", "UNPAUSE"]).await;
    let cache = &two.first.app().cache;
    eventually("writes are taken", 3 * TIMEOUT, async || cache.epoch().await.is_ok()).await;
    Box::pin(two.stop()).await;
}

/// A Redis that is full of pending messages.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_lets_the_consumer_persist_and_free() {
    let two = Two::start().await;
    let alice = two.first.user(1);
    two.first.hold().await;
    let (kept, recalled) = (alice.sent(2, "kept").await, alice.sent(2, "recalled").await);
    assert_eq!(alice.recall(&recalled).await.status, 200);
    two.command(&["CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "noeviction"]).await;
    assert_eq!(alice.send(2, "by Kafka alone").await.status, 201);
    assert!(two.first.app().cache.epoch().await.unwrap_err().is_transient(), "it is full");

    two.first.release();
    two.first.drain().await;

    assert_eq!(two.first.detail(&kept).await.unwrap()["persistStatus"], "PERSISTED");
    assert_eq!(two.first.app().cache.pending_count().await.ok(), Some(0));
    assert_eq!(words(&alice, 2).await, ["by Kafka alone", "kept"]);
    two.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    Box::pin(two.stop()).await;
}
