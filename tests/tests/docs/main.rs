//! The pages and the code say the same: settings, Redis keys, routes, metrics, log lines, commands, files, citations,
//! links and names in backticks. Needs no server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests: what cannot be read ends the test"
)]

mod citations;
mod commands;
mod comments;
mod decisions;
mod links;
mod log;
mod markdown;
mod openapi;
mod source;
mod symbols;
mod tables;
mod usage;
mod vocabulary;
mod workflow;

use hongyan::config::Config;

/// The settings where only what has no default is set.
pub(crate) fn default_config() -> Config {
    let needed = [
        ("REDIS_URL", "redis://127.0.0.1/1"),
        ("MYSQL_URL", "mysql://127.0.0.1/hongyan"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
        ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
    ];
    let find = |wanted: &str| needed.iter().find(|(name, _)| *name == wanted);
    Config::from_lookup(|name| find(name).map(|(_, value)| (*value).to_owned())).unwrap()
}
