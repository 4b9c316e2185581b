//! One of the three servers, as tests and drills handle it.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::sync::Mutex;

use super::docker::Compose;
use super::error::StackError;
use super::files::{State, port_is_free};
use super::guard::Guard;
use super::probe::{NotReady, Target, WaitError};
use super::process::{Launch, Process};
use super::redis;
use super::server_kind::ServerKind;

/// How long a server may take to answer after its start. MySQL may have to replay its log, and Redis to load its
/// file.
const START_LIMIT: Duration = Duration::from_secs(90);

/// How long a given server may take to answer.
const EXTERNAL_LIMIT: Duration = Duration::from_secs(10);

/// One of the three servers.
#[derive(Debug)]
pub struct Server {
    kind: ServerKind,
    runs: Runs,
    /// The targets that must answer: one, or one for each node of a Redis Cluster.
    targets: Vec<Target>,
}

/// The three servers of a started stack, with the guard and the Docker project.
pub(super) type Started = ([Server; 3], Option<Arc<Guard>>, Option<Arc<Compose>>);

#[derive(Debug)]
pub(super) enum Runs {
    /// The caller has given the server by a setting.
    Elsewhere,
    Here(Vec<Node>),
    InDocker(Arc<Compose>),
}

/// One process of a server.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    launch: Launch,
    port: u16,
    process: Mutex<Option<Process>>,
    guard: Option<Arc<Guard>>,
}

impl Node {
    pub(super) fn new(
        launch: Launch,
        port: u16,
        process: Option<Process>,
        guard: Option<Arc<Guard>>,
    ) -> Self {
        let name = launch.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, launch, port, process: Mutex::new(process), guard }
    }

    fn tell_guard(&self, pid: Option<Pid>) -> Result<(), StackError> {
        self.guard.as_ref().map_or(Ok(()), |guard| guard.watch(&self.name, pid))
    }

    async fn is_running(&self) -> bool {
        self.process.lock().await.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Starts the process if it does not run. Does not wait for an answer.
    pub(super) async fn spawn(&self) -> Result<(), StackError> {
        let mut slot = self.process.lock().await;
        if slot.as_mut().is_some_and(|process| process.ended().is_none()) {
            return Ok(());
        }
        if !port_is_free(self.port) {
            return Err(StackError::PortInUse { server: self.launch.kind, port: self.port });
        }
        let process = self.launch.spawn()?;
        self.tell_guard(Some(process.pid))?;
        *slot = Some(process);
        Ok(())
    }

    pub(super) async fn wait(&self, target: &Target) -> Result<(), StackError> {
        let mut slot = self.process.lock().await;
        let ended = || slot.as_mut().map_or_else(|| Some("not started".to_owned()), Process::ended);
        let (server, log) = (self.launch.kind, self.launch.log());
        target.wait(START_LIMIT, ended).await.map_err(|error| match error {
            WaitError::Ended(status) => {
                StackError::Ended { server, status, log, tail: self.launch.log_tail() }
            }
            WaitError::Silent(reason) | WaitError::Refused(reason) => {
                let seconds = START_LIMIT.as_secs();
                StackError::Silent { server, seconds, reason, log, tail: self.launch.log_tail() }
            }
        })
    }

    pub(super) async fn end(&self, by: Signal) -> Result<(), StackError> {
        let mut slot = self.process.lock().await;
        if let Some(mut process) = slot.take() {
            let ended = if by == Signal::SIGKILL { process.kill().await } else { process.stop().await };
            if let Err(error) = ended {
                *slot = Some(process);
                return Err(error);
            }
        }
        self.tell_guard(None)
    }

    /// Ends the process if this stack started it.
    async fn end_if_started(&self) -> Result<(), StackError> {
        let started = self.process.lock().await.as_ref().is_some_and(Process::was_started);
        if started { self.end(Signal::SIGTERM).await } else { Ok(()) }
    }

    async fn signal(&self, signal: Signal) -> Result<(), StackError> {
        self.process.lock().await.as_mut().map_or(Ok(()), |process| process.signal(signal))
    }
}

impl Server {
    pub(super) fn new(kind: ServerKind, runs: Runs, targets: Vec<Target>) -> Self {
        Self { kind, runs, targets }
    }

    /// The kind of the server.
    pub fn kind(&self) -> ServerKind {
        self.kind
    }

    /// Starts the server with the same port and data, and waits until it answers. Does nothing if it runs.
    pub async fn start(&self) -> Result<(), StackError> {
        match &self.runs {
            Runs::Elsewhere => Err(self.not_ours()),
            Runs::Here(nodes) => {
                for node in nodes {
                    node.spawn().await?;
                }
                self.wait().await
            }
            Runs::InDocker(compose) => {
                compose.run(&["up", "--detach", "--wait", self.kind.service()]).await?;
                self.wait().await
            }
        }
    }

    /// Starts the processes without waiting for answers. A Redis Cluster is formed before it can answer.
    pub(super) async fn spawn(&self) -> Result<(), StackError> {
        if let Runs::Here(nodes) = &self.runs {
            for node in nodes {
                node.spawn().await?;
            }
        }
        Ok(())
    }

    /// Waits until each node of a Redis Cluster answers by itself, before the cluster is formed.
    pub(super) async fn wait_for_nodes(&self, state: &State) -> Result<(), StackError> {
        let Runs::Here(nodes) = &self.runs else {
            return Ok(());
        };
        for (number, node) in nodes.iter().enumerate() {
            node.wait(&Target::Redis { url: redis::url(state, number), cluster: false }).await?;
        }
        Ok(())
    }

