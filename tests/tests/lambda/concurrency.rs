//! Lambda Managed Instances: one process takes many requests at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hongyan_testkit::lambda::stop_all;
use redis::AsyncCommands as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::{House, send};

const AT_A_TIME: usize = 16;

/// Counts the pushes under way. Answers each push once enough are under way at the same time, or after half a second,
/// because a send waits one second for its push.
#[derive(Default)]
struct Pushes {
    now: AtomicUsize,
    most: AtomicUsize,
    enough: Notify,
}

impl Pushes {
    /// Serves the `@connections` interface, and returns the address.
    async fn serve(self: Arc<Self>, wanted: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let pushes = self.clone();
                tokio::spawn(async move {
                    let mut head = [0; 8_192];
                    // A request is small and comes in one piece. The connection is used again.
                    while stream.read(&mut head).await.is_ok_and(|bytes| bytes > 0) {
                        pushes.hold(wanted).await;
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    }
                });
            }
        });
        format!("http://{address}")
    }

    async fn hold(&self, wanted: usize) {
        let enough = self.enough.notified();
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        if now >= wanted {
            self.enough.notify_waiters();
        } else {
            let _late = tokio::time::timeout(Duration::from_millis(500), enough).await;
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_takes_sixteen_requests_at_a_time_over_the_connections_of_one() {
    let house = House::open().await;
    let mut redis = house.test.redis().await;
    redis.sadd::<_, _, ()>("msg:connections:2", "held").await.unwrap();
    redis.set::<_, _, ()>("msg:connection:held", 2).await.unwrap();
    let (redis, kafka) = (house.port("REDIS_URL"), house.port("KAFKA_BOOTSTRAP_SERVERS"));
    let mut connections = Vec::new();
    for at_a_time in [1, AT_A_TIME] {
        let pushes = Arc::new(Pushes::default());
        let endpoint = pushes.clone().serve(at_a_time).await;
        let settings = house.settings([("PUSH_ENDPOINT", endpoint)]);
        let environment = house.lambda.environment("send", &settings, at_a_time.try_into().unwrap());
        house.sent("the first").await;
        let mut sends = JoinSet::new();
        for number in 0..2 * at_a_time {
            let call = house.lambda.call("send", send(&format!("{at_a_time}: {number}")).to_string());
            sends.spawn(call);
        }
        while let Some(answer) = sends.join_next().await {
            let (status, answer) = answer.unwrap();
            assert_eq!((status, answer["statusCode"].as_u64()), (200, Some(201)), "{answer}");
        }
        assert_eq!(pushes.most.load(Ordering::SeqCst), at_a_time);
        connections.push((environment.connections(redis).len(), environment.connections(kafka).len()));
        stop_all(vec![environment]).await;
    }
    assert_eq!(
        connections[0], connections[1],
        "one producer and one connection to Redis, however many requests"
    );
    house.test.drain().await;
    assert_eq!(
        house.test.count_rows("TRUE").await,
        1 + 2 + 1 + 2 * 16,
        "the first of each, and twice as many as at a time"
    );
    house.close().await;
}
