//! The options of the command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use hongyan::config::Config;
use hongyan_runtime::cli::Place;
use url::Url;

/// Measure how fast messages are accepted, persisted and read
///
/// Requests leave at a constant rate, whether earlier ones were answered or not, and a latency counts from the moment
/// when the request was due: the service is charged for every request that had to wait. --closed measures the maximum
/// instead, --ladder the latency over the rate. The report warns if the generator or its connections were the limit
/// instead of the service.
///
/// Without --target the command starts Redis, MySQL, Kafka and the service in a new folder, and removes the folder
/// afterwards.
#[derive(Clone, Parser)]
#[command(name = "hongyan-bench", bin_name = "./dev bench", version, max_term_width = 100)]
pub struct Options {
    /// The requests of the users
    #[arg(value_enum, default_value_t = Scenario::Send)]
    pub scenario: Scenario,
    /// Requests a second
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: u64,
    /// Measure the maximum: this many connections send, wait for the answer, and send again
    #[arg(
        long,
        value_name = "CONNECTIONS",
        value_parser = clap::value_parser!(u32).range(1..=4_000),
        conflicts_with_all = ["rate", "connections", "ladder", "quick", "full"]
    )]
    pub closed: Option<u32>,
    /// Raise the rate until the P99 is above --p99, and print the curve
    #[arg(long, conflicts_with_all = ["rate", "seconds", "quick", "full"])]
    pub ladder: bool,
    /// The P99 in ms that the rates of a ladder must keep
    #[arg(long, default_value_t = 10.0, value_name = "MS", value_parser = p99)]
    pub p99: f64,
    /// How many seconds to measure each rate of a ladder
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub step: u64,
    /// Measure an open loop, a closed one, a short ladder and the bare servers, within two minutes
    #[arg(long, conflicts_with_all = ["full", "seconds", "warm_up", "step", "bare"])]
    pub quick: bool,
    /// Measure everything, and write tables, plots and JSON into this folder
    #[arg(long, value_name = "FOLDER")]
    pub full: Option<PathBuf>,
    /// How many seconds to measure each load [default: 30, and 60 with --full]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: Option<u64>,
    /// The most seconds of unmeasured load before the measurement. It ends sooner if Kafka's processor time per
    /// request can be watched and has stopped falling
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub warm_up: u64,
    /// How many seconds to measure each server without the service, with the data of a send; 0 skips it [default: 5,
    /// and 0 with --target, whose servers keep the written data]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=600))]
    pub bare: Option<u64>,
    /// How many users talk, in pairs
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub users: u32,
    /// How unequally the pairs talk: the pair of rank k speaks in proportion to 1 / k^S; with 0 all speak equally
    /// often
    #[arg(long, default_value_t = 0.99, value_name = "S", value_parser = zipf)]
    pub zipf: f64,
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
    /// Draw latency over rate and latency over time into this file; its name must end in .svg or .html
    #[arg(long, value_name = "FILE", value_parser = plot_file)]
    pub plot: Option<PathBuf>,
    /// How the service of --target reaches its servers, if the caller knows. Not an option of the command line
    #[arg(skip)]
    pub servers: Option<Config>,
    /// The data folder of the stack behind --target
    #[command(flatten)]
    pub place: Place,
}

/// The kinds of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Send messages of 20 to 300 bytes
    Send,
    /// Read the newest 20 messages of a conversation
    Query,
    /// Send with 10 of 20 requests, query with 8, mark as read with 1 and recall with 1
    Mixed,
}

impl Scenario {
    /// True if the load needs messages to read.
    pub(crate) fn reads(self) -> bool {
        self != Self::Send
    }

    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Query => "query",
            Self::Mixed => "mixed",
        }
    }
}

fn zipf(text: &str) -> Result<f64, String> {
    between(text, 0.0, 5.0)
}

fn p99(text: &str) -> Result<f64, String> {
    between(text, 0.1, 60_000.0)
}

fn plot_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let ends = path.extension().and_then(|ending| ending.to_str());
    if matches!(ends, Some("svg" | "html")) { Ok(path) } else { Err("must end in .svg or .html".to_owned()) }
}

fn between(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("must be a number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The error for options that must be refused.
    fn refused(arguments: &[&str]) -> String {
        let line = ["bench"].iter().chain(arguments);
        match Options::try_parse_from(line) {
            Ok(_) => panic!("{arguments:?} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_number_that_makes_no_sense_is_refused_with_what_is_allowed() {
        for (option, wrong, allowed) in [
            ("--rate", "0", "1..=1000000"),
            ("--seconds", "0", "1..=86400"),
            ("--seconds", "86401", "1..=86400"),
            ("--warm-up", "3601", "0..=3600"),
            ("--users", "1", "2..=1000000"),
            ("--connections", "0", "1..=4000"),
            ("--closed", "0", "1..=4000"),
            ("--p99", "0", "from 0.1 to 60000"),
            ("--step", "0", "1..=3600"),
            ("--bare", "601", "0..=600"),
            ("--plot", "curve.png", ".svg or .html"),
            ("--zipf", "-1", "from 0 to 5"),
            ("--zipf", "NaN", "from 0 to 5"),
            ("--zipf", "much", "from 0 to 5"),
        ] {
            let error = refused(&[&format!("{option}={wrong}")]);
            assert!(error.contains(option) && error.contains(allowed), "{option} {wrong}: {error}");
        }
    }

    #[test]
    fn options_that_exclude_each_other_are_refused() {
        for both in [
            ["--closed=64", "--rate=1"],
            ["--closed=64", "--ladder"],
            ["--ladder", "--rate=1"],
            ["--quick", "--full=x"],
            ["--quick", "--seconds=1"],
        ] {
            assert!(refused(&both).contains("cannot be used with"), "{both:?}");
        }
    }
}
