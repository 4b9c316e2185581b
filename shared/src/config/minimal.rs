//! Complete settings of the smallest kind, for tests.

/// The settings without a default, with addresses at which no server listens. For tests of a part that needs a
/// [`Config`](super::Config) and no server.
pub const MINIMAL: [(&str, &str); 4] = [
    ("REDIS_URL", "redis://127.0.0.1:1/1"),
    ("MYSQL_URL", "mysql://user:password@127.0.0.1:1/database"),
    ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
    ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
];

/// A setting of [`MINIMAL`], for [`Config::from_lookup`](super::Config::from_lookup).
pub fn minimal(name: &str) -> Option<String> {
    MINIMAL.iter().find(|(minimal, _)| *minimal == name).map(|(_, value)| (*value).to_owned())
}
