//! The smallest settings that are complete.

/// The settings that have no default, with addresses at which no server listens: for tests of a part that needs a
/// [`Config`](super::Config) and no server.
pub const MINIMAL: [(&str, &str); 4] = [
    ("REDIS_URL", "redis://127.0.0.1:1/1"),
    ("MYSQL_URL", "mysql://user:password@127.0.0.1:1/database"),
    ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
    ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
];

/// Looks a setting of [`MINIMAL`] up, as [`Config::from_lookup`](super::Config::from_lookup) wants it.
pub fn minimal(name: &str) -> Option<String> {
    MINIMAL.iter().find(|(minimal, _)| *minimal == name).map(|(_, value)| (*value).to_owned())
}
