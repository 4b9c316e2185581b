//! Every metric: name, unit and meaning (`docs/performance.md`, "Targets"; `docs/operations.md`, "Metrics and alarms").
//!
//! Durations are in seconds, as Prometheus expects. A label has few values; an id is never a label.

use metrics::Unit;

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
/// The time to answer a page of history.
pub const HISTORY_SECONDS: &str = "hongyan_history_seconds";
/// Messages of pages that were looked up in Redis, by `outcome`: `hit` or `miss`. A list that is not believed is one
/// `miss`.
pub const CACHE_LOOKUPS: &str = "hongyan_cache_lookups_total";
/// The time from a message's send to its row.
pub const PERSIST_DELAY_SECONDS: &str = "hongyan_persist_delay_seconds";
/// Messages that the consumer was to persist, by `outcome`: `written`, `skipped` (recalled before), `recalled` (met a
/// tombstone), `doubled` (same `clientMsgId`), `retried` (comes again).
pub const PERSISTED: &str = "hongyan_persisted_total";
/// The time of one batch of the consumer.
pub const BATCH_SECONDS: &str = "hongyan_batch_seconds";
/// Records in one batch of the consumer.
pub const BATCH_RECORDS: &str = "hongyan_batch_records";
/// Records sent to the dead-letter topic.
pub const DEAD_LETTERS: &str = "hongyan_dead_letters_total";
/// Messages and recalls that MySQL has not confirmed, as the compensator last counted them.
pub const PENDING: &str = "hongyan_pending_messages";
/// Messages that the compensator handled, by `outcome`: `resent`, `persisted` (Kafka refused it for good), `marked`,
/// `recalled`, `waiting`, `failed`.
pub const COMPENSATED: &str = "hongyan_compensated_total";
/// Pushes to a connection, by `outcome`: `delivered`, `gone`, `failed`; `late` counts pushes cut short after 1 s.
pub const PUSHES: &str = "hongyan_pushes_total";
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

const fn histogram(name: &'static str, unit: Unit, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit, meaning }
}

/// All metrics.
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
