//! The pages and the code say the same: settings, Redis keys, routes, metrics, log lines, commands, files, citations,
//! links and names in backticks. Needs no server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests: what cannot be read ends the test"
)]

mod asyncapi;
mod chinese;
mod citations;
mod commands;
mod comments;
mod decisions;
mod deployments;
mod links;
mod log;
mod markdown;
mod openapi;
mod openings;
mod source;
mod symbols;
mod tables;
mod usage;
mod vocabulary;
mod workflow;

use hongyan::config::Config;

/// The settings with only the variables set that have no default.
pub(crate) fn default_config() -> Config {
    Config::from_lookup(hongyan::config::minimal).unwrap()
}
