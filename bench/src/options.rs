//! What a person may choose.

use clap::{Parser, ValueEnum};
use hongyan_runtime::cli::Place;
use url::Url;

/// Measure how fast messages are taken, persisted and read
///
/// Requests leave at a constant rate, whether earlier ones were answered or not, and a latency counts from the moment at
/// which its request was due: the service is charged for everything that had to wait. The report says so when not the
/// service but the generator or its connections were the limit.
///
/// Without --target it starts Redis, MySQL, Kafka and the service, in a folder of its own that is removed afterwards.
#[derive(Clone, Parser)]
#[command(name = "hongyan-bench", bin_name = "./dev bench", version, max_term_width = 100)]
pub struct Options {
    /// What the users do
    #[arg(value_enum, default_value_t = Scenario::Send)]
    pub scenario: Scenario,
    /// Requests a second
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: u64,
    /// For how long it is measured
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// For how long the same load runs before that, unmeasured
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub warm_up: u64,
    /// How many users talk, each with one other
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub users: u32,
    /// How many connections they share
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_000))]
    pub connections: u32,
    /// The service to measure, such as http://127.0.0.1:8080. Tokens are signed with JWT_SECRET, from the environment or
    /// from the stack that runs over --data
    #[arg(long, value_name = "URL")]
    pub target: Option<Url>,
    /// See --target
    #[arg(long, env = "JWT_SECRET", hide = true, hide_env_values = true)]
    pub secret: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Where the stack of --target lies
    #[command(flatten)]
    pub place: Place,
}

/// What the users do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Send messages of 64 bytes
    Send,
    /// Read the newest 20 messages of a conversation
    Query,
    /// Of 20 requests 10 send, 8 query, 1 marks as read and 1 recalls
    Mixed,
}

impl Scenario {
    pub(crate) fn reads(self) -> bool {
        self != Self::Send
    }
}
