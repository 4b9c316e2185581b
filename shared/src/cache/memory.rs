//! Notices that a server of Redis has another memory than before: it was restarted, or failed over to a replica that
//! lacked the last writes. Lists may have a hole then, and sets lack a member, so all that vouch for being whole go, once
//! (`protocol.md`, "Reads").
//!
//! A memory is known by what INFO says of it (`read_with_identity.lua`). Those that lists and sets may be from are the
//! members of `msg:memories`. On a single server a memory can only change while the connection is broken, so it is looked
//! at after each break. In a cluster the client mends its connections by itself and says nothing, so there each read of
//! what vouches brings the identity of the memory that it is from, in the same round trip.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, FromRedisValue, RedisError, Value};

use super::redis::{Step, typed};
use super::{Cache, keys, scripts, step};
use crate::clock::TimestampMs;
use crate::error::{Retry, Server, ServerError};

/// How often something is read while the connection breaks or the memory changes under it, before Redis counts as away.
const TRIES: usize = 3;

/// How many keys one SCAN looks at: small enough not to hold Redis up.
const SCAN_COUNT: usize = 1_000;

/// Which memories this process knows to be those of `msg:memories`. All clones of a cache share it.
#[derive(Clone, Default)]
pub(super) struct Memories {
    known: Arc<Mutex<HashSet<String>>>,
    /// Held while they are compared, so that only one request does.
    comparing: Arc<tokio::sync::Mutex<()>>,
}

impl Memories {
    fn has_all(&self, identities: &[String]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        identities.iter().all(|identity| known.contains(identity))
    }

    fn learn(&self, identities: HashSet<String>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = identities;
    }
}

/// One read of a key that vouches for being whole.
#[derive(Clone)]
pub(super) struct Read {
    command: &'static str,
    key: String,
    arguments: Vec<String>,
}

impl Read {
    pub(super) fn new(command: &'static str, key: String) -> Self {
        Self { command, key, arguments: Vec::new() }
    }

    pub(super) fn arg(mut self, argument: i64) -> Self {
        self.arguments.push(argument.to_string());
        self
    }

    fn plain(&self) -> Step {
        let mut command = ::redis::cmd(self.command);
        command.arg(&self.key).arg(&self.arguments);
        Step::Command(command)
    }

    fn with_identity(&self) -> Step {
        let arguments = [self.command.to_owned()].into_iter().chain(self.arguments.iter().cloned());
        scripts::READ_WITH_IDENTITY.on(self.key.clone(), arguments.collect())
    }
}

impl Cache {
    /// Since when Redis remembers every message, ms since 1970 UTC; `now` if it has just begun.
    pub async fn memory_since(&self, now: TimestampMs) -> Result<TimestampMs, ServerError> {
        if self.redis.is_cluster() {
            self.compare_memories().await?;
        } else {
            self.drop_torn().await?;
        }
        self.tell_unremembered(now).await?;
        let since = self.redis.run("cache.memory_since", step!("GET", keys::MEMORY_SINCE)).await?;
        if let Some(since) = since {
            return Ok(since);
        }
        // Emptied while it ran. Of two who notice, the first one's word stays.
        self.redis.run::<()>("cache.memory_since", step!("SET", keys::MEMORY_SINCE, now, "NX")).await?;
        Ok(now)
    }

    /// Notes that a message was accepted by Kafka alone: Redis does not know it, though it exists.
    pub fn note_unremembered(&self) {
        self.unremembered.store(true, Ordering::SeqCst);
    }

