//! The producer: idempotent, bounded in memory, replaced if it breaks for good. One for each process.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::ToBytes;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::client::{ClientEvents, client_config, refused};
use super::error::{permanent, transient};
use crate::config::KafkaConfig;
use crate::error::ServerError;

/// The most bytes of a record. A dead letter may be a little larger than its record, so this limit is above the
/// broker's, which decides.
const MAX_RECORD_BYTES: &str = "4194304";

pub(super) struct Producer {
    config: ClientConfig,
    events: ClientEvents,
    current: RwLock<Arc<FutureProducer<ClientEvents>>>,
}

impl Producer {
    pub(super) fn new(config: &KafkaConfig, events: ClientEvents) -> Result<Self, ServerError> {
        if config.linger >= config.delivery_timeout {
            return Err(permanent(
                "queue.connect",
                "KAFKA_LINGER_MS must be below KAFKA_DELIVERY_TIMEOUT_MS",
            ));
        }
        let mut client = client_config(config);
        client
            .set("acks", "all")
            // Retries go on until message.timeout.ms has passed. They neither double nor reorder records.
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", config.delivery_timeout.as_millis().to_string())
            .set("linger.ms", config.linger.as_millis().to_string())
            .set("compression.type", &config.compression)
            // The most records that wait while Kafka is away. A full queue refuses a send at once.
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "65536")
            .set("message.max.bytes", MAX_RECORD_BYTES)
            // A dead connection is noticed, and its batch sent on a new one, well within the delivery time-out.
            .set("socket.timeout.ms", "5000")
            .set("retry.backoff.ms", "50");
        let producer = client.create_with_context(events.clone()).map_err(refused)?;
        Ok(Self { config: client, events, current: RwLock::new(Arc::new(producer)) })
    }

    /// Gives the record to the producer and waits at most `wait` for its delivery report.
    pub(super) async fn send<K, P>(
        &self,
        action: &'static str,
        record: FutureRecord<'_, K, P>,
        wait: Duration,
    ) -> Result<(), ServerError>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        let topic = record.topic;
        let report = self.hand_over(record).map_err(|error| self.refused(action, topic, error))?;
        match tokio::time::timeout(wait, report).await {
            Ok(Ok(Ok(_delivery))) => {
                self.events.answered();
                Ok(())
            }
            Ok(Ok(Err((error, _record)))) => Err(self.refused(action, topic, error)),
            // The producer broke and was replaced meanwhile.
            Ok(Err(_dropped)) => {
                Err(transient(action, "the producer was closed before the record was acknowledged"))
            }
            Err(_elapsed) => Err(self.events.explain_silence(action, wait)),
        }
    }

    /// The error of a record that was not taken.
    fn refused(&self, action: &'static str, topic: &str, error: KafkaError) -> ServerError {
        let code = error.rdkafka_error_code();
        if matches!(
            code,
            Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopicOrPartition)
        ) {
            self.events.no_such_partition(topic);
        }
        self.events.explain(action, error)
    }

    /// Queues the record. If the producer broke for good, the record is queued on its replacement.
    fn hand_over<K, P>(
        &self,
        record: FutureRecord<'_, K, P>,
    ) -> KafkaResult<rdkafka::producer::future_producer::DeliveryFuture>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        let producer = self.current();
        match producer.send_result(record) {
            Ok(report) => Ok(report),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::Fatal), record)) => {
                let producer = self.replace(&producer)?;
                producer.send_result(record).map_err(|(error, _record)| error)
            }
            Err((error, _record)) => Err(error),
        }
    }

    /// Replaces a producer that broke for good: an idempotent producer does when the broker has forgotten its sequence
    /// numbers and they cannot be repaired (the broker lost its data, for example).
    fn replace(
        &self,
        broken: &Arc<FutureProducer<ClientEvents>>,
    ) -> KafkaResult<Arc<FutureProducer<ClientEvents>>> {
        let mut current = self.current.write();
        if !Arc::ptr_eq(&current, broken) {
            return Ok(Arc::clone(&current));
        }
        let fresh = Arc::new(self.config.create_with_context(self.events.clone())?);
        let old = std::mem::replace(&mut *current, Arc::clone(&fresh));
        drop(current);
        tracing::error!(
            server = "kafka",
            reason = old.client().fatal_error().map(|(_, reason)| reason),
            "the producer broke and was replaced; its unacknowledged records are left to the compensator"
        );
        // Closing the old producer waits for its threads.
        std::thread::spawn(move || drop(old));
        Ok(fresh)
    }

    /// The number of the topic's partitions; an error if there is no such topic. Blocks at most `timeout`.
    pub(super) fn partitions_of(&self, topic: &str, timeout: Duration) -> KafkaResult<usize> {
        let metadata = self.current().client().fetch_metadata(Some(topic), timeout)?;
        self.events.answered();
        match metadata.topics().iter().find_map(rdkafka::metadata::MetadataTopic::error) {
            Some(error) => Err(KafkaError::MetadataFetch(error.into())),
            None => Ok(metadata.topics().iter().map(|topic| topic.partitions().len()).sum()),
        }
    }

    /// How many records Kafka has not acknowledged yet.
    pub(super) fn waiting(&self) -> u32 {
        u32::try_from(self.current().in_flight_count()).unwrap_or_default()
    }

    /// Waits until no record is on its way. Blocks at most `timeout`.
    pub(super) fn flush(&self, timeout: Duration) -> KafkaResult<()> {
        self.current().flush(timeout)
    }

    fn current(&self) -> Arc<FutureProducer<ClientEvents>> {
        Arc::clone(&self.current.read())
    }
}
