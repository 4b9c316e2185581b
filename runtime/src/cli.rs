//! The command line of the binary `hongyan` (`docs/contract.md`, "Commands").
//!
//! A failed command prints one line that names the setting or the server at fault, and exits with status 1. A command
//! line that cannot be understood exits with status 2.

#[cfg(feature = "stack")]
mod development;
mod dlq;
mod place;
mod settings;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hongyan::config::ConfigError;
use hongyan::id::UserId;
use hongyan::telemetry::{self, Output};

pub use place::Place;

/// A private-chat backend on one machine.
#[derive(Parser)]
#[command(name = "hongyan", bin_name = "./dev", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "stack")]
    #[command(flatten)]
    Development(development::Command),
    /// Print a JWT that the local runtime accepts for a user
    Token {
        /// The user: a decimal number from 1 to 9223372036854775807
        #[arg(value_name = "USER_ID")]
        user: UserId,
        /// How many minutes the token is valid
        #[arg(long, default_value_t = 24 * 60, value_parser = clap::value_parser!(u32).range(1..=525_600))]
        minutes: u32,
    },
    /// List, show and send back dead letters
    Dlq {
        #[command(subcommand)]
        command: dlq::Command,
    },
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match work(cli) {
        Ok(code) => code,
        Err(error) => {
            // Each error of this workspace includes its cause in its own text.
            eprintln!("{}", told(&error.to_string(), error.is::<ConfigError>()));
            ExitCode::FAILURE
        }
    }
}

/// The text of an error for a person. With `faults`, each line is a fault of its own. Otherwise the first line is the
/// error, and the lines after it, such as the end of a server's log, are indented below it.
fn told(error: &str, faults: bool) -> String {
    format!("error: {}", error.replace('\n', if faults { "\nerror: " } else { "\n  " }))
}

fn work(cli: Cli) -> anyhow::Result<ExitCode> {
    telemetry::init(Output::Local)?;
    // A library that asks for the process's TLS provider gets this one. No other is installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = cli.place.folder();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            #[cfg(feature = "stack")]
            Command::Development(command) => development::work(command, folder).await,
            Command::Token { user, minutes } => token::print(&folder, user, minutes),
            Command::Dlq { command } => dlq::work(command, &folder).await,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn one_line_is_the_error_and_the_others_belong_to_it() {
        assert_eq!(told("A must be set\nB must be set", true), "error: A must be set\nerror: B must be set");
        assert_eq!(
            told("Redis ended; its log says last:\nno memory", false),
            "error: Redis ended; its log says last:\n  no memory"
        );
    }

    #[test]
    fn what_is_no_user_id_is_refused() {
        for wrong in ["0", "-1", "alice", "9223372036854775808", ""] {
            assert!(Cli::try_parse_from(["hongyan", "token", wrong]).is_err(), "{wrong}");
        }
        assert!(Cli::try_parse_from(["hongyan", "token", "9223372036854775807"]).is_ok());
    }
}
