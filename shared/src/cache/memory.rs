//! Notices that Redis is another memory than before: it was restarted, or failed over to a replica that lacked the last
//! writes. Lists may have a hole then, and sets lack a member, so all that vouch for being whole go, once (`protocol.md`,
//! "Reads").

use std::sync::atomic::Ordering;

use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo};
use redis::{FromRedisValue, RedisError, Value};

use super::redis::{Step, typed};
use super::{Cache, keys, step};
use crate::clock::TimestampMs;
use crate::error::{Retry, Server, ServerError};

/// How often something is read while the connection breaks under it, before Redis counts as away.
const TRIES: usize = 3;

/// How many keys one SCAN looks at: small enough not to hold Redis up.
const SCAN_COUNT: usize = 1_000;

impl Cache {
    /// Since when Redis remembers every message, ms since 1970 UTC; `now` if it has just begun.
    pub async fn memory_since(&self, now: TimestampMs) -> Result<TimestampMs, ServerError> {
        self.tell_unremembered(now).await?;
        let steps = vec![step!("SET", keys::MEMORY_SINCE, now, "NX"), step!("GET", keys::MEMORY_SINCE)];
        let mut values = self.redis.batch("cache.memory_since", steps).await?;
        Ok(typed::<Option<TimestampMs>>("cache.memory_since", values.swap_remove(1))?.unwrap_or(now))
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
    pub(super) async fn untorn(
        &self,
        action: &'static str,
        steps: Vec<Step>,
    ) -> Result<Vec<Value>, ServerError> {
        for _ in 0..TRIES {
            let breaks = self.redis.breaks();
            self.drop_torn().await?;
            let values = self.redis.batch(action, steps.clone()).await?;
            // A connection that broke on the way was made anew, perhaps to another memory: then this may be torn.
            if self.redis.breaks() == breaks {
                return Ok(values);
            }
        }
        let source = "the connection breaks again and again".into();
        Err(ServerError { server: Server::Redis, action, retry: Retry::Transient, source })
    }

    /// After a break of the connection: if any server's run id has changed since the lists and sets were begun, drops all
    /// that may be torn. Whoever comes while that is being done waits for it: what is about to go must not be read.
    pub(super) async fn drop_torn(&self) -> Result<(), ServerError> {
        let breaks = self.redis.breaks();
        if self.memory_checked.load(Ordering::SeqCst) == breaks {
            return Ok(());
        }
        let _one_at_a_time = self.checking_memory.lock().await;
        if self.memory_checked.load(Ordering::SeqCst) < breaks {
            self.compare_memories().await?;
            self.memory_checked.store(breaks, Ordering::SeqCst);
        }
        Ok(())
    }

    async fn compare_memories(&self) -> Result<(), ServerError> {
        let nodes = self.nodes().await?;
        let mut run_ids: Vec<&str> = nodes.iter().map(|node| node.run_id.as_str()).collect();
        run_ids.sort_unstable();
        let now = run_ids.join(",");
        let before: Option<String> = self.redis.run("cache.run_id", step!("GET", keys::RUN_ID)).await?;
        match before {
            Some(before) if before == now => return Ok(()),
            Some(_) => {}
            // A memory that has just begun: what is in it is from now. Of two who begin it, the first one's word stays.
            None => return self.redis.run("cache.run_id", step!("SET", keys::RUN_ID, &now, "NX")).await,
        }
        let mut dropped = 0;
        for node in &nodes {
            for prefix in keys::VOUCHING_PREFIXES {
                dropped += self.drop_all_of(prefix, node).await?;
            }
        }
        // Only now: whoever dies in between leaves the work to the next.
        self.redis.run::<()>("cache.run_id", step!("SET", keys::RUN_ID, &now)).await?;
        tracing::warn!(
            keys = dropped,
            "cache.memory: Redis was restarted or failed over; dropped its lists and sets, which MySQL refills"
        );
        Ok(())
    }

    async fn drop_all_of(&self, prefix: &str, node: &Node) -> Result<u64, ServerError> {
        let (mut cursor, mut dropped) = (0_u64, 0);
        loop {
            let mut scan = ::redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(SCAN_COUNT);
            let found: (u64, Vec<String>) = match (&node.address, self.redis.cluster()) {
                (Some((host, port)), Some(mut cluster)) => {
                    let to = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
                    let value = cluster.route_command(scan, RoutingInfo::SingleNode(to)).await;
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

    /// The servers that hold keys, with their run ids.
    async fn nodes(&self) -> Result<Vec<Node>, ServerError> {
        let mut info = ::redis::cmd("INFO");
        info.arg("server");
        let Some(mut cluster) = self.redis.cluster() else {
            let info: String = self.redis.run("cache.info", info).await?;
            return Ok(vec![Node { address: None, run_id: run_id(&info) }]);
        };
        let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let answers = cluster.route_command(info, masters).await.map_err(failed)?;
        let answers: Vec<(String, String)> = match answers {
            Value::Map(answers) => answers
                .into_iter()
                .map(|(node, info)| Ok((String::from_redis_value(node)?, String::from_redis_value(info)?)))
                .collect::<Result<_, ::redis::ParsingError>>()
                .map_err(|error| failed(error.into()))?,
            other => FromRedisValue::from_redis_value(other).map_err(|error| failed(error.into()))?,
        };
        let nodes = answers.into_iter().map(|(node, info)| {
            let address =
                node.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
            Node { address, run_id: run_id(&info) }
        });
        Ok(nodes.collect())
    }
}

struct Node {
    /// Where it is, in a cluster.
    address: Option<(String, u16)>,
    run_id: String,
}

fn run_id(info: &str) -> String {
    info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default().trim().to_owned()
}

fn failed(source: RedisError) -> ServerError {
    ServerError {
        server: Server::Redis,
        action: "cache.memory",
        retry: Retry::Transient,
        source: Box::new(source),
    }
}
