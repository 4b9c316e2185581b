//! Every metric: name, unit and meaning (`docs/performance.md`, "Targets"; `docs/operations.md`, "Metrics and alarms").
//!
//! Durations are in seconds, as Prometheus expects. A label has few values; an id is never a label.

use metrics::Unit;

/// The answers of the functions that callers reach, by `function`, `route` and `class`: `2xx`, `4xx` or `5xx`. A request
/// that reaches no function (without a token, for example) is not counted.
pub const RESPONSES: &str = "hongyan_responses_total";
/// Sends, by `outcome`: `accepted`, `repeated` (same `clientMsgId`), `refused` (the caller's fault), `failed` (503).
pub const SENDS: &str = "hongyan_sends_total";
/// Recalls, by `outcome`: `recalled` (repeated ones too), `refused`, `failed`.
pub const RECALLS: &str = "hongyan_recalls_total";
/// The time from the arrival of a send to its answer.
pub const SEND_SECONDS: &str = "hongyan_send_seconds";
/// The time of a send that Redis takes.
pub const SEND_REDIS_SECONDS: &str = "hongyan_send_redis_seconds";
/// The time of a send that Kafka takes, until the acknowledgement or the end of the caller's wait.
pub const SEND_KAFKA_SECONDS: &str = "hongyan_send_kafka_seconds";
/// The time to answer a page of history, by `source`: `redis` (MySQL was not asked), `mysql` (Redis is away, or has no list
/// that is believed), `both`. A page that ends with an error is not counted.
pub const HISTORY_SECONDS: &str = "hongyan_history_seconds";
/// Messages of pages that Redis should have, by `outcome`: `hit` (Redis has the message) or `miss` (MySQL had to answer:
/// the detail or the list is lost or not believed, or Redis is away). A page without messages whose list is lost is one
/// `miss`. Messages too old for the recent list are not counted.
pub const CACHE_LOOKUPS: &str = "hongyan_cache_lookups_total";
/// The time from a message's send to its row.
pub const PERSIST_DELAY_SECONDS: &str = "hongyan_persist_delay_seconds";
/// Messages that the consumer was to persist, by `outcome`: `written`, `skipped` (recalled before), `recalled` (met a
/// tombstone), `doubled` (same `clientMsgId`).
pub const PERSISTED: &str = "hongyan_persisted_total";
/// Records that an invocation of the consumer left unfinished. They are delivered again.
pub const RECORDS_UNFINISHED: &str = "hongyan_records_unfinished_total";
/// Records of a `partition` that the consumer group has not finished, as the local trigger sees it.
pub const CONSUMER_LAG: &str = "hongyan_consumer_lag_records";
/// The time of one batch of the consumer.
pub const BATCH_SECONDS: &str = "hongyan_batch_seconds";
/// Records in one batch of the consumer.
pub const BATCH_RECORDS: &str = "hongyan_batch_records";
/// Records sent to the dead-letter topic.
pub const DEAD_LETTERS: &str = "hongyan_dead_letters_total";
/// Messages and recalls that MySQL has not confirmed, as the compensator last counted them.
pub const PENDING: &str = "hongyan_pending_messages";
/// The age of the oldest of these messages, 0 without any, as the compensator last saw it.
pub const PENDING_OLDEST_SECONDS: &str = "hongyan_pending_oldest_seconds";
/// Runs of the compensator, by `outcome`: `done`, `skipped` (another run was under way), `failed`.
pub const COMPENSATOR_RUNS: &str = "hongyan_compensator_runs_total";
/// Messages that the compensator handled, by `outcome`: `resent`, `persisted` (Kafka refused it for good), `marked`,
/// `recalled`, `waiting`, `failed`.
pub const COMPENSATED: &str = "hongyan_compensated_total";
/// Pushes to a connection, by `outcome`: `delivered`, `gone`, `failed`; `late` counts pushes cut short after 1 s.
pub const PUSHES: &str = "hongyan_pushes_total";
/// 1 while the circuit breaker of Redis is open, else 0. A Redis Cluster has none.
pub const CIRCUIT_BREAKER: &str = "hongyan_circuit_breaker_open";
/// How long this process can still make ids without Redis; 0 if it has no worker number.
pub const WORKER_LEASE_SECONDS: &str = "hongyan_worker_lease_seconds";
/// Open connections to MySQL, by `server`: `writer` or `replica`.
pub const MYSQL_CONNECTIONS: &str = "hongyan_mysql_connections";
/// Records that the producer holds because Kafka has not acknowledged them.
pub const PRODUCER_QUEUE: &str = "hongyan_producer_queue_records";
/// Always 1. The labels `version` and `commit` say which build runs.
pub const BUILD_INFO: &str = "hongyan_build_info";
/// The time of requests at the local gateway, by `route` and `status`.
pub const HTTP_SECONDS: &str = "hongyan_http_seconds";
/// Open WebSocket connections of the local gateway.
pub const CONNECTIONS: &str = "hongyan_websocket_connections";

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A count that only grows.
    Counter,
    /// A value that rises and falls.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// The unit of its values.
    pub unit: Unit,
    /// Its meaning, for people.
    pub meaning: &'static str,
}

