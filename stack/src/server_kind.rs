//! The three servers by name.

use std::fmt;

/// One of the three servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerKind {
    /// What is recent.
    Redis,
    /// What is kept for good.
    MySql,
    /// Every change, in order.
    Kafka,
}

impl ServerKind {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Redis, Self::MySql, Self::Kafka];

    /// The setting that names a server of somebody else's.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Redis => "REDIS_URL",
            Self::MySql => "MYSQL_URL",
            Self::Kafka => "KAFKA_BOOTSTRAP_SERVERS",
        }
    }

    /// Its name in `compose.yaml`.
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
