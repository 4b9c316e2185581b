//! Kafka, which carries every change of a conversation in order (`docs/contract.md`, "Kafka").
//!
//! [`Queue`] is the producer of the process. [`client`] has the settings of every Kafka client of this project,
//! [`error`] decides which errors are worth another try, [`batch`] is the answer of a function that consumes.

pub mod batch;
pub mod client;
pub mod dead_letter;
pub mod envelope;
pub mod error;
mod events;
mod producer;
mod progress;
mod refusal;
#[cfg(feature = "kafka-tls")]
mod token;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;

pub use batch::{BatchItemFailure, ItemIdentifier, KafkaBatchResponse};
pub use dead_letter::DeadLetter;
pub use envelope::{KafkaEvent, KafkaRecord};
pub use progress::{Progress, observer};

use crate::config::KafkaConfig;
use crate::error::ServerError;
use crate::event::MessageEvent;
use crate::trace;
use client::ClientEvents;
use error::permanent;
use producer::Producer;

/// The longest wait for [`Queue::ping`].
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest wait for one request of [`Queue::progress`].
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// The producer of this process. Cheap to clone; all clones share its connections.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    config: KafkaConfig,
    events: ClientEvents,
    producer: Producer,
}

impl Queue {
    /// Creates the producer. It connects by itself, now and after each loss of the connection, so a Kafka that is away
    /// is no error here. A setting that librdkafka refuses is an error that names its variable.
    pub fn new(config: &KafkaConfig) -> Result<Self, ServerError> {
        let events = ClientEvents::new(config)?;
        let producer = Producer::new(config, events.clone())?;
        Ok(Self(Arc::new(Inner { config: config.clone(), events, producer })))
    }

    /// The topic of the messages: `KAFKA_TOPIC`.
    pub fn topic(&self) -> &str {
        &self.0.config.topic
    }

    /// Produces `event` to the partition of its conversation, with the trace of the caller as a header, and waits at most `wait` for the acknowledgement of all
    /// in-sync replicas.
    ///
    /// `Ok` means acknowledged. A transient error means that there was no acknowledgement within `wait`: the producer
    /// keeps the record, which may still arrive until `KAFKA_DELIVERY_TIMEOUT_MS` has passed. Only a producer whose
    /// buffer is full does not keep the record; then the error comes at once. A permanent error means that Kafka will
    /// never take the record (it is too large).
    pub async fn send(&self, event: &MessageEvent, wait: Duration) -> Result<(), ServerError> {
        const ACTION: &str = "queue.send";
        let config = &self.0.config;
        let conversation = event.conversation();
        let key = conversation.to_string();
        let value = serde_json::to_vec(event).map_err(|error| permanent(ACTION, error))?;
        let mut record = FutureRecord::to(&config.topic)
            .partition(i32::from(conversation.partition(config.partitions)))
            .key(&key)
            .payload(&value);
        if let Some(trace) = trace::current() {
            let header = trace.to_string();
            let headers = OwnedHeaders::new_with_capacity(1);
            record = record.headers(headers.insert(Header { key: trace::TRACEPARENT, value: Some(&header) }));
        }
        self.0.producer.send(ACTION, record, wait).await
    }

    /// Produces a record that can never be handled to the dead-letter topic, with its key and value, and waits for the
    /// acknowledgement: the consumer may pass the original only then. Waits as long as the producer tries.
    pub async fn dead_letter(&self, letter: DeadLetter) -> Result<(), ServerError> {
        const ACTION: &str = "queue.dead_letter";
        let headers = letter.headers().into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value.as_str()) })
        });
        let mut record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&self.0.config.dead_letter_topic).headers(headers);
        if let Some(key) = &letter.key {
            record = record.key(key);
        }
        if let Some(value) = &letter.value {
            record = record.payload(value);
        }
        let wait = self.0.config.delivery_timeout + Duration::from_secs(1);
        self.0.producer.send(ACTION, record, wait).await
    }

    /// How far the consumer group has come, for each partition in order. The compensator needs it to tell a lost
    /// message from a queued one (`docs/protocol.md`, R17).
    pub async fn progress(&self) -> Result<Vec<Progress>, ServerError> {
        const ACTION: &str = "queue.progress";
        let (config, events) = (self.0.config.clone(), self.0.events.clone());
        tokio::task::spawn_blocking(move || progress::of_group(&config, &events, PROGRESS_TIMEOUT))
            .await
            .map_err(|error| error::transient(ACTION, error))?
            .map_err(|error| self.0.events.explain(ACTION, error))
    }

    /// Asks Kafka for the topic, for at most two seconds. An error means that Kafka is away, has no such topic, or that
    /// the number of partitions is not `KAFKA_PARTITIONS`.
    pub async fn ping(&self) -> Result<(), ServerError> {
        const ACTION: &str = "queue.ping";
        let inner = Arc::clone(&self.0);
        let found = tokio::task::spawn_blocking(move || {
            inner.producer.partitions_of(&inner.config.topic, PING_TIMEOUT)
        })
        .await
        .map_err(|error| error::transient(ACTION, error))?
        .map_err(|error| self.0.events.explain(ACTION, error))?;
        let (topic, wanted) = (self.topic(), self.0.config.partitions.get());
        if found == usize::from(wanted) {
            return Ok(());
        }
        let text = format!("KAFKA_PARTITIONS is {wanted}, but the topic {topic} has {found} partitions");
        Err(error::transient(ACTION, text))
    }

    /// How many records the producer holds because Kafka has not acknowledged them.
    pub fn waiting(&self) -> u32 {
        self.0.producer.waiting()
    }

    /// Waits at most `timeout` until every record of the producer is acknowledged or refused: the last use of the
    /// producer. A transient error means that some records are still on their way and will be lost with the process.
    pub async fn flush(&self, timeout: Duration) -> Result<(), ServerError> {
        const ACTION: &str = "queue.flush";
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || inner.producer.flush(timeout))
            .await
            .map_err(|error| error::transient(ACTION, error))?
            .map_err(|error| self.0.events.explain(ACTION, error))
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("bootstrap_servers", &self.0.config.bootstrap_servers)
            .field("topic", &self.0.config.topic)
            .finish_non_exhaustive()
    }
}
