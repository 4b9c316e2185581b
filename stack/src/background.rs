//! The stack as commands in other terminals see it: its settings, its status, and stopping it.

use std::path::Path;
use std::process::Command;

use super::docker::Compose;
use super::error::StackError;
use super::files::{self, State, find_program, run_tool};
use super::probe::{NotReady, Target};
use super::server_kind::ServerKind;
use super::{kafka, native};

/// One line of `./dev stack status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// The server.
    pub kind: ServerKind,
    /// Host and port.
    pub address: String,
    /// The name and version of the server if it answers, or else the reason.
    pub answer: Result<String, String>,
}

/// The settings of the stack that runs over this folder, as [`super::Stack::env`] returned them.
pub fn saved_env(folder: &Path) -> Result<Vec<(String, String)>, StackError> {
    let not_up = || StackError::NotUp { folder: folder.to_owned() };
    let state = State::read(folder)?.filter(|state| !state.env.is_empty()).ok_or_else(not_up)?;
    let folder = folder.canonicalize().map_err(|_| not_up())?;
    let held = matches!(files::lock(&folder), Err(StackError::Busy { .. }));
    let up = held || state.docker == Some(true) || !native::running(&folder).is_empty();
    if up { Ok(state.env) } else { Err(not_up()) }
}

/// Asks each of the three servers of the stack over this folder whether it answers.
pub async fn status(folder: &Path) -> Result<Vec<ServerStatus>, StackError> {
    let env = saved_env(folder)?;
    let value =
        |name: &str| env.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value).to_owned();
    let mut lines = Vec::new();
    for kind in ServerKind::ALL {
        let address = value(kind.variable());
        let target = match kind {
            ServerKind::Redis => Target::Redis { url: address, cluster: value("REDIS_CLUSTER") == "true" },
            ServerKind::MySql => Target::MySql { url: address },
            ServerKind::Kafka => Target::Kafka { bootstrap: address },
        };
        let answer = match target.ask().await {
            Ok(()) => target.version().await,
            Err(NotReady::Yet(reason) | NotReady::Ever(reason)) => Err(reason),
        };
        lines.push(ServerStatus { kind, address: target.address(), answer });
    }
    Ok(lines)
}

/// Stops the servers that run in the background over this folder, and waits for their end.
pub async fn down(folder: &Path) -> Result<(), StackError> {
    let Some(mut state) = State::read(folder)? else {
        return Err(StackError::NotUp { folder: folder.to_owned() });
    };
    let folder = folder.canonicalize().map_err(|_| StackError::NotUp { folder: folder.to_owned() })?;
    let lock = files::lock(&folder)?;
    if state.docker == Some(true) {
        Compose::new(&folder, &state)?.run(&["stop"]).await?;
    } else {
        native::stop_all(native::running(&folder)).await?;
    }
    state.background = false;
    state.env.clear();
    state.write(&folder)?;
    drop(lock);
    Ok(())
}

/// The versions of the programs installed on this machine, one line for each, without starting a server.
pub async fn installed_versions() -> Vec<String> {
    let mut lines = Vec::new();
    for (name, programs) in [
        ("Redis", &["redis-server", "redis-check-rdb"] as &[&'static str]),
        ("MySQL", &["mysqld", "mariadbd"]),
        ("Java", &["java"]),
    ] {
        let version = async {
            let mut command = Command::new(find_program(programs)?);
            command.arg("--version");
            run_tool(name, command).await
        };
        lines.push(match version.await {
            Ok(text) => format!("{name}: {}", text.lines().next().unwrap_or_default()),
            Err(error) => format!("{name}: {error}"),
        });
    }
    lines.push(format!("Kafka: {}", kafka::VERSION));
    lines
}
