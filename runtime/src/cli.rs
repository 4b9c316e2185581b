//! The command line of the binary `hongyan` (`docs/contract.md`, "Commands").
//!
//! A failed command prints one line that names the setting or the server at fault, and exits with status 1. A command
//! line that cannot be understood exits with status 2.

mod check_config;
#[cfg(feature = "stack")]
mod development;
mod dlq;
mod log;
mod migrate;
mod place;
mod serve;
mod settings;
mod signals;
mod text;
mod token;
mod trace;

use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use hongyan::config::ConfigError;
use hongyan::id::UserId;
use hongyan::telemetry::build::{COMMIT, VERSION as RELEASE};
use hongyan::telemetry::{self, Output};

pub use place::Place;
use text::{called, told};

/// How long blocked threads may hold up the end of the process after the command is done.
const END: Duration = Duration::from_secs(1);

/// The answer to `--version`: the version of the release, and the commit that was built.
static VERSION: LazyLock<String> = LazyLock::new(|| format!("{RELEASE} (commit {COMMIT})"));

/// A private-chat backend on one machine.
#[derive(Parser)]
#[command(name = "hongyan", version = VERSION.as_str(), max_term_width = 100)]
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
    /// Serve with the servers that the environment names, until SIGTERM; start no server and change no table
    Serve(serve::Options),
    /// Bring the tables of MYSQL_URL up to date, and print the migrations that ran
    Migrate(migrate::Options),
    /// Print the faults in the settings of `serve`, and the values that count, without secrets; ask no server
    CheckConfig(check_config::Options),
    /// Print a JWT that the local runtime accepts for a user
    Token {
        /// The user: a decimal number from 1 to 9223372036854775807
        #[arg(value_name = "USER_ID")]
        user: UserId,
        /// How many minutes the token is valid
        #[arg(long, default_value_t = 24 * 60, value_parser = clap::value_parser!(u32).range(1..=525_600))]
        minutes: u32,
    },
    /// Print the lines of the log that belong to a trace
    Trace(trace::Options),
    /// List, show and send back dead letters
    Dlq {
        #[command(subcommand)]
        command: dlq::Command,
    },
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let matches = Cli::command().bin_name(called()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match work(cli) {
        Ok(code) => code,
        Err(error) => {
            // Each error of this workspace includes its cause in its own text.
            eprintln!("{}", told(&error.to_string(), error.is::<ConfigError>()));
            ExitCode::FAILURE
        }
    }
}

fn work(cli: Cli) -> anyhow::Result<ExitCode> {
    let log = telemetry::init(Output::Local);
    // For `check-config`, a fault of the log filter is one fault among others.
    if !matches!(cli.command, Command::CheckConfig(_)) {
        log.clone()?;
    }
    // A library that asks for the process's TLS provider gets this one. No other is installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = cli.place.folder();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        match cli.command {
            #[cfg(feature = "stack")]
            Command::Development(command) => development::work(command, folder).await,
            Command::Serve(options) => Box::pin(serve::serve(options)).await,
            Command::Migrate(options) => migrate::work(options).await,
            Command::CheckConfig(options) => Ok(check_config::print(&options, log)),
            Command::Token { user, minutes } => token::print(&folder, user, minutes),
            Command::Trace(options) => trace::print(&folder, options),
            Command::Dlq { command } => dlq::work(command, &folder).await,
        }
    });
    // A thread that waits for a server, for example in a flush of Kafka's producer, must not hold up the end of a
    // stop whose time is over.
    runtime.shutdown_timeout(END);
    code
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
    fn the_version_names_the_release_and_the_commit() {
        let shown = Cli::command().render_version();
        assert_eq!(shown.trim_end(), format!("hongyan {RELEASE} (commit {COMMIT})"));
    }

    #[test]
    fn only_a_development_build_starts_servers() {
        let has = |name| Cli::command().find_subcommand(name).is_some();
        for command in ["run", "lambda", "stack", "env"] {
            assert_eq!(has(command), cfg!(feature = "stack"), "{command}");
        }
        for command in ["serve", "migrate", "check-config", "token", "trace", "dlq"] {
            assert!(has(command), "{command}");
        }
    }

    #[test]
    fn what_is_no_user_id_is_refused() {
        for wrong in ["0", "-1", "alice", "9223372036854775808", ""] {
            assert!(Cli::try_parse_from(["hongyan", "token", wrong]).is_err(), "{wrong}");
        }
        assert!(Cli::try_parse_from(["hongyan", "token", "9223372036854775807"]).is_ok());
    }
}
