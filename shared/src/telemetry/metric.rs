//! The name, unit and meaning of every metric, in one place (`docs/performance.md`, "Targets"; `docs/operations.md`,
//! "Metrics and alarms").
//!
//! Durations are in seconds, as Prometheus wants them. A label has few values: no id is ever a label.

use metrics::Unit;

/// Sends, by `outcome`: `accepted`, `repeated` (same `clientMsgId`), `refused` (the caller's fault), `failed` (503).
pub const SENDS: &str = "hongyan_sends_total";
/// Recalls, by `outcome`: `recalled` (again counts too), `refused`, `failed`.
pub const RECALLS: &str = "hongyan_recalls_total";
/// From the arrival of a send to its answer.
pub const SEND_SECONDS: &str = "hongyan_send_seconds";
/// The Redis part of a send.
pub const SEND_REDIS_SECONDS: &str = "hongyan_send_redis_seconds";
/// The Kafka part of a send, until it is acknowledged or the caller's wait is over.
pub const SEND_KAFKA_SECONDS: &str = "hongyan_send_kafka_seconds";
/// Answering a page of history.
pub const HISTORY_SECONDS: &str = "hongyan_history_seconds";
/// Looking into Redis for what MySQL also has, by `outcome`: `hit` or `miss`.
pub const CACHE_LOOKUPS: &str = "hongyan_cache_lookups_total";
/// From a message's send to its being in MySQL.
pub const PERSIST_DELAY_SECONDS: &str = "hongyan_persist_delay_seconds";
/// What became of messages that the consumer was to persist, by `outcome`: `written`, `skipped` (recalled before),
/// `recalled` (met a tombstone), `doubled` (same `clientMsgId`), `retried` (comes again).
pub const PERSISTED: &str = "hongyan_persisted_total";
/// Working on one batch of the consumer.
pub const BATCH_SECONDS: &str = "hongyan_batch_seconds";
/// Records in one batch of the consumer.
pub const BATCH_RECORDS: &str = "hongyan_batch_records";
/// Records sent to the dead-letter topic.
pub const DEAD_LETTERS: &str = "hongyan_dead_letters_total";
/// Messages that MySQL has not confirmed, as last counted by the compensator.
pub const PENDING: &str = "hongyan_pending_messages";
/// What the compensator did with a message, by `outcome`: `resent`, `persisted` (Kafka refused it for good), `marked`,
/// `recalled`, `waiting`, `failed`.
pub const COMPENSATED: &str = "hongyan_compensated_total";
/// Pushes to a connection, by `outcome`: `delivered`, `gone`, `failed`; `late` counts pushes cut short after 1 s.
pub const PUSHES: &str = "hongyan_pushes_total";
/// Requests at the local gateway, by `route` and `status`.
pub const HTTP_SECONDS: &str = "hongyan_http_seconds";
/// WebSocket connections open at the local gateway.
pub const CONNECTIONS: &str = "hongyan_websocket_connections";

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
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
    /// What it counts or measures.
    pub unit: Unit,
    /// What it means, for people.
    pub meaning: &'static str,
}

const fn counter(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit: Unit::Count, meaning }
}

const fn gauge(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit: Unit::Count, meaning }
}

const fn histogram(name: &'static str, unit: Unit, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit, meaning }
}

/// Every metric there is.
pub const ALL: &[Metric] = &[
    counter(SENDS, "sends, by outcome"),
    counter(RECALLS, "recalls, by outcome"),
    histogram(SEND_SECONDS, Unit::Seconds, "from the arrival of a send to its answer"),
    histogram(SEND_REDIS_SECONDS, Unit::Seconds, "the Redis part of a send"),
    histogram(SEND_KAFKA_SECONDS, Unit::Seconds, "the Kafka part of a send"),
    histogram(HISTORY_SECONDS, Unit::Seconds, "answering a page of history, by source"),
    counter(CACHE_LOOKUPS, "lookups in Redis, by outcome"),
    histogram(PERSIST_DELAY_SECONDS, Unit::Seconds, "from a message's send to its being in MySQL"),
    counter(PERSISTED, "messages the consumer was to persist, by outcome"),
    histogram(BATCH_SECONDS, Unit::Seconds, "writing one batch to MySQL"),
    histogram(BATCH_RECORDS, Unit::Count, "records in one batch of the consumer"),
    counter(DEAD_LETTERS, "records sent to the dead-letter topic"),
    gauge(PENDING, "messages that MySQL has not confirmed"),
    counter(COMPENSATED, "messages the compensator looked at, by outcome"),
    counter(PUSHES, "pushes to a connection, by outcome"),
    histogram(HTTP_SECONDS, Unit::Seconds, "requests at the local gateway, by route and status"),
    gauge(CONNECTIONS, "WebSocket connections open at the local gateway"),
];

/// Tells the recorder of this process, if there is one, the unit and meaning of each.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.meaning),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.meaning),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.meaning),
        }
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