    /// Waits until the server answers.
    pub async fn wait(&self) -> Result<(), StackError> {
        match &self.runs {
            Runs::Here(nodes) => {
                for (node, target) in nodes.iter().zip(&self.targets) {
                    node.wait(target).await?;
                }
            }
            Runs::Elsewhere => {
                for target in &self.targets {
                    target.wait(EXTERNAL_LIMIT, || None).await.map_err(|error| {
                        let variable = self.kind.variable();
                        let reason = match error {
                            WaitError::Refused(reason) => reason,
                            WaitError::Ended(reason) | WaitError::Silent(reason) => {
                                format!("no answer within {} s: {reason}", EXTERNAL_LIMIT.as_secs())
                            }
                        };
                        StackError::External { variable, reason }
                    })?;
                }
            }
            Runs::InDocker(compose) => {
                for target in &self.targets {
                    if let Err(error) = target.wait(START_LIMIT, || None).await {
                        return Err(compose.silent(self.kind, START_LIMIT, &error).await);
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the server by SIGKILL, as a crash would, and waits for its end.
    pub async fn kill(&self) -> Result<(), StackError> {
        match &self.runs {
            Runs::Elsewhere => Err(self.not_ours()),
            Runs::Here(nodes) => end_all(nodes, Signal::SIGKILL).await,
            Runs::InDocker(compose) => compose.run(&["kill", self.kind.service()]).await,
        }
    }

    /// Ends one node of a Redis Cluster by SIGKILL and waits for its end. The first node is 0. [`Self::start`] starts
    /// it again. Only for processes of this machine.
    pub async fn kill_node(&self, number: usize) -> Result<(), StackError> {
        match &self.runs {
            Runs::Here(nodes) if number < nodes.len() => nodes[number].end(Signal::SIGKILL).await,
            _ => Err(self.not_ours()),
        }
    }

    /// Stops the server in good order and waits for its end.
    pub async fn stop(&self) -> Result<(), StackError> {
        match &self.runs {
            Runs::Elsewhere => Err(self.not_ours()),
            Runs::Here(nodes) => end_all(nodes, Signal::SIGTERM).await,
            Runs::InDocker(compose) => compose.run(&["stop", self.kind.service()]).await,
        }
    }

    /// Stops the server in good order and starts it again.
    pub async fn restart(&self) -> Result<(), StackError> {
        self.stop().await?;
        self.start().await
    }

    /// Freezes the server: connections stay open and nothing is answered, as on a hanging machine.
    pub async fn pause(&self) -> Result<(), StackError> {
        self.signal(Signal::SIGSTOP, "pause").await
    }

    /// Ends [`Server::pause`].
    pub async fn resume(&self) -> Result<(), StackError> {
        self.signal(Signal::SIGCONT, "unpause").await
    }

    async fn signal(&self, signal: Signal, verb: &str) -> Result<(), StackError> {
        match &self.runs {
            Runs::Elsewhere => Err(self.not_ours()),
            Runs::Here(nodes) => {
                for node in nodes {
                    node.signal(signal).await?;
                }
                Ok(())
            }
            Runs::InDocker(compose) => compose.run(&[verb, self.kind.service()]).await,
        }
    }

    /// True if the process runs, answering or not. For a given server: true if it answers.
    pub async fn is_running(&self) -> bool {
        if let Runs::Here(nodes) = &self.runs {
            for node in nodes {
                if !node.is_running().await {
                    return false;
                }
            }
            return true;
        }
        self.answers().await.is_ok()
    }

    /// Asks once whether the server works. The error has the reason.
    pub async fn answers(&self) -> Result<(), String> {
        for target in &self.targets {
            target.ask().await.map_err(|(NotReady::Yet(reason) | NotReady::Ever(reason))| reason)?;
        }
        Ok(())
    }

    /// The name, version and address of the server, for example `Redis 7.0.15 at 127.0.0.1:20517`.
    pub async fn version(&self) -> String {
        let Some(target) = self.targets.first() else {
            return format!("{} (not checked)", self.kind);
        };
        let mut version = match target.version().await {
            Ok(version) => version,
            Err(reason) => return format!("{} does not answer: {reason}", self.kind),
        };
        if self.kind == ServerKind::Kafka && !matches!(self.runs, Runs::Elsewhere) {
            version = format!("Apache Kafka {}", super::kafka::VERSION);
        }
        let place = match self.runs {
            Runs::Elsewhere => format!("given by {}", self.kind.variable()),
            Runs::Here(_) => format!("at {}", target.address()),
            Runs::InDocker(_) => format!("in Docker at {}", target.address()),
        };
        format!("{version} {place}")
    }

    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self.runs, Runs::Elsewhere)
    }

    /// Ends the processes of a failed start.
    pub(super) async fn undo(&self) -> Result<(), StackError> {
        if let Runs::Here(nodes) = &self.runs {
            for node in nodes {
                node.end_if_started().await?;
            }
        }
        Ok(())
    }

    fn not_ours(&self) -> StackError {
        StackError::NotOurs { server: self.kind, variable: self.kind.variable() }
    }
}

async fn end_all(nodes: &[Node], by: Signal) -> Result<(), StackError> {
    // The nodes of a cluster end quickly, so one after the other is fast enough.
    for node in nodes {
        node.end(by).await?;
    }
    Ok(())
}
