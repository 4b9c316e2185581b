//! Redis: the recent messages and the decisions on them (`docs/contract.md`, "Keys").
//!
//! Every command touches one key, so everything works in Redis Cluster too. Every command may be repeated, so a broken
//! connection is answered by one more try. Redis decides only in Lua scripts on the single key `msg:detail:{id}`
//! (`docs/protocol.md`, R1).
//!
//! There is one file for each thing that is done: [`accept`] a send, [`claim`] a name, [`recall`], [`persist`],
//! [`settle`], [`compensate`], read a [`page`], note a [`deletion`] or a [`clearing`]. Below these lie the [`connection`], the [`epoch`]
//! and the names of the [`keys`].

pub mod accept;
mod blocks;
pub mod claim;
pub mod clearing;
pub mod compensate;
pub mod connection;
pub mod deletion;
pub mod detail;
pub mod epoch;
pub mod generation;
mod in_epoch;
mod index;
pub mod keys;
pub mod page;
pub mod persist;
mod rate;
pub mod recall;
mod refill;
pub mod scripts;
pub mod settle;
mod shared_reads;
pub(crate) mod step;
mod talks;
mod unread;

use std::num::NonZeroU16;
use std::sync::Arc;

use parking_lot::Mutex;

use self::connection::Redis;
use self::generation::{Generation, Reported};
use self::shared_reads::SharedReads;
use self::step::Step;
use crate::clock::{Clock, TimestampMs};
use crate::config::{ImConfig, KafkaConfig, RedisConfig};
use crate::error::ServerError;
use crate::id::ConversationId;

/// The operations on Redis. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Cache {
    redis: Redis,
    partitions: NonZeroU16,
    conversation_size: usize,
    expiry_ms: u64,
    /// Messages sent up to this time (ms since 1970 UTC) may have been accepted by Kafka alone.
    kafka_only_until: Arc<Mutex<TimestampMs>>,
    /// How much of that this process has reported to MySQL.
    reported: Arc<tokio::sync::Mutex<Reported>>,
    generation: Generation,
    shared_reads: Arc<SharedReads>,
    clock: Clock,
}

impl Cache {
    /// Prepares the connection; nothing is sent yet.
    pub fn new(
        redis: &RedisConfig,
        kafka: &KafkaConfig,
        im: &ImConfig,
        clock: Clock,
    ) -> Result<Self, ServerError> {
        Ok(Self {
            redis: Redis::new(redis)?,
            partitions: kafka.partitions,
            conversation_size: im.conversation_cache_size,
            expiry_ms: u64::try_from(im.cache_expiry.as_millis()).unwrap_or(u64::MAX),
            kafka_only_until: Arc::default(),
            reported: Arc::default(),
            generation: Generation::new(clock.clone()),
            shared_reads: Arc::default(),
            clock,
        })
    }

    /// The connection itself, for modules with keys of their own (push, worker numbers).
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// Asks Redis for a sign of life; an error without one.
    pub async fn ping(&self) -> Result<(), ServerError> {
        self.redis.ping().await
    }

    /// How many shards the pending set has: one for each partition of the topic.
    pub fn partitions(&self) -> u16 {
        self.partitions.get()
    }

    /// The key of the pending set's shard for this conversation: the shard's number is that of the Kafka partition.
    fn shard(&self, conversation: ConversationId) -> String {
        keys::pending(conversation.partition(self.partitions))
    }

    /// Runs `first`, then `rest`. A single server runs both in one round trip, since a pipeline keeps its order; a
    /// cluster needs two.
    async fn in_order(
        &self,
        action: &'static str,
        first: Vec<Step>,
        rest: Vec<Step>,
    ) -> Result<Vec<redis::Value>, ServerError> {
        if self.redis.is_cluster() {
            let mut values = self.redis.batch(action, first).await?;
            values.extend(self.redis.batch(action, rest).await?);
            Ok(values)
        } else {
            self.redis.batch(action, [first, rest].concat()).await
        }
    }
}
