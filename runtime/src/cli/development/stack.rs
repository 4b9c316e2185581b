//! `stack`: starts, stops and inspects the three servers without the functions.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use hongyan_stack::{self as stack, Stack, StackOptions};

#[derive(Subcommand)]
pub(in crate::cli) enum Command {
    /// Start the servers in the background and wait until they answer
    Up,
    /// Stop the servers
    Down,
    /// Ask each server whether it answers
    Status,
    /// Print the versions of the installed servers without starting them
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
            println!("Up. Print their settings: ./dev env. Stop them: ./dev stack down");
            stack.stop().await?;
        }
        Command::Down => {
            stack::down(&folder).await?;
            println!("Down. Their data stays in {}", folder.display());
        }
        Command::Status => {
            let mut well = true;
            for server in stack::status(&folder).await? {
                let answer = server.answer.unwrap_or_else(|reason| {
                    well = false;
                    format!("does not answer: {reason}")
                });
                println!("{} at {}: {answer}", server.kind, server.address);
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
