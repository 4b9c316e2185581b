//! Runs the binary `hongyan` as a process.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// The limit of each step.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);

/// Waits until a condition holds, at most [`LIMIT`].
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The command `hongyan` with this data folder, without the settings of the test's own environment.
pub(crate) fn hongyan<A: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hongyan"));
    for (name, _) in std::env::vars() {
        let ours = [
            "REDIS_",
            "MYSQL_",
            "KAFKA_",
            "JWT_",
            "IM_",
            "PUSH_",
            "GATEWAY_",
            "HONGYAN_LISTEN",
            "HONGYAN_INTERNAL",
            "HONGYAN_STOP",
            "HONGYAN_INVOKE",
            "RUST_LOG",
            "LOG_LEVEL",
        ];
        if ours.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.args(arguments).env("HONGYAN_DATA", folder).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The result of a command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) async fn ended(mut command: Command) -> Ended {
    let output = tokio::time::timeout(LIMIT, command.output()).await.expect("the command ends").unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command that must succeed, and returns its standard output.
pub(crate) async fn output_of(command: Command) -> String {
    let ended = ended(command).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout
}

/// Runs a command that must fail with status 1 and one clear error line, and returns that line. Progress may be
/// printed before it, and a log line: just after Kafka has started, Kafka's client may have to ask twice, which it
/// logs.
pub(crate) async fn failure_of(command: Command) -> String {
    let ended = ended(command).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let mut lines: Vec<&str> = ended.stderr.lines().collect();
    let last = lines.pop().and_then(|line| line.strip_prefix("error: ")).expect("an error line").to_owned();
    let expected = |line: &&str| {
        line.starts_with("Starting Redis") || line.contains("Z  WARN ") || line.contains("Z  INFO ")
    };
    assert!(lines.iter().all(expected), "{ended:?}");
    assert!(!ended.stdout.contains("ready"), "{ended:?}");
    println!("error: {last}");
    last
}

/// A running `run` or `lambda` that serves.
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    pub(crate) address: SocketAddr,
    /// The lines printed up to the ready line.
    pub(crate) greeting: Vec<String>,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Running {
    /// Starts `run` in a process group of its own, as a shell does, and waits for the ready line.
    pub(crate) async fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_as(folder, &["run"], settings).await
    }

    /// Starts another serving command in the same way.
    pub(crate) async fn start_as(folder: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let started = Instant::now();
        let mut command = hongyan(folder, arguments.iter().chain(&["--listen", "127.0.0.1:0"]));
        // A test sends as fast as it can.
        command.env("IM_SENDS_PER_SECOND", "0");
        command.envs(settings.iter().copied()).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        let (sender, mut lines) = mpsc::unbounded_channel();
        forward(child.stderr.take().unwrap(), sender.clone());
        forward(child.stdout.take().unwrap(), sender);
        let mut greeting = Vec::new();
        let address = loop {
            let line = tokio::time::timeout(LIMIT, lines.recv()).await;
            let Ok(Some(line)) = line else { panic!("no ready line, but {greeting:#?}") };
            greeting.push(line);
            let ready = greeting.last().and_then(|line| line.strip_prefix("Hongyan is ready at http://"));
            if let Some((address, _)) = ready.and_then(|rest| rest.split_once(' ')) {
                break address.parse().unwrap();
            }
        };
        println!("ready after {:?}", started.elapsed());
        Self { child, pid, address, greeting, lines }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to the process alone, like `kill -SIGNAL PID`.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Sends SIGINT to the whole process group, like Ctrl-C in a terminal.
    pub(crate) fn interrupt(&self) {
        killpg(self.pid, Signal::SIGINT).unwrap();
    }

    /// Waits for the end. Returns the exit status and the lines after the ready line.
    pub(crate) async fn end(mut self) -> (ExitStatus, Vec<String>) {
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await.expect("it ends").unwrap();
        let mut rest = Vec::new();
        while let Some(line) = self.lines.recv().await {
            rest.push(line);
        }
        (status, rest)
    }
}

fn forward(stream: impl AsyncRead + Send + Unpin + 'static, sender: mpsc::UnboundedSender<String>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            // Print in a test that fails too: the output of the program is the first thing to look at.
            println!("  | {line}");
            if sender.send(line).is_err() {
                return;
            }
        }
    });
}

/// Servers that run in the background over a folder. They outlive the test's process, so they are stopped when this
/// is dropped.
pub(crate) struct Background<'a>(pub(crate) &'a Path);

impl Drop for Background<'_> {
    fn drop(&mut self) {
        if !processes(self.0).is_empty() {
            let stopped = hongyan(self.0, ["stack", "down"]).into_std().status();
            println!("stopped what the test left in {}: {stopped:?}", self.0.display());
        }
    }
}

/// The command lines of processes that name this folder.
pub(crate) fn processes(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(folder))
        .collect()
}
