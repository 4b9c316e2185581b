//! The parts that a function works with. They are built once per cold start, the same way in Lambda and locally.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Auth;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::config::{Config, ImConfig};
use crate::error::ServerError;
use crate::ids::IdSource;
use crate::push::Push;
use crate::queue::Queue;
use crate::store::{NameLookup, Silence, Store};
use crate::telemetry::metric;

/// How long a clean stop waits for Kafka to acknowledge records that were already produced.
const FLUSH: Duration = Duration::from_secs(5);

/// The parts of the system. Handlers get it by reference; cloning it shares the same connections.
#[derive(Clone)]
pub struct App {
    /// The product rules that an operator may tune (`IM_*`).
    pub rules: Arc<ImConfig>,
    /// The longest that a caller waits for Kafka's acknowledgement once Redis has accepted.
    pub kafka_wait: Duration,
    /// How long the producer keeps trying to deliver a record.
    pub kafka_delivery_timeout: Duration,
    /// The source of the time.
    pub clock: Clock,
    /// The source of message ids.
    pub ids: Arc<IdSource>,
    /// Redis.
    pub cache: Cache,
    /// Kafka.
    pub queue: Queue,
    /// MySQL.
    pub store: Store,
    /// Looks up in MySQL which message a sender's `clientMsgId` stands for.
    pub names: NameLookup,
    /// The silence of MySQL: after it has let a send wait, the next ones do not ask.
    pub mysql_silence: Silence,
    /// Connected clients.
    pub push: Push,
    /// Verifies a caller's token.
    pub auth: Auth,
}

impl App {
    /// Prepares all connections and waits for none: if a store is away, requests fail and the start does not.
    pub fn new(config: &Config, clock: Clock) -> Result<Self, ServerError> {
        let store = Store::new(&config.mysql)?;
        let cache = Cache::new(&config.redis, &config.kafka, &config.im, clock.clone())?
            .with_generation_of(store.clone());
        let mysql_silence = Silence::default();
        Ok(Self {
            rules: Arc::new(config.im.clone()),
            kafka_wait: config.kafka.wait,
            kafka_delivery_timeout: config.kafka.delivery_timeout,
            ids: Arc::new(IdSource::new(cache.clone(), clock.clone(), config.im.worker_lease)),
            queue: Queue::new(&config.kafka)?,
            names: NameLookup::new(store.clone(), config.kafka.wait, mysql_silence.clone()),
            mysql_silence,
            store,
            push: Push::new(&config.push, cache.redis().clone(), clock.clone()),
            auth: Auth::new(&config.auth, clock.clone()),
            cache,
            clock,
        })
    }

    /// Records the gauges that are states of this process: circuit breaker, worker lease, connections, producer queue.
    pub fn observe(&self) {
        let is_open = self.cache.redis().is_open();
        metrics::gauge!(metric::CIRCUIT_BREAKER).set(f64::from(u8::from(is_open)));
        metrics::gauge!(metric::WORKER_LEASE_SECONDS).set(self.ids.lease_left().as_secs_f64());
        let (writer, replica) = self.store.connections();
        for (server, open) in [("writer", Some(writer)), ("replica", replica)] {
            if let Some(open) = open {
                metrics::gauge!(metric::MYSQL_CONNECTIONS, "server" => server).set(f64::from(open));
            }
        }
        metrics::gauge!(metric::PRODUCER_QUEUE).set(f64::from(self.queue.waiting()));
    }

    /// Stops cleanly: Kafka gets the records that are still queued, the worker number is given back, connections are
    /// closed.
    pub async fn shutdown(&self) {
        if let Err(error) = self.queue.flush(FLUSH).await {
            tracing::warn!(%error, "app.shutdown: Kafka did not take everything; the compensator will send it again");
        }
        if let Err(error) = self.ids.give_back().await {
            tracing::warn!(%error, "app.shutdown: the worker number stays leased until its time ends");
        }
        self.store.close().await;
    }
}
