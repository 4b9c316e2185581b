//! Access to the application's Redis for tests, for one server or a cluster.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, Pipeline, RedisFuture, Value};

/// The address of an application's Redis.
#[derive(Clone)]
pub enum RedisClient {
    /// One server.
    Single(Box<Client>),
    /// Any node of a cluster.
    Cluster(Box<ClusterClient>),
}

impl RedisClient {
    /// The client for `REDIS_URL` and `REDIS_CLUSTER`.
    ///
    /// # Panics
    /// If the URL is invalid.
    pub fn new(url: &str, cluster: bool) -> Self {
        if cluster {
            Self::Cluster(Box::new(ClusterClient::new([url]).expect("a Redis URL")))
        } else {
            Self::Single(Box::new(Client::open(url).expect("a Redis URL")))
        }
    }

    /// Opens a connection.
    pub async fn connect(&self) -> redis::RedisResult<RedisConnection> {
        Ok(match self {
            Self::Single(client) => RedisConnection::Single(client.get_multiplexed_async_connection().await?),
            Self::Cluster(client) => RedisConnection::Cluster(client.get_async_connection().await?),
        })
    }
}

/// A connection that takes the same commands for one server and for a cluster.
#[derive(Clone)]
pub enum RedisConnection {
    /// To one server.
    Single(MultiplexedConnection),
    /// To all nodes of a cluster.
    Cluster(ClusterConnection),
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}
