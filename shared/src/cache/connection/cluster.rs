//! The connection to a Redis Cluster.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use parking_lot::Mutex;
use redis::aio::ConnectionLike as _;
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::RoutingInfo;
use redis::{Cmd, RedisResult, TlsCertificates, Value};

use crate::cache::step::{Answer, Step, is_unknown_script};

/// How many commands of one batch are under way at the same time; each goes to the node of its key.
const FAN_OUT: usize = 128;

/// How many times the client tries a command again, at another node or on a new connection.
const RETRIES: u32 = 3;

/// The longest pause before such a try, ms. The client's own default starts at 1.3 s, longer than one dead node may
/// delay a send.
const LONGEST_PAUSE_MS: u64 = 50;

/// How many PINGs a connection gets after a time-out before it is given up: a single node may just be frozen.
const PROBES: u32 = 3;

/// A connection to all nodes. It follows moved slots and nodes by itself, and is replaced if it stops answering. Cheap
/// to clone.
#[derive(Clone)]
pub(super) struct Cluster {
    client: ClusterClient,
    /// `REDIS_TIMEOUT_MS`: the longest that one batch takes.
    timeout: Duration,
    current: Arc<Mutex<Current>>,
}

struct Current {
    connection: ClusterConnection,
    /// Counts the connections: how many came before this one.
    number: u64,
}

impl Cluster {
    /// Prepares a connection to the cluster that the node at `url` belongs to; nothing is sent yet.
    pub(super) fn new(
        url: &str,
        timeout: Duration,
        certificates: Option<TlsCertificates>,
    ) -> RedisResult<Self> {
        let mut builder =
            ClusterClient::builder([url]).retries(RETRIES).min_retry_wait(1).max_retry_wait(LONGEST_PAUSE_MS);
        if let Some(certificates) = certificates {
            builder = builder.certs(certificates);
        }
        let client = builder.build()?;
        let connection = connect(&client, timeout);
        Ok(Self { client, timeout, current: Arc::new(Mutex::new(Current { connection, number: 0 })) })
    }

    /// Runs each step on the node of its key; the nodes keep no order. Returns when all steps are done, or with a
    /// time-out error.
    pub(super) async fn send(&self, steps: &[Step], by_hash: bool) -> RedisResult<Vec<Answer>> {
        self.within_limit(async |connection| {
            let mut values = Vec::with_capacity(steps.len());
            for chunk in steps.chunks(FAN_OUT) {
                let sent = chunk.iter().map(|step| send_one(connection.clone(), step, by_hash));
                values.extend(future::join_all(sent).await);
            }
            Ok(values)
        })
        .await
    }

    /// Runs one command on the nodes that `routing` names.
    pub(super) async fn route(&self, command: Cmd, routing: RoutingInfo) -> RedisResult<Value> {
        self.within_limit(async |mut connection| connection.route_command(command, routing).await).await
    }

    /// Ends `work` after `REDIS_TIMEOUT_MS`. The client's own time-outs count each try and each connection separately.
    /// Also, redis-rs 1.8.1 may stop answering for good if a node goes away while slots are refreshed
    /// (`docs/decisions/0020-redis-client.md`).
    async fn within_limit<T>(
        &self,
        work: impl AsyncFnOnce(ClusterConnection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let (connection, number) = {
            let current = self.current.lock();
            (current.connection.clone(), current.number)
        };
        if let Ok(done) = tokio::time::timeout(self.timeout, work(connection.clone())).await {
            return done;
        }
        tokio::spawn(self.clone().replace_if_dead(connection, number));
        Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into())
    }

    async fn replace_if_dead(self, mut connection: ClusterConnection, number: u64) {
        for _ in 0..PROBES {
            if self.current.lock().number != number {
                return;
            }
            let probe = redis::cmd("PING");
            // Any answer, an error too, shows that the connection works.
            if tokio::time::timeout(self.timeout / PROBES, connection.req_packed_command(&probe))
                .await
                .is_ok()
            {
                return;
            }
        }
        let mut current = self.current.lock();
        if current.number == number {
            *current = Current { connection: connect(&self.client, self.timeout), number: number + 1 };
            tracing::warn!(
                "cache.connection: the client of the Redis Cluster stopped answering; replaced by a new one"
            );
        }
    }
}

fn connect(client: &ClusterClient, timeout: Duration) -> ClusterConnection {
    let config = ClusterConfig::new().set_connection_timeout(timeout).set_response_timeout(timeout);
    client.get_pending_async_connection_with_config(config)
}

/// Runs one step. A node that does not know the script gets its text.
async fn send_one(mut connection: ClusterConnection, step: &Step, by_hash: bool) -> RedisResult<Value> {
    // The client returns a refusal as an error or as a value.
    let answer = connection.req_packed_command(&step.command(by_hash)).await;
    match answer.and_then(Value::extract_error) {
        Err(refusal) if is_unknown_script(&refusal) => {
            connection.req_packed_command(&step.command(false)).await.and_then(Value::extract_error)
        }
        answer => answer,
    }
}
