//! The errors of the three servers, worded for an operator.

use std::path::PathBuf;

use super::server_kind::ServerKind;

/// A server, or the whole stack, cannot be used. The first line of the text names the server or the setting.
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
        /// The owner, for example `process 4711`.
        owner: String,
    },
    /// No stack runs over this folder.
    #[error("no servers run in {folder}; start them with `./dev run` or `./dev stack up`")]
    NotUp {
        /// The data folder.
        folder: PathBuf,
    },
    /// Another program has taken the port of a server while the server was down.
    #[error("{server}: port {port} on 127.0.0.1 is in use by another program")]
    PortInUse {
        /// The server.
        server: ServerKind,
        /// The port.
        port: u16,
    },
    /// A server ended instead of answering.
    #[error("{server} ended at start ({status}); its log {log} says last:\n{tail}")]
    Ended {
        /// The server.
        server: ServerKind,
        /// The exit status, in words.
        status: String,
        /// The log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A server runs but did not answer in time.
    #[error("{server} did not answer within {seconds} s ({reason}); its log {log} says last:\n{tail}")]
    Silent {
        /// The server.
        server: ServerKind,
        /// How long the stack has waited, in seconds.
        seconds: u64,
        /// The result of the last attempt.
        reason: String,
        /// The log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A server that the caller has given cannot be used.
    #[error("{variable}: {reason}")]
    External {
        /// The setting that gave the server.
        variable: &'static str,
        /// The reason.
        reason: String,
    },
    /// The stack was asked to stop or start a server that the caller has given.
    #[error("{server} was given by {variable}; it is not this stack's to stop or start")]
    NotOurs {
        /// The server.
        server: ServerKind,
        /// The setting that gave the server.
        variable: &'static str,
    },
    /// A topic has fewer partitions than configured. Messages stay in order only if all producers compute with the
    /// same number.
    #[error("{setting}: topic {topic} has {has} partitions, fewer than the {wanted} configured")]
    TooFewPartitions {
        /// The setting with the number of partitions.
        setting: &'static str,
        /// The topic.
        topic: String,
        /// The number of partitions of the topic.
        has: usize,
        /// The configured number of partitions.
        wanted: usize,
    },
    /// A setting that the stack reads has an unusable value.
    #[error("{variable}: {reason}")]
    Setting {
        /// The setting.
        variable: &'static str,
        /// The form that the value must have.
        reason: String,
    },
    /// A tool that prepares a server failed: Maven, mariadb-install-db, Docker and others.
    #[error("{what} failed: {reason}")]
    Tool {
        /// The task of the tool.
        what: String,
        /// The end of the tool's output.
        reason: String,
    },
    /// An operation on a file or a process failed.
    #[error("{doing}: {source}")]
    Io {
        /// The operation, with the path.
        doing: String,
        /// The error of the system.
        source: std::io::Error,
    },
}

/// Adds the failed operation to an I/O error.
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
