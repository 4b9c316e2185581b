//! `stack`: starts, stops and inspects the three servers without the functions.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use hongyan_stack::{self as stack, Stack, StackOptions};
use serde_json::json;

use crate::cli::text::called;

#[derive(Subcommand)]
pub(in crate::cli) enum Command {
    /// Start the servers in the background and wait until they answer
    Up,
    /// Stop the servers
    Down,
    /// Ask each whether it answers
    Status {
        /// Print an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Print what is installed, without starting it
    Versions,
}

pub(super) async fn work(command: Command, folder: PathBuf) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up => {
            super::settings::check()?;
            let options = StackOptions::new(folder).with_environment(std::env::vars())?.in_background();
            let stack = Stack::start(options).await?;
            for line in stack.versions().await {
                println!("{line}");
            }
            println!("Up. Their settings: {0} env. Stop them: {0} stack down", called());
            stack.stop().await?;
        }
        Command::Down => {
            stack::down(&folder).await?;
            println!("Down. Their data stays in {}", folder.display());
        }
        Command::Status { json } => {
            let servers = stack::status(&folder).await?;
            let well = servers.iter().all(|server| server.answer.is_ok());
            if json {
                let servers = servers.iter().map(|server| {
                    json!({
                        "server": server.kind.to_string(),
                        "address": server.address,
                        "answer": server.answer.as_ref().ok(),
                        "error": server.answer.as_ref().err(),
                    })
                });
                println!("{}", servers.collect::<serde_json::Value>());
            } else {
                for server in servers {
                    let answer = server.answer.unwrap_or_else(|reason| format!("does not answer: {reason}"));
                    println!("{} at {}: {answer}", server.kind, server.address);
                }
            }
            if !well {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Versions => {
            for line in stack::installed_versions().await {
                println!("{line}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
