//! The binary as a process of its own.

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

/// No step takes longer, or it hangs.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);

/// Waits until a condition holds, at most [`LIMIT`].
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `hongyan` with this data folder, and none of the settings that the test itself was given.
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

/// What a command that ended by itself left behind.
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

/// Runs a command that must work; its standard output.
pub(crate) async fn output_of(command: Command) -> String {
    let ended = ended(command).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout
}

/// Runs a command that must fail with status 1 and one clear line, which is returned. Before it only the progress may be
/// told, and a line of the log: a Kafka that has just started makes its client ask twice, and the client says so.
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

/// A `run` that serves.
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    pub(crate) address: SocketAddr,
    /// What it printed up to the ready line.
    pub(crate) greeting: Vec<String>,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Running {
    /// Starts it in a process group of its own, as a shell does, and waits for the ready line.
    pub(crate) async fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_as(folder, &["run"], settings).await
    }

    /// The same for another command that serves.
    pub(crate) async fn start_as(folder: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let started = Instant::now();
        let mut command = hongyan(folder, arguments.iter().chain(&["--listen", "127.0.0.1:0"]));
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

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// `kill -SIGNAL PID`.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Ctrl-C: the terminal sends SIGINT to the whole process group.
    pub(crate) fn interrupt(&self) {
        killpg(self.pid, Signal::SIGINT).unwrap();
    }

    /// Waits for its end; the exit status and the lines after the ready line.
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
            // Also under a test that fails: what the program said is the first thing one wants to know.
            println!("  | {line}");
            if sender.send(line).is_err() {
                return;
            }
        }
    });
}

/// Servers in the background over a folder. They outlive every process, so a test that fails has to stop them too.
pub(crate) struct Background<'a>(pub(crate) &'a Path);

impl Drop for Background<'_> {
    fn drop(&mut self) {
        if !processes(self.0).is_empty() {
            let stopped = hongyan(self.0, ["stack", "down"]).into_std().status();
            println!("stopped what the test left in {}: {stopped:?}", self.0.display());
        }
    }
}

/// Processes that name this folder on their command line.
pub(crate) fn processes(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(folder))
        .collect()
}