const fn counter(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit: Unit::Count, meaning }
}

const fn gauge(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit: Unit::Count, meaning }
}

const fn seconds(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit: Unit::Seconds, meaning }
}

const fn histogram(name: &'static str, unit: Unit, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit, meaning }
}

/// All metrics.
pub const ALL: &[Metric] = &[
    counter(RESPONSES, "answers to callers, by function, route and class of status"),
    counter(SENDS, "sends, by outcome"),
    counter(RECALLS, "recalls, by outcome"),
    histogram(SEND_SECONDS, Unit::Seconds, "from the arrival of a send to its answer"),
    histogram(SEND_REDIS_SECONDS, Unit::Seconds, "the Redis part of a send"),
    histogram(SEND_KAFKA_SECONDS, Unit::Seconds, "the Kafka part of a send"),
    histogram(HISTORY_SECONDS, Unit::Seconds, "answering a page of history, by source"),
    counter(CACHE_LOOKUPS, "messages of pages that Redis should have, by outcome"),
    histogram(PERSIST_DELAY_SECONDS, Unit::Seconds, "from a message's send to its being in MySQL"),
    counter(PERSISTED, "messages the consumer was to persist, by outcome"),
    counter(RECORDS_UNFINISHED, "records that the consumer left unfinished"),
    gauge(CONSUMER_LAG, "records that the consumer group has not finished, by partition"),
    histogram(BATCH_SECONDS, Unit::Seconds, "writing one batch to MySQL"),
    histogram(BATCH_RECORDS, Unit::Count, "records in one batch of the consumer"),
    counter(DEAD_LETTERS, "records sent to the dead-letter topic"),
    gauge(PENDING, "messages that MySQL has not confirmed"),
    seconds(PENDING_OLDEST_SECONDS, "the age of the oldest message that MySQL has not confirmed"),
    counter(COMPENSATOR_RUNS, "runs of the compensator, by outcome"),
    counter(COMPENSATED, "messages the compensator looked at, by outcome"),
    counter(PUSHES, "pushes to a connection, by outcome"),
    gauge(CIRCUIT_BREAKER, "1 while the circuit breaker of Redis is open"),
    seconds(WORKER_LEASE_SECONDS, "how long ids can still be made without Redis"),
    gauge(MYSQL_CONNECTIONS, "open connections to MySQL, by server"),
    gauge(PRODUCER_QUEUE, "records that Kafka has not acknowledged yet"),
    gauge(BUILD_INFO, "the build that runs, by version and commit"),
    histogram(HTTP_SECONDS, Unit::Seconds, "requests at the local gateway, by route and status"),
    gauge(CONNECTIONS, "WebSocket connections open at the local gateway"),
];

/// Tells the process's recorder, if there is one, the unit and meaning of every metric.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.meaning),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.meaning),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.meaning),
        }
    }
}

/// Sets the counters that an alarm watches to 0 at the start: Prometheus sees no increase in the first value of a series.
pub fn begin() {
    for counter in [DEAD_LETTERS, RECORDS_UNFINISHED] {
        metrics::counter!(counter).increment(0);
    }
    for outcome in ["accepted", "repeated", "refused", "failed"] {
        metrics::counter!(SENDS, "outcome" => outcome).increment(0);
    }
    for outcome in ["done", "skipped", "failed"] {
        metrics::counter!(COMPENSATOR_RUNS, "outcome" => outcome).increment(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_say_their_unit() {
        let mut names: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{metric:?}");
            assert_eq!(metric.name.ends_with("_seconds"), metric.unit == Unit::Seconds, "{metric:?}");
        }
    }
}
