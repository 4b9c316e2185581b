//! The three servers by name.

use std::fmt;

/// One of the three servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What is recent.
    Redis,
    /// What is kept for good.
    Mysql,
    /// Every change, in order.
    Kafka,
}

impl Kind {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Redis, Self::Mysql, Self::Kafka];

    /// The setting that names a server of somebody else's.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Redis => "REDIS_URL",
            Self::Mysql => "MYSQL_URL",
            Self::Kafka => "KAFKA_BOOTSTRAP_SERVERS",
        }
    }

    /// Its name in `compose.yaml`.
    pub(super) const fn service(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Mysql => "mysql",
            Self::Kafka => "kafka",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Mysql => "MySQL",
            Self::Kafka => "Kafka",
        })
    }
}
