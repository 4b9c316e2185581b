//! How the trigger works.

use std::time::Duration;

use hongyan::config::KafkaConfig;
use rdkafka::ClientConfig;

use super::EventSource;

/// How the trigger works. Topic, group, batch size and batch window are the settings of Kafka.
#[derive(Debug, Clone)]
pub struct TriggerOptions {
    /// Where Kafka is, what to read, as which group, in batches of which size.
    pub kafka: KafkaConfig,
    /// What the events say they come from.
    pub source: EventSource,
    /// The pause before the first retry of a batch (100 ms); each further one is twice as long, with jitter.
    pub first_pause: Duration,
    /// The longest pause between two tries (5 s): what Redis was not told of while it was away, it learns from the records
    /// that wait.
    pub longest_pause: Duration,
    /// How long a batch in flight may take to finish when the trigger is stopped or its partition is taken away (10 s).
    pub stop_timeout: Duration,
    /// After how long without a sign of life Kafka gives a member's partitions to others (6 s).
    pub session_timeout: Duration,
    /// How long a rebalance waits for members that do not answer (45 s): longer than [`Self::stop_timeout`] and a commit
    /// take, and no longer. A Kafka that was killed may come back with a member that this process was before its session
    /// ended, and for so long nobody reads.
    pub rebalance_timeout: Duration,
}

impl TriggerOptions {
    /// The defaults above.
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

    /// Fills in what the consumer needs beyond how to connect.
    pub(super) fn configure(&self, client: &mut ClientConfig) {
        let session_ms = self.session_timeout.as_millis();
        client
            .set("group.id", &self.kafka.group_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            // Partitions that stay with a member go on while others move.
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session_ms.to_string())
            // Kafka takes this for the longest rebalance; between two polls there are some ms only.
            .set("max.poll.interval.ms", self.rebalance_timeout.as_millis().to_string())
            .set("heartbeat.interval.ms", (session_ms / 4).max(1).to_string())
            .set("socket.timeout.ms", "10000")
            // A fetch that finds few records waits for more, but not for long: under load each brings many, and an idle
            // topic delays a record by 50 ms at most.
            .set("fetch.min.bytes", "65536")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.error.backoff.ms", "100")
            // What waits in memory, a partition: little, as what is paused is fetched again.
            .set("fetch.message.max.bytes", "262144")
            .set("queued.min.messages", "1000")
            .set("queued.max.messages.kbytes", "4096");
    }
}
