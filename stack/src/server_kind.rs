//! The three servers by name.

use std::fmt;

/// One of the three servers. (`hongyan::error::Server` is the application's name for the same: this crate depends on
/// no other.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerKind {
    /// The cache.
    Redis,
    /// The permanent store.
    MySql,
    /// The queue of changes.
    Kafka,
}

impl ServerKind {
    /// All three servers.
    pub const ALL: [Self; 3] = [Self::Redis, Self::MySql, Self::Kafka];

    /// The setting by which a caller gives a server of its own.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Redis => "REDIS_URL",
            Self::MySql => "MYSQL_URL",
            Self::Kafka => "KAFKA_BOOTSTRAP_SERVERS",
        }
    }

    /// The name of the service in `compose.yaml`.
    pub(super) const fn service(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::MySql => "mysql",
            Self::Kafka => "kafka",
        }
    }
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::MySql => "MySQL",
            Self::Kafka => "Kafka",
        })
    }
}
