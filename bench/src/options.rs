//! The options of the command line.

use clap::{Parser, ValueEnum};
use hongyan_runtime::cli::Place;
use url::Url;

/// Measure how fast messages are accepted, persisted and read
///
/// Requests leave at a constant rate, whether earlier ones were answered or not, and a latency counts from the moment
/// when the request was due: the service is charged for every request that had to wait. The report warns if the
/// generator or its connections were the limit instead of the service.
///
/// Without --target the command starts Redis, MySQL, Kafka and the service in a new folder, and removes the folder
/// afterwards.
#[derive(Clone, Parser)]
#[command(name = "hongyan-bench", bin_name = "./dev bench", version, max_term_width = 100)]
pub struct Options {
    /// What the users do
    #[arg(value_enum, default_value_t = Scenario::Send)]
    pub scenario: Scenario,
    /// Requests a second
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: u64,
    /// How many seconds to measure
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// How many seconds the same load runs before the measurement
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub warm_up: u64,
    /// How many users talk, in pairs
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub users: u32,
    /// How many connections the users share
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_000))]
    pub connections: u32,
    /// The service to measure, such as http://127.0.0.1:8080. Tokens are signed with JWT_SECRET, from the environment
    /// or from the stack that runs over --data
    #[arg(long, value_name = "URL")]
    pub target: Option<Url>,
    /// See --target
    #[arg(long, env = "JWT_SECRET", hide = true, hide_env_values = true)]
    pub secret: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// The data folder of the stack behind --target
    #[command(flatten)]
    pub place: Place,
}

/// The kinds of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Send messages of 64 bytes
    Send,
    /// Read the newest 20 messages of a conversation
    Query,
    /// Send with 10 of 20 requests, query with 8, mark as read with 1 and recall with 1
    Mixed,
}

impl Scenario {
    pub(crate) fn reads(self) -> bool {
        self != Self::Send
    }
}
