//! The connection to Redis: one for the whole process, shared by all requests, single server or cluster alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, TlsCertificates, Value};
use secrecy::ExposeSecret;

use super::cluster::Cluster;
use super::scripts::Script;
use super::single::Single;
use crate::config::RedisConfig;
use crate::error::{Retry, Server, ServerError};

/// A multiplexed connection that mends itself. Cheap to clone; opened at the first command.
#[derive(Clone)]
pub struct Redis {
    connection: Connection,
    breaks: Arc<AtomicU64>,
}

#[derive(Clone)]
enum Connection {
    Single(Box<Single>),
    Cluster(Box<Cluster>),
}

/// One command, or one script on one key.
#[derive(Clone)]
pub enum Step {
    /// A plain command.
    Command(Cmd),
    /// A script of [`super::scripts`]: run by its hash, sent whole only to a server that does not know it.
    Script {
        /// Which script.
        script: &'static Script,
        /// `KEYS[1]`.
        key: String,
        /// `ARGV`.
        arguments: Vec<String>,
    },
}

impl From<Cmd> for Step {
    fn from(command: Cmd) -> Self {
        Self::Command(command)
    }
}

impl Step {
    pub(super) fn command(&self, by_hash: bool) -> Cmd {
        match self {
            Self::Command(command) => command.clone(),
            Self::Script { script, key, arguments } => {
                let mut command = ::redis::cmd(if by_hash { "EVALSHA" } else { "EVAL" });
                command.arg(if by_hash { script.hash() } else { script.source() }).arg(1).arg(key);
                for argument in arguments {
                    command.arg(argument);
                }
                command
            }
        }
    }
}

impl Redis {
    /// Prepares a connection; nothing is sent yet. A fault of the URL is permanent and names `REDIS_URL`.
    pub fn new(config: &RedisConfig) -> Result<Self, ServerError> {
        let failed = |source| error("cache.connect (REDIS_URL)", source);
        let url = config.url.expose_secret();
        let authorities = config.tls_authorities.clone().filter(|_| url.starts_with("rediss:"));
        let certificates = authorities.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem) });
        let breaks = Arc::new(AtomicU64::new(1));
        let connection = if config.cluster {
            Cluster::new(url, config.timeout, certificates)
                .map(|cluster| Connection::Cluster(Box::new(cluster)))
        } else {
            Single::new(url, config.timeout, certificates, breaks.clone())
                .map(|single| Connection::Single(Box::new(single)))
        };
        Ok(Self { connection: connection.map_err(failed)?, breaks })
    }

    /// Runs one command or script.
    pub async fn run<T: FromRedisValue>(
        &self,
        action: &'static str,
        step: impl Into<Step>,
    ) -> Result<T, ServerError> {
        let mut values = self.batch(action, vec![step.into()]).await?;
        let value = values.pop().unwrap_or(Value::Nil);
        typed(action, value)
    }

    /// Runs several in one round trip, in this order on a single server; in a cluster each goes to the node of its key,
    /// in no order. The first error fails the whole.
    pub async fn batch<S: Into<Step>>(
        &self,
        action: &'static str,
        steps: Vec<S>,
    ) -> Result<Vec<Value>, ServerError> {
        let steps: Vec<Step> = steps.into_iter().map(Into::into).collect();
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let mut values = self.attempt(&steps, true).await.map_err(|source| error(action, source))?;
        let unknown: Vec<usize> =
            (0..values.len()).filter(|&index| is_unknown_script(&values[index])).collect();
        if !unknown.is_empty() {
            let again: Vec<Step> = unknown.iter().map(|&index| steps[index].clone()).collect();
            let answers = self.attempt(&again, false).await.map_err(|source| error(action, source))?;
            for (index, answer) in unknown.into_iter().zip(answers) {
                values[index] = answer;
            }
        }
        values
            .into_iter()
            .map(|value| value.extract_error().map_err(|source| error(action, source)))
            .collect()
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> Result<(), ServerError> {
        self.run("cache.ping", ::redis::cmd("PING")).await
    }

    /// How often the connection broke, the start counted as the first: after each the server may be another one, or may
    /// have lost its memory.
    pub(super) fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::SeqCst)
    }

    /// Whether commands go to several nodes, in no order.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.connection, Connection::Cluster(_))
    }

    /// The cluster connection, for what concerns each node.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        match &self.connection {
            Connection::Single(_) => None,
            Connection::Cluster(cluster) => Some(cluster),
        }
    }

    /// Sends the steps. A connection that broke (after a pause of the process, say) is found out by using it, so it is
    /// tried a second time; a time-out is not, since the caller has waited enough, and in a cluster the client has tried
    /// again itself.
    async fn attempt(&self, steps: &[Step], by_hash: bool) -> Result<Vec<Value>, RedisError> {
        match self.send(steps, by_hash).await {
            Err(failure) if failure.is_io_error() => {
                self.breaks.fetch_add(1, Ordering::SeqCst);
                if failure.is_timeout() || self.is_cluster() {
                    return Err(failure);
                }
                self.send(steps, by_hash).await
            }
            other => other,
        }
    }

    async fn send(&self, steps: &[Step], by_hash: bool) -> Result<Vec<Value>, RedisError> {
        match &self.connection {
            Connection::Single(single) => single.send(steps, by_hash).await,
            Connection::Cluster(cluster) => cluster.send(steps, by_hash).await,
        }
    }
}

fn is_unknown_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(failure) if failure.kind() == Some(ServerErrorKind::NoScript))
}

/// Reads `value` as `T`.
pub(super) fn typed<T: FromRedisValue>(action: &'static str, value: Value) -> Result<T, ServerError> {
    T::from_redis_value(value).map_err(|source| ServerError {
        server: Server::Redis,
        action,
        retry: Retry::Permanent,
        source: Box::new(source),
    })
}

/// Redis being away, busy, full, failing over or wrongly set up is no fault of what was to be written: only an answer
/// that says the key or the reply is of another kind is permanent.
fn error(action: &'static str, source: RedisError) -> ServerError {
    let retry = match source.kind() {
        ErrorKind::UnexpectedReturnType
        | ErrorKind::InvalidClientConfig
        | ErrorKind::Server(ServerErrorKind::CrossSlot) => Retry::Permanent,
        _ if source.code() == Some("WRONGTYPE") => Retry::Permanent,
        _ => Retry::Transient,
    };
    ServerError { server: Server::Redis, action, retry, source: Box::new(source) }
}
