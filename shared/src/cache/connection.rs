//! The connection to Redis, a single server or a cluster: one for the whole process, shared by all requests.

mod breaker;
mod cluster;
mod single;

use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{
    Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, TlsCertificates, Value,
};
use secrecy::ExposeSecret;

use self::breaker::Refusal;
use self::cluster::Cluster;
use self::single::Single;
use super::step::{Answer, Step, is_unknown_script};
use super::{keys, scripts};
use crate::config::RedisConfig;
use crate::error::{Retry, Server, ServerError};

/// A multiplexed connection that reconnects by itself. Cheap to clone; opened at the first command.
#[derive(Clone)]
pub struct Redis {
    connection: Connection,
}

#[derive(Clone)]
enum Connection {
    Single(Box<Single>),
    Cluster(Box<Cluster>),
}

impl Redis {
    /// Prepares a connection; nothing is sent yet. A wrong URL is a permanent error that names `REDIS_URL`.
    pub fn new(config: &RedisConfig) -> Result<Self, ServerError> {
        let failed = |source| error("cache.connect (REDIS_URL)", source);
        let url = config.url.expose_secret();
        let authorities = config.tls_authorities.clone().filter(|_| url.starts_with("rediss:"));
        let certificates = authorities.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem) });
        let connection = if config.cluster {
            Cluster::new(url, config.timeout, certificates)
                .map(|cluster| Connection::Cluster(Box::new(cluster)))
        } else {
            Single::new(url, config.timeout, certificates).map(|single| Connection::Single(Box::new(single)))
        };
        Ok(Self { connection: connection.map_err(failed)? })
    }

    /// Runs one command or script and reads its answer as `T`.
    pub async fn run<T: FromRedisValue>(
        &self,
        action: &'static str,
        step: impl Into<Step>,
    ) -> Result<T, ServerError> {
        let mut values = self.batch(action, vec![step.into()]).await?;
        let value = values.pop().unwrap_or(Value::Nil);
        typed(action, value)
    }

    /// Runs several steps in one round trip. A single server runs them in this order; in a cluster each step goes to
    /// the node of its key, and the nodes keep no order. The first error fails the call.
    pub async fn batch<S: Into<Step>>(
        &self,
        action: &'static str,
        steps: Vec<S>,
    ) -> Result<Vec<Value>, ServerError> {
        self.answers(action, steps, false).await?.into_iter().collect()
    }

    /// As [`Self::batch`], for steps of consumer and compensator that finish pending messages and so free memory. A
    /// full server gets these steps although its circuit breaker is open.
    pub(super) async fn batch_that_frees<S: Into<Step>>(
        &self,
        action: &'static str,
        steps: Vec<S>,
    ) -> Result<Vec<Value>, ServerError> {
        self.answers(action, steps, true).await?.into_iter().collect()
    }

    /// As [`Self::batch`], but an odd key (of a wrong type, or with a value of another form) fails its own step alone.
    /// A transient error (the server is away, or refuses writes) fails the call.
    pub(super) async fn each<S: Into<Step>>(
        &self,
        action: &'static str,
        steps: Vec<S>,
        frees: bool,
    ) -> Result<Vec<Result<Value, ServerError>>, ServerError> {
        let mut answers = self.answers(action, steps, frees).await?;
        let failed = answers.iter().position(|answer| answer.as_ref().is_err_and(ServerError::is_transient));
        if let Some(failed) = failed
            && let Err(error) = answers.swap_remove(failed)
        {
            return Err(error);
        }
        Ok(answers)
    }

    /// Runs the steps and returns each answer. A key of a wrong type is removed, and its step runs again: everything
    /// that this service keeps in Redis can be rebuilt, and the key's own content is lost already.
    async fn answers<S: Into<Step>>(
        &self,
        action: &'static str,
        steps: Vec<S>,
        frees: bool,
    ) -> Result<Vec<Result<Value, ServerError>>, ServerError> {
        let steps: Vec<Step> = steps.into_iter().map(Into::into).collect();
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers = self.once(action, &steps, frees).await?;
        let of_wrong_type: Vec<usize> = (0..answers.len())
            .filter(|&index| answers[index].as_ref().is_err_and(is_wrong_type))
            .filter(|&index| steps[index].key().is_some_and(|key| keys::type_of(&key).is_some()))
            .collect();
        if of_wrong_type.is_empty() {
            return Ok(answers);
        }
        let mut removals = Vec::with_capacity(of_wrong_type.len());
        for &index in &of_wrong_type {
            let key = steps[index].key().unwrap_or_default();
            let wanted = keys::type_of(&key).unwrap_or_default();
            tracing::error!(key, wanted, action, "cache.odd_key: the key is of another type; removed");
            removals.push(scripts::REMOVE_ODD.on(key, vec![wanted.to_owned()]));
        }
        self.once(action, &removals, frees).await?;
        let again: Vec<Step> = of_wrong_type.iter().map(|&index| steps[index].clone()).collect();
        for (index, answer) in of_wrong_type.into_iter().zip(self.once(action, &again, frees).await?) {
            answers[index] = answer;
        }
        Ok(answers)
    }

    /// Runs the steps by their scripts' hashes, then sends the text of every script that the server did not know.
    async fn once(
        &self,
        action: &'static str,
        steps: &[Step],
        frees: bool,
    ) -> Result<Vec<Result<Value, ServerError>>, ServerError> {
        let mut values = self.attempt(steps, true, frees).await.map_err(|source| error(action, source))?;
        let unknown: Vec<usize> =
            (0..values.len()).filter(|&index| values[index].as_ref().is_err_and(is_unknown_script)).collect();
        if !unknown.is_empty() {
            let again: Vec<Step> = unknown.iter().map(|&index| steps[index].clone()).collect();
            let answers = self.attempt(&again, false, frees).await.map_err(|source| error(action, source))?;
            for (index, answer) in unknown.into_iter().zip(answers) {
                values[index] = answer;
            }
        }
        Ok(values.into_iter().map(|value| value.map_err(|source| error(action, source))).collect())
    }

    /// Asks Redis for a sign of life; an error without one.
    pub async fn ping(&self) -> Result<(), ServerError> {
        self.run("cache.ping", redis::cmd("PING")).await
    }

    /// True while the circuit breaker is open. A cluster has none.
    pub(crate) fn is_open(&self) -> bool {
        match &self.connection {
            Connection::Single(single) => single.is_open(),
            Connection::Cluster(_) => false,
        }
    }

    /// True if commands go to several nodes, which keep no order among them.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.connection, Connection::Cluster(_))
    }

    /// Runs one command on every master of a cluster, or on the single server.
    pub(super) async fn ask_masters(&self, command: Cmd) -> RedisResult<Value> {
        match &self.connection {
            Connection::Single(single) => single.send(&[command.into()], true, false).await?.swap_remove(0),
            Connection::Cluster(cluster) => {
                let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                cluster.route(command, masters).await
            }
        }
    }

    /// Sends the steps. A connection that broke meanwhile (while the process was frozen, for example) is noticed only
    /// when it is used, so a second try follows on a new one. After a time-out there is none, since the caller has
    /// waited long enough; nor in a cluster, whose client tries again by itself.
    async fn attempt(&self, steps: &[Step], by_hash: bool, frees: bool) -> Result<Vec<Answer>, RedisError> {
        match self.send(steps, by_hash, frees).await {
            Err(failure) if failure.is_io_error() && !failure.is_timeout() && !self.is_cluster() => {
                self.send(steps, by_hash, frees).await
            }
            answer => answer,
        }
    }

    async fn send(&self, steps: &[Step], by_hash: bool, frees: bool) -> Result<Vec<Answer>, RedisError> {
        match &self.connection {
            Connection::Single(single) => single.send(steps, by_hash, frees).await,
            Connection::Cluster(cluster) => cluster.send(steps, by_hash).await,
        }
    }
}