    /// Once Redis answers again, it is told that it remembers everything only from now on.
    pub(super) async fn tell_unremembered(&self, now: TimestampMs) -> Result<(), ServerError> {
        if !self.unremembered.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.redis.run::<()>("cache.memory_since", step!("SET", keys::MEMORY_SINCE, now)).await?;
        self.unremembered.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Reads, in one round trip, what vouches for being whole. What another memory of Redis left behind is dropped first.
    /// As many values as `reads`.
    pub(super) async fn untorn(
        &self,
        action: &'static str,
        reads: &[Read],
    ) -> Result<Vec<Value>, ServerError> {
        for _ in 0..TRIES {
            if self.redis.is_cluster() {
                let answers =
                    self.redis.batch(action, reads.iter().map(Read::with_identity).collect()).await?;
                let answers: Vec<(String, Value)> =
                    answers.into_iter().map(|answer| typed(action, answer)).collect::<Result<_, _>>()?;
                let (identities, values): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
                if self.memories.has_all(&identities) || !self.drop_if_unknown(&identities).await? {
                    return Ok(values);
                }
            } else {
                let breaks = self.redis.breaks();
                self.drop_torn().await?;
                let values = self.redis.batch(action, reads.iter().map(Read::plain).collect()).await?;
                // A connection that broke on the way was made anew, perhaps to another memory: then this may be torn.
                if self.redis.breaks() == breaks {
                    return Ok(values);
                }
            }
        }
        let source = "the connection breaks again and again".into();
        Err(ServerError { server: Server::Redis, action, retry: Retry::Transient, source })
    }

    /// The same for one read.
    pub(super) async fn untorn_one<T: FromRedisValue>(
        &self,
        action: &'static str,
        read: Read,
    ) -> Result<T, ServerError> {
        let value = self.untorn(action, &[read]).await?.pop().unwrap_or(Value::Nil);
        typed(action, value)
    }

    /// On a single server, after a break of the connection: drops all that may be torn if the server's memory is another
    /// one. Whoever comes while that is being done waits for it: what is about to go must not be read. In a cluster it is
    /// done by those who read, see [`Self::untorn`].
    pub(super) async fn drop_torn(&self) -> Result<(), ServerError> {
        let breaks = self.redis.breaks();
        if self.redis.is_cluster() || self.memory_checked.load(Ordering::SeqCst) == breaks {
            return Ok(());
        }
        let _one_at_a_time = self.memories.comparing.lock().await;
        if self.memory_checked.load(Ordering::SeqCst) < breaks {
            self.drop_if_any_is_unknown().await?;
            self.memory_checked.store(breaks, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Whether any of these memories was unknown to `msg:memories`, so that all that may be torn was dropped.
    async fn drop_if_unknown(&self, identities: &[String]) -> Result<bool, ServerError> {
        let _one_at_a_time = self.memories.comparing.lock().await;
        // Somebody else may have compared them while this one waited: then what was read may have gone since.
        if self.memories.has_all(identities) {
            return Ok(true);
        }
        let noted: HashSet<String> =
            self.redis.run("cache.memories", step!("SMEMBERS", keys::MEMORIES)).await?;
        if identities.iter().all(|identity| noted.contains(identity)) {
            self.memories.learn(noted);
            return Ok(false);
        }
        self.drop_if_any_is_unknown().await
    }

    async fn compare_memories(&self) -> Result<(), ServerError> {
        let _one_at_a_time = self.memories.comparing.lock().await;
        self.drop_if_any_is_unknown().await.map(drop)
    }

    /// Looks at every server: if the memory of one is unknown, what vouches for being whole is dropped on all of them,
    /// since a mark may vouch for a set of another server.
    async fn drop_if_any_is_unknown(&self) -> Result<bool, ServerError> {
        let nodes = self.nodes().await?;
        let noted: HashSet<String> =
            self.redis.run("cache.memories", step!("SMEMBERS", keys::MEMORIES)).await?;
        let present: HashSet<String> = nodes.iter().map(|node| node.identity.clone()).collect();
        if present.is_subset(&noted) {
            self.memories.learn(present);
            return Ok(false);
        }
        // It may lack what was written last, so it remembers everything only from now on.
        let now = self.clock.now_ms();
        self.redis.run::<()>("cache.memory_since", step!("SET", keys::MEMORY_SINCE, now)).await?;
        let mut dropped = 0;
        for node in &nodes {
            for prefix in keys::VOUCHING_PREFIXES {
                dropped += self.drop_all_of(prefix, node).await?;
            }
        }
        // Only now: whoever dies in between leaves the work to the next.
        self.redis.run::<i64>("cache.memories", step!("SADD", keys::MEMORIES, &present)).await?;
        let gone: Vec<&String> = noted.difference(&present).collect();
        if !gone.is_empty() {
            self.redis.run::<i64>("cache.memories", step!("SREM", keys::MEMORIES, gone)).await?;
        }
        self.memories.learn(present);
        if !noted.is_empty() {
            tracing::warn!(
                keys = dropped,
                "cache.memory: Redis was restarted or failed over; dropped its lists and sets, which MySQL refills"
            );
        }
        Ok(true)
    }

    async fn drop_all_of(&self, prefix: &str, node: &Node) -> Result<u64, ServerError> {
        let (mut cursor, mut dropped) = (0_u64, 0);
        loop {
            let mut scan = ::redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(SCAN_COUNT);
            let found: (u64, Vec<String>) = match (&node.address, self.redis.cluster()) {
                (Some((host, port)), Some(cluster)) => {
                    let to = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
                    let value = cluster.route(scan, RoutingInfo::SingleNode(to)).await;
                    value.and_then(|value| Ok(FromRedisValue::from_redis_value(value)?)).map_err(failed)?
                }
                _ => self.redis.run("cache.scan", scan).await?,
            };
            dropped += found.1.len() as u64;
            let unlinks = found.1.into_iter().map(|key| step!("UNLINK", key)).collect();
            self.redis.batch("cache.drop_torn", unlinks).await?;
            cursor = found.0;
            if cursor == 0 {
                return Ok(dropped);
            }
        }
    }

    /// The servers that hold keys, with the identities of their memories.
    async fn nodes(&self) -> Result<Vec<Node>, ServerError> {
        let Some(cluster) = self.redis.cluster() else {
            let (identity, _): (String, Value) = self.redis.run("cache.identity", identity_command()).await?;
            return Ok(vec![Node { address: None, identity }]);
        };
        let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let answers = cluster.route(identity_command(), masters).await.map_err(failed)?;
        let answers: HashMap<String, (String, Value)> =
            FromRedisValue::from_redis_value(answers).map_err(|error| failed(RedisError::from(error)))?;
        answers
            .into_iter()
            .map(|(node, (identity, _))| {
                let address = node
                    .rsplit_once(':')
                    .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
                match address {
                    Some(address) => Ok(Node { address: Some(address), identity }),
                    None => Err(failed(format!("a node of the cluster is called {node:?}"))),
                }
            })
            .collect()
    }
}

/// A server that holds keys.
struct Node {
    /// Where it is, in a cluster.
    address: Option<(String, u16)>,
    identity: String,
}

/// Whole, since any server may be asked that does not know the script.
fn identity_command() -> Cmd {
    let mut command = ::redis::cmd("EVAL");
    command.arg(scripts::READ_WITH_IDENTITY.source()).arg(0);
    command
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ServerError {
    ServerError {
        server: Server::Redis,
        action: "cache.memory",
        retry: Retry::Transient,
        source: source.into(),
    }
}
