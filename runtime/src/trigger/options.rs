//! The options of the trigger.

use std::time::Duration;

use hongyan::config::KafkaConfig;
use rdkafka::ClientConfig;

use super::EventSource;

/// The options of the trigger. Topic, group, batch size and batch window come from the settings of Kafka.
#[derive(Debug, Clone)]
pub struct TriggerOptions {
    /// The address of Kafka, the topic, the group, and the size of batches.
    pub kafka: KafkaConfig,
    /// The source that events name.
    pub source: EventSource,
    /// The pause before the first retry of a batch (100 ms). Each further pause is twice as long, with jitter.
    pub first_pause: Duration,
    /// The longest pause between two tries (5 s). Keep it short: after Redis was away, it gets missed updates only
    /// when the waiting records are retried.
    pub longest_pause: Duration,
    /// How long a batch in flight may take to finish when the trigger stops or its partition is taken away (10 s).
    pub stop_timeout: Duration,
    /// How long a member may be silent before Kafka gives its partitions to others (6 s).
    pub session_timeout: Duration,
    /// How long a rebalance waits for members that do not answer (45 s). Longer than [`Self::stop_timeout`] and a
    /// commit take together, and no longer than needed: after a crash Kafka may still list this process's old
    /// membership and wait this long for it, and nothing is consumed meanwhile.
    pub rebalance_timeout: Duration,
}

impl TriggerOptions {
    /// The defaults given at each field.
    pub fn new(kafka: KafkaConfig) -> Self {
        Self {
            source: EventSource::SelfManaged { bootstrap_servers: kafka.bootstrap_servers.clone() },
            kafka,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            stop_timeout: Duration::from_secs(10),
            session_timeout: Duration::from_secs(6),
            rebalance_timeout: Duration::from_secs(45),
        }
    }

    /// Sets the options of the consumer beyond those of the connection.
    pub(super) fn configure(&self, client: &mut ClientConfig) {
        let session_ms = self.session_timeout.as_millis();
        client
            .set("group.id", &self.kafka.group_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            // Partitions that stay with a member are read on while others move.
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session_ms.to_string())
            // Kafka uses this value as the longest rebalance. Between two polls only milliseconds pass.
            .set("max.poll.interval.ms", self.rebalance_timeout.as_millis().to_string())
            .set("heartbeat.interval.ms", (session_ms / 4).max(1).to_string())
            .set("socket.timeout.ms", "10000")
            // A fetch that finds few records waits for more, but not for long: under load each brings many, and an idle
            // topic delays a record by 50 ms at most.
            .set("fetch.min.bytes", "65536")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.error.backoff.ms", "100")
            // How much is fetched ahead for each partition. Little, because a paused partition drops fetched records
            // and fetches them again.
            .set("fetch.message.max.bytes", "262144")
            .set("queued.min.messages", "1000")
            .set("queued.max.messages.kbytes", "4096");
    }
}
