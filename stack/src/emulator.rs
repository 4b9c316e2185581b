//! `cargo lambda watch` as a child of this process: Lambda's Invoke API and Runtime API on one port.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;
use url::Url;

/// The program; `./dev` puts the version that it pins first on the path.
const PROGRAM: &str = "cargo-lambda";

/// How long it may take until it listens: it asks cargo for the project's binaries first, and another cargo may be at work.
const START_LIMIT: Duration = Duration::from_mins(2);

/// How long a stop waits for the functions: for their invocations under way and the producer, as `hongyan::lambda` does.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// How many of its last lines are kept for an error.
const KEPT_LINES: usize = 20;

/// Where the lines go that the emulator, cargo and the functions print.
pub type Sink = Arc<dyn Fn(&str) + Send + Sync>;

/// What `cargo lambda watch` is started with.
pub struct EmulatorOptions {
    /// The root of the project: its binaries are the functions.
    pub project: PathBuf,
    /// The port on the loopback address; 0 is any free one.
    pub port: u16,
    /// Whether it builds and starts a function when it is first invoked, and again after a change. Otherwise whoever wants
    /// a function starts it.
    pub starts_functions: bool,
    /// Set for it, and so for the functions that it starts, besides the environment of this process.
    pub environment: Vec<(String, String)>,
    /// Who hears what is printed.
    pub sink: Sink,
}

/// Why there is no emulator.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// It is not installed.
    #[error("cargo-lambda is not installed; `./dev lambda` installs it, or says how")]
    Missing,
    /// Somebody else has the port.
    #[error(
        "{0} is in use by another program; choose another port with --invoke-port or HONGYAN_INVOKE_PORT"
    )]
    InUse(SocketAddr),
    /// It ended instead of listening, or did not listen in time.
    #[error("cargo lambda watch {what}; it said last:\n{tail}")]
    Failed {
        /// What happened.
        what: String,
        /// Its last lines.
        tail: String,
    },
    /// The machine refuses.
    #[error("cargo lambda watch cannot be started: {0}")]
    Io(#[from] std::io::Error),
}

/// A running emulator. It ends with this process, and when it is dropped.
pub struct Emulator {
    address: SocketAddr,
    url: Url,
    shell: Child,
    /// Held open for as long as the emulator is to run.
    leash: Option<ChildStdin>,
    /// They end when nobody is left who could print: when the functions are gone too.
    readers: JoinSet<()>,
    tail: Tail,
}

/// Finds out without starting anything whether an emulator could start on this port.
pub async fn check(port: u16) -> Result<(), EmulatorError> {
    installed().ok_or(EmulatorError::Missing)?;
    free_address(port).await.map(drop)
}

impl Emulator {
    /// Starts it and waits until it listens.
    pub async fn start(options: EmulatorOptions) -> Result<Self, EmulatorError> {
        let program = installed().ok_or(EmulatorError::Missing)?;
        let address = free_address(options.port).await?;
        let url = Url::parse(&format!("http://{address}")).map_err(std::io::Error::other)?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", include_str!("emulator.sh"), "hongyan-emulator"])
            .arg(program)
            .args(["lambda", "watch", "--invoke-address", &address.ip().to_string()])
            .args(["--invoke-port", &address.port().to_string()])
            // Or it starts the binary of a project that has but one.
            .arg("--wait")
            .args((!options.starts_functions).then_some("--only-lambda-apis"))
            .current_dir(&options.project)
            .envs(options.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at the terminal does not reach it: what was accepted is finished first.
            .process_group(0);
        // What a cargo set for this process would make another one build crates again that look at it.
        for (name, _) in std::env::vars_os() {
            if of_cargo(&name.to_string_lossy()) {
                command.env_remove(name);
            }
        }
        let mut shell = command.spawn()?;
        let (tail, mut readers) = (Tail::default(), JoinSet::new());
        if let Some(stream) = shell.stdout.take() {
            readers.spawn(read(stream, options.sink.clone(), tail.clone()));
        }
        if let Some(stream) = shell.stderr.take() {
            readers.spawn(read(stream, options.sink, tail.clone()));
        }
        let leash = shell.stdin.take();
        let mut emulator = Self { address, url, shell, leash, readers, tail };
        emulator.listens().await?;
        Ok(emulator)
    }

    /// Where the Invoke API is.
    pub fn url(&self) -> Url {
        self.url.clone()
    }

    /// What a process must find in `AWS_LAMBDA_RUNTIME_API` to be this function.
    pub fn runtime_api(&self, function: &str) -> String {
        format!("http://{}/.rt/{function}", self.address)
    }

    /// Waits until it ends by itself, which it should not.
    pub async fn ended(&mut self) -> EmulatorError {
        match self.shell.wait().await {
            Ok(status) => self.failed(format!("ended ({status})")),
            Err(error) => EmulatorError::Io(error),
        }
    }

    /// Ends it and waits until the functions that it started have ended too.
    pub async fn stop(mut self) {
        self.leash = None;
        let gone = async {
            while self.readers.join_next().await.is_some() {}
            self.shell.wait().await
        };
        match tokio::time::timeout(STOP_LIMIT, gone).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "emulator.stop: its end cannot be waited for"),
            Err(_) => tracing::warn!(
                "emulator.stop: functions still run after 15 s; they are left to end by themselves"
            ),
        }
    }

    async fn listens(&mut self) -> Result<(), EmulatorError> {
        let listens = async {
            while TcpStream::connect(self.address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let outcome = tokio::select! {
            () = listens => return Ok(()),
            () = tokio::time::sleep(START_LIMIT) => None,
            ended = self.shell.wait() => Some(ended?),
        };
        let Some(status) = outcome else {
            return Err(self.failed("does not listen after 2 minutes".to_owned()));
        };
        // What it said last may not have been read yet.
        while self.readers.join_next().await.is_some() {}
        Err(self.failed(format!("ended ({status})")))
    }

    fn failed(&self, what: String) -> EmulatorError {
        EmulatorError::Failed { what, tail: self.tail.to_string() }
    }
}

/// Whether `cargo run` and `cargo test` set this variable to tell a program which package it is of.
fn of_cargo(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
        .iter()
        .any(|prefix| variable.starts_with(prefix))
}

/// The program's path, if it is on the path.
fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|program| program.is_file())
}

/// A loopback address whose port nobody has now. (The emulator cannot be handed a listener, so somebody may still take it
/// before.) `cargo lambda invoke` asks ::1 unless told otherwise, so that is preferred; some machines have no IPv6.
async fn free_address(port: u16) -> Result<SocketAddr, EmulatorError> {
    let four = free(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    match free(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
        Err(EmulatorError::Io(_)) => Ok(four),
        six => six,
    }
}

/// The address, with the port that it has got where any would do.
async fn free(address: SocketAddr) -> Result<SocketAddr, EmulatorError> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener.local_addr()?),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(EmulatorError::InUse(address)),
        Err(error) => Err(error.into()),
    }
}

async fn read(stream: impl AsyncRead + Unpin, sink: Sink, tail: Tail) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        sink(&line);
        tail.push(line);
    }
}

/// The last lines that were printed.
#[derive(Clone, Default)]
struct Tail(Arc<Mutex<Vec<String>>>);

impl Tail {
    fn push(&self, line: String) {
        let mut lines = self.0.lock();
        if lines.len() == KEPT_LINES {
            lines.remove(0);
        }
        lines.push(line);
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.lock().join("\n"))
    }
}