/// True if a key is odd: of another type than ours (`WRONGTYPE`), or with a value that a script cannot read
/// (`MALFORMED`).
fn is_odd_key(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    match error.code() {
        Some("WRONGTYPE" | "MALFORMED") => true,
        // Redis before 7 wraps the error of a command inside a script.
        Some("ERR") => detail.contains("WRONGTYPE") || detail.contains("MALFORMED"),
        _ => false,
    }
}

/// True if a step failed because its key has another type.
fn is_wrong_type(error: &ServerError) -> bool {
    let source = error.source.downcast_ref::<RedisError>();
    source.is_some_and(|source| {
        source.code() == Some("WRONGTYPE") || source.detail().unwrap_or_default().contains("WRONGTYPE")
    })
}

/// True if Redis has refused a write because `maxmemory` is reached.
pub(super) fn is_full(error: &ServerError) -> bool {
    let source = error.source.downcast_ref::<RedisError>();
    error.server == Server::Redis && source.is_some_and(|source| Refusal::of(source) == Some(Refusal::Full))
}

/// Reads `value` as `T`. A value of another kind is a permanent error.
pub(crate) fn typed<T: FromRedisValue>(action: &'static str, value: Value) -> Result<T, ServerError> {
    T::from_redis_value(value).map_err(|source| ServerError {
        server: Server::Redis,
        action,
        retry: Retry::Permanent,
        source: Box::new(source),
    })
}

/// Adds to an error whether trying again can help. Permanent is only an odd key, a reply of another kind, or a wrong
/// setting. A Redis that is away, busy, full or failing over is no fault of the value that was to be written.
fn error(action: &'static str, source: RedisError) -> ServerError {
    let retry = match source.kind() {
        ErrorKind::UnexpectedReturnType
        | ErrorKind::InvalidClientConfig
        | ErrorKind::Server(ServerErrorKind::CrossSlot) => Retry::Permanent,
        _ if is_odd_key(&source) => Retry::Permanent,
        _ => Retry::Transient,
    };
    ServerError { server: Server::Redis, action, retry, source: Box::new(source) }
}

/// Ignores the refusal of a full Redis. For writes of data that MySQL has too: the work goes on without the copy.
pub(super) fn unless_full<T>(given: Result<T, ServerError>) -> Result<(), ServerError> {
    match given {
        Err(error) if is_full(&error) => {
            tracing::debug!(%error, "cache: Redis is full and takes no copy; MySQL answers instead");
            Ok(())
        }
        given => given.map(drop),
    }
}

pub(super) fn unexpected_answer(action: &'static str, answer: &[String]) -> ServerError {
    let source = format!("the script answered {answer:?}").into();
    ServerError { server: Server::Redis, action, retry: Retry::Permanent, source }
}
