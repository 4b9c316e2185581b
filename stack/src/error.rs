//! What can go wrong with the three servers, worded for the person at the terminal.

use std::path::PathBuf;

use super::server_kind::ServerKind;

/// Why a server, or the whole stack, is not there. The first line names the server or the setting.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A program that the stack runs is not installed.
    #[error("{program} is not installed; `./dev setup` installs it, or says how")]
    Missing {
        /// The program's name.
        program: &'static str,
    },
    /// Another process has this data folder.
    #[error("the servers in {folder} belong to {owner}, which still runs; stop it first")]
    Busy {
        /// The data folder.
        folder: PathBuf,
        /// Who has it, e.g. `process 4711`.
        owner: String,
    },
    /// No stack has been started over this folder.
    #[error("no servers run in {folder}; start them with `./dev run` or `./dev stack up`")]
    NotUp {
        /// The data folder.
        folder: PathBuf,
    },
    /// The port of a server that was down is taken by somebody else now.
    #[error("{server}: port {port} on 127.0.0.1 is in use by another program")]
    PortInUse {
        /// The server that wanted it.
        server: ServerKind,
        /// The port.
        port: u16,
    },
    /// A server ended instead of answering.
    #[error("{server} ended at start ({status}); its log {log} says last:\n{tail}")]
    Ended {
        /// The server.
        server: ServerKind,
        /// Its exit status in words.
        status: String,
        /// The whole log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A server runs but did not answer in time.
    #[error("{server} did not answer within {seconds} s ({reason}); its log {log} says last:\n{tail}")]
    Silent {
        /// The server.
        server: ServerKind,
        /// How long was waited, in seconds.
        seconds: u64,
        /// What the last attempt met.
        reason: String,
        /// The whole log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A server that the caller named, and that the stack therefore did not start, cannot be used.
    #[error("{variable}: {reason}")]
    External {
        /// The setting that named it.
        variable: &'static str,
        /// What was met.
        reason: String,
    },
    /// The stack was asked to kill or start a server that is not its own.
    #[error("{server} was given by {variable}; it is not this stack's to stop or start")]
    NotOurs {
        /// The server.
        server: ServerKind,
        /// The setting that named it.
        variable: &'static str,
    },
    /// A topic is there, but smaller than configured. Kafka's order holds only while both sides count alike.
    #[error("{setting}: topic {topic} has {has} partitions, fewer than the {wanted} configured")]
    TooFewPartitions {
        /// The setting that fixes the number.
        setting: &'static str,
        /// The topic.
        topic: String,
        /// Partitions it has.
        has: usize,
        /// Partitions it should have.
        wanted: usize,
    },
    /// A setting that the stack reads has a value it cannot use.
    #[error("{variable}: {reason}")]
    Setting {
        /// The setting.
        variable: &'static str,
        /// What it must be.
        reason: String,
    },
    /// A tool that prepares a server (Maven, mariadb-install-db, Docker, …) failed.
    #[error("{what} failed: {reason}")]
    Tool {
        /// What it was to do.
        what: String,
        /// Its last words.
        reason: String,
    },
    /// A file or process operation failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Adds what was being done to an I/O error.
pub(super) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, StackError>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, StackError> {
        self.map_err(|source| StackError::Io { doing: what(), source })
    }
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, StackError> {
        self.map_err(std::io::Error::from).doing(what)
    }
}
