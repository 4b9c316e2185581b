//! The commands that start the three servers of this machine or need them running: `run`, `lambda`, `stack` and
//! `env`.

mod lambda;
mod run;
mod settings;
mod stack;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Start Redis, MySQL and Kafka, bring the tables up to date, and serve until Ctrl-C
    Run {
        /// The address to listen on
        #[arg(long, env = "HONGYAN_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
        listen: SocketAddr,
    },
    /// Start the same as `run`, with every function as a Lambda binary behind `cargo lambda watch`
    Lambda {
        /// The address to listen on
        #[arg(long, env = "HONGYAN_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
        listen: SocketAddr,
        /// The port of Lambda's Invoke API on the loopback address; 0 takes any free port
        #[arg(long, env = "HONGYAN_INVOKE_PORT", default_value_t = 9000, value_name = "PORT")]
        invoke_port: u16,
    },
    /// Start, stop and inspect the three servers in the background
    Stack {
        #[command(subcommand)]
        command: stack::Command,
    },
    /// Print the connection settings of the running stack as KEY=value lines
    ///
    /// For a shell and what it starts: set -a; eval "$(./dev env)"; set +a
    Env {
        /// Print one object instead
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn work(command: Command, folder: PathBuf) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { listen } => Box::pin(run::run(folder, listen, None)).await,
        Command::Lambda { listen, invoke_port } => {
            Box::pin(run::run(folder, listen, Some(lambda::Lambda { invoke_port }))).await
        }
        Command::Stack { command } => stack::work(command, folder).await,
        Command::Env { json } => settings::print(&folder, json),
    }
}
