//! A look into the application's Redis, be it one server or a cluster.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, Pipeline, RedisFuture, Value};

/// Where an application's Redis is.
#[derive(Clone)]
pub enum RedisClient {
    /// One server.
    Single(Box<Client>),
    /// Any node of a cluster.
    Cluster(Box<ClusterClient>),
}

impl RedisClient {
    /// For `REDIS_URL` and `REDIS_CLUSTER`.
    ///
    /// # Panics
    /// On a URL that is none.
    pub fn new(url: &str, cluster: bool) -> Self {
        if cluster {
            Self::Cluster(Box::new(ClusterClient::new([url]).expect("a Redis URL")))
        } else {
            Self::Single(Box::new(Client::open(url).expect("a Redis URL")))
        }
    }

    /// A connection of its own.
    pub async fn connect(&self) -> redis::RedisResult<RedisConnection> {
        Ok(match self {
            Self::Single(client) => RedisConnection::Single(client.get_multiplexed_async_connection().await?),
            Self::Cluster(client) => RedisConnection::Cluster(client.get_async_connection().await?),
        })
    }
}

/// A connection that takes the same commands whichever of the two it leads to.
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
